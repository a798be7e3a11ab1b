"""What the scenarios share: a Dagster instance, runs of the warehouse's tables in it, and ticks of its sensor."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import dagster as dg

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.build import steps_of
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

if TYPE_CHECKING:
    from dagster._core.definitions.sensor_definition import SensorExecutionData

    from dw_orchestration.resources.warehouse import WarehouseResource

# as often as the machine allows: a scenario is about what happens, not about how long it takes
FAST = {"poll_min_s": 0.2, "poll_max_s": 1.0}


@dataclass
class Dagster:
    """A user's Dagster over what the warehouse holds at this moment."""

    instance: dg.DagsterInstance
    resource: WarehouseResource
    cursor: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Fetch the state, as a deployment does."""
        self.snapshot = self.resource.take_snapshot()

    def materialize(
        self, *tables: str, retry_policy: dg.RetryPolicy | None = None, **config: object
    ) -> dg.ExecuteInProcessResult:
        """Materialize some tables, or all; how it ended is in the result."""
        everything = Tables(self.snapshot, include_disabled=True)
        selected = [asset for asset in everything if not tables or asset.schema.name in tables]
        sources = {asset.source.id for asset in selected}
        steps = [step for step in steps_of(everything) if step.tables[0].source.id in sources]
        return dg.materialize(
            build_posthog_assets(everything, retry_policy=retry_policy),
            selection=[asset_key(asset) for asset in selected],
            instance=self.instance,
            resources={DEFAULT_RESOURCE_KEY: self.resource},
            run_config={"ops": {step.name: {"config": FAST | config} for step in steps}},
            raise_on_error=False,
        )

    def tick(self, **settings: Any) -> SensorExecutionData:
        """Let the job-status sensor tick once, and keep its events and its cursor as the daemon does."""
        sensor = build_job_status_sensor(
            Tables(self.snapshot, include_disabled=True), run_grace=timedelta(), **settings
        )
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={DEFAULT_RESOURCE_KEY: self.resource}
        )
        data = sensor.evaluate_tick(context)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = data.cursor
        return data

    def key(self, table: str) -> dg.AssetKey:
        """The key of a table's asset."""
        assets = Tables(self.snapshot, include_disabled=True)
        return next(asset_key(asset) for asset in assets if asset.schema.name == table)

    def adoptions(self, table: str) -> set[str]:
        """The runs that have taken a sync of a table as theirs."""
        return {record.run_id for record in self.instance.fetch_observations(self.key(table), limit=1000).records}

    def reported(self, table: str) -> Counter[str]:
        """How often each sync of a table has been reported as completed."""
        records = self.instance.fetch_materializations(self.key(table), limit=1000).records
        events = [record.asset_materialization for record in records]
        return Counter(str(event.metadata["posthog/job_id"].value) for event in events if event)

    def overtaken(self, table: str) -> Counter[str]:
        """How often each sync of a table has been reported after a later one; a failed check has a note too."""
        records = self.instance.fetch_observations(self.key(table), limit=1000).records
        said = [record.asset_observation.metadata for record in records if record.asset_observation]
        notes = Counter(str(each["posthog/job_id"].value) for each in said if "posthog/status" in each)
        return notes - self.failures(table)

    def evaluations(self, table: str, check: str) -> list[dg.AssetCheckEvaluation]:
        """The evaluations of a table's check, the newest first."""
        key = dg.AssetCheckKey(self.key(table), check)
        history = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
        return [
            record.event.dagster_event.asset_check_evaluation_data
            for record in history
            if record.event
            and record.event.dagster_event
            and record.event.dagster_event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ]

    def failures(self, table: str) -> Counter[str]:
        """How often each sync of a table has been reported as failed."""
        failed = [one.metadata for one in self.evaluations(table, "sync_succeeded") if not one.passed]
        # without a job, a table was not synced
        return Counter(str(each["posthog/job_id"].value) for each in failed if "posthog/job_id" in each)


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step of a run has said at last."""
    (event,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None, event.step_failure_data.error
    return str(failure.description)


def retries(result: dg.ExecuteInProcessResult) -> int:
    """How often a step was tried again."""
    return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


class Stopwatch:
    """How long the block took, in seconds."""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self.took_s = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.took_s = time.monotonic() - self._began
