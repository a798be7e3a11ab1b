"""Which sources may have new jobs, and which of their jobs have not been handled."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.jobs import newest_job_per_table
from dw_orchestration.posthog.limits import INSTANT, JOBS_PER_ANSWER, LATE_ROWS, NAMES_PER_REQUEST
from dw_orchestration.posthog.models import Job, Source
from dw_orchestration.sensors.cursor import OpenJob, SourceCursor

_FIRST_JOBS = 5 * JOBS_PER_ANSWER
# of a time with so many jobs, no part is shorter
_SHORTEST_SPAN = timedelta(seconds=1)
# where a source without a sync begins: no row from before can still become visible, however far clocks are apart
_NO_LATE_ROWS = timedelta(hours=1)
# a source's time since the last tick is cut into no more parts than this
_MOST_PARTS = 64


def digest(source: Source) -> str:
    """What the list of sources shows of a source's syncs, in few characters."""
    return _digest(
        (schema.id, str(schema.status), str(schema.last_synced_at), schema.should_sync) for schema in source.schemas
    )


def may_have_unreported_jobs(source: Source, cursor: SourceCursor | None) -> bool:
    """Whether a job can have ended since the source was last read, or since its first tick.

    A second failure in a row changes nothing in the list, and neither does a sync that follows another at once, so a
    source is taken to be quiet only while all of its enabled tables show Completed.
    """
    if cursor is not None and (cursor.open or cursor.shown != digest(source)):
        return True
    if not source.schemas or source.schemas.unreadable:
        # the list does not show all tables
        return True
    return any(schema.should_sync and schema.status not in (None, SyncStatus.COMPLETED) for schema in source.schemas)


def quiet_cursor(source: Source, *, now: datetime) -> SourceCursor:
    """The cursor of a source that is met for the first time and shows that all is quiet, without reading its jobs."""
    synced_at = [schema.last_synced_at for schema in source.schemas if schema.last_synced_at is not None]
    return SourceCursor(seen_until=max(synced_at, default=now - _NO_LATE_ROWS), shown=digest(source), is_unread=True)


@dataclass(frozen=True)
class Batch:
    """Jobs that have not been dealt with, running ones included, the oldest first."""

    jobs: Sequence[Job]
    seen_until: datetime
    """Every job up to then is among them, or has been dealt with, or is history."""
    is_history: bool = False
    """Whether these are the newest job of each table, with which a source begins: earlier ones are past."""
    has_open: bool = False
    """Whether the open jobs of the cursor are among them, if they still exist."""

    @property
    def digest(self) -> str:
        """What these jobs are, and how far they have come, in few characters."""
        return _digest((job.id, str(job.status)) for job in self.jobs)


def read_jobs(
    api: WarehouseApi, source: Source, cursor: SourceCursor | None, *, at_once: int, is_its_turn: bool = False
) -> Iterator[Batch]:
    """The source's jobs that have not been dealt with, some at a time, so that a tick can stop in between.

    Args:
        api: The warehouse.
        source: The source.
        cursor: How far its jobs have been dealt with; None if the source is met for the first time.
        at_once: About how many to read before the first are given.
        is_its_turn: Whether to read the newest job of each table if that has not been done.

    Raises:
        PostHogError: The jobs could not be read; nothing is lost, the next tick reads them.
    """
    if cursor is None:
        jobs, now = _history(api, source), api.server_time or datetime.now(UTC)
        yield Batch(jobs, seen_until=jobs[-1].created_at if jobs else now - _NO_LATE_ROWS, is_history=True)
        return
    if cursor.is_unread and is_its_turn:
        jobs = _history(api, source, before=cursor.seen_until + INSTANT)
        yield Batch(jobs, seen_until=cursor.seen_until, is_history=True)
        if not may_have_unreported_jobs(source, cursor):
            return
    open_jobs, is_first = cursor.open, True
    for found in _oldest_first(api, source.id, after=cursor.seen_until - LATE_ROWS, at_once=at_once):
        ids = {job.id for job in found}
        jobs = _in_order([*_read_again(api, source.id, [job for job in open_jobs if job.id not in ids]), *found])
        newest = max((job.created_at for job in found), default=cursor.seen_until)
        yield Batch(jobs, seen_until=max(newest, cursor.seen_until), has_open=is_first)
        open_jobs, is_first = (), False


def advance(
    cursor: SourceCursor | None,
    source: Source,
    batch: Batch,
    *,
    still_open: Sequence[Job],
    left: Sequence[Job],
    room: int,
) -> SourceCursor:
    """The cursor once a batch has been checked.

    Args:
        cursor: The cursor before.
        source: The source.
        batch: The jobs that were read.
        still_open: Those of them that the next tick has to check again.
        left: Those that there was no time for. The next tick reads them again.
        room: How many jobs may be remembered as open; if there are more, the rest is left too.
    """
    known = {job.id: job for job in cursor.open} if cursor else {}
    remembered = {} if batch.has_open else dict(known)
    remembered |= {job.id: _open(job) for job in _in_order([*still_open, *(job for job in left if job.id in known)])}
    later = [job.created_at for job in list(remembered.values())[room:]]
    if not batch.is_history:
        later += [job.created_at for job in left if job.id not in known]
    reached = max(batch.seen_until, cursor.seen_until) if cursor else batch.seen_until
    seen_until = min([reached, *(began_at - INSTANT for began_at in later)])
    after = SourceCursor(
        seen_until=seen_until,
        open=tuple(job for job in list(remembered.values())[:room] if batch.is_history or job.created_at <= seen_until),
        # what is left to do needs no change in the list to be read
        shown="" if later or (left and not batch.is_history) else digest(source),
        is_unread=bool(left) if batch.is_history else cursor is not None and cursor.is_unread,
    )
    is_settled = not (left or later or after.open) and may_have_unreported_jobs(source, after)
    return after.model_copy(update={"settled": batch.digest}) if is_settled else after


def _digest(shown: Iterable[tuple[object, ...]]) -> str:
    return hashlib.blake2b(repr(sorted(shown)).encode(), digest_size=8).hexdigest()


def _in_order(jobs: Iterable[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: (job.created_at, job.id))


def _open(job: Job) -> OpenJob:
    return OpenJob(id=job.id, table=job.table.name, created_at=job.created_at)


def _history(api: WarehouseApi, source: Source, *, before: datetime | None = None) -> list[Job]:
    synced = {schema.id for schema in source.schemas if schema.last_synced_at is not None}
    newest = newest_job_per_table(api, source.id, until=synced or None, max_jobs=_FIRST_JOBS, before=before)
    return _in_order(newest.values())


def _oldest_first(api: WarehouseApi, source_id: str, *, after: datetime, at_once: int) -> Iterator[list[Job]]:
    """All jobs since then: those of a span of time, then those of the next.

    PostHog lists the newest first, so a span that has too many is halved before all of it is read.
    """
    newest = list(islice(api.list_jobs(source_id, after=after), at_once))
    if len(newest) < at_once:
        yield newest
        return
    until, earliest = newest[0].created_at, newest[-1].created_at
    span = max(until - earliest, (earliest - after) / _MOST_PARTS, _SHORTEST_SPAN)
    while after < until:
        before = after + span
        most = at_once if span > _SHORTEST_SPAN else None
        jobs = list(islice(api.list_jobs(source_id, after=after, before=before), most))
        if len(jobs) == most:
            span = max(span / 2, _SHORTEST_SPAN)
            continue
        yield jobs
        after, span = before - INSTANT, 2 * span


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
