"""The sensor that ends what a terminated run could not: its process was dead already, or did not get to it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from dw_orchestration.assets.ahead import started_by
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.resources.failure import PlainError
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.sync.cancel import StartedJob, cancel_started_jobs
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.tables import Tables

# the runs behind one whose syncs may still be running, which are dealt with in the same tick
_RUNS_AT_ONCE = 50
# a tick waits for nothing after this time, because Dagster ends it after a minute
TICK_BUDGET_S = 15.0


def build_terminated_runs_sensor(
    tables: Tables,
    *,
    name: str | None = None,
    interval: timedelta = timedelta(seconds=30),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor that cancels the syncs of a run that a user terminated, if the run has left any behind.

    A run cancels its syncs itself, as its `on_termination` says. One whose process was killed before, or that was
    ended by force, cannot: Dagster marks it as canceled, and its syncs would continue and be billed. Runs that failed,
    because their process was evicted or killed, keep their syncs: their retry takes them up.

    If a sync may still be running, because PostHog is unreachable for example, the tick fails, and the next one tries
    again: until PostHog has cancelled the sync, or it has ended.

    Args:
        tables: The tables of the project.
        name: The sensor's name; by default made of the resource's key.
        interval: Time between two ticks, at least.
        default_status: Whether the sensor runs before anybody switches it on. It does what the run would have done.
        now: The time of day.
    """
    resource_key = tables.resource_key

    def end(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        log, warehouse = (
            EventLog(context.instance, project=tables.snapshot.project),
            getattr(context.resources, resource_key),
        )
        left = list(started_by(context.dagster_run.run_id, tables, log=log, now=now()))
        if not left:
            return dg.SkipReason("The run has left no sync behind.")
        texts, running = _cancel(warehouse, left)
        for text in texts:
            context.log.warning(text)
        if running:
            # Dagster calls again for this run, and for later ones only then: their syncs must not run on meanwhile
            for run_id in _ended_since(context):
                _cancel(warehouse, list(started_by(run_id, tables, log=log, now=now())))
            # an error of Dagster's own fails the whole tick, and so keeps its cursor; any other is counted as an answer
            raise PlainError(
                f"Syncs of the terminated run {context.dagster_run.run_id} may still be running, and are billed."
                f" The next tick tries again. {'; '.join(running)}"
            )
        return None

    return dg.RunStatusSensorDefinition(
        name=name or f"{resource_key}_terminated_runs",
        run_status=dg.DagsterRunStatus.CANCELED,
        run_status_sensor_fn=end,
        minimum_interval_seconds=int(interval.total_seconds()),
        required_resource_keys={resource_key},
        default_status=default_status,
        description="Cancels the syncs of a terminated run that could not do so itself, because its process was dead.",
    )


def _cancel(warehouse: WarehouseResource, left: Sequence[StartedJob]) -> tuple[list[str], list[str]]:
    """What happened to each sync, and what is known of those that may still be running."""
    if not left:
        return [], []
    try:
        with warehouse.connect(finish_within_s=TICK_BUDGET_S) as client:
            reports = list(cancel_started_jobs(client, left))
    except (PostHogError, SetupError) as error:
        return [], [str(error)]
    return [report.text for report in reports], [report.text for report in reports if not report.is_stopped]


def _ended_since(context: dg.RunStatusSensorContext) -> list[str]:
    """The runs that were terminated after this one."""
    record = context.instance.get_run_record_by_id(context.dagster_run.run_id)
    since = record.update_timestamp if record else None
    terminated = dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELED], updated_after=since)
    return [run.run_id for run in context.instance.get_runs(filters=terminated, limit=_RUNS_AT_ONCE, ascending=True)]
