"""What happens when tables are materialized: the engine does the work, this tells Dagster about it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NoReturn, Protocol

import dagster as dg

from dw_orchestration.assets.checks import Verdict, not_stale, rows_usual, sync_succeeded, table_verdicts
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import TriggeredBy, adoption_metadata, finished_at, result_metadata
from dw_orchestration.assets.records import RecordReader
from dw_orchestration.assets.resume import jobs_of_earlier_tries
from dw_orchestration.assets.resync_guard import check_repeated_resync, check_resync, losses
from dw_orchestration.assets.tables import Table
from dw_orchestration.assets.ticks import OpenTicks
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.errors import (
    AuthenticationError,
    PermissionDeniedError,
    PostHogError,
    ProjectNotFoundError,
    ReadOnlyError,
    TransportError,
)
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.sync.clock import SystemClock
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.errors import BillingLimitReachedError, NotTriggeredError, SyncError, SyncOutcome
from dw_orchestration.sync.events import Adopted, BillingStopped, Ended, Notice, Progress, SyncEvent
from dw_orchestration.sync.settings import TableRequest
from dw_orchestration.tables.errors import SetupError

StepResult = dg.MaterializeResult[None] | dg.AssetCheckResult
MAX_ERRORS_SHOWN = 20
# a table tells of its rows this often, unless more than so many tables are synced together
PROGRESS_EVERY_S = 5.0
TABLES_THAT_TALK = 10


class Execute(Protocol):
    """What a step does with its tables, as `sync_tables` does it."""

    def __call__(
        self,
        context: dg.AssetExecutionContext,
        config: PostHogSyncConfig,
        tables: Mapping[dg.AssetKey, Table],
        *,
        warehouse: WarehouseResource,
    ) -> Iterator[StepResult]:
        """Sync the selected tables, and yield their results."""


def sync_tables(
    context: dg.AssetExecutionContext,
    config: PostHogSyncConfig,
    tables: Mapping[dg.AssetKey, Table],
    *,
    warehouse: WarehouseResource,
    checks: Collection[dg.AssetCheckKey] | None = None,
    watch: Callable[[SyncEvent], None] = lambda _: None,
) -> Iterator[StepResult]:
    """Sync the tables and yield each one's result as it ends.

    Args:
        context: The step's.
        config: The run's.
        tables: Those to sync, by their keys.
        warehouse: Where they are.
        checks: Those to evaluate; by default the ones that the run has selected.
        watch: Is told what happens, as it happens.

    Raises:
        dagster.Failure: At least one table did not complete. It is raised after the others have been materialized. Or
            PostHog could not be asked at all.
    """
    check_resync(context, config, tables.values())
    try:
        with warehouse.connect() as client:
            if config.sync_mode == "resync":
                for line in losses(client, tables.values()):
                    context.log.warning(line)
            wanted = context.selected_asset_check_keys if checks is None else checks
            yield from _Step(context, config, tables, client, checks=wanted).run(watch)
    except (PostHogError, SetupError) as error:
        # whoever reads the run wants the sentence, not the frames that led to it
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, TransportError)) from None


class _Step:
    """One step's tables on their way from request to result."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        config: PostHogSyncConfig,
        tables: Mapping[dg.AssetKey, Table],
        client: PostHogWarehouseClient,
        *,
        checks: Collection[dg.AssetCheckKey],
    ) -> None:
        self._context = context
        self._config = config
        self._keys = {table.schema.id: key for key, table in tables.items()}
        self._tables = {table.schema.id: table for table in tables.values()}
        self._started: dict[str, bool] = {}
        self._going_on: dict[str, Adopted] = {}
        self._errors: dict[str, SyncError] = {}
        self._verdicts: list[Verdict] = []
        self._told_at_s: dict[str, float] = {}
        self._client = client
        self._checks = checks
        self._log = EventLog(context.instance)
        self._ticks = OpenTicks(context.instance)
        self._records = RecordReader(client, tables.values())
        self._batch = SyncEngine(client, self._requests(tables), settings=config.settings(), clock=SystemClock())

    def run(self, watch: Callable[[SyncEvent], None]) -> Iterator[StepResult]:
        try:
            for event in self._batch.events():
                watch(event)
                yield from self._tell(event)
            # Dagster takes some twenty events a second: what the tables became comes first, what is said of it after
            yield from (verdict.to_result() for verdict in self._verdicts)
        except dg.DagsterExecutionInterruptedError:
            self._end_what_was_started()
            raise
        if self._errors:
            self._fail()

    def _requests(self, tables: Mapping[dg.AssetKey, Table]) -> list[TableRequest]:
        recorded = jobs_of_earlier_tries(self._context, tables, log=self._log)
        lost = [table.schema.name for key, table in tables.items() if key not in recorded]
        check_repeated_resync(self._context, self._config, lost)
        return [
            TableRequest(
                source_id=table.source.id,
                schema_id=table.schema.id,
                name=table.schema.name,
                resume_job_id=recorded[key].job_id if key in recorded else None,
                resume_started=key in recorded and recorded[key].started,
            )
            for key, table in tables.items()
        ]

    def _tell(self, event: SyncEvent) -> Iterator[StepResult]:
        match event:
            case Adopted():
                self._record_adoption(event)
            case Progress():
                self._log_progress(event)
            case Notice():
                self._context.log.warning(event.text)
            case Ended(error=None):
                self._going_on.pop(event.schema_id, None)
                yield from self._result(event)
            case Ended(error=SyncError() as error):
                self._going_on.pop(event.schema_id, None)
                self._errors[event.schema_id] = error
                self._note_fault(event, error)
            case BillingStopped():
                self._context.log.error(str(event.error))

    def _record_adoption(self, event: Adopted) -> None:
        self._started[event.schema_id] = event.started
        self._going_on[event.schema_id] = event
        self._context.log_event(
            dg.AssetObservation(
                asset_key=self._keys[event.schema_id],
                description=f"Sync {event.job.id} began." if event.started else f"Joined sync {event.job.id}.",
                metadata=adoption_metadata(
                    event.job,
                    triggered_by=self._triggered_by(event.schema_id),
                    on_termination=self._config.on_termination,
                ),
            )
        )
        if is_over(event.job):
            # the job-status sensor may be reporting it at this moment
            self._ticks.wait()

    def _log_progress(self, event: Progress) -> None:
        """A line now and then for each table: the more tables, the less often."""
        quiet_s = max(PROGRESS_EVERY_S, PROGRESS_EVERY_S * len(self._tables) / TABLES_THAT_TALK)
        told_at_s = self._told_at_s.get(event.schema_id)
        if is_over(event.job) or (told_at_s is not None and event.waited_s < told_at_s + quiet_s):
            return
        self._told_at_s[event.schema_id] = event.waited_s
        self._context.log.info(
            f"{self._tables[event.schema_id].schema.name}: {event.job.status},"
            f" {event.job.rows_synced or 0:,} rows so far, waited {event.waited_s:.0f} s"
        )

    def _result(self, event: Ended) -> Iterator[StepResult]:
        schema_id, job = event.schema_id, event.job
        key, table = self._keys[schema_id], self._tables[schema_id]
        if job is None or event.outcome is not SyncOutcome.COMPLETED:
            self._context.log.info(f"{table.schema.name}: left to the job-status sensor")
            return
        syncs = self._log.syncs_of(key)
        if syncs.include(job.id):
            self._context.log.info(f"{table.schema.name}: sync {job.id} has been reported already")
            return
        record = self._records.after(job)
        yield dg.MaterializeResult(
            asset_key=key,
            data_version=dg.DataVersion(job.id),
            metadata=result_metadata(
                table,
                job,
                record=record,
                triggered_by=self._triggered_by(schema_id),
                queue_s=event.queue_s,
                key=key,
                before=syncs.last,
            ),
        )
        self._keep(
            sync_succeeded(key, table, job),
            not_stale(key, table, synced_at=job.created_at, now=finished_at(job)),
            rows_usual(key, table, job, syncs=syncs),
            *table_verdicts(key, table, record, before=syncs.last),
        )

    def _note_fault(self, event: Ended, error: SyncError) -> None:
        # a billing limit is told of once for all the tables that it cost, at the end
        if not isinstance(error, NotTriggeredError | BillingLimitReachedError):
            self._context.log.error(str(error))
        if event.job is not None and is_over(event.job):
            key, table = self._keys[event.schema_id], self._tables[event.schema_id]
            self._keep(sync_succeeded(key, table, event.job))

    def _keep(self, *verdicts: Verdict | None) -> None:
        self._verdicts += [each for each in verdicts if each is not None and each.check_key in self._checks]

    def _triggered_by(self, schema_id: str) -> TriggeredBy:
        return "dagster" if self._started.get(schema_id) else "adopted"

    def _end_what_was_started(self) -> None:
        """Cancel for a user; an evicted or killed process leaves its syncs, which its retry takes up."""
        run = self._context.instance.get_run_by_id(self._context.run.run_id)
        by_a_user = run is not None and run.status in (
            dg.DagsterRunStatus.CANCELING,
            dg.DagsterRunStatus.CANCELED,
        )
        if not by_a_user or self._config.on_termination == "leave":
            self._context.log.warning("Interrupted. The syncs go on in PostHog; a retry takes them up.")
            return
        for report in self._batch.cancel_started():
            self._context.log.warning(report.text)
        for schema_id, joined in self._going_on.items():
            if not joined.started:
                name = self._tables[schema_id].schema.name
                self._context.log.warning(f"{name}: sync {joined.job.id} was not started by this run and is left alone")

    def _fail(self) -> NoReturn:
        """End the step; a try before the time at which PostHog takes the tables again would be a wasted one."""
        failure = self._failure()
        policy = self._context.op_execution_context.op_def.retry_policy
        waits = [error.retry_after_s for error in self._errors.values() if error.allow_retries]
        latest_s = max((wait_s or 0.0 for wait_s in waits), default=0.0)
        if policy is None or not failure.allow_retries or None in waits or latest_s <= (policy.delay or 0.0):
            raise failure
        self._context.log.warning(f"PostHog takes them again in {latest_s:.0f} s. The next try comes then.")
        raise dg.RetryRequested(max_retries=policy.max_retries, seconds_to_wait=latest_s) from failure

    def _wrong_set_up(self) -> PostHogError | None:
        """What keeps every table from being synced, if it is the key or the project and not the tables."""
        if self._started or len(self._errors) < len(self._tables):
            return None
        try:
            self._client.check_access(write=True)
        except (AuthenticationError, PermissionDeniedError, ProjectNotFoundError, ReadOnlyError) as error:
            return error
        except PostHogError:
            # the tables' own errors say what is wrong
            return None
        return None

    def _failure(self) -> dg.Failure:
        """One failure for the step, with a line for each table; re-executing from it takes only the failed ones."""
        if (wrong := self._wrong_set_up()) is not None:
            return dg.Failure(description=str(wrong), allow_retries=False)
        errors = sorted(self._errors.items(), key=lambda item: self._tables[item[0]].schema.name)
        lines = [f"{self._tables[schema_id].schema.name}: {error}" for schema_id, error in errors]
        shown = lines[:MAX_ERRORS_SHOWN]
        if len(lines) > len(shown):
            shown.append(f"… and {len(lines) - len(shown)} more, each with its line in the log")
        return dg.Failure(
            description=f"{len(lines)} of {len(self._tables)} tables did not complete.\n" + "\n".join(shown),
            metadata={"posthog/failed_tables": len(lines), "posthog/tables": len(self._tables)},
            allow_retries=any(error.allow_retries for error in self._errors.values()),
        )
