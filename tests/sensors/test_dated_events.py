"""Materializations that stand at the moment of their sync's end, where that was asked for."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.workspace.context import LoadingContext
from warehouse_model import START, WarehouseModel

from dw_orchestration import PostHogWarehouseComponent, build_job_status_sensor, build_posthog_assets
from dw_orchestration.errors import SetupError
from dw_orchestration.sensors.cursor import SensorCursor
from tests.sensors.conftest import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

TABLES = ("Customer", "Invoice", "Refund")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with three tables, each synced once."""
    embedded_warehouse.add_source("Stripe", tables={name: [{"id": 1}] for name in TABLES})
    for name in TABLES:
        embedded_warehouse.sync(name)
    return embedded_warehouse


class Sensor:
    """The sensor with the option, and the cursor that it has kept."""

    def __init__(self, warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
        self.warehouse = warehouse
        self.instance = instance
        self.snapshot = warehouse.snapshot()
        self.sensor = build_job_status_sensor(self.snapshot, date_events_back=True, run_grace=timedelta())
        self.cursor: str | None = None

    def tick(self) -> dg.SensorResult:
        resources = {"posthog_warehouse": self.warehouse.resource}
        with dg.build_sensor_context(self.instance, resources=resources, cursor=self.cursor) as context:
            result = self.sensor.evaluate_tick(context)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        return result

    def materialized(self) -> dict[str, list[float]]:
        """When each sync stands in the event log, by its job."""
        found: dict[str, list[float]] = {}
        for name in TABLES:
            for record in self.instance.fetch_materializations(key_of(name), limit=100).records:
                job_id = str(record.asset_materialization.metadata["posthog/job_id"].value)
                found.setdefault(job_id, []).append(record.timestamp)
        return found


def key_of(table: str) -> dg.AssetKey:
    """The key of a table's asset."""
    return dg.AssetKey(["posthog", "stripe", table.lower()])


def ends(warehouse: EmbeddedWarehouse) -> dict[str, list[float]]:
    """When each sync ended, as PostHog has it."""
    return {job.id: [job.finished_at.timestamp()] for name in TABLES for job in warehouse.jobs(name)}


def test_materialization_stands_at_the_end_of_its_sync(stripe, instance):
    """The event's own time is the job's end, to the microsecond, and a second tick adds nothing."""
    sensor = Sensor(stripe, instance)

    sensor.tick()
    sensor.tick()

    assert ends(stripe) == sensor.materialized()
    newest = instance.get_latest_materialization_event(key_of("Customer"))
    assert [newest.timestamp] == ends(stripe)[stripe.jobs("Customer")[0].id]


def test_storage_that_fails_between_two_events_loses_nothing(stripe, instance, monkeypatch):
    """The tick fails and keeps its old cursor; the next one writes what is missing, and that alone."""
    sensor = Sensor(stripe, instance)
    written, report = [], instance.report_dagster_event

    def fail_after_the_first(dagster_event, **settings):
        if any(event.is_step_materialization for event in written):
            raise sqlite3.OperationalError("disk I/O error")
        written.append(dagster_event)
        report(dagster_event, **settings)

    with monkeypatch.context() as broken:
        broken.setattr(instance, "report_dagster_event", fail_after_the_first)
        with pytest.raises(sqlite3.OperationalError, match="disk"):
            sensor.tick()
    assert 1 == len(sensor.materialized())
    sensor.tick()

    assert ends(stripe) == sensor.materialized()


def test_checks_are_written_too(stripe, instance):
    """A failed sync turns its check red, and the next good one green again, with its materialization."""
    from dw_orchestration.testing import fails

    sensor = Sensor(stripe, instance)
    check = dg.AssetCheckKey(key_of("Invoice"), "sync_succeeded")
    stripe.behave("Invoice", fails("Stripe is down"))
    stripe.sync("Invoice")
    sensor.tick()
    red = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)[0]
    stripe.reset()
    good = stripe.sync("Invoice")
    sensor.tick()
    green = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)[0]

    said = [record.event.dagster_event.asset_check_evaluation_data.passed for record in (red, green)]
    assert ([False, True], 1) == (said, len(sensor.materialized()[good.id]))


@pytest.mark.parametrize(
    ("dated", "state"), [(True, FreshnessState.FAIL), (False, FreshnessState.PASS)], ids=["dated", "at_the_tick"]
)
def test_freshness_is_judged_by_the_sync(reports_on, dated, state):
    """A sync that the sensor hears of long after it ended leaves the table as old as it is."""
    model = WarehouseModel(tables=1, frequency="1hour")
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    model.finish(model.start("source0", "s0t0"))
    assert datetime.now(START.tzinfo) - START > timedelta(hours=2)

    reports.tick(cursor, dated=dated)

    defs = dg.Definitions(assets=build_posthog_assets(snapshot_of(model)), resources={"posthog_warehouse": object()})
    node = defs.resolve_asset_graph().get(reports.assets[0].key)
    evaluation = TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(Loading(reports.instance), node)
    assert state == asyncio.run(evaluation)


class Loading(LoadingContext):
    """What Dagster's evaluators read through."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders = {}

    @property
    def instance(self):
        return self._instance

    @property
    def loaders(self):
        return self._loaders


@pytest.mark.parametrize("moved", ["module", "parameter"])
def test_other_dagster_is_told_of_before_the_first_event(monkeypatch, moved):
    """What Dagster does not promise to keep may go: the sensor says so when it is built, and how to do without."""
    snapshot = snapshot_of(WarehouseModel())
    monkeypatch.delitem(sys.modules, "dw_orchestration.sensors.dated_events", raising=False)
    if moved == "module":
        monkeypatch.setitem(sys.modules, "dagster._core.instance.utils", None)
    else:
        monkeypatch.setattr(dg.DagsterInstance, "report_dagster_event", lambda **_: None)

    with pytest.raises(SetupError, match="switch it off"):
        build_job_status_sensor(snapshot, date_events_back=True)


def test_nothing_private_is_imported_unless_asked_for(monkeypatch):
    """Without the option, whatever becomes of Dagster's internals does not matter."""
    monkeypatch.delitem(sys.modules, "dw_orchestration.sensors.dated_events", raising=False)
    monkeypatch.setitem(sys.modules, "dagster._core.instance.utils", None)

    build_job_status_sensor(snapshot_of(WarehouseModel()))

    assert "dw_orchestration.sensors.dated_events" not in sys.modules


def test_component_has_the_option(stripe, instance):
    """The attribute reaches the sensor: its tick hands no event to Dagster, but writes them."""
    made = PostHogWarehouseComponent(warehouse=stripe.resource, date_events_back=True)
    sensor, _ = made.build_defs_from_snapshot(stripe.snapshot()).sensors
    stripe_sensor = Sensor(stripe, instance)
    stripe_sensor.sensor = sensor

    result = stripe_sensor.tick()

    assert [] == list(result.asset_events)
