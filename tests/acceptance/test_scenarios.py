"""Scenarios that users of such integrations suffer from, against a warehouse that really syncs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.errors import StateNotRefreshedError
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.testing import billing_limit, never_ends, never_starts, throttled, unavailable
from tests.acceptance.conftest import Dagster, Stopwatch, failure_of, retries
from tests.acceptance.proxy import FaultyProxy, Proxied

if TYPE_CHECKING:
    from collections.abc import Callable

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

ROWS = [{"id": number, "name": f"customer {number}"} for number in range(1, 6)]
ONCE_MORE = dg.RetryPolicy(max_retries=1)


def add_tables(warehouse: EmbeddedWarehouse, *names: str) -> None:
    """A Stripe source with these tables of five rows."""
    warehouse.add_source("Stripe", prefix="acme", tables=dict.fromkeys(names, ROWS))


def test_scenario_1_triggered_while_posthogs_own_sync_is_on(
    embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, wait_until: Callable[..., Any]
) -> None:
    """One job; the run ends with it and reports it, the sensor doesn't again. PostHog's next one is the sensor's."""
    add_tables(embedded_warehouse, "Customer")
    dagster = Dagster(instance, embedded_warehouse.resource)
    dagster.tick()
    embedded_warehouse.behave("Customer", never_ends())
    own = embedded_warehouse.start("Customer")
    with ThreadPoolExecutor() as meanwhile:
        run = meanwhile.submit(dagster.materialize, "Customer")
        wait_until(lambda: dagster.adoptions("Customer"))
        embedded_warehouse.reset()
    assert run.result().success
    assert [(own.id, JobStatus.COMPLETED)] == [(job.id, job.status) for job in embedded_warehouse.jobs("Customer")]
    dagster.tick()
    dagster.tick()
    assert {own.id: 1} == dagster.reported("Customer")
    next_one = embedded_warehouse.sync("Customer")
    dagster.tick()
    dagster.tick()
    assert {own.id: 1, next_one.id: 1} == dagster.reported("Customer")


def test_scenario_2_the_run_worker_is_killed_in_the_midst(
    embedded_warehouse: EmbeddedWarehouse,
    shared_instance: dg.DagsterInstance,
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The run that takes its place joins the running sync: one job, whose rows are billed and reported once."""
    add_tables(embedded_warehouse, "Customer")
    dagster = Dagster(shared_instance, embedded_warehouse.resource)
    dagster.snapshot.write(tmp_path / "state.json")
    embedded_warehouse.behave("Customer", never_ends())

    home = embedded_warehouse.resource.home
    killed = start_run_worker(shared_instance, tmp_path, warehouse=home)
    wait_until(lambda: embedded_warehouse.jobs("Customer"))
    killed.kill()
    killed.wait()
    (run,) = dagster.instance.get_runs()
    # what Dagster's run monitoring does with a run whose worker is gone
    dagster.instance.report_run_failed(run)

    repeated = start_run_worker(shared_instance, tmp_path, run.run_id, warehouse=home)
    wait_until(lambda: dagster.adoptions("Customer") - {run.run_id})
    embedded_warehouse.reset()
    assert 0 == repeated.wait(120), (tmp_path / "run_worker.log").read_text()
    (job,) = embedded_warehouse.jobs("Customer")
    assert (JobStatus.COMPLETED, len(ROWS)) == (job.status, job.rows_synced)
    dagster.tick()
    assert {job.id: 1} == dagster.reported("Customer")


def start_run_worker(
    instance: dg.DagsterInstance, folder: Path, *parent_run_id: str, warehouse: str
) -> subprocess.Popen[bytes]:
    """Start a run's process."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": instance.root_directory,
        "SNAPSHOT": str(folder / "state.json"),
        "WAREHOUSE": warehouse,
    }
    script = Path(__file__).with_name("run_worker.py")
    with (folder / "run_worker.log").open("ab") as log:
        return subprocess.Popen([sys.executable, script, *parent_run_id], env=environment, stdout=log, stderr=log)


def test_scenario_3_the_trigger_is_swallowed(
    embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """200 and no job: the run fails within the time for the start, with that reason, and a retry may help."""
    add_tables(embedded_warehouse, "Customer")
    embedded_warehouse.behave("Customer", never_starts())
    result = Dagster(instance, embedded_warehouse.resource).materialize(
        "Customer", retry_policy=ONCE_MORE, start_timeout_s=1
    )
    expected = "PostHog accepted the trigger, but no job appeared within 0:00:01; PostHog shows the table as Running"
    assert expected in failure_of(result)
    assert 1 == retries(result)
    assert [] == embedded_warehouse.jobs("Customer")


def test_scenario_4_a_job_that_runs_for_ever(
    embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """The run ends as stalled, and the next one is not held up by it; once it is cancelled, the table syncs."""
    add_tables(embedded_warehouse, "Customer")
    dagster = Dagster(instance, embedded_warehouse.resource)
    dagster.tick()
    embedded_warehouse.behave("Customer", never_ends())
    for _ in range(2):
        with Stopwatch() as watch:
            result = dagster.materialize("Customer", retry_policy=ONCE_MORE, stall_timeout_s=1)
        assert "has shown no progress for 0:00:01, at 0 rows" in failure_of(result)
        assert 0 == retries(result)
        assert watch.took_s < 120
    (stuck,) = embedded_warehouse.jobs("Customer")
    embedded_warehouse.client.cancel_schema(stuck.schema_id)
    embedded_warehouse.reset()
    assert dagster.materialize("Customer").success
    dagster.tick()
    dagster.tick()
    newest, oldest = embedded_warehouse.jobs("Customer")
    assert stuck.id == oldest.id
    assert {newest.id: 1} == dagster.reported("Customer")
    # a failure that is told after the success of a later sync turns no check red
    assert ({}, {stuck.id: 1}) == (dagster.failures("Customer"), dagster.overtaken("Customer"))


def test_scenario_5_the_api_is_down_when_the_location_loads(
    embedded_warehouse: EmbeddedWarehouse, tmp_path: Path
) -> None:
    """The assets of the last good state are there, and the log has the age of that state and the reason."""
    add_tables(embedded_warehouse, "Customer", "Charge")
    component = PostHogWarehouseComponent(warehouse=embedded_warehouse.resource, state_file=tmp_path / "state.json")
    before = dg.build_defs_for_component(component).resolve_all_asset_keys()
    good = WarehouseSnapshot.read(tmp_path / "state.json")
    embedded_warehouse.answer(unavailable())
    with pytest.raises(StateNotRefreshedError) as refused:
        component.write_state_to_path(tmp_path / "state.json")
    after = dg.build_defs_for_component(component).resolve_all_asset_keys()
    assert {"customer", "charge"} <= {key.path[-1] for key in after}
    assert set(before) == set(after)
    assert f"The state of {good.taken_at:%Y-%m-%d %H:%M} UTC serves." in str(refused.value)
    assert "502" in str(refused.value)


def test_scenario_6_a_storm_of_429_over_fifty_syncs(
    embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, wait_until: Callable[..., Any]
) -> None:
    """Throttled at the start and in the midst, all tables complete, each with one job, within the budget."""
    names = [f"table_{number:02}" for number in range(50)]
    add_tables(embedded_warehouse, *names)
    with FaultyProxy(embedded_warehouse.resource.ensure_running()) as proxy:
        dagster = Dagster(instance, Proxied.through(proxy))
        embedded_warehouse.answer(throttled(2))
        with ThreadPoolExecutor() as meanwhile:
            run = meanwhile.submit(dagster.materialize)
            wait_until(lambda: proxy.triggers >= 25)
            embedded_warehouse.answer(throttled(3, retry_after_s=2))
        result = run.result()
        # half of what PostHog allows in a minute, though a storm of refusals was in between
        assert len(proxy.exchanges) <= 240
        assert 2 <= sum(exchange.status == 429 for exchange in proxy.exchanges)
    assert result.success
    assert dict.fromkeys(names, 1) == {name: len(embedded_warehouse.jobs(name)) for name in names}
    assert 50 == len(result.get_asset_materialization_events())


def test_scenario_8_the_billing_limit_is_reached(
    embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """One failure without a retry; tables that were not triggered yet are not tried, and their errors state that."""
    names = [f"table_{number:02}" for number in range(20)]
    add_tables(embedded_warehouse, *names)
    for name in names:
        embedded_warehouse.behave(name, billing_limit())
    dagster = Dagster(instance, embedded_warehouse.resource)
    result = dagster.materialize(retry_policy=ONCE_MORE)
    jobs = {name: embedded_warehouse.jobs(name) for name in names}
    tried = {name for name in names if jobs[name]}
    assert 1 <= len(tried) <= 10
    assert {1} == {len(jobs[name]) for name in tried}
    assert 0 == retries(result)
    assert [] == result.get_asset_materialization_events()
    lines = failure_of(result).splitlines()
    assert "20 of 20 tables did not complete." == lines[0]
    reasons = ["was not synced" if name in tried else "was not triggered" for name in names]
    for name, reason, line in zip(names, reasons, lines[1:], strict=True):
        assert f".{name} {reason}: the project is over its billing limit." in line
    dagster.tick()
    assert {job.id: 1 for name in tried for job in jobs[name]} == sum((dagster.failures(n) for n in names), Counter())
