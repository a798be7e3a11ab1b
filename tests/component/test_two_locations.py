"""Two code locations whose components have one name: each reports it, and keeps the two projects apart."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_projects import as_project

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.sensors.job_status import SHARED_UNTIL
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables
from tests.conftest import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

CHARGE = dg.AssetKey(["posthog", "stripe", "charge"])
WELL = ""
MANY, FEW = [{"id": n} for n in range(10)], [{"id": 1, "amount": 2}]


@dataclass
class Location:
    """A code location with a component of the default name."""

    warehouse: EmbeddedWarehouse
    instance: dg.DagsterInstance
    clock: Clock
    cursor: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Load the definitions."""
        resource = as_project(self.warehouse)
        self.component = PostHogWarehouseComponent(warehouse=resource)
        with resource.connect() as client:
            self.state = WarehouseSnapshot.take(client, host=resource.name, project_id=client.project_id)
        self.tables = Tables(self.state)
        self.project = self.tables.snapshot.project

    def tick(self) -> str:
        """Let the job-status sensor tick, half a minute later; how it failed."""
        self.clock.advance(seconds=30)
        sensor = build_job_status_sensor(self.tables, run_grace=timedelta(), now=self.clock)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"posthog_warehouse": self.warehouse.resource}
        )
        try:
            data = sensor.evaluate_tick(context)
        except dg.DagsterError as error:
            return str(error)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = data.cursor
        return WELL

    def sync(self) -> list[str]:
        """A sync that PostHog runs, and three ticks, of which Dagster keeps at least one; how the others failed."""
        self.warehouse.sync("Charge")
        return [end for end in (self.tick(), self.tick(), self.tick()) if end != WELL]


@pytest.fixture
def locations(
    embedded_warehouse: EmbeddedWarehouse, other_warehouse: EmbeddedWarehouse
) -> Iterator[tuple[Location, Location]]:
    """Two projects with a table of one name, one big and one small, in one Dagster."""
    embedded_warehouse.add_source("Stripe", tables={"Charge": MANY})
    other_warehouse.add_source("Stripe", tables={"Charge": FEW})
    clock = Clock()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(embedded_warehouse, instance, clock), Location(other_warehouse, instance, clock)


def red_checks(instance: dg.DagsterInstance) -> set[str]:
    """The checks of the table that have ever failed."""
    checks = [dg.AssetCheckKey(CHARGE, name) for name in ("sync_succeeded", "data_as_usual")]
    records = [
        record
        for check in checks
        for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
    ]
    evaluations = [record.event.dagster_event.asset_check_evaluation_data for record in records]
    return {evaluation.check_name for evaluation in evaluations if not evaluation.passed}


def test_both_locations_name_the_other_project(locations: tuple[Location, Location]) -> None:
    """Ticks fail and name both projects, what they share, and the cure; a project is compared with itself alone."""
    ours, theirs = locations
    assert ([], []) == (ours.sync(), theirs.sync())

    for one, other in ((ours, theirs), (theirs, ours)):
        failures = one.sync()
        assert failures
        assert all(
            f"the tables here are of project {one.project}, and project {other.project}" in end for end in failures
        )
        assert all("Give the component of one of them another `name`" in end for end in failures)

    assert set() == red_checks(ours.instance)
    assert 4 == len(ours.instance.fetch_materializations(CHARGE, limit=100).records)


def test_a_run_names_the_other_project(locations: tuple[Location, Location]) -> None:
    """A run warns of the other project, and gives its own sync as its result."""
    ours, theirs = locations
    ours.sync()
    theirs.sync()
    job = ours.component.build_defs_from_snapshot(ours.state).resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(instance=ours.instance, asset_selection=[CHARGE])
    (result,) = run.asset_materializations_for_node("sync_stripe")
    assert ours.project == result.metadata["posthog/project"].value
    logged = [entry.user_message for entry in ours.instance.all_logs(run.run_id) if entry.level == logging.WARNING]
    (warning,) = [text for text in logged if "Two code locations share their asset keys" in text]
    assert f"the tables here are of project {ours.project}, and project {theirs.project}" in warning


def test_a_project_that_has_left_the_key_is_no_trouble(locations: tuple[Location, Location]) -> None:
    """A location that is moved to another project reports as before: all that the first one reported is older."""
    before, after = locations
    before.sync()
    assert ([], [], []) == (after.sync(), after.sync(), after.sync())


def test_ticks_are_well_again_once_the_other_has_its_own_keys(locations: tuple[Location, Location]) -> None:
    """The trouble ends a day after the other project's last sync under the same keys."""
    ours, theirs = locations
    ours.sync()
    theirs.sync()
    assert ours.sync()
    cursor = ours.cursor or ""
    (seen,) = SensorCursor.parse(cursor).others.values()
    # the server's clock shows whole seconds, and so may be behind the start of a sync
    long_ago = seen - SHARED_UNTIL - timedelta(seconds=2)
    aged = SensorCursor.parse(cursor).model_copy(update={"others": {theirs.project: long_ago}})
    ours.cursor = aged.dump()
    assert WELL == ours.tick()
