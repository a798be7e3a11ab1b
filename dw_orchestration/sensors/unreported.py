"""Which sources may have new jobs, and which of their jobs have not been handled."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.jobs import newest_job_per_table
from dw_orchestration.posthog.limits import INSTANT, JOBS_PER_ANSWER, LATE_ROWS, NAMES_PER_REQUEST
from dw_orchestration.posthog.models import Job, Source
from dw_orchestration.sensors.cursor import OpenJob, SourceCursor

_EPOCH = datetime.fromtimestamp(0, tz=UTC)
_FIRST_TICK_JOBS = 5 * JOBS_PER_ANSWER


def digest(source: Source) -> str:
    """What the list of sources shows of a source's syncs, in few characters."""
    shown = [
        (schema.id, str(schema.status), str(schema.last_synced_at), schema.should_sync) for schema in source.schemas
    ]
    return hashlib.blake2b(repr(sorted(shown)).encode(), digest_size=8).hexdigest()


def may_have_unreported_jobs(source: Source, cursor: SourceCursor | None) -> bool:
    """Whether a job can have ended since the source was last read.

    A second failure in a row changes nothing in the list, and neither does a sync that follows another at once, so a
    source is taken to be quiet only while all of its enabled tables show Completed.
    """
    if cursor is None or cursor.open or cursor.shown != digest(source):
        return True
    if not source.schemas or source.schemas.unreadable:
        # the list does not show all tables
        return True
    return any(schema.should_sync and schema.status not in (None, SyncStatus.COMPLETED) for schema in source.schemas)


def read_jobs(api: WarehouseApi, source: Source, cursor: SourceCursor | None) -> list[Job]:
    """The source's jobs that have not been dealt with, running ones included, oldest first.

    Without a cursor these are the newest job of each table.

    Raises:
        PostHogError: The jobs could not be read; nothing is lost, the next tick reads them.
    """
    jobs = _newest_of_each_table(api, source) if cursor is None else _since(api, source.id, cursor)
    return sorted(jobs, key=lambda job: (job.created_at, job.id))


def advance(cursor: SourceCursor | None, source: Source, jobs: Sequence[Job], *, reported: set[str]) -> SourceCursor:
    """The cursor once the jobs that were read have been checked, and those in `reported` handled."""
    newest = max((job.created_at for job in jobs), default=_EPOCH)
    seen_until = max(newest, cursor.seen_until) if cursor else newest
    border = seen_until - LATE_ROWS
    known = (cursor.edge if cursor else {}) | {job.id: job.created_at for job in jobs}
    return SourceCursor(
        seen_until=seen_until,
        edge={job_id: created_at for job_id, created_at in known.items() if created_at >= border},
        open=tuple(
            OpenJob(id=job.id, table=job.table.name, created_at=job.created_at)
            for job in jobs
            if job.id not in reported
        ),
        shown=digest(source),
    )


def _newest_of_each_table(api: WarehouseApi, source: Source) -> list[Job]:
    synced = {schema.id for schema in source.schemas if schema.last_synced_at is not None}
    return list(newest_job_per_table(api, source.id, until=synced or None, max_jobs=_FIRST_TICK_JOBS).values())


def _since(api: WarehouseApi, source_id: str, cursor: SourceCursor) -> list[Job]:
    dealt_with = cursor.edge.keys() - {job.id for job in cursor.open}
    recent = api.list_jobs(source_id, after=cursor.seen_until - LATE_ROWS)
    found = {job.id: job for job in recent if job.id not in dealt_with}
    missing = [job for job in cursor.open if job.id not in found]
    return [*found.values(), *_read_again(api, source_id, missing)]


def _read_again(api: WarehouseApi, source_id: str, open_jobs: Sequence[OpenJob]) -> Iterator[Job]:
    """Open jobs that began before those just read; one whose table is gone by now is not found and so let go."""
    by_name: dict[str, list[OpenJob]] = {}
    for open_job in open_jobs:
        by_name.setdefault(open_job.table, []).append(open_job)
    all_names = sorted(by_name)
    for start in range(0, len(all_names), NAMES_PER_REQUEST):
        names = all_names[start : start + NAMES_PER_REQUEST]
        wanted = {job.id for name in names for job in by_name[name]}
        times = [job.created_at for name in names for job in by_name[name]]
        for job in api.list_jobs(source_id, after=min(times) - INSTANT, before=max(times) + INSTANT, schemas=names):
            if job.id in wanted:
                yield job
                wanted.discard(job.id)
            if not wanted:
                break
