"""Runs that do not wait for their syncs (`wait: false`), and the runs that report these syncs when they have ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.testing import fails, never_ends, runs_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.posthog.models import Job
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse
    from tests.conftest import WaitUntil

STEP = "sync_stripe_acme"
KEY = dg.AssetKey(["posthog", "stripe", "acme", "charge"])
REVENUE = dg.AssetKey("revenue")
CONFIG = {"ops": {STEP: {"config": {"poll_min_s": 0.2, "wait": False}}}}
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@dg.asset(deps=[KEY])
def revenue() -> None:
    """An asset downstream of the table."""


@dataclass
class Site:
    """A warehouse, and a code location with the assets of its table, one downstream of it, and the sensor."""

    warehouse: EmbeddedWarehouse
    instance: dg.DagsterInstance
    wait_until: WaitUntil
    cursor: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Fetch the state, and let the sensor tick once."""
        tables = Tables(self.warehouse.snapshot(), include_disabled=True)
        self.sensor = build_job_status_sensor(tables, run_grace=timedelta())
        self.repository = dg.Definitions(
            assets=[*build_posthog_assets(tables), revenue],
            jobs=build_maintenance_jobs(tables),
            sensors=[self.sensor],
            resources={DEFAULT_RESOURCE_KEY: self.warehouse.resource},
            executor=dg.in_process_executor,
        ).get_repository_def()
        self.tick()

    def tick(self) -> list[dg.RunRequest]:
        """Let the job-status sensor tick once; the runs that it requests."""
        resources = {DEFAULT_RESOURCE_KEY: self.warehouse.resource}
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=resources, repository_def=self.repository
        )
        data = self.sensor.evaluate_tick(context)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = data.cursor
        return list(data.run_requests or [])

    def run(self, *keys: dg.AssetKey, parent: dg.DagsterRun | None = None, **more: Any) -> dg.DagsterRun:
        """A run of some assets, which may re-execute another run; it has ended then."""
        job = self.repository.get_job("__ASSET_JOB").get_subset(asset_selection=set(keys))
        ids = {"parent_run_id": parent.run_id, "root_run_id": parent.run_id} if parent else {}
        run = self.instance.create_run_for_job(job, **({"run_config": CONFIG} | more), **ids)
        return self.execute(job, run)

    def launch(self, request: dg.RunRequest) -> dg.DagsterRun:
        """The run that the sensor has requested, as Dagster launches it; it has ended then."""
        assert request.asset_selection is not None
        return self.run(*request.asset_selection, run_config=request.run_config, tags=request.tags)

    def execute(self, job: dg.JobDefinition, run: dg.DagsterRun) -> dg.DagsterRun:
        """Execute a run in this process."""
        list(execute_run_iterator(InMemoryJob(job), run, self.instance))
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def ended(self) -> list[Job]:
        """The table's syncs once none is running, the newest first."""
        jobs: list[Job] = self.wait_until(
            lambda: (all(map(is_over, jobs := self.warehouse.jobs("Charge"))) and jobs) or None
        )
        return jobs

    def given(self, run: dg.DagsterRun) -> dict[str, Mapping[str, dg.MetadataValue]]:
        """The assets that a run has materialized, and their metadata."""
        records = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        found = [record.dagster_event.materialization for record in records if record.dagster_event]
        return {each.asset_key.to_user_string(): each.metadata for each in found}

    def is_green(self) -> bool:
        """Whether the table's last sync has succeeded, as its check shows."""
        check = dg.AssetCheckKey(KEY, "sync_succeeded")
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
        return bool(record.event and record.event.dagster_event.asset_check_evaluation_data.passed)

    def error_of(self, run: dg.DagsterRun) -> str:
        """Why a run has failed."""
        records = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        return "".join(str(record.dagster_event.event_specific_data) for record in records if record.dagster_event)


@pytest.fixture
def site(embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, wait_until: WaitUntil) -> Site:
    """A table that has never been synced."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": [{"id": 1}]})
    return Site(embedded_warehouse, instance, wait_until)


def test_a_run_that_does_not_wait_is_completed_by_another_run(site: Site) -> None:
    """The first run ends while the sync runs; the second reports it, once, and runs what was selected after it."""
    site.warehouse.behave("Charge", runs_for(1.5))
    first = site.run(KEY, REVENUE)
    assert (SUCCESS, {}, []) == (first.status, site.given(first), site.tick())
    (job,) = site.ended()
    (request,) = site.tick()
    second = site.launch(request)

    given = site.given(second)
    assert (SUCCESS, {"posthog/stripe/acme/charge", "revenue"}) == (second.status, given.keys())
    metadata = given["posthog/stripe/acme/charge"]
    assert (job.id, "dagster") == (metadata["posthog/job_id"].value, metadata["posthog/triggered_by"].value)
    assert ([], True, 1) == (site.tick(), site.is_green(), len(site.warehouse.jobs("Charge")))
    assert 1 == len(site.instance.fetch_materializations(KEY, limit=10).records)


def test_a_failed_sync_fails_the_run_that_completes_it_and_its_retry_syncs_again(site: Site) -> None:
    """As in a run that waits: red, nothing downstream runs, one sync for each try, and the good one runs the rest."""
    site.warehouse.behave("Charge", runs_for(1.5) | fails("no rows today", times=1))
    site.run(KEY, REVENUE)
    (failed,) = site.ended()
    second = site.launch(site.tick()[0])
    assert (FAILURE, {}, False) == (second.status, site.given(second), site.is_green())
    assert "no rows today" in site.error_of(second)
    assert ([], [failed]) == (site.tick(), site.warehouse.jobs("Charge"))

    retry = site.run(KEY, REVENUE, parent=second, tags=second.tags)
    assert (SUCCESS, {}) == (retry.status, site.given(retry))
    newest, _ = site.ended()
    last = site.launch(site.tick()[0])
    given = site.given(last)
    assert (SUCCESS, {"posthog/stripe/acme/charge", "revenue"}) == (last.status, given.keys())
    assert newest.id == given["posthog/stripe/acme/charge"]["posthog/job_id"].value
    assert ([], True, 2) == (site.tick(), site.is_green(), len(site.warehouse.jobs("Charge")))


def test_a_sync_that_no_process_waits_for_is_cancelled_by_the_maintenance_job(site: Site) -> None:
    """The job `…_cancel_syncs` in the UI cancels it; the run that completes it is red, and syncs nothing again."""
    site.warehouse.behave("Charge", never_ends())
    site.run(KEY, REVENUE)
    cancel = site.repository.get_job(f"{DEFAULT_RESOURCE_KEY}_cancel_syncs")
    name = next(iter(cancel.graph.node_dict))
    config = {"ops": {name: {"config": {"tables": ["*"], "dry_run": False}}}}
    assert SUCCESS is site.execute(cancel, site.instance.create_run_for_job(cancel, run_config=config)).status
    (job,) = site.ended()
    second = site.launch(site.tick()[0])
    assert (FAILURE, {}, False) == (second.status, site.given(second), site.is_green())
    assert ([], [job]) == (site.tick(), site.warehouse.jobs("Charge"))


def test_a_run_whose_first_run_is_deleted_syncs_nothing_again(site: Site) -> None:
    """Which syncs it was to report is in the deleted log: the sensor reports them."""
    site.warehouse.behave("Charge", runs_for(1.5))
    first = site.run(KEY, REVENUE)
    (job,) = site.ended()
    (request,) = site.tick()
    storage = site.instance.run_storage
    type(storage).delete_run(storage, first.run_id)
    site.instance.event_log_storage.delete_events(first.run_id)
    second = site.launch(request)
    assert FAILURE is second.status
    assert "has been deleted" in site.error_of(second)
    assert [] == site.tick()
    (record,) = site.instance.fetch_materializations(KEY, limit=10).records
    assert (job.id, "") == (record.asset_materialization.metadata["posthog/job_id"].value, record.run_id)
    assert [job] == site.warehouse.jobs("Charge")
