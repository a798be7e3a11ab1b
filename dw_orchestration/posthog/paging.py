"""Iterators over lists that come in pages. Lazy: a reader that stops early causes no further request."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
from urllib.parse import urlencode

from dw_orchestration.posthog.errors import UsageError
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER, LONGEST_NAMES, NAMES_PER_REQUEST
from dw_orchestration.posthog.models import ApiModel, Job, Schema, Source
from dw_orchestration.posthog.rows import Rows

Row = TypeVar("Row", Source, Schema)

# `before` excludes jobs of exactly that moment, and the last page may have ended in the middle of several such jobs.
# So the next page starts a little later than the oldest known job, and repeated rows are dropped by id.
OVERLAP = timedelta(milliseconds=1)


class Page(ApiModel, Generic[Row]):
    """One page of a list."""

    results: Rows[Row]
    next: str | None = None


def by_offset(fetch: Callable[[int], Page[Row]]) -> Iterator[Row]:
    """All rows of a list, each id once.

    Pages are requested by offset, because behind a proxy the address in `next` can have the wrong scheme or host. A row
    that is added or removed meanwhile shifts the others, so a page can repeat rows of the previous page.

    Args:
        fetch: Returns the page that starts at an offset.
    """
    seen: set[str] = set()
    offset = 0
    while True:
        page = fetch(offset)
        yield from (row for row in page.results if row.id not in seen)
        seen.update(row.id for row in page.results)
        # A row that was left out is a row of the page too.
        count = len(page.results) + len(page.results.unreadable)
        offset += count
        if page.next is None or not count:
            return


def newest_first(fetch: Callable[[datetime | None], Rows[Job]], *, before: datetime | None) -> Iterator[Job]:
    """All jobs from `before` backwards, each once.

    PostHog returns only the 50 newest jobs, so older ones are requested with an earlier `before`. If more than 50 jobs
    have the same `created_at`, those beyond the first 50 cannot be reached: the API has no other key.

    Args:
        fetch: Returns the newest jobs before a time.
        before: Where to start; None for now.
    """
    seen: set[str] = set()
    while True:
        page = fetch(before)
        fresh = [job for job in page if job.id not in seen]
        yield from fresh
        seen.update(job.id for job in page)
        # A job that was left out is a job of the page too. Behind a page of nothing but jobs without a table, which are
        # the oldest, there are only more of them.
        if not page or len(page) + len(page.unreadable) < JOBS_PER_ANSWER:
            return
        oldest = min(job.created_at for job in page)
        if not fresh and before is not None and before <= oldest:
            # The server does not know `before` and would return the same page without end.
            return
        before = oldest + OVERLAP if fresh else oldest


def names_per_request(names: Iterable[str]) -> list[list[str]]:
    """Names of tables in groups of which each fits into an address, also where its characters are escaped there."""
    groups: list[list[str]] = []
    left = 0
    for name in dict.fromkeys(names):
        length = len(urlencode({"schemas": name}, errors="replace"))
        if length > left or len(groups[-1]) == NAMES_PER_REQUEST:
            groups.append([])
            left = LONGEST_NAMES
        groups[-1].append(name)
        left -= length
    return groups


def as_parameter(moment: datetime) -> str:
    """A time for a query string. It ends in `Z`, because a `+` would be read as a space, and so as another moment.

    Raises:
        UsageError: The time has no time zone, so it is unclear which moment it is.
    """
    if moment.tzinfo is None:
        raise UsageError(f"The time {moment} has no time zone: use an aware datetime, such as datetime.now(UTC).")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
