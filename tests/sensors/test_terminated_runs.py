"""A run that was terminated and could not cancel its syncs itself: the sensor does it, as the run would have."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.events import AssetObservationData, DagsterEvent
from dagster_plus import refuse_as_dagster_plus

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import adoption_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.resources.failure import PlainError
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.sensors.terminated_runs import build_terminated_runs_sensor
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.testing import never_ends
from tests.acceptance.proxy import FaultyProxy, Proxied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dagster._core.definitions.sensor_definition import SensorExecutionData

    from dw_orchestration.resources.warehouse import WarehouseResource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

STEP = "sync_stripe_acme"
NOTHING_LEFT = "The run has left no sync behind."


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> dg.DagsterInstance:
    """An instance that threads can share, and that refuses what Dagster+ refuses."""
    found: dg.DagsterInstance = request.getfixturevalue(getattr(request, "param", "shared_instance"))
    return refuse_as_dagster_plus(found)


@pytest.fixture
def stuck(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with a table whose syncs run until they are cancelled."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": [{"id": 1}]})
    embedded_warehouse.behave("Charge", never_ends())
    return embedded_warehouse


def materialize(warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, **config: object) -> bool:
    """A run of the table; whether it succeeded."""
    result = dg.materialize(
        build_posthog_assets(Tables(warehouse.snapshot(), include_disabled=True)),
        instance=instance,
        resources={DEFAULT_RESOURCE_KEY: warehouse.resource},
        run_config={"ops": {STEP: {"config": {"poll_min_s": 0.2, **config}}}},
        raise_on_error=False,
    )
    return result.success


def tick(
    warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, *, resource: WarehouseResource | None = None
) -> SensorExecutionData:
    """The sensor's tick after the run is marked as canceled."""
    sensor = build_terminated_runs_sensor(Tables(warehouse.snapshot(), include_disabled=True))
    context = dg.build_sensor_context(
        instance=instance, resources={DEFAULT_RESOURCE_KEY: resource or warehouse.resource}
    )
    # the first tick begins with what comes after it
    sensor.evaluate_tick(context)
    (run,) = instance.get_runs()
    instance.report_run_canceled(run)
    return sensor.evaluate_tick(context)


def error_of(data: SensorExecutionData) -> str:
    """What a tick that acted on the run shows as its error."""
    assert data.dagster_run_reactions
    error = data.dagster_run_reactions[0].error
    return error.to_string() if error else ""


@contextmanager
def a_run(
    warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, wait: Callable[..., object], **config: object
) -> Iterator[str]:
    """A run that waits for a sync, whose id is given; at the end the sync is cancelled if nobody else has done it."""
    (asset,) = Tables(warehouse.snapshot(), include_disabled=True)

    def adopted() -> str | None:
        runs = instance.get_runs()
        adoptions = EventLog(instance).adoptions_by(runs[0].run_id) if runs else {}
        return adoptions[asset_key(asset)].job_id if adoptions else None

    with ThreadPoolExecutor() as meanwhile:
        run = meanwhile.submit(materialize, warehouse, instance, **config)
        try:
            yield str(wait(adopted))
        finally:
            warehouse.client.cancel_schema(warehouse.schema("Charge").id)
        assert not run.result(120)


@pytest.mark.parametrize("instance", ["shared_instance", "postgres_instance"], indirect=True)
def test_the_sync_that_the_run_started_is_cancelled(stuck, instance, wait_until) -> None:
    """The run is still waiting somewhere, as its process hangs: it sees its sync end as cancelled."""
    with a_run(stuck, instance, wait_until) as job_id:
        assert "" == error_of(tick(stuck, instance))
        wait_until(lambda: stuck.jobs("Charge")[0].status is not JobStatus.RUNNING)
    newest = stuck.jobs("Charge")[0]
    assert (job_id, JobStatus.FAILED) == (newest.id, newest.status)
    assert "cancelled" in (newest.latest_error or "").lower()


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "told to leave it"])
def test_no_other_sync_is_cancelled(stuck, instance, wait_until, joined) -> None:
    """A sync that the run only joined, or should leave on termination, continues."""
    if joined:
        stuck.start("Charge")
    with a_run(stuck, instance, wait_until, on_termination="cancel" if joined else "leave") as job_id:
        assert NOTHING_LEFT == tick(stuck, instance).skip_message
        newest = stuck.jobs("Charge")[0]
        assert (job_id, JobStatus.RUNNING) == (newest.id, newest.status)


def test_a_run_of_something_else_is_none_of_its_business(stuck, instance) -> None:
    """A run that has noted down no sync is skipped without a request."""
    instance.add_run(dg.DagsterRun(job_name="nightly", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED))
    assert NOTHING_LEFT == tick(stuck, instance, resource=away()).skip_message


class DeadRuns:
    """Runs whose processes were killed after they had started a sync, and the sensor's ticks."""

    def __init__(self, warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.tables = Tables(warehouse.snapshot(), include_disabled=True)
        self.cursor = self.tick(warehouse.resource).cursor

    def start(self, warehouse: EmbeddedWarehouse, table: str) -> str:
        """Start a sync in a run that is ended by force; the id of the run."""
        job = warehouse.start(table)
        run_id = str(uuid.uuid4())
        self.instance.add_run(dg.DagsterRun(job_name="sync", run_id=run_id, status=dg.DagsterRunStatus.STARTED))
        key = next(asset_key(each) for each in self.tables if each.schema.name == table)
        adopted = dg.AssetObservation(asset_key=key, metadata=adoption_metadata(job, triggered_by="dagster"))
        event = DagsterEvent("ASSET_OBSERVATION", "sync", event_specific_data=AssetObservationData(adopted))
        self.instance.report_dagster_event(event, run_id)
        self.instance.report_run_canceled(self.instance.get_run_by_id(run_id))
        return run_id

    def tick(self, resource: WarehouseResource, **settings: object) -> SensorExecutionData:
        """A tick; its cursor is kept if it does not fail, as Dagster does."""
        sensor = build_terminated_runs_sensor(self.tables, **settings)
        context = dg.build_sensor_context(
            instance=self.instance,
            resources={DEFAULT_RESOURCE_KEY: resource},
            cursor=getattr(self, "cursor", None),
        )
        data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data


def away() -> PostHogWarehouseResource:
    """A PostHog that is unreachable."""
    return PostHogWarehouseResource(host="http://127.0.0.1:1", project_id="1", api_key="x", max_attempts=1)


def test_a_cancel_is_tried_until_posthog_has_answered(stuck, instance, wait_until) -> None:
    """While PostHog is unreachable each tick fails, with the table's name; the first after it cancels the sync."""
    runs = DeadRuns(stuck, instance)
    run_id = runs.start(stuck, "Charge")
    for _ in range(3):
        with pytest.raises(PlainError, match=f"^Syncs of the terminated run {run_id} .*Charge: PostHog is"):
            runs.tick(away())
    assert JobStatus.RUNNING is stuck.jobs("Charge")[0].status
    assert "" == error_of(runs.tick(stuck.resource))
    wait_until(lambda: stuck.jobs("Charge")[0].status is not JobStatus.RUNNING)
    assert runs.tick(stuck.resource).dagster_run_reactions == []


def test_a_cancel_is_not_tried_again_once_the_sync_has_ended(stuck, instance, wait_until) -> None:
    """Somebody else has cancelled it meanwhile: the next tick that can see that is content."""
    runs = DeadRuns(stuck, instance)
    runs.start(stuck, "Charge")
    with pytest.raises(dg.DagsterError):
        runs.tick(away())
    stuck.client.cancel_schema(stuck.schema("Charge").id)
    wait_until(lambda: stuck.jobs("Charge")[0].status is not JobStatus.RUNNING)
    assert "" == error_of(runs.tick(stuck.resource))


def test_a_sync_of_long_ago_is_left(stuck, instance) -> None:
    """PostHog ends every sync within a week: after that nothing is tried, so that no tick fails permanently."""
    runs = DeadRuns(stuck, instance)
    runs.start(stuck, "Charge")
    later = datetime.now(UTC) + timedelta(days=8)
    assert NOTHING_LEFT == runs.tick(away(), now=lambda: later).skip_message


def test_one_source_that_does_not_answer_keeps_no_other_sync_running(embedded_warehouse, instance, wait_until) -> None:
    """The syncs of runs that were terminated later are cancelled in the same tick."""
    for source_type, table in (("Stripe", "Charge"), ("Hubspot", "Deal")):
        embedded_warehouse.add_source(source_type, tables={table: [{"id": 1}]})
        embedded_warehouse.behave(table, never_ends())
    runs = DeadRuns(embedded_warehouse, instance)
    for table in ("Charge", "Deal"):
        runs.start(embedded_warehouse, table)
    with FaultyProxy(embedded_warehouse.resource.ensure_running()) as proxy:
        (bad,) = [source.id for source in embedded_warehouse.client.list_sources() if source.source_type == "Stripe"]
        proxy.rewrite = lambda path, answer: {"oops": 1} if f"{bad}/jobs/" in path else answer
        for _ in range(2):
            with pytest.raises(dg.DagsterError, match="Charge: PostHog is unreachable"):
                runs.tick(Proxied.through(proxy))
        wait_until(lambda: embedded_warehouse.jobs("Deal")[0].status is not JobStatus.RUNNING)
        assert JobStatus.RUNNING is embedded_warehouse.jobs("Charge")[0].status
        proxy.rewrite = None
        assert "" == error_of(runs.tick(Proxied.through(proxy)))
    wait_until(lambda: embedded_warehouse.jobs("Charge")[0].status is not JobStatus.RUNNING)
