"""The jobs of a table as seen so far, and how to read them from PostHog with few requests."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from statistics import median
from typing import TypeVar

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import JobStatus, SyncStatus
from dw_orchestration.posthog.jobs import duration_s, failed, is_over, was_cancelled, was_interrupted
from dw_orchestration.posthog.limits import (
    JOBS_PER_ANSWER,
    LONGEST_STREAK_GAP,
    NAMES_PER_REQUEST,
    STREAK_GAP,
    STREAK_LENGTH,
)
from dw_orchestration.posthog.models import Job, Schema, Source

T = TypeVar("T")

# The first read goes back further than one page only for a tick of long ago, or for a job to resume. 20 requests reach
# back far enough for any real case; without a bound, a job that PostHog has deleted would make it read all there is.
DEEPEST_READ = 1000


class JobHistory:
    """A table's jobs, each as last seen."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, jobs: Iterable[Job]) -> None:
        """Take the latest read of some of the jobs."""
        self._jobs.update((job.id, job) for job in jobs)

    def get(self, job_id: str | None) -> Job | None:
        """The job as last seen."""
        return self._jobs.get(job_id) if job_id is not None else None

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all jobs seen."""
        return frozenset(self._jobs)

    @property
    def jobs(self) -> list[Job]:
        """The jobs, newest first."""
        return sorted(self._jobs.values(), key=lambda job: (job.created_at, job.id), reverse=True)

    @property
    def newest(self) -> Job | None:
        """The newest job."""
        return next(iter(self.jobs), None)

    def running(self) -> list[Job]:
        """The jobs that have not ended, newest first."""
        return [job for job in self.jobs if not is_over(job)]

    def running_after(self, job: Job) -> Job | None:
        """The newest running job that was created later than this one."""
        return next((other for other in self.running() if other.created_at > job.created_at), None)

    def next_after(self, job: Job) -> Job | None:
        """The job that was created next, whether or not it has ended."""
        return next((other for other in reversed(self.jobs) if other.created_at > job.created_at), None)

    def best_since(self, since: datetime, *, after: Job | None) -> Job | None:
        """The best job created at or after `since`, and later than `after`.

        The newest running job is best, then the newest completed one, then the newest one.
        """
        recent = [
            job for job in self.jobs if job.created_at >= since and (after is None or job.created_at > after.created_at)
        ]
        running = (job for job in recent if not is_over(job))
        completed = (job for job in recent if job.status is JobStatus.COMPLETED)
        return next(running, None) or next(completed, None) or next(iter(recent), None)

    def usual_s(self, *, excluding: Job | None = None) -> float | None:
        """The median duration of the completed jobs except this one, in seconds; None without any."""
        completed = (job for job in self._jobs.values() if job.status is JobStatus.COMPLETED)
        others = (job for job in completed if excluding is None or job.id != excluding.id)
        taken = [seconds for job in others if (seconds := duration_s(job)) is not None]
        return median(taken) if taken else None

    def failure_streak(self) -> list[Job]:
        """The failed jobs since the last good one, newest first.

        As PostHog counts them: cancelled and interrupted jobs do not count, and they do not end the streak.
        """
        counted = (j for j in self.jobs if is_over(j) and not was_cancelled(j) and not was_interrupted(j))
        return list(takewhile(failed, counted))

    def deferred_until(self) -> datetime | None:
        """Until when PostHog defers this table's syncs; None if too few have failed in a row."""
        streak = self.failure_streak()
        if len(streak) < STREAK_LENGTH:
            return None
        # The pause doubles with each further failure. Three doublings pass the longest pause, and a bounded shift
        # keeps a table that has failed for months from an overflow.
        gap = STREAK_GAP * (1 << min(len(streak) - STREAK_LENGTH, 3))
        last = streak[0]
        return (last.finished_at or last.created_at) + min(gap, LONGEST_STREAK_GAP)


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    """What the next poll should read of a table: one job, or all new ones.

    Attributes:
        name: The table's name, which the API filters by.
        after: Read no job created at or before this time.
        job_id: The job to read; None to read all new jobs.
        expected_after: The new job has certainly been created after this time. Older ones are taken from the same
            answer, and are worth no other request. None if nothing is certain.
    """

    name: str
    after: datetime | None
    job_id: str | None
    expected_after: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class InitialRead:
    """A source and its jobs before anything is triggered.

    Attributes:
        source: The source.
        jobs: Its newest jobs, newest first.
        horizon: Jobs created at or before this time may be missing from `jobs`; None if `jobs` is complete.
        is_unread: The jobs were not read, because the records show all that matters: the newest job of each table has
            completed, and its record has the time of it.
    """

    source: Source
    jobs: tuple[Job, ...]
    horizon: datetime | None
    is_unread: bool = False


class JobReader:
    """Reads the jobs of one source. `cost` counts the requests."""

    def __init__(self, api: WarehouseApi, source_id: str) -> None:
        self._api = api
        self._source_id = source_id
        self.cost = 0

    def source(self) -> Source:
        """The source's record, with the status of all its tables."""
        self.cost += 1
        return self._api.get_source(self._source_id)

    def initial(
        self,
        schema_ids: Collection[str],
        *,
        source: Source | None,
        since: datetime | None,
        after: datetime,
        resumed: Mapping[str, str],
    ) -> InitialRead:
        """Read the jobs that exist before any trigger: one page, and more only where that matters.

        Args:
            schema_ids: The tables of interest.
            source: The source's record, if it is known.
            since: Read back to this time at least.
            after: Search for no job older than this.
            resumed: The jobs to find, by the id of their table.
        """
        source = source or self.source()
        tables = {schema.id: schema for schema in source.schemas if schema.id in schema_ids}
        names = [schema.name for schema in tables.values()]
        # More names than fit into an address: the newest jobs of the whole source must do.
        jobs, horizon = self._newest(names if len(names) <= NAMES_PER_REQUEST else (), since=since)
        if horizon is not None:
            for chunk in _chunks(_not_found(tables.values(), jobs=jobs, resumed=resumed)):
                jobs += self._search(chunk, after=after, resumed=resumed)
        return InitialRead(source=source, jobs=tuple(jobs), horizon=horizon)

    def read(self, queries: Sequence[JobQuery]) -> list[Job]:
        """The jobs that were queried, and newer ones of the same tables."""
        return [job for group in _groups(queries) for chunk in _chunks(group) for job in self._read(chunk)]

    def _newest(self, names: Sequence[str], *, since: datetime | None) -> tuple[list[Job], datetime | None]:
        jobs: list[Job] = []
        for job in self._jobs(after=None, names=names):
            jobs.append(job)
            is_far_enough = since is None or job.created_at < since
            if len(jobs) >= DEEPEST_READ or (len(jobs) >= JOBS_PER_ANSWER and is_far_enough):
                return jobs, job.created_at
        return jobs, None

    def _search(self, tables: Sequence[Schema], *, after: datetime, resumed: Mapping[str, str]) -> list[Job]:
        """The newest job of each of these tables, and the jobs to resume."""
        unseen = {table.id for table in tables}
        ids = {resumed[table.id] for table in tables if table.id in resumed}
        jobs: list[Job] = []
        for job in self._jobs(after=after, names=[table.name for table in tables]):
            jobs.append(job)
            unseen.discard(job.schema_id)
            ids.discard(job.id)
            if not (unseen or ids) or len(jobs) >= DEEPEST_READ:
                break
        return jobs

    def _read(self, queries: Sequence[JobQuery]) -> list[Job]:
        # Jobs come newest first, so the read can stop as soon as each queried job was found. A query for all
        # new jobs has no job (None), which is never found: then the read continues to its earliest `after`, or to the
        # end of the answer in which no new job can follow.
        missing = {query.job_id for query in queries}
        expected_after = _earliest([query.expected_after for query in queries if query.job_id is None])
        jobs: list[Job] = []
        for job in self._jobs(after=_earliest([q.after for q in queries]), names=[query.name for query in queries]):
            jobs.append(job)
            missing.discard(job.id)
            if len(jobs) % JOBS_PER_ANSWER == 0 and expected_after and job.created_at <= expected_after:
                missing.discard(None)
            if not missing:
                break
        return jobs

    def _jobs(self, *, after: datetime | None, names: Sequence[str]) -> Iterator[Job]:
        self.cost += 1
        for count, job in enumerate(self._api.list_jobs(self._source_id, after=after, schemas=tuple(names)), 1):
            yield job
            if count % JOBS_PER_ANSWER == 0:
                # The client requests the next page only if more is read.
                self.cost += 1


def _not_found(tables: Iterable[Schema], *, jobs: Sequence[Job], resumed: Mapping[str, str]) -> list[Schema]:
    """The tables whose running job, or job to resume, is not among these jobs."""
    seen, ids = {job.schema_id for job in jobs}, {job.id for job in jobs}
    return [
        table
        for table in tables
        if (table.status is SyncStatus.RUNNING and table.id not in seen)
        or (table.id in resumed and resumed[table.id] not in ids)
    ]


def _groups(queries: Sequence[JobQuery]) -> list[list[JobQuery]]:
    """Queries for old jobs apart from the others.

    One request has one `after` for all of its tables. If a job that runs since yesterday shared a request with tables
    that have just been triggered, each poll would read all that those tables did since yesterday.
    """
    floor = _earliest([query.after for query in queries if query.job_id is None])
    if floor is None:
        return [list(queries)]
    old = [query for query in queries if query.job_id is not None and query.after is not None and query.after < floor]
    return [[query for query in queries if query not in old], old]


def _earliest(times: Sequence[datetime | None]) -> datetime | None:
    return None if None in times else min((time for time in times if time is not None), default=None)


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + NAMES_PER_REQUEST] for start in range(0, len(items), NAMES_PER_REQUEST)]
