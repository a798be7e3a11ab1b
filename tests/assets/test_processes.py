"""What real processes of Dagster do: load, fail, are terminated, are killed, and are executed again.

They share a Postgres, as in a deployment of several machines; `tests/acceptance` has killed processes on SQLite.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from deployment import Deployment, counted
from storages import database_of
from warehouse import Shelf, execute

from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from storages import PostgresStorages
    from warehouse import WarehouseProcess

    from dw_orchestration.local.shop.postgres import DatabaseLogin

# the lists of sources and of schemas, which only the state is fetched from
LIST = re.compile(r"GET /api/projects/\w+/external_data_(sources|schemas)/?(\?.*)?$")


@dataclass
class Site:
    """A deployment, the source that its assets come from, and what was asked of the warehouse."""

    deployment: Deployment
    shelf: Shelf
    requests: Sequence[str]
    storage: DatabaseLogin

    def launch(self, *names: str, **settings: object) -> str:
        """Launch a run of some tables in one process, which polls them often."""
        config = {
            "ops": {self.shelf.step: {"config": {"poll_min_s": 0.2, **settings}}},
            "execution": {"config": {"in_process": {}}},
        }
        return self.deployment.launch(*(self.shelf.key(name) for name in names), config=config)

    def launch_resync(self, *names: str) -> str:
        """Launch the job that resyncs tables, in one process."""
        job, tables = "posthog_warehouse_resync_tables", [f"{self.shelf.prefix}.{name}" for name in names]
        ops = {f"{job}_step": {"config": {"tables": tables, "confirm": tables}}}
        config = {"ops": ops, "execution": {"config": {"in_process": {}}}}
        return self.deployment.launch_job(job, config=config)

    def reports(self, job_id: str, name: str) -> list[str]:
        """Which runs (none for the sensor) the event log has the end of a sync from."""
        records = self.deployment.instance.fetch_materializations(self.shelf.key(name), limit=50).records
        found = [(record.run_id, record.asset_materialization) for record in records]
        return [run_id for run_id, each in found if each and each.metadata["posthog/job_id"].value == job_id]

    def tick(self) -> None:
        """Let the job-status sensor look once, from the newest sync of each table on."""
        (file,) = (self.deployment.home / "state").glob("state_*.json")
        # the project has the name that the deployment has for it
        state = WarehouseSnapshot.read(file).model_copy(update={"sources": self.shelf.snapshot.sources})
        sensor = build_job_status_sensor(Tables(state, include_disabled=True), run_grace=timedelta())
        resources = {"posthog_warehouse": self.shelf.warehouse.resource}
        instance = self.deployment.instance
        with dg.build_sensor_context(instance=instance, resources=resources) as context:
            for event in sensor.evaluate_tick(context).asset_events:
                instance.report_runless_asset_event(event)

    def wait_for(self, run_id: str, *names: str) -> dict[str, tuple[str, str]]:
        """Wait until a run has written down which syncs it follows for these tables."""
        self.deployment.wait_until(lambda: set(names) <= set(self.deployment.adopted(run_id)))
        return self.deployment.adopted(run_id)


@pytest.fixture(scope="module")
def site(
    warehouse: WarehouseProcess,
    postgres_storages: PostgresStorages,
    wait_until: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Iterator[Site]:
    """The default code location on a real deployment, as `dagster dev` would start it."""
    server = postgres_storages.server
    execute(server, "create database site")
    shelf = warehouse.add_shelf(replace(server, database="site"), wait_until=wait_until)
    home = tmp_path_factory.mktemp("site")
    with counted(warehouse.endpoint["host"]) as (address, requests), postgres_storages.new() as storage:
        settings = {
            "POSTHOG_HOST": address,
            "POSTHOG_PROJECT_ID": warehouse.endpoint["project_id"],
            "POSTHOG_PERSONAL_API_KEY": warehouse.endpoint["api_key"],
            "DW_ORCHESTRATION_HOME": str(home / "state"),
            "DAGSTER_IS_DEV_CLI": "1",
        }
        location = Path(__file__).parents[1] / "helpers" / "served_definitions.py"
        deployment = Deployment(
            home, location=location, port=free_port(), env=settings, wait=wait_until, settings={"storage": storage}
        )
        try:
            deployment.wait_until_loaded()
            yield Site(deployment, shelf, requests, storage=database_of(storage, server))
        finally:
            deployment.stop()


def test_re_execution_from_asset_failure_takes_what_failed(site: Site) -> None:
    """After a partial failure, `from asset failure` syncs the failed table alone; `all steps` syncs all again."""
    before = site.shelf.counts()
    site.shelf.break_products()
    failed = site.launch("customers", "products")
    assert dg.DagsterRunStatus.FAILURE is site.deployment.end_of(failed)
    assert {"customers"} == set(site.deployment.materialized(failed))
    site.shelf.mend_products()
    repaired = site.deployment.re_execute(failed, strategy="FROM_ASSET_FAILURE")
    assert dg.DagsterRunStatus.SUCCESS is site.deployment.end_of(repaired)
    assert {"products": site.shelf.newest("products").id} == site.deployment.materialized(repaired)
    assert {"customers": 1, "products": 2} == site.shelf.counts() - before
    again = site.deployment.re_execute(repaired, strategy="ALL_STEPS")
    assert dg.DagsterRunStatus.SUCCESS is site.deployment.end_of(again)
    assert {"products": site.shelf.newest("products").id} == site.deployment.materialized(again)
    assert {"customers": 1, "products": 3} == site.shelf.counts() - before


def test_termination_cancels_what_the_run_has_started(site: Site) -> None:
    """A user who terminates a run ends the sync that it started; the one that it joined is left to its end."""
    with site.shelf.locked("customers", "orders"):
        site.shelf.warehouse.client.reload_schema(site.shelf.record("customers").id)
        joined = site.shelf.wait_until(lambda: site.shelf.running("customers"))
        run_id = site.launch("customers", "orders")
        adopted = site.wait_for(run_id, "customers", "orders")
        assert (joined.id, "adopted") == adopted["customers"]
        assert "dagster" == adopted["orders"][1]
        site.deployment.terminate(run_id)
        assert dg.DagsterRunStatus.CANCELED is site.deployment.end_of(run_id)
        cancelled = site.shelf.newest("orders")
        assert (adopted["orders"][0], JobStatus.FAILED) == (cancelled.id, cancelled.status)
        assert "cancelled" in (cancelled.latest_error or "").lower()
        assert joined.id == getattr(site.shelf.running("customers"), "id", None)
    site.shelf.settle()
    assert (joined.id, JobStatus.COMPLETED) == (
        site.shelf.newest("customers").id,
        site.shelf.newest("customers").status,
    )
    log = site.deployment.log_of(run_id)
    assert re.search(r"orders: .*cancelled", log)
    assert f"customers: sync {joined.id} keeps running: this run did not start it" in log


def test_a_killed_run_is_taken_up_by_its_re_execution(site: Site) -> None:
    """When a run's process is killed, its sync continues; the re-executed run joins it and reports it: one sync."""
    before = site.shelf.counts()
    with site.shelf.locked("orders"):
        killed = site.launch("orders")
        job_id, who = site.wait_for(killed, "orders")["orders"]
        assert "dagster" == who
        os.kill(site.deployment.process_of(killed), signal.SIGKILL)
        assert dg.DagsterRunStatus.FAILURE is site.deployment.end_of(killed)
        assert job_id == getattr(site.shelf.running("orders"), "id", None)
        repeated = site.deployment.re_execute(killed, strategy="FROM_ASSET_FAILURE")
        assert (job_id, "dagster") == site.wait_for(repeated, "orders")["orders"]
    assert dg.DagsterRunStatus.SUCCESS is site.deployment.end_of(repeated)
    assert {} == site.deployment.materialized(killed)
    assert {"orders": job_id} == site.deployment.materialized(repeated)
    assert {"orders": 1} == site.shelf.counts() - before


def test_a_step_that_is_evicted_is_taken_up_by_its_retry(site: Site) -> None:
    """When a step's process gets a signal to end, it cancels nothing; its retry joins the same sync and reports it."""
    before = site.shelf.counts()
    key = dg.AssetKey(["retried", *site.shelf.key("orders").path])
    with site.shelf.locked("orders"):
        step = f"sync_{key.to_python_identifier()}"
        run_id = site.deployment.launch(key, config={"ops": {step: {"config": {"poll_min_s": 0.2}}}})
        job_id, _ = site.wait_for(run_id, "orders")["orders"]
        os.kill(site.deployment.process_of(run_id), signal.SIGTERM)
        retried = dg.DagsterEventType.ASSET_OBSERVATION
        site.deployment.wait_until(lambda: site.deployment.count(run_id, retried) == 2)
        assert (job_id, "dagster") == site.deployment.adopted(run_id)["orders"]
        assert job_id == getattr(site.shelf.running("orders"), "id", None)
    assert dg.DagsterRunStatus.SUCCESS is site.deployment.end_of(run_id)
    assert 1 == site.deployment.count(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert {"orders": job_id} == site.deployment.materialized(run_id)
    assert {"orders": 1} == site.shelf.counts() - before
    assert "Interrupted. The syncs keep running" in site.deployment.log_of(run_id)


@pytest.mark.thorough
def test_a_first_step_that_is_killed_leaves_its_syncs_to_the_others(site: Site) -> None:
    """With processes from a fork server, one at a time: each takes up its own, and the first one's retry too.

    For each change, `test_re_execution_takes_up_what_was_started_for_steps_that_never_ran` and its neighbours see this
    in one process, and `test_a_step_that_is_evicted_is_taken_up_by_its_retry` a step's process that ends.
    """
    before, names = site.shelf.counts(), ("customers", "orders", "products")
    keys = [dg.AssetKey(["retried", *site.shelf.key(name).path]) for name in names]
    forkserver = {"forkserver": {"preload_modules": ["dagster", "dw_orchestration.component"]}}
    executor = {"multiprocess": {"max_concurrent": 1, "start_method": forkserver}}
    ops = {f"sync_{key.to_python_identifier()}": {"config": {"poll_min_s": 0.2}} for key in keys}
    with site.shelf.locked(*names):
        run_id = site.deployment.launch(*keys, config={"ops": ops, "execution": {"config": executor}})
        adopted = site.wait_for(run_id, *names)
        assert {"dagster"} == {who for _, who in adopted.values()}
        os.kill(site.deployment.process_of(run_id), signal.SIGKILL)
    assert dg.DagsterRunStatus.SUCCESS is site.deployment.end_of(run_id)
    assert 1 == site.deployment.count(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert {name: job_id for name, (job_id, _) in adopted.items()} == site.deployment.materialized(run_id)
    assert dict.fromkeys(names, 1) == site.shelf.counts() - before


def test_no_run_has_loaded_anything_but_the_state(site: Site) -> None:
    """The code server has fetched the state once, as it started; no run or step has listed anything to load."""
    is_list = [bool(LIST.match(request)) for request in site.requests]
    assert any(is_list)
    first_other = is_list.index(False)
    assert not any(is_list[first_other + 1 :]), site.requests
    # one page of schemas, one of sources, and a look whether the key may write
    assert first_other + 1 <= 4


def test_no_file_has_a_secret(site: Site) -> None:
    """After all this, neither the API key nor the database's password is in any file or event of Dagster, state or log.

    The databases of source and events have the same password.
    """
    files = [*site.deployment.home.rglob("*"), *site.shelf.warehouse.home.glob("*.log")]
    texts = {str(path): text for path in files if (text := content(path))}
    texts["event_logs"] = str(execute(site.storage, "select event from event_logs")).encode()
    for place in (f"{site.deployment.home}/state", "event_logs"):
        assert any(site.shelf.prefix.encode() in text for name, text in texts.items() if name.startswith(place))
    for secret in (site.shelf.warehouse.endpoint["api_key"], site.shelf.database.password):
        assert [] == [path for path, text in texts.items() if secret.encode() in text]


def test_termination_of_the_job_that_resyncs_cancels_what_it_has_started(site: Site) -> None:
    """A user who terminates it ends its syncs; its log has them, and nothing is left running."""
    with site.shelf.locked("products"):
        run_id = site.launch_resync("products")
        job_id, who = site.wait_for(run_id, "products")["products"]
        site.deployment.terminate(run_id)
        assert dg.DagsterRunStatus.CANCELED is site.deployment.end_of(run_id)
        assert ("dagster", None) == (who, site.shelf.running("products"))
    assert (job_id, JobStatus.FAILED) == (site.shelf.newest("products").id, site.shelf.newest("products").status)
    assert re.search(r"products: .*cancelled", site.deployment.log_of(run_id))


def test_resync_of_a_job_that_is_killed_is_reported_by_the_sensor(site: Site) -> None:
    """What the run has reported before is left; of what it could not report the sensor does, once."""
    with site.shelf.locked("customers"):
        run_id = site.launch_resync("customers", "products")
        adopted = site.wait_for(run_id, "customers", "products")
        customers, products = (adopted[name][0] for name in ("customers", "products"))
        site.shelf.wait_until(lambda: site.reports(products, "products"))
        os.kill(site.deployment.process_of(run_id), signal.SIGKILL)
    assert dg.DagsterRunStatus.FAILURE is site.deployment.end_of(run_id)
    site.shelf.settle()
    for _ in range(2):
        site.tick()
    assert [""] == site.reports(customers, "customers")
    assert [run_id] == site.reports(products, "products")


@pytest.mark.thorough
def test_a_run_that_is_ended_by_force_leaves_no_sync_behind(site: Site) -> None:
    """A run is marked as canceled whose process is dead: the sensor cancels the sync that it had started.

    For each change, `test_the_sync_that_the_run_started_is_cancelled` sees this without processes, and
    `test_a_daemon_killed_between_the_events_and_the_cursor_reports_each_sync_once` that a daemon runs our sensors.
    """
    # the last test here: a daemon that ends in a tick leaves that open, and runs wait a while for open ticks
    with site.shelf.locked("orders"), site.deployment.daemon(with_sensor="terminated_runs_soon"):
        run_id = site.launch("orders")
        job_id, _ = site.wait_for(run_id, "orders")["orders"]
        os.kill(site.deployment.process_of(run_id), signal.SIGKILL)
        site.deployment.give_up(run_id)
        site.deployment.wait_until(lambda: site.shelf.running("orders") is None)
    cancelled = site.shelf.newest("orders")
    assert (job_id, JobStatus.FAILED) == (cancelled.id, cancelled.status)
    assert "cancelled" in (cancelled.latest_error or "").lower()


def content(path: Path) -> bytes:
    """What is in a file; nothing if it is a folder, or one of SQLite's helpers that has just gone."""
    try:
        return path.read_bytes()
    except (IsADirectoryError, FileNotFoundError):
        return b""
