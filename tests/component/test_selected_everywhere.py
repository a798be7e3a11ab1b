"""A selection and a name hold in the sensor and in the patterns of overrides too."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.sensors import build_job_status_sensor

if TYPE_CHECKING:
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that have just begun are reported at once, as no run is on its way."""
    hasty = partial(build_job_status_sensor, run_grace=timedelta())
    monkeypatch.setattr("dw_orchestration.build.build_job_status_sensor", hasty)


def component(warehouse: EmbeddedWarehouse, **settings: object) -> dg.Definitions:
    """The definitions of a component of the warehouse as it is now."""
    made = PostHogWarehouseComponent(warehouse=warehouse.resource, **settings)  # type: ignore[arg-type]
    return made.build_defs_from_snapshot(warehouse.resource.take_snapshot())


def tick(defs: dg.Definitions, warehouse: EmbeddedWarehouse) -> dg.SensorResult:
    """The first tick of the job-status sensor."""
    sensor, _ = defs.sensors or []
    resources = {"posthog_warehouse": warehouse.resource}
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance, resources=resources) as context:
        return sensor.evaluate_tick(context)  # type: ignore[union-attr,return-value]


def test_the_sensor_is_silent_about_tables_that_were_left_out(embedded_warehouse) -> None:
    """A table that is not selected is known: it is neither reported nor called newer than the state."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}], "Invoice": [{"id": 1}]})
    for name in ("Customer", "Invoice"):
        embedded_warehouse.sync(name)
    result = tick(component(embedded_warehouse, exclude=["*.invoice"]), embedded_warehouse)
    assert {"customer"} == {event.asset_key.path[-1] for event in result.asset_events}
    assert "newer than the state" not in str(result.skip_message)


def test_a_pattern_is_the_same_under_any_name(embedded_warehouse) -> None:
    """The component's name is a prefix of schedules, and not part of the patterns that its user writes."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    overrides = [ScheduleOverride(tables=["stripe.customer"], cron="30 7 * * mon-fri")]
    (schedule,) = component(embedded_warehouse, name="eu", overrides=overrides).schedules or []
    assert schedule.name.startswith("eu_stripe_cron_30_7")
