"""What to read of a source, and with how few requests."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER, NAMES_PER_REQUEST
from dw_orchestration.posthog.models import Job, Schema, Source

T = TypeVar("T")

DEEPEST_LOOK = 1000
"""Rows of the first look, when it has to go back further than a page."""


@dataclass(frozen=True, kw_only=True)
class Want:
    """What the next look should bring of a table: one job, or whatever is new.

    Attributes:
        name: The table's name, by which the API filters.
        after: No older rows are of interest.
        job_id: The job; None for whatever is new.
    """

    name: str
    after: datetime | None
    job_id: str | None


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """A source and its jobs before anything is triggered.

    Attributes:
        source: The source.
        jobs: Its newest jobs, newest first.
        horizon: Jobs as old as this may be missing; None if none are.
    """

    source: Source
    jobs: tuple[Job, ...]
    horizon: datetime | None


class JobReader:
    """Reads one source. `cost` counts the requests."""

    def __init__(self, api: WarehouseApi, source_id: str) -> None:
        self._api = api
        self._source_id = source_id
        self.cost = 0

    def source(self) -> Source:
        """The source's record: the status of all its tables in one answer."""
        self.cost += 1
        return self._api.get_source(self._source_id)

    def first_look(
        self,
        schema_ids: Collection[str],
        *,
        source: Source | None,
        since: datetime | None,
        after: datetime,
        resumed: Mapping[str, str],
    ) -> FirstLook:
        """Read what was there before: one page of jobs, and more only where it matters.

        Args:
            schema_ids: The tables of interest.
            source: The source's record, if it is known.
            since: Read back to this time at least.
            after: No job older than this is worth a search.
            resumed: The jobs to find, by the id of their table.
        """
        source = source or self.source()
        tables = {schema.id: schema for schema in source.schemas if schema.id in schema_ids}
        names = [schema.name for schema in tables.values()]
        jobs, horizon = self._newest(names if len(names) <= NAMES_PER_REQUEST else (), since=since)
        if horizon is not None:
            lost = _lost(tables.values(), jobs=jobs, resumed=resumed)
            for chunk in _chunks(lost):
                jobs += self._search(chunk, after=after, resumed=resumed)
        return FirstLook(source=source, jobs=tuple(jobs), horizon=horizon)

    def look(self, wants: Sequence[Want]) -> list[Job]:
        """The jobs that are wanted, and newer ones of the same tables."""
        return [job for group in _groups(wants) for chunk in _chunks(group) for job in self._read(chunk)]

    def _newest(self, names: Sequence[str], *, since: datetime | None) -> tuple[list[Job], datetime | None]:
        jobs: list[Job] = []
        for job in self._jobs(after=None, names=names):
            jobs.append(job)
            is_far_enough = since is None or job.created_at < since
            if len(jobs) >= DEEPEST_LOOK or (len(jobs) >= JOBS_PER_ANSWER and is_far_enough):
                return jobs, job.created_at
        return jobs, None

    def _search(self, tables: Sequence[Schema], *, after: datetime, resumed: Mapping[str, str]) -> list[Job]:
        """The newest job of each of these tables, and the ones to resume."""
        unseen = {table.id for table in tables}
        ids = {resumed[table.id] for table in tables if table.id in resumed}
        jobs: list[Job] = []
        for job in self._jobs(after=after, names=[table.name for table in tables]):
            jobs.append(job)
            unseen.discard(job.schema_id)
            ids.discard(job.id)
            if not (unseen or ids) or len(jobs) >= DEEPEST_LOOK:
                break
        return jobs

    def _read(self, wants: Sequence[Want]) -> list[Job]:
        """One read for all these wants. Newest first, so it is over as soon as each job has been met."""
        # None, for whatever is new, is never met.
        unmet = {want.job_id for want in wants}
        jobs: list[Job] = []
        for job in self._jobs(after=_earliest(wants), names=[want.name for want in wants]):
            jobs.append(job)
            unmet.discard(job.id)
            if not unmet:
                break
        return jobs

    def _jobs(self, *, after: datetime | None, names: Sequence[str]) -> Iterator[Job]:
        self.cost += 1
        for count, job in enumerate(self._api.list_jobs(self._source_id, after=after, schemas=tuple(names)), 1):
            yield job
            if count % JOBS_PER_ANSWER == 0:
                self.cost += 1


def _lost(tables: Iterable[Schema], *, jobs: Sequence[Job], resumed: Mapping[str, str]) -> list[Schema]:
    """The tables whose record says Running, or that have a job to resume, behind the end of the page."""
    seen, ids = {job.schema_id for job in jobs}, {job.id for job in jobs}
    return [
        table
        for table in tables
        if (table.status is SyncStatus.RUNNING and table.id not in seen)
        or (table.id in resumed and resumed[table.id] not in ids)
    ]


def _groups(wants: Sequence[Want]) -> list[list[Want]]:
    """Old jobs apart from new ones: together, all that other tables did since the old one would be read each time."""
    floor = _earliest([want for want in wants if want.job_id is None])
    if floor is None:
        return [list(wants)]
    old = [want for want in wants if want.job_id is not None and want.after is not None and want.after < floor]
    return [[want for want in wants if want not in old], old]


def _earliest(wants: Sequence[Want]) -> datetime | None:
    times = [want.after for want in wants]
    return None if None in times else min((time for time in times if time is not None), default=None)


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + NAMES_PER_REQUEST] for start in range(0, len(items), NAMES_PER_REQUEST)]
