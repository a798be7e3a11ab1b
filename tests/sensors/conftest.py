"""Event logs to report into, and runs that adopt jobs."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.events import AssetObservation
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._core.test_utils import freeze_time
from dagster_plus import refuse_as_dagster_plus
from warehouse_model import START

from dw_orchestration.assets.checks import SYNC_SUCCEEDED, sync_succeeded
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import adoption_metadata, end_metadata, result_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.sensors.job_status import Tick
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

# how far Dagster's clock is ahead of PostHog's
AHEAD = timedelta(seconds=40)


class Reports:
    """A Dagster instance, the assets of a model's tables, and ticks that may die on the way."""

    def __init__(self, model, instance: dg.DagsterInstance) -> None:
        self.model = model
        self.instance = instance
        self.assets = _assets(model)
        self.by_table = {asset.id: asset for asset in self.assets}

    def tick(self, cursor, *, stored: int | None = None, **settings) -> tuple[SensorCursor, Tick]:
        """One tick: its events are stored (all, or the first few before it dies), and its cursor is returned."""
        # what changes is told however many syncs there are
        settings = {"run_grace": timedelta(), "fully_checked": 0, "clock": lambda: self.model.now + AHEAD} | settings
        work = Tick(self.model, self.assets, EventLog(self.instance), **settings)
        after = work.run(cursor)
        events = work.events if stored is None else work.events[:stored]
        with freeze_time(self.model.now + AHEAD):
            for event in events:
                self.instance.report_runless_asset_event(event)
        return after, work

    def new_run(self, **more) -> str:
        """A run that has begun."""
        run_id = str(uuid.uuid4())
        run = dg.DagsterRun(job_name="sync", run_id=run_id, status=dg.DagsterRunStatus.STARTED, **more)
        self.instance.add_run(run)
        return run_id

    def plan_checks(self, table: str, run_id: str) -> None:
        """What Dagster writes down for the checks of a table as a run starts."""
        key = asset_key(self.by_table[table])
        planned = AssetCheckEvaluationPlanned(asset_key=key, check_name=SYNC_SUCCEEDED)
        self._store(DagsterEvent("ASSET_CHECK_EVALUATION_PLANNED", "sync", event_specific_data=planned), run_id)

    def plan(self, run_id: str, *keys: dg.AssetKey) -> None:
        """What Dagster writes down for the assets of a run as it starts."""
        for key in keys:
            planned = AssetMaterializationPlannedData(key)
            self._store(DagsterEvent("ASSET_MATERIALIZATION_PLANNED", "sync", event_specific_data=planned), run_id)

    def end_run(self, run_id: str, *, success: bool) -> None:
        """The run's end as the instance sees it."""
        event_type = "PIPELINE_SUCCESS" if success else "PIPELINE_FAILURE"
        self.instance.report_dagster_event(DagsterEvent(event_type, "sync"), run_id)

    def adopt(self, job, run_id: str, **more) -> None:
        """What a run writes down before it waits for a job."""
        asset = self.by_table[job.table]
        observation = AssetObservation(
            asset_key=asset_key(asset), metadata=adoption_metadata(self.model._job(job), triggered_by="dagster", **more)
        )
        self._store(
            DagsterEvent("ASSET_OBSERVATION", "sync", event_specific_data=AssetObservationData(observation)), run_id
        )

    def materialize(self, job, run_id: str) -> None:
        """What a run writes down when its job has completed."""
        asset = self.by_table[job.table]
        metadata = result_metadata(asset, self.model._job(job), record=None, triggered_by="dagster")
        data = StepMaterializationData(dg.AssetMaterialization(asset_key=asset_key(asset), metadata=metadata))
        self._store(DagsterEvent("ASSET_MATERIALIZATION", "sync", event_specific_data=data), run_id)

    def fail(self, job, run_id: str) -> None:
        """What a run writes down when its job has failed."""
        asset = self.by_table[job.table]
        evaluation = sync_succeeded(asset, self.model._job(job)).to_evaluation()
        self._store(DagsterEvent("ASSET_CHECK_EVALUATION", "sync", event_specific_data=evaluation), run_id)
        observation = AssetObservation(asset_key(asset), metadata=end_metadata(asset, self.model._job(job)))
        self._store(
            DagsterEvent("ASSET_OBSERVATION", "sync", event_specific_data=AssetObservationData(observation)), run_id
        )

    def is_overtaken(self, job) -> bool:
        """Whether a later sync of the table has been reported; a run gives that one as its result then."""
        key = asset_key(self.by_table[job.table])
        return EventLog(self.instance).of_table(key).is_overtaken(self.model._job(job))

    def _store(self, event: DagsterEvent, run_id: str) -> None:
        with freeze_time(self.model.now + AHEAD):
            self.instance.report_dagster_event(event, run_id)

    def reported(self) -> dict[str, int]:
        """How often each job's end is in the event log, as a materialization or as the observation of a failed one.

        A run that gives its result after a report only repeats it; the sensor never does.
        """
        counts: dict[str, int] = {}
        for asset in self.assets:
            for record in self.instance.fetch_materializations(asset_key(asset), limit=1000, ascending=True).records:
                job_id = record.asset_materialization.metadata["posthog/job_id"].value
                counts[job_id] = counts.get(job_id, 0) + (job_id not in counts or not record.run_id)
            for note in EventLog(self.instance).notes_of(asset_key(asset), since=START):
                if note.is_report:
                    counts[note.said.job_id] = counts.get(note.said.job_id, 0) + 1
        return counts


def sync_succeeded_check(key: dg.AssetKey) -> dg.AssetCheckKey:
    """The key of the check that a failed sync turns red."""
    return dg.AssetCheckKey(asset_key=key, name=SYNC_SUCCEEDED)


def snapshot_of(model) -> WarehouseSnapshot:
    """The state of a model's sources."""
    return WarehouseSnapshot(
        taken_at=datetime.now(tz=UTC),
        host="model",
        project_id="1",
        sources=tuple(
            SourceSnapshot(
                id=source.id,
                source_type=source.source_type,
                prefix=source.prefix,
                description=None,
                access_method=source.access_method,
                upstream=source.id,
                schemas=source.schemas,
            )
            for source in model.list_sources()
        ),
    )


def _assets(model) -> Tables:
    assets = Tables(snapshot_of(model), include_disabled=True)
    model.requests["sources"] = 0
    return assets


@pytest.fixture
def reports_on() -> Iterator[type[Reports]]:
    """Makes `Reports` on a model with its own event log, which refuses what that of Dagster+ refuses."""
    instances = []

    def make(model) -> Reports:
        instance = refuse_as_dagster_plus(dg.DagsterInstance.ephemeral())
        instances.append(instance)
        return Reports(model, instance)

    yield make
    for instance in instances:
        instance.dispose()
