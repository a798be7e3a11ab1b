"""What happens when tables are materialized: the engine syncs them, and this step reports to Dagster.

docs/exactly-once.md explains how a sync is reported exactly once, no matter who started it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn, Protocol

import dagster as dg

from dw_orchestration.assets.ahead import Ahead, Steps, started_by
from dw_orchestration.assets.checks import data_as_usual, not_synced, sync_succeeded
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.event_log import Adoption, EventLog, completed_run, jobs_of_earlier_tries, shared_keys
from dw_orchestration.assets.full_refresh import is_due, live_due_times, was_full_refresh
from dw_orchestration.assets.metadata import (
    JOB_ID,
    TriggeredBy,
    adoption_metadata,
    end_metadata,
    failure_metadata,
    result_metadata,
)
from dw_orchestration.assets.records import RecordReader, SharedRecords
from dw_orchestration.assets.resync_guard import check_repeated_resync, check_resync, losses
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.assets.step_checks import StepChecks
from dw_orchestration.assets.ticks import OpenTicks
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.errors import (
    AuthenticationError,
    PermissionDeniedError,
    PostHogError,
    ProjectNotFoundError,
    ReadOnlyError,
)
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.logs import as_text, explaining_lines
from dw_orchestration.posthog.models import Job, LogLine
from dw_orchestration.resources.failure import errors_as_failure, plain_failure, retry_policy_of
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.sync.cancel import cancel_started_jobs
from dw_orchestration.sync.clock import SystemClock
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.errors import (
    BillingLimitReachedError,
    DisabledByPostHogError,
    NotTriggeredError,
    SourceUnreachableError,
    SyncCancelledError,
    SyncError,
    SyncFailedError,
    SyncOutcome,
    SyncStalledError,
)
from dw_orchestration.sync.events import Adopted, BillingStopped, CaughtUp, Ended, Notice, Progress, SyncEvent
from dw_orchestration.sync.settings import TableRequest
from dw_orchestration.tables.table import Table
from dw_orchestration.text import in_markdown, visible, visible_lines

StepResult = dg.MaterializeResult[None] | dg.AssetCheckEvaluation
MAX_ERRORS_SHOWN = 20
CHECK_TICKS_EVERY_S = 0.25
# the ends whose reason PostHog may have logged
EXPLAINED_BY_LOG = (SyncFailedError, SyncCancelledError, DisabledByPostHogError, SyncStalledError)
# the ends that are no fault of their table: one failure for all of them, which is the run's
FAILURES_OF_THE_RUN = (BillingLimitReachedError, NotTriggeredError, SourceUnreachableError)
# a table logs its rows this often; with more than this many tables in a step, each logs less often
PROGRESS_EVERY_S = 5.0
TABLES_AT_FULL_PROGRESS = 10


class Execute(Protocol):
    """What a step does with its tables, as `sync_tables` does it."""

    def __call__(
        self,
        context: dg.AssetExecutionContext,
        config: PostHogSyncConfig,
        tables: Sequence[Table],
        *,
        warehouse: WarehouseResource,
    ) -> Iterator[StepResult]:
        """Sync the selected tables, and yield their results."""


def sync_tables(
    context: dg.AssetExecutionContext,
    config: PostHogSyncConfig,
    tables: Sequence[Table],
    *,
    warehouse: WarehouseResource,
    steps: Steps | None = None,
    project_tables: int | None = None,
    on_event: Callable[[SyncEvent], None] = lambda _: None,
) -> Iterator[StepResult]:
    """Sync tables and yield the result of each as it ends.

    Args:
        context: The context of the step.
        config: The config of the run.
        tables: The tables to sync.
        warehouse: Their warehouse.
        steps: The tables of each step of the project. The first step of a run starts the syncs of all of them. Without
            them, this step starts its own.
        project_tables: How many tables the project has. If they are few, its steps share a list of them.
        on_event: Called with each event of the engine.

    Raises:
        dagster.Failure: Some tables did not sync, after all others have their results; or nothing could be synced.
    """
    log = EventLog(context.instance, project=next((table.project for table in tables), None))
    checks = StepChecks(context, log, [asset_key(table) for table in tables])
    try:
        check_resync(context, config, tables)
        with errors_as_failure(context), warehouse.connect() as client:
            if config.sync_mode == "resync":
                for loss in losses(client, tables):
                    context.log.warning(loss)
            step = _Step(
                context,
                config,
                tables,
                client,
                log=log,
                checks=checks,
                steps=steps or {},
                project_tables=project_tables,
            )
            yield from step.run(on_event)
    except Exception as error:
        yield from checks.evaluations(str(error))
        raise
    yield from checks.evaluations()


@dataclass
class TableRun:
    """One table on its way through a step, from the request to its result."""

    table: Table
    key: dg.AssetKey
    adopted: Adopted | None = None
    """The sync that the table waits for, or waited for last."""
    full_refresh_due_at: datetime | None = None
    """When PostHog imports all rows again, as read before the sync; None if that is not due soon."""
    is_full_refresh: bool = False
    """Whether the sync imports all rows again."""
    is_syncing: bool = False
    error: SyncError | None = None
    open_ticks: set[tuple[str, float]] = field(default_factory=set)
    """The sensor's ticks that were under way as an ended sync was adopted: they may report it."""
    logged_at_s: float | None = None
    """When the table last logged its progress, in seconds of waiting."""

    @property
    def name(self) -> str:
        """What people call the table: `<source>.<table>`."""
        return visible(self.table.name)

    @property
    def triggered_by(self) -> TriggeredBy:
        """Who asked for the sync."""
        return "dagster" if self.adopted is not None and self.adopted.started else "adopted"


class _Step:
    """The tables of one step."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        config: PostHogSyncConfig,
        tables: Sequence[Table],
        client: PostHogWarehouseClient,
        *,
        log: EventLog,
        checks: StepChecks,
        steps: Steps,
        project_tables: int | None,
    ) -> None:
        self._context = context
        self._config = config
        self._client = client
        self._log = log
        self._checks = checks
        keys = context.op_execution_context.op_def.required_resource_keys
        self._ticks = OpenTicks(context.instance, context.run, resource_keys=keys)
        self._held: list[Ended] = []
        self._ahead = Ahead(context, config, steps, log=self._log)
        self._records = RecordReader(client, tables, shared=self._shared_records(tables, project_tables))
        self._runs = {table.id: TableRun(table, asset_key(table)) for table in tables}
        self._led: dict[str, TableRun] = {}
        self._recorded: Mapping[dg.AssetKey, Adoption] = {}
        self._others: set[str] = set()
        self._logs_fetched = 0
        requests = self._requests()
        began = {
            table_id: self._recorded[run.key].began_at
            for table_id, run in self._runs.items()
            if run.key in self._recorded
        }
        self._batch = SyncEngine(
            client, requests, settings=config.settings(), sources=self._records.known(began), clock=SystemClock()
        )

    def run(self, on_event: Callable[[SyncEvent], None]) -> Iterator[StepResult]:
        try:
            for event in self._batch.events():
                on_event(event)
                yield from self._report(event)
                yield from self._end_held()
            while self._held:
                time.sleep(CHECK_TICKS_EVERY_S)
                yield from self._end_held()
        except dg.DagsterExecutionInterruptedError:
            self._cancel_started()
            raise
        if any(run.error for run in self._runs.values()):
            self._fail()

    def _shared_records(self, tables: Sequence[Table], project_tables: int | None) -> SharedRecords | None:
        """What the steps of the run on this machine read together."""
        if project_tables is None or not tables:
            return None
        of_project = blake2b(tables[0].project.encode(), digest_size=8).hexdigest()
        return SharedRecords(
            self._client,
            Path(self._context.instance.storage_directory()) / "posthog_records" / f"{of_project}.json",
            tables=project_tables,
            sources=len({table.source.id for table in self._ahead.tables or tables}),
        )

    def _requests(self) -> list[TableRequest]:
        led = [TableRun(table, asset_key(table)) for table in self._ahead.lead()]
        self._ahead.wait([run.key for run in self._runs.values()])
        runs = [*self._runs.values(), *led]
        self._recorded = recorded = jobs_of_earlier_tries(
            self._context, [run.key for run in runs], log=self._log, within_run=self._ahead.is_together
        )
        for run in runs:
            run.is_full_refresh = run.key in recorded and recorded[run.key].full_refresh
        self._led = {run.table.id: run for run in led if not self._is_recorded_here(run)}
        for run in led:
            if run.table.id not in self._led:
                self._ahead.done(run.table, is_adopted=True)
        self._refuse_without_completed_run(runs)
        self._announce_full_refreshes()
        without = [run.name for run in self._runs.values() if run.key not in recorded]
        check_repeated_resync(self._context, self._config, without)
        return [self._request(run) for run in (*self._runs.values(), *self._led.values())]

    def _refuse_without_completed_run(self, runs: Sequence[TableRun]) -> None:
        """Start nothing in place of syncs that another run has started, and that cannot be found any more.

        Raises:
            dagster.Failure: That run has been deleted.
        """
        completed = completed_run(self._context)
        if completed is None or self._context.run.parent_run_id is not None or self._log.run(completed) is not None:
            return
        if lost := [run.name for run in runs if run.key not in self._recorded]:
            raise plain_failure(
                f"The run {completed} has been deleted, which started syncs of {', '.join(lost)}. Nothing is synced"
                " again: the job-status sensor reports how they ended. Materialize the tables to sync them."
            )

    def _is_recorded_here(self, run: TableRun) -> bool:
        """Whether this very run has written down a job for the table."""
        return run.key in self._recorded and self._recorded[run.key].run_id == self._context.run.run_id

    def _request(self, run: TableRun) -> TableRequest:
        recorded, is_first_try = self._recorded.get(run.key), self._context.retry_number == 0
        return TableRequest(
            source_id=run.table.source.id,
            schema_id=run.table.id,
            name=run.table.schema.name,
            label=run.table.name,
            resume_job_id=recorded.job_id if recorded else None,
            resume_started=recorded is not None and recorded.started,
            # a retry is there to try again, and so is a run that repeats another one
            resume_failed=recorded is not None
            and ((is_first_try and self._is_recorded_here(run)) or recorded.run_id == completed_run(self._context)),
            claimed_at=self._ahead.claimed_at(run.table),
            ahead=run.table.id in self._led,
        )

    def _announce_full_refreshes(self) -> None:
        """Say which tables PostHog is about to import, and bill, as a whole."""
        now = datetime.now(UTC)
        try:
            runs = self._runs | self._led
            due = live_due_times(self._client, [run.table for run in runs.values()], now=now)
        except PostHogError as error:
            self._context.log.warning(f"Cannot read which tables have a full refresh due. {error}")
            return
        for schema_id, due_at in due.items():
            run = runs[schema_id]
            run.full_refresh_due_at = due_at
            if is_due(due_at, self._client.server_time or now):
                self._context.log.warning(
                    f"{run.name}: a full refresh is due at {due_at:%F %T} UTC, so the next sync imports all rows again,"
                    " and PostHog bills them."
                )

    def _report(self, event: SyncEvent) -> Iterator[StepResult]:
        match event:
            case Adopted() | Ended() if event.schema_id in self._led:
                self._report_ahead(self._led[event.schema_id], event)
            case Adopted():
                run = self._runs[event.schema_id]
                self._record_adoption(run, event)
                run.is_syncing = True
                if is_over(event.job):
                    # the job-status sensor may be reporting it at this moment, in a tick that began before the adoption
                    run.open_ticks = self._ticks.now()
            case Progress():
                self._log_progress(self._runs[event.schema_id], event)
            case Notice():
                self._context.log.warning(visible_lines(event.text))
            case Ended() if self._runs[event.schema_id].open_ticks:
                self._held.append(event)
            case Ended():
                yield from self._end(self._runs[event.schema_id], event)
            case CaughtUp():
                yield from self._checks.evaluations_of_complete()
            case BillingStopped():
                self._context.log.error(str(event.error))

    def _report_ahead(self, run: TableRun, event: Adopted | Ended) -> None:
        if isinstance(event, Adopted):
            self._record_adoption(run, event)
        else:
            self._ahead.done(run.table, is_adopted=event.job is not None and not event.error)

    def _record_adoption(self, run: TableRun, event: Adopted) -> None:
        """Write the job down before the wait for it: a retry finds it, and the sensor leaves it to this run."""
        run.adopted = event
        is_resync = event.started and self._config.sync_mode == "resync"
        run.is_full_refresh |= is_resync or is_due(run.full_refresh_due_at, event.job.created_at)
        is_written = self._is_recorded_here(run) and self._recorded[run.key].job_id == event.job.id
        if is_written and self._context.retry_number == 0:
            return
        self._context.log_event(
            dg.AssetObservation(
                asset_key=run.key,
                description=f"Sync {event.job.id} began." if event.started else f"Joined sync {event.job.id}.",
                metadata=adoption_metadata(
                    event.job,
                    project=run.table.project,
                    triggered_by=run.triggered_by,
                    on_termination=self._config.on_termination,
                    full_refresh=run.is_full_refresh,
                    released=self._is_released(event.job),
                ),
            )
        )

    def _is_released(self, job: Job) -> bool:
        """Whether another run reports how the job ends. A resync is not repeated, so no run does."""
        return not (self._config.wait or is_over(job) or self._config.sync_mode == "resync")

    def _end_held(self) -> Iterator[StepResult]:
        """End the tables whose syncs the job-status sensor may have been reporting; the others do not wait for it."""
        if not self._held:
            return
        still_open = self._ticks.now()
        held, self._held = self._held, []
        for event in held:
            run = self._runs[event.schema_id]
            if run.open_ticks & still_open:
                self._held.append(event)
            else:
                yield from self._end(run, event)

    def _log_progress(self, run: TableRun, event: Progress) -> None:
        """Log a line from time to time for each table: the more tables, the less often."""
        pause_s = max(PROGRESS_EVERY_S, PROGRESS_EVERY_S * len(self._runs) / TABLES_AT_FULL_PROGRESS)
        if is_over(event.job) or (run.logged_at_s is not None and event.waited_s < run.logged_at_s + pause_s):
            return
        run.logged_at_s = event.waited_s
        status, rows = visible(event.job.status), event.job.rows_synced or 0
        self._context.log.info(f"{run.name}: {status}, {rows:,} rows so far, waited {event.waited_s:.0f} s")

    def _end(self, run: TableRun, event: Ended) -> Iterator[StepResult]:
        run.is_syncing, run.error = False, event.error
        if event.error is not None:
            self._log_error(run, event.error, event.job)
        elif event.job is None or event.outcome is not SyncOutcome.COMPLETED:
            self._context.log.info(f"{run.name}: its sync continues in PostHog, and is reported when it has ended")
            self._checks.keep_no_new_sync(run.key, "The running one is reported when it has ended.")
        else:
            yield from self._result(run, event, event.job)

    def _result(self, run: TableRun, event: Ended, job: Job) -> Iterator[StepResult]:
        """The run's result, which assets downstream and automation depend on, no matter who has reported the sync."""
        log = self._log.of_table(run.key, since=job.created_at)
        # Dagster keeps what an earlier try of the step has given
        is_given = self._context.run.run_id in log.syncs.given_by(job.id)
        if is_given and self._checks.are_evaluated(run.key):
            return
        self._warn_of_others(run, log.syncs.of_others)
        later = log.later_sync(job)
        if log.is_overtaken(job):
            self._checks.keep_last(run.key)
        if later is not None:
            yield from () if is_given else self._repeat(run, job, later)
            return
        if log.syncs.include(job.id) and not is_given:
            self._context.log.info(f"{run.name}: sync {job.id} has been reported before; the run's result repeats it")
        record, before = self._records.after(job, seen=self._batch.record(job.schema_id)), log.syncs.before(job.id)
        if run.full_refresh_due_at is None:
            run.is_full_refresh |= was_full_refresh(run.table, job, before=before)
        if not is_given:
            yield dg.MaterializeResult(
                asset_key=run.key,
                data_version=dg.DataVersion(job.id),
                metadata=result_metadata(
                    run.table,
                    job,
                    record=record,
                    triggered_by=run.triggered_by,
                    full_refresh=run.is_full_refresh,
                    queue_s=event.queue_s,
                    before=before,
                ),
            )
        if not log.is_overtaken(job):
            self._checks.keep(sync_succeeded(run.table, job))
        self._checks.keep(
            data_as_usual(run.table, job, record=record, syncs=log.syncs, full_refresh=run.is_full_refresh)
        )
        self._checks.complete(run.key)

    def _warn_of_others(self, run: TableRun, others: Mapping[str, datetime]) -> None:
        """Say once for each project that it shares our asset keys."""
        if unnamed := {project: began for project, began in others.items() if project not in self._others}:
            self._others |= unnamed.keys()
            self._context.log.warning(f"{run.name}: {shared_keys(run.table.project, unnamed)}.")

    def _repeat(self, run: TableRun, job: Job, later: Mapping[str, dg.MetadataValue]) -> Iterator[StepResult]:
        """Give a later sync, which the table's rows are from, as the result: the table must not seem older again."""
        later_id = str(later[JOB_ID].value)
        self._context.log.info(f"{run.name}: a sync after {job.id} has been reported: the result is that of {later_id}")
        yield dg.MaterializeResult(asset_key=run.key, data_version=dg.DataVersion(later_id), metadata=later)

    def _log_error(self, run: TableRun, error: SyncError, job: Job | None) -> None:
        lines = self._posthogs_log(run, error, job)
        # a billing limit is logged once for all tables that it stopped, at the end
        if not isinstance(error, NotTriggeredError | BillingLimitReachedError):
            self._context.log.error(str(error))
        self._checks.keep_no_new_sync(run.key, str(error))
        if job is not None and is_over(job):
            self._keep_failure(run, error, job, lines)
        elif not isinstance(error, FAILURES_OF_THE_RUN):
            self._checks.keep(not_synced(run.table, str(error)))
            if job is not None:
                self._context.log_event(self._note_of(run, error, job))

    def _note_of(self, run: TableRun, error: SyncError, job: Job) -> dg.AssetObservation:
        """The reason among the table's events, where the last one would be that its sync began."""
        metadata = failure_metadata(run.table, job, error=str(error), triggered_by=run.triggered_by)
        return dg.AssetObservation(run.key, description=in_markdown(str(error)), metadata=metadata)

    def _keep_failure(self, run: TableRun, error: SyncError, job: Job, lines: Sequence[LogLine]) -> None:
        """The end of a failed sync for the check, and for a note of it: a check shows its last evaluation alone."""
        note = self._note_of(run, error, job)
        log = self._log.of_table(run.key, since=job.created_at)
        if log.is_overtaken(job):
            self._context.log_event(note)
            return
        self._checks.keep(sync_succeeded(run.table, job, log=lines))
        end = {} if log.has_report_of(job) else end_metadata(run.table, job, triggered_by=run.triggered_by)
        self._checks.note(note.with_metadata({**end, **note.metadata}))

    def _posthogs_log(self, run: TableRun, error: SyncError, job: Job | None) -> list[LogLine]:
        """What PostHog logged during a sync that did not complete; also a part of the run's log."""
        if not self._config.fetch_logs or job is None or self._logs_fetched >= MAX_ERRORS_SHOWN:
            return []
        if not isinstance(error, EXPLAINED_BY_LOG):
            return []
        self._logs_fetched += 1
        lines = explaining_lines(self._client, job)
        if lines:
            text = "\n".join(map(as_text, lines))
            self._context.log.info(f"{run.name}: PostHog logged during sync {job.id}:\n{text}")
        return lines

    def _cancel_started(self) -> None:
        """Cancel for a user; an evicted or killed process leaves its syncs running, and its retry takes them up."""
        run = self._context.instance.get_run_by_id(self._context.run.run_id)
        by_a_user = run is not None and run.status in (
            dg.DagsterRunStatus.CANCELING,
            dg.DagsterRunStatus.CANCELED,
        )
        if not by_a_user or self._config.on_termination == "leave":
            self._context.log.warning("Interrupted. The syncs keep running in PostHog; a retry takes them up.")
            return
        others = [table for table in self._ahead.tables if table.id not in self._runs | self._led]
        left = started_by(self._context.run.run_id, others, log=self._log, now=datetime.now(UTC))
        for report in (*self._batch.cancel_started(), *cancel_started_jobs(self._client, left)):
            self._context.log.warning(report.text)
        for table_run in self._runs.values():
            if table_run.is_syncing and table_run.adopted is not None and not table_run.adopted.started:
                job_id = table_run.adopted.job.id
                self._context.log.warning(f"{table_run.name}: sync {job_id} keeps running: this run did not start it")

    def _fail(self) -> NoReturn:
        """End the step. If PostHog has named a time for the next try, ask Dagster to retry then and not before."""
        policy = retry_policy_of(self._context)
        failure = self._failure()
        errors = [run.error for run in self._runs.values() if run.error is not None]
        waits = [error.retry_after_s for error in errors if error.allow_retries]
        latest_s = max((wait_s or 0.0 for wait_s in waits), default=0.0)
        if policy is None or not failure.allow_retries or None in waits or latest_s <= (policy.delay or 0.0):
            raise failure
        self._context.log.warning(
            f"PostHog accepts these tables again in {latest_s:.0f} s. The next retry waits for it."
        )
        raise dg.RetryRequested(max_retries=policy.max_retries, seconds_to_wait=latest_s) from failure

    def _failure(self) -> dg.Failure:
        """One failure for the step with a line for each table; a re-execution from it takes only the failed tables."""
        if (setup_error := self._setup_error()) is not None:
            self._checks.blame_the_run(str(setup_error))
            return plain_failure(str(setup_error))
        failed = sorted((run for run in self._runs.values() if run.error is not None), key=lambda run: run.name)
        lines = [str(run.error) for run in failed]
        shown = lines[:MAX_ERRORS_SHOWN]
        if len(lines) > len(shown):
            shown.append(f"… and {len(lines) - len(shown)} more; the log has a line for each")
        tables = "table" if len(self._runs) == 1 else "tables"
        return plain_failure(
            f"{len(lines)} of {len(self._runs)} {tables} did not complete.\n" + "\n".join(shown),
            metadata={"posthog/failed_tables": len(lines), "posthog/tables": len(self._runs)},
            allow_retries=retry_policy_of(self._context) is not None
            and any(run.error is not None and run.error.allow_retries for run in failed),
        )

    def _setup_error(self) -> PostHogError | None:
        """The error of the key or the project, if that is why no table could be synced."""
        if any(run.adopted is not None or run.error is None for run in self._runs.values()):
            return None
        try:
            self._client.check_access(write=True)
        except (AuthenticationError, PermissionDeniedError, ProjectNotFoundError, ReadOnlyError) as error:
            return error
        except PostHogError:
            # the errors of the tables say what is wrong
            return None
        return None
