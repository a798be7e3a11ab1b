"""Which jobs the sync history lacks, and fetching those alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.posthog.limits import ABANDONED_AFTER, INSTANT, LATE_ROWS
from dw_orchestration.posthog.models import Job, Source
from dw_orchestration.posthog.rows import UnreadableRow

# twice as long as PostHog can run one: the row of a job costs little to read again
FOLLOWED_FOR = 2 * ABANDONED_AFTER
# jobs of one tick start within seconds: asked for together, they cost a request per fifty instead of one each
_SAME_TICK = timedelta(minutes=1)


@dataclass(frozen=True)
class Known:
    """What is stored of a source: when its newest job was created, and the jobs that had not ended, with theirs."""

    newest: datetime | None = None
    unfinished: Mapping[str, datetime] = field(default_factory=dict)


class History(Protocol):
    """Where the jobs are kept."""

    def known(self, source_id: str, *, unfinished_since: datetime) -> Known:
        """What is stored of a source."""

    def save(self, source: Source, jobs: Iterable[Job], *, read_at: datetime) -> None:
        """Store the jobs of a source, all or none; those that are there already are updated."""


@dataclass(frozen=True)
class Reading:
    """What one pass over the sources came to."""

    sources: int
    jobs: int
    problems: Mapping[str, str]
    unreadable: Sequence[UnreadableRow] = ()
    """The rows that PostHog showed and that could not be read."""

    @property
    def all_failed(self) -> bool:
        """Whether there are sources and none of them could be read."""
        return 0 < self.sources == len(self.problems)


def bring_up_to_date(
    api: WarehouseApi, history: History, *, days: int, now: datetime, left_out: Collection[str] = ()
) -> Reading:
    """Store the jobs of every source that the history lacks, but for the sources that are left out.

    A source that fails does not stop the others.

    Raises:
        PostHogError: The list of sources could not be read.
    """
    problems, count = {}, 0
    sources = [source for source in api.list_sources() if source.id not in left_out]
    for source in sources:
        known = history.known(source.id, unfinished_since=now - FOLLOWED_FOR)
        try:
            jobs = read_jobs(api, source.id, known=known, reach_back_to=now - timedelta(days=days))
        except PostHogError as error:
            problems[source_name(source)] = str(error)
            continue
        history.save(source, jobs, read_at=now)
        count += len(jobs)
    return Reading(sources=len(sources), jobs=count, problems=problems, unreadable=api.unreadable)


def read_jobs(api: WarehouseApi, source_id: str, *, known: Known, reach_back_to: datetime) -> list[Job]:
    """The jobs that came since the newest stored one, and those stored ones that had not ended.

    Everything is read before anything is stored: the newest come first, so that a part of them would leave a hole.

    Raises:
        PostHogError: The jobs could not be read; the next pass asks for them again.
    """
    since = known.newest - LATE_ROWS if known.newest is not None else reach_back_to
    jobs = {job.id: job for job in api.list_jobs(source_id, after=since)}
    older = (created_at for job_id, created_at in known.unfinished.items() if job_id not in jobs)
    for start, end in _spans(older):
        # both ends exclude themselves
        jobs |= {job.id: job for job in api.list_jobs(source_id, after=start - INSTANT, before=end + INSTANT)}
    return list(jobs.values())


def source_name(source: Source) -> str:
    """The source in words, such as `Postgres (shop)`; or with its id if it has no prefix."""
    return f"{source.source_type} ({source.prefix or source.id})"


def _spans(moments: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """The moments' first and last, those that are close to each other together."""
    spans: list[tuple[datetime, datetime]] = []
    for moment in sorted(moments):
        if spans and moment - spans[-1][1] <= _SAME_TICK:
            spans[-1] = (spans[-1][0], moment)
        else:
            spans.append((moment, moment))
    return spans
