"""Runs whose sync the job-status sensor has reported before: each gives its result, and the sync counts once."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import AssetObservationData, DagsterEvent
from dagster._core.execution.api import execute_run_iterator
from dagster._core.scheduler.instigation import TickStatus
from storages import ON_EACH_STORAGE

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import adoption_metadata
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.testing import fails, runs_for
from tests.sensors.test_ticks import Sensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.posthog.models import Job
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse
    from tests.conftest import WaitUntil

STEP = "sync_stripe_acme"
KEY = dg.AssetKey(["posthog", "stripe", "acme", "charge"])
OTHER = dg.AssetKey(["posthog", "stripe", "acme", "refund"])


@dg.asset(deps=[KEY])
def revenue() -> None:
    """An asset downstream of the table."""


@dg.asset(deps=[KEY], automation_condition=dg.AutomationCondition.eager())
def automated() -> None:
    """An asset that is to follow the table by itself."""


@dataclass
class Site:
    """A warehouse, and a Dagster with the assets of its tables, one downstream of them, and the sensor."""

    warehouse: EmbeddedWarehouse
    instance: dg.DagsterInstance
    cursor: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Fetch the state, as a deployment does."""
        self.tables = Tables(self.warehouse.snapshot(), include_disabled=True)

    def tick(self) -> None:
        """Let the job-status sensor tick once."""
        sensor = build_job_status_sensor(self.tables, run_grace=timedelta())
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={DEFAULT_RESOURCE_KEY: self.warehouse.resource}
        )
        data = sensor.evaluate_tick(context)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = data.cursor

    def defs(self, retry_policy: dg.RetryPolicy | None = None) -> dg.Definitions:
        """The assets, and a job of them all."""
        selection = dg.AssetSelection.assets(KEY, OTHER, "revenue")
        return dg.Definitions(
            assets=[*build_posthog_assets(self.tables, retry_policy=retry_policy), revenue, automated],
            jobs=[dg.define_asset_job("everything", selection=selection)],
            resources={DEFAULT_RESOURCE_KEY: self.warehouse.resource},
        )

    def run(
        self,
        *keys: dg.AssetKey,
        parent_id: str | None = None,
        retry_policy: dg.RetryPolicy | None = None,
        **config: object,
    ) -> dg.DagsterRun:
        """A run of some assets, which may re-execute another run; it has ended then."""
        job = self.defs(retry_policy).resolve_job_def("everything").get_subset(asset_selection={KEY, *keys})
        ops: dict[str, Any] = {STEP: {"config": {"poll_min_s": 0.2, **config}}}
        ids = {"parent_run_id": parent_id, "root_run_id": parent_id} if parent_id else {}
        run = self.instance.create_run_for_job(
            job, run_config={"ops": ops, "execution": {"config": {"in_process": {}}}}, **ids
        )
        list(execute_run_iterator(InMemoryJob(job), run, self.instance))
        return self.instance.get_run_by_id(run.run_id)

    def killed_run(self, job: Job) -> str:
        """A run that has recorded the sync as its own, and whose process was killed before it ended."""
        run_id = str(uuid.uuid4())
        run = dg.DagsterRun(job_name="everything", run_id=run_id, status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        observation = dg.AssetObservation(KEY, metadata=adoption_metadata(job, triggered_by="dagster"))
        event = DagsterEvent("ASSET_OBSERVATION", "everything", event_specific_data=AssetObservationData(observation))
        self.instance.report_dagster_event(event, run_id)
        self.instance.report_run_failed(run)
        return run_id

    def given(self, run: dg.DagsterRun, key: dg.AssetKey = KEY) -> list[str]:
        """The syncs that a run has given as its result, which are the data versions too."""
        records = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        found = [record.dagster_event.materialization for record in records if record.dagster_event.asset_key == key]
        ids = [str(each.metadata["posthog/job_id"].value) for each in found]
        assert ids == [each.tags["dagster/data_version"] for each in found]
        return ids

    def has_run(self, run: dg.DagsterRun, key: str) -> bool:
        """Whether the run has materialized an asset downstream."""
        records = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        return any(record.dagster_event.asset_key == dg.AssetKey(key) for record in records)

    def latest(self, key: dg.AssetKey = KEY) -> Mapping[str, dg.MetadataValue]:
        """The metadata of the table's last materialization."""
        event = self.instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        return event.asset_materialization.metadata

    def checks(self, run: dg.DagsterRun) -> dict[str, bool]:
        """What the table's checks have found in a run."""
        records = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        found = [record.dagster_event.asset_check_evaluation_data for record in records]
        return {each.check_name: each.passed for each in found if each.asset_key == KEY}


@pytest.fixture
def site(embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance) -> Site:
    """Two tables that have never been synced, and a sensor that has ticked once."""
    rows = [{"id": number} for number in range(10)]
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": rows, "Refund": rows})
    site = Site(embedded_warehouse, instance)
    site.tick()
    return site


def reported(site: Site) -> Job:
    """A sync of the table that PostHog has started, which the sensor has reported."""
    job = site.warehouse.sync("Charge")
    site.tick()
    return job


@pytest.mark.parametrize("wait", [True, False])
def test_a_run_that_comes_after_the_report_gives_its_result(site: Site, *, wait: bool) -> None:
    """A schedule's run that waited in a queue adopts the tick's sync: same job, same data version, downstream runs."""
    job = reported(site)
    run = site.run(dg.AssetKey("revenue"), accept_jobs_since=job.created_at.isoformat(), wait=wait)
    assert (dg.DagsterRunStatus.SUCCESS, [job.id]) == (run.status, site.given(run))
    assert site.has_run(run, "revenue")
    assert {True} == set(site.checks(run).values())
    assert {"sync_succeeded", "data_as_usual"} == set(site.checks(run))
    assert [job.id] == [each.id for each in site.warehouse.jobs("Charge")]


# Dagster's own default selection for this evaluation uses a parameter that it calls beta
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_automation_sees_the_run_s_result(site: Site) -> None:
    """An asset that follows the table by its automation condition is requested after the run, as after any other."""
    job = reported(site)
    site.instance.report_runless_asset_event(dg.AssetMaterialization("automated"))
    before = dg.evaluate_automation_conditions(site.defs(), instance=site.instance)
    site.run(accept_jobs_since=job.created_at.isoformat())
    after = dg.evaluate_automation_conditions(site.defs(), instance=site.instance, cursor=before.cursor)
    assert (0, 1) == (before.get_num_requested(dg.AssetKey("automated")), after.total_requested)


def test_a_repeated_result_is_compared_with_the_sync_before(site: Site) -> None:
    """The sensor's report of the same sync is no sync before it: the rows that it lost are still lost."""
    reported(site)
    site.warehouse.set_rows("Charge", [{"id": 1}])
    job = reported(site)
    run = site.run(accept_jobs_since=job.created_at.isoformat())
    assert ([job.id], False) == (site.given(run), site.checks(run)["data_as_usual"])


def test_a_sync_with_two_reports_counts_once(site: Site) -> None:
    """What compares a sync with those before it counts each by its job, however many events there are of it."""
    for _ in range(3):
        job = reported(site)
        site.run(accept_jobs_since=job.created_at.isoformat())
    syncs = EventLog(site.instance).syncs_of(KEY)
    assert (6, [10, 10, 10]) == (len(syncs.metadata), syncs.rows_synced(but="another"))
    site.tick()
    assert 6 == len(EventLog(site.instance).syncs_of(KEY).metadata)


@ON_EACH_STORAGE
def test_a_run_whose_sync_has_failed_fails_though_the_sensor_has_reported_it(site: Site) -> None:
    """The failed sync is the tick's one sync, and the run ends as it did."""
    site.warehouse.behave("Charge", fails("Stripe is down"))
    job = reported(site)
    run = site.run(dg.AssetKey("revenue"), accept_jobs_since=job.created_at.isoformat())
    assert (dg.DagsterRunStatus.FAILURE, [], False) == (run.status, site.given(run), site.checks(run)["sync_succeeded"])
    assert not site.has_run(run, "revenue")


def test_a_failed_sync_of_a_run_stays_reported_after_a_good_one(site: Site) -> None:
    """A check shows its last evaluation alone: a note keeps a failure from being reported again if a cursor is lost."""
    site.warehouse.behave("Charge", fails("Stripe is down", times=1))
    before = site.cursor
    failed = site.run()
    later = reported(site)
    site.cursor = before
    site.tick()
    adopted, good = site.warehouse.jobs("Charge")[-1], site.warehouse.jobs("Charge")[0]
    notes = [note.said.job_id for note in EventLog(site.instance).notes_of(KEY) if note.is_report]
    assert (dg.DagsterRunStatus.FAILURE, later.id, [adopted.id]) == (failed.status, good.id, notes)
    assert not EventLog(site.instance).is_red(dg.AssetCheckKey(KEY, "sync_succeeded"))


@ON_EACH_STORAGE
@pytest.mark.parametrize(
    "config", [{}, {"sync_mode": "resync", "confirm_resync": ["Charge"]}], ids=["reload", "resync"]
)
def test_the_sync_of_a_killed_run_is_the_result_of_its_re_execution(site: Site, config: Mapping[str, object]) -> None:
    """Whether the sensor was faster than the re-execution makes no difference: nothing is synced or billed again."""
    job = site.warehouse.sync("Charge")
    killed = site.killed_run(job)
    site.tick()
    assert job.id == site.latest()["posthog/job_id"].value
    again = site.run(dg.AssetKey("revenue"), parent_id=killed, **config)
    assert (dg.DagsterRunStatus.SUCCESS, [job.id]) == (again.status, site.given(again))
    assert site.has_run(again, "revenue")
    assert [job.id] == [each.id for each in site.warehouse.jobs("Charge")]


@pytest.mark.parametrize("instance", ["shared_instance"], indirect=True)
def test_a_table_that_waits_for_the_sensors_tick_holds_up_no_other(site: Site, wait_until: WaitUntil) -> None:
    """The tick may be reporting the ended sync that the run has adopted; the other tables of the step do not wait."""
    job = site.warehouse.sync("Charge")
    # one that ends as it is adopted would wait for the tick, too
    site.warehouse.behave("Refund", runs_for(5))
    sensor = Sensor(site.instance, "anywhere")
    tick = sensor.begin_tick(time.time())
    with ThreadPoolExecutor() as pool:
        run = pool.submit(site.run, OTHER, accept_jobs_since=job.created_at.isoformat())
        wait_until(lambda: site.instance.fetch_materializations(OTHER, limit=1).records)
        early = site.instance.fetch_materializations(KEY, limit=1).records
        site.instance.update_tick(tick.with_status(TickStatus.SUCCESS))
        ended = run.result()
    assert ([], dg.DagsterRunStatus.SUCCESS, [job.id]) == (early, ended.status, site.given(ended))


def test_re_executing_a_run_that_has_given_its_result_syncs_again(site: Site) -> None:
    """A user who repeats a completed run wants another sync, however many reports there are since."""
    first = site.run()
    (given,) = site.given(first)
    event = site.instance.get_latest_materialization_event(KEY)
    for _ in range(25):
        metadata = {**event.asset_materialization.metadata, "posthog/job_id": str(uuid.uuid4())}
        site.instance.report_runless_asset_event(dg.AssetMaterialization(KEY, metadata=metadata))
    again = site.run(parent_id=first.run_id)
    newest, oldest = site.warehouse.jobs("Charge")
    assert (given, [newest.id]) == (oldest.id, site.given(again))


def test_a_retry_keeps_the_results_of_its_first_try(site: Site) -> None:
    """What a table has given stays its run's result when another table of the step is tried again."""
    site.warehouse.behave("Refund", fails("Stripe is down", times=1))
    run = site.run(OTHER, dg.AssetKey("revenue"), retry_policy=dg.RetryPolicy(max_retries=1))
    assert dg.DagsterRunStatus.SUCCESS is run.status
    ((job,), (refund, _)) = site.warehouse.jobs("Charge"), site.warehouse.jobs("Refund")
    assert ([job.id], [refund.id]) == (site.given(run), site.given(run, OTHER))
    assert site.has_run(run, "revenue")


def test_an_overtaken_run_gives_the_sync_that_the_rows_are_from(site: Site) -> None:
    """A later sync has been reported: the table's last materialization must not be an older one again."""
    killed = site.killed_run(site.warehouse.sync("Charge"))
    later = reported(site)
    again = site.run(dg.AssetKey("revenue"), parent_id=killed)
    assert (dg.DagsterRunStatus.SUCCESS, [later.id]) == (again.status, site.given(again))
    assert later.id == site.latest()["posthog/job_id"].value
    assert {"sync_succeeded": True, "data_as_usual": True} == site.checks(again)
    assert site.has_run(again, "revenue")
    assert 2 == len(site.warehouse.jobs("Charge"))


@ON_EACH_STORAGE
def test_an_overtaken_failure_fails_its_run_and_not_the_check(site: Site) -> None:
    """The check shows the table's last sync, which was good; the run shows its own."""
    site.warehouse.behave("Charge", fails("Stripe is down", times=1))
    killed = site.killed_run(site.warehouse.sync("Charge"))
    later = reported(site)
    again = site.run(parent_id=killed, sync_mode="resync", confirm_resync=["Charge"])
    assert dg.DagsterRunStatus.FAILURE is again.status
    assert {"sync_succeeded": True, "data_as_usual": True} == site.checks(again)
    assert not EventLog(site.instance).is_red(dg.AssetCheckKey(KEY, "sync_succeeded"))
    assert later.id == site.latest()["posthog/job_id"].value
    assert all(is_over(job) for job in site.warehouse.jobs("Charge"))
