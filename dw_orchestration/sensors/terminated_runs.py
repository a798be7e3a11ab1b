"""The sensor that ends what a terminated run could not: its process was dead already, or did not get to it."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import dagster as dg

from dw_orchestration.assets.event_log import Adoption, EventLog
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.sync.cancel import StartedJob, cancel_started_jobs
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables


def build_terminated_runs_sensor(
    tables: Tables,
    *,
    name: str | None = None,
    interval: timedelta = timedelta(seconds=30),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that cancels the syncs of a run that a user terminated, if the run has left any behind.

    A run cancels its syncs itself, as its `on_termination` says. One whose process was killed before, or that was
    ended by force, cannot: Dagster marks it as canceled, and its syncs would continue and be billed. Runs that failed,
    because their process was evicted or killed, keep their syncs: their retry takes them up.

    Args:
        tables: The tables of the project.
        name: The sensor's name; by default made of the resource's key.
        interval: Time between two ticks, at least.
        default_status: Whether the sensor runs before anybody switches it on. It does what the run would have done.

    """
    by_key = {asset_key(table): table for table in tables}
    resource_key = tables.resource_key

    def end(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        left = list(_left_by(context.dagster_run.run_id, by_key, log=EventLog(context.instance)))
        if not left:
            return dg.SkipReason("The run has left no sync behind.")
        try:
            with getattr(context.resources, resource_key).connect() as client:
                reports = list(cancel_started_jobs(client, left))
        except (PostHogError, SetupError) as error:
            raise dg.Failure(f"Syncs of a terminated run may still be running. {error}") from None
        for report in reports:
            context.log.warning(report.text)
        if running := [report.text for report in reports if not report.is_stopped]:
            # Dagster calls the sensor once per run: a person has to handle what is left
            raise dg.Failure(f"Syncs of a terminated run may still be running. {'; '.join(running)}")
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


def _left_by(run_id: str, tables: Mapping[dg.AssetKey, Table], *, log: EventLog) -> Iterator[StartedJob]:
    """The jobs that the run has started and should have cancelled, unless the event log shows that they have ended."""
    for key, adoption in log.adoptions_by(run_id).items():
        if key not in tables or not adoption.ends_with_run:
            continue
        if not log.syncs_of(key, since=adoption.began_at).include(adoption.job_id):
            yield _started(tables[key], adoption)


def _started(table: Table, adoption: Adoption) -> StartedJob:
    return StartedJob(
        source_id=table.source.id,
        schema_id=table.id,
        name=table.schema.name,
        job_id=adoption.job_id,
        created_at=adoption.began_at,
    )
