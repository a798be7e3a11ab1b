"""Iterators over answers that come in pages. Lazy: who stops early causes no further request."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from dw_orchestration.posthog.limits import JOBS_PER_ANSWER
from dw_orchestration.posthog.models import ApiModel, Job, Schema, Source

Row = TypeVar("Row", Source, Schema)

# `before` leaves out jobs of exactly that moment, so the next page begins a little later than it has to.
OVERLAP = timedelta(milliseconds=1)


class Page(ApiModel, Generic[Row]):
    """One page of a list."""

    results: tuple[Row, ...]
    next: str | None = None


def by_offset(fetch: Callable[[int], Page[Row]]) -> Iterator[Row]:
    """All rows of a list, each id once.

    `next` says only whether there is more: behind a proxy it can name a scheme or host that does not work.
    A row that comes or goes meanwhile shifts the others, so that a page can repeat rows of the one before.

    Args:
        fetch: Gives the page that begins at an offset.
    """
    seen: set[str] = set()
    offset = 0
    while True:
        page = fetch(offset)
        yield from (row for row in page.results if row.id not in seen)
        seen.update(row.id for row in page.results)
        offset += len(page.results)
        if page.next is None or not page.results:
            return


def newest_first(fetch: Callable[[datetime | None], Sequence[Job]], *, before: datetime | None) -> Iterator[Job]:
    """All jobs from `before` backwards, each once.

    PostHog gives at most 50 jobs, the newest ones, so that earlier ones are asked for with an earlier
    `before`. If more than 50 jobs were created within one millisecond, those beyond the first 50 of one and
    the same microsecond can't be reached: the API has no other key.

    Args:
        fetch: Gives the newest jobs before a time.
        before: Where to begin; None is now.
    """
    seen: set[str] = set()
    while True:
        page = fetch(before)
        fresh = [job for job in page if job.id not in seen]
        yield from fresh
        seen.update(job.id for job in page)
        if len(page) < JOBS_PER_ANSWER:
            return
        oldest = min(job.created_at for job in page)
        if not fresh and before is not None and before <= oldest:
            # A server that does not know `before` gives the same page for ever.
            return
        before = oldest + OVERLAP if fresh else oldest


def as_parameter(moment: datetime) -> str:
    """A time as PostHog reads it in a query string, where a `+` would be a blank.

    Raises:
        ValueError: The time has no time zone, so that it is unclear which moment it is.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone: give an aware datetime.")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
