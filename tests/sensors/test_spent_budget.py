"""Ticks while the request budget of the key is used up, by a large run for example."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_projects import as_project

from dw_orchestration.posthog.rate_limit import default_folder
from dw_orchestration.sensors.drift import build_drift_sensor
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.sensors.terminated_runs import _cancel
from dw_orchestration.sync.cancel import StartedJob
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

if TYPE_CHECKING:
    from pathlib import Path

    from dagster._core.definitions.sensor_definition import SensorExecutionData

    from dw_orchestration.resources.warehouse import PostHogWarehouseResource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse


@pytest.fixture
def busy(embedded_warehouse: EmbeddedWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedWarehouse:
    """A warehouse with a sync in each of two sources, and a place of the test's own for the budget."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for prefix in ("one", "two"):
        embedded_warehouse.add_source("Stripe", prefix=prefix, tables={f"Charge_{prefix}": [{"id": 1}]})
        embedded_warehouse.sync(f"Charge_{prefix}")
    return embedded_warehouse


def spend(project: PostHogWarehouseResource) -> None:
    """Use up the minute."""
    with project.client() as client:
        for _ in range(project.requests_per_minute):
            client.check_access()


def tick_of(
    sensor: dg.SensorDefinition, project: PostHogWarehouseResource, cursor: str | None = None
) -> SensorExecutionData:
    resources = {DEFAULT_RESOURCE_KEY: project}
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context,
    ):
        return sensor.evaluate_tick(context)


def test_no_tick_waits_for_the_budget(busy: EmbeddedWarehouse) -> None:
    """Each says when the next request is allowed, leaves its cursor, and continues once there is budget again."""
    project = as_project(busy, requests_per_minute=2)
    tables = Tables(busy.snapshot(), include_disabled=True)
    sensors = [build_job_status_sensor(tables), build_drift_sensor(tables)]
    spend(project)

    for sensor in sensors:
        data = tick_of(sensor, project)
        assert "the next request is allowed in" in (data.skip_message or "")
        assert ([], None) == (list(data.asset_events), data.cursor)
    table = tables.by_id[busy.schema("Charge_one").id]
    (job, *_) = busy.jobs("Charge_one")
    left = StartedJob(
        source_id=table.source.id, schema_id=table.id, name="Charge_one", job_id=job.id, created_at=job.created_at
    )
    _, (still_running,) = _cancel(project, [left])
    assert still_running.startswith("Charge_one: The request budget of the API key is used up")


def test_a_tick_that_uses_up_the_budget_continues_in_the_next_one(busy: EmbeddedWarehouse) -> None:
    """What it has read is reported, and the rest in the next tick: each sync once."""
    project = as_project(busy, requests_per_minute=2)
    sensor = build_job_status_sensor(Tables(busy.snapshot(), include_disabled=True), run_grace=timedelta())

    first = tick_of(sensor, project)
    shutil.rmtree(default_folder())
    second = tick_of(sensor, project, first.cursor)

    reported = [
        [event.asset_key.path[-1] for event in tick.asset_events if isinstance(event, dg.AssetMaterialization)]
        for tick in (first, second)
    ]
    assert [1, 1] == [len(each) for each in reported]
    assert {"charge_one", "charge_two"} == {name for each in reported for name in each}
    assert (first.skip_message or "").startswith("Stopped early: The request budget of the API key is used up")
