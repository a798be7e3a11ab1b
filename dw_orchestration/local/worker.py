"""What a worker does with one run: open a job, sync, and write down how it ended."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from dw_orchestration.local import webhooks
from dw_orchestration.local.behaviours import BillingRefusal, SyncBehaviour
from dw_orchestration.local.rows import (
    DELETED,
    RESTARTED,
    Job,
    LogLine,
    Schedule,
    Schema,
    Source,
    StartedBy,
    Status,
    SyncedColumn,
    SyncedTable,
)
from dw_orchestration.local.syncing import SourceError, SyncCancelled, SyncRequest, SyncResult, TargetTable, run_sync
from dw_orchestration.local.ticks import FULL_REFRESH_SLACK, next_full_refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dw_orchestration.local.behaviours import Behaviours
    from dw_orchestration.local.store import Store
    from dw_orchestration.local.syncing import Connector, Warehouse

logger = logging.getLogger(__name__)

FREE_FAILURES = 5
FIRST_GAP = timedelta(minutes=10)
LONGEST_GAP = timedelta(hours=1)
PROGRESS_EVERY_S = 0.5


@dataclass(eq=False, slots=True)
class Run:
    """A run on its way: queued, then syncing. `stop` ends it early, `ended` says that it is over."""

    schema_id: UUID
    started_by: StartedBy
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    reason: str = ""

    def stop(self, reason: str) -> None:
        """Ask the run to end; the first reason stays."""
        self.reason = self.reason or reason
        self.cancelled.set()


class RowCounter:
    """Writes the number of rows read so far, at most twice a second."""

    def __init__(self, write: Callable[[int], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 0
        self._write = write
        self._clock = clock
        self._written_at = clock()

    def __call__(self, rows: int) -> None:
        """Take note of the total so far."""
        self.rows = rows
        if self._clock() - self._written_at >= PROGRESS_EVERY_S:
            self._written_at = self._clock()
            self._write(rows)


def held_back_until(jobs: Sequence[Job]) -> datetime | None:
    """When a table in a failure streak may run again; `jobs` are its own, newest first.

    After five failures in a row the gap is 10 minutes and doubles up to an hour. A good run ends the
    streak, a resync starts a new one, and ends that are unrelated to the table do not count.
    """
    failures: list[Job] = []
    for job in jobs:
        if job.status is Status.COMPLETED:
            break
        if job.counts_in_streak:
            failures.append(job)
        if job.was_reset:
            break
    if len(failures) < FREE_FAILURES or failures[0].finished_at is None:
        return None
    doublings = min(len(failures) - FREE_FAILURES, 3)  # a power without bound would overflow the span
    gap = min(FIRST_GAP * (1 << doublings), LONGEST_GAP)
    return failures[0].finished_at + gap


def _is_full_refresh_due(schema: Schema, run: Run, *, now: datetime) -> bool:
    """Whether this run is the scheduled full refresh: a reload goes through the schedule, and counts as well."""
    due = schema.next_full_refresh_at
    counts = run.started_by in {StartedBy.SCHEDULE, StartedBy.API}
    return counts and due is not None and now + FULL_REFRESH_SLACK >= due


class Worker:
    """Carries out runs; one object for all threads."""

    def __init__(
        self,
        store: Store,
        *,
        warehouse: Warehouse,
        connect: Callable[[str, Mapping[str, object]], Connector],
        behaviours: Behaviours,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._behaviours = behaviours
        self._warehouse = warehouse
        self._connect = connect
        self._now = now

    def carry_out(self, run: Run) -> None:
        """Sync the run's schema; leaves no job when there is nothing to do or it is held back."""
        schema = self._store.schema(run.schema_id)
        source = self._store.source(schema.source_id) if schema else None
        if schema is None or source is None or not self._behaviours.before_job(schema.id, cancelled=run.cancelled):
            return
        if run.cancelled.is_set() or self._is_held_back(schema):
            self.restore_status(schema)
            return
        job = self._begin(schema, run)
        if self._behaviours.is_split(schema.id):
            self.fail(job, RESTARTED)
            job = self._begin(schema, run)
        self._carry_on(job, schema=schema, source=source, run=run)
        if job.cdc_write_mode is not None:
            self._repeat(job)

    def _carry_on(self, job: Job, *, schema: Schema, source: Source, run: Run) -> None:
        progress = RowCounter(lambda rows: self._store.update(Job, job.id, rows_synced=rows))
        try:
            self._behaviours.before_rows(schema.id, cancelled=run.cancelled)
            result = self._sync(job, schema=schema, source=source, run=run, progress=progress)
        except SyncCancelled:
            self.fail(job, run.reason, rows=progress.rows)
        except BillingRefusal as refusal:
            self._refuse(job, refusal.status)
        except SourceError as error:
            self._fail_for(error, job, rows=progress.rows)
        except Exception as error:
            # The edge of the run: any error ends this job, never the worker.
            logger.exception("Job %s of %s broke off", job.id, schema.name)
            text = f"The sync broke off: {type(error).__name__}. The server's log has the details."
            self.fail(job, text, rows=progress.rows, counts_in_streak=True)
        else:
            self.complete(job, result)

    def _repeat(self, job: Job) -> None:
        """Add the second job of a sync, which writes the history of changes; it ended as the first did."""
        for first in self._store.jobs_of(job.schema_id):
            if first.id == job.id:
                self._store.insert(first.model_copy(update={"id": uuid4(), "cdc_write_mode": "scd2_append"}))

    def restore_status(self, schema: Schema) -> None:
        """Undo a status Running that has no job."""
        latest = self._store.jobs_of(schema.id, limit=1)
        self._store.update(Schema, schema.id, status=latest[0].status if latest else None)

    def complete(self, job: Job, result: SyncResult) -> None:
        """Write a good end, and the table as it is now."""
        schema = self._store.schema(job.schema_id)
        if schema is None:
            self.fail(job, DELETED, rows=result.rows_synced)  # while its last rows were being published
            return
        ended = job.model_copy(
            update={
                "status": Status.COMPLETED,
                "finished_at": self._now(),
                "rows_synced": result.rows_synced,
            }
        )
        columns = tuple(SyncedColumn(name=column.name, type=column.type) for column in result.columns)
        table_id = schema.synced.id if schema.synced else uuid4()
        table = SyncedTable(id=table_id, row_count=result.row_count, columns=columns)
        with self._store.transaction():
            self._store.update(Schema, schema.id, synced=table)
            if job.was_reset:
                self._store.update(Schema, schema.id, reset_pipeline=False)
            if not self._store.finish_job(ended):
                return
            good = {"status": Status.COMPLETED, "latest_error": None, "last_synced_at": job.created_at}
            self._store.update(Schema, schema.id, **good)
            self._log(job, f"Sync completed: {result.rows_synced} rows read, {result.row_count} in the table")

    def fail(self, job: Job, error: str, *, rows: int | None = None, counts_in_streak: bool = False) -> None:
        """Write a bad end, unless the job has ended already."""
        ended = job.model_copy(
            update={
                "status": Status.FAILED,
                "finished_at": self._now(),
                "latest_error": error,
                "rows_synced": job.rows_synced if rows is None else rows,
                "counts_in_streak": counts_in_streak,
            }
        )
        with self._store.transaction():
            if self._store.finish_job(ended):
                self._store.update(Schema, job.schema_id, status=Status.FAILED, latest_error=error)
                self._log(job, error, level="ERROR")

    def _fail_for(self, error: SourceError, job: Job, *, rows: int) -> None:
        """Write a bad end; the error says whether the next run starts from scratch, or none starts any more."""
        self.fail(job, str(error), rows=rows, counts_in_streak=not error.permanent)
        if error.cured_by_reset:
            self._store.update(Schema, job.schema_id, reset_pipeline=True)
        elif error.permanent:
            self._turn_off(job.schema_id)

    def _refuse(self, job: Job, status: Status) -> None:
        """Write the end of a job that billing kept from importing; the table's last error stays."""
        ended = job.model_copy(update={"status": status, "finished_at": self._now()})
        with self._store.transaction():
            if self._store.finish_job(ended):
                self._store.update(Schema, job.schema_id, status=status)
                self._log(job, f"No sync: {status}", level="ERROR")

    def settle(self) -> list[Schema]:
        """Give the jobs of a killed process their end: what it had committed counts as done.

        Returns:
            The schemas whose syncs were cut off, which PostHog starts again without anyone's help.
        """
        cut_off: list[UUID] = []
        for job in self._store.running_jobs():
            try:
                result = self._warehouse.published(str(job.id))
            except SourceError as error:
                # the API has to answer, to say why nothing syncs
                self.fail(job, str(error))
                continue
            if result is not None:
                self.complete(job, result)
            else:
                self.fail(job, RESTARTED)
                cut_off.append(job.schema_id)
        for project in self._store.projects():
            for schema in self._store.schemas(project.id):
                if schema.status is Status.RUNNING:
                    self.restore_status(schema)
        self._warehouse.clean_staging()
        found = [self._store.schema(schema_id) for schema_id in cut_off]
        return [schema for schema in found if schema is not None and schema.should_sync]

    def _is_held_back(self, schema: Schema) -> bool:
        until = held_back_until(self._store.jobs_of(schema.id))
        held_back = not schema.reset_pipeline and until is not None and self._now() < until
        if held_back:
            logger.info("A sync of %s is skipped until %s: it keeps failing", schema.name, until)
        return held_back

    def _begin(self, schema: Schema, run: Run) -> Job:
        now, behaviour = self._now(), self._behaviours.of(schema.id) or SyncBehaviour()
        resets = schema.reset_pipeline or _is_full_refresh_due(schema, run, now=now)
        job = Job(
            id=uuid4(),
            source_id=schema.source_id,
            schema_id=schema.id,
            created_at=now,
            workflow_run_id=uuid4(),
            started_by=run.started_by,
            was_reset=resets,
            billable=behaviour.billable,
            cdc_write_mode="incremental_merge" if behaviour.cdc_both else None,
        )
        with self._store.transaction():
            self._store.insert(job)
            self._store.update(Schema, schema.id, status=Status.RUNNING, updated_at=now)
            if resets:  # until it has succeeded, the next run starts from scratch as well
                days, at = schema.full_refresh_interval_days, schema.full_refresh_time_of_day
                due = next_full_refresh(now, interval_days=days, time_of_day=at)
                self._store.update(Schema, schema.id, reset_pipeline=True, next_full_refresh_at=due)
            self._log(job, f"Sync of {schema.name} started ({schema.sync_type or 'full_refresh'})")
        return job

    def _sync(self, job: Job, *, schema: Schema, source: Source, run: Run, progress: RowCounter) -> SyncResult:
        target = TargetTable(schema.target_schema, schema.target_name)
        request = SyncRequest(
            job_id=str(job.id),
            table=schema.name,
            target=target,
            sync_type=schema.sync_type or "full_refresh",
            incremental_field=schema.incremental_field,
            incremental_field_type=schema.incremental_field_type,
            primary_keys=schema.primary_key_columns or schema.discovered.primary_keys,
            lookback_seconds=schema.incremental_field_lookback_seconds,
            enabled_columns=schema.enabled_columns,
            reset=job.was_reset,
        )
        run_request = partial(
            run_sync,
            warehouse=self._warehouse,
            on_progress=progress,
            on_step=lambda text: self._log(job, text),
            cancelled=run.cancelled,
        )
        if schema.sync_type == "webhook" and schema.synced is not None and not job.was_reset:
            result = self._sync_pushed(request, schema, run_request)
        else:
            first = replace(request, sync_type="full_refresh") if schema.sync_type == "webhook" else request
            result = run_request(first, self._connect(source.source_type, source.job_inputs))
        if self._store.schema(schema.id) is None:
            self._warehouse.drop(target)
        return result

    def _sync_pushed(
        self, request: SyncRequest, schema: Schema, run_request: Callable[[SyncRequest, Connector], SyncResult]
    ) -> SyncResult:
        """Take the rows that arrived by webhook."""
        rows = self._store.pushed_rows(schema.id)
        if not rows:
            count, columns = self._warehouse.describe(request.target) or (0, ())
            return SyncResult(request.job_id, 0, count, columns)
        with webhooks.arrived(schema, rows, folder=self._warehouse.staging) as connector:
            result = run_request(request, connector)
        self._store.forget_pushed_rows(schema.id, count=len(rows))
        return result

    def _turn_off(self, schema_id: UUID) -> None:
        with self._store.transaction():
            self._store.update(Schema, schema_id, should_sync=False)
            self._store.update(Schedule, schema_id, paused=True)
        logger.warning("Syncing of table %s was turned off: its source refuses for good", schema_id)

    def _log(self, job: Job, message: str, *, level: str = "INFO") -> None:
        line = LogLine(schema_id=job.schema_id, job_id=job.id, timestamp=self._now(), level=level, message=message)
        self._store.add_log_line(line)
        logger.log(logging.getLevelName(level), "Job %s: %s", job.id, message)
