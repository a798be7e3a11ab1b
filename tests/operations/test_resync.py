"""The job that resyncs tables: what it drops, what it refuses, and what Dagster knows of it afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dw_orchestration.assets import PostHogSyncConfig, build_posthog_assets
from dw_orchestration.assets.checks import check_keys
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing import fails, never_ends
from tests.operations.conftest import failure, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

JOB = "posthog_warehouse_resync_tables"
BOTH = ["stripe_acme.Charge", "stripe_acme.Customer"]
# a step of its own finds the tables resynced so
QUICK = PostHogSyncConfig(poll_min_s=0.2)
WHO_IS_NO_PERSON = [
    {"dagster/schedule_name": "nightly"},
    {"dagster/sensor_name": "watcher"},
    {"dagster/from_automation_condition": "true"},
]


@dataclass
class Location:
    """A code location over the embedded warehouse, with an event log and a job-status sensor."""

    stripe: EmbeddedWarehouse
    instance: dg.DagsterInstance
    cursor: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        snapshot = self.stripe.snapshot()
        self.resources = {"posthog_warehouse": self.stripe.resource}
        self.assets = build_posthog_assets(Tables(snapshot, include_disabled=True), sync_defaults=QUICK)
        self.sensor = build_job_status_sensor(Tables(snapshot, include_disabled=True), run_grace=timedelta())
        jobs = build_maintenance_jobs(Tables(snapshot, include_disabled=True), sync_defaults=QUICK)
        (self.job,) = [job for job in jobs if job.name == JOB]

    def resync(self, *tables: str, tags: dict[str, str] | None = None, **config: object) -> dg.ExecuteInProcessResult:
        """Launch the job for these tables, which are confirmed unless the config has something else."""
        return self.job.execute_in_process(
            run_config={"ops": {f"{JOB}_step": {"config": {"tables": [*tables], "confirm": [*tables], **config}}}},
            resources=self.resources,
            tags=tags,
            instance=self.instance,
            raise_on_error=False,
        )

    def tick(self) -> None:
        """Let the sensor look once; its events are stored as its daemon does it."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=self.resources)
        result = self.sensor.evaluate_tick(context)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor

    def key(self, table: str) -> dg.AssetKey:
        """The asset of a table."""
        return dg.AssetKey(["posthog", "stripe", "acme", table.lower()])

    def completed(self, table: str) -> list[dg.AssetMaterialization]:
        """A table's completed syncs in the log, newest first."""
        records = self.instance.fetch_materializations(self.key(table), limit=100).records
        return [record.asset_materialization for record in records if record.asset_materialization]

    def failed(self, table: str) -> list[str]:
        """The syncs of a table that the log has as failed."""
        return [
            str(said.metadata["posthog/job_id"].value)
            for said in self.evaluations(table)
            if said.check_name == "sync_succeeded" and not said.passed
        ]

    def evaluations(self, table: str) -> list[dg.AssetCheckEvaluation]:
        """A table's checks in the log."""
        storage = self.instance.event_log_storage
        return [
            record.event.dagster_event.asset_check_evaluation_data
            for check in check_keys(self.key(table))
            for record in storage.get_asset_check_execution_history(check, limit=100)
            if record.event and record.event.dagster_event
        ]

    def overtaken(self, table: str) -> list[str]:
        """The syncs of a table that are in the log after a later one; a failed check has a note too."""
        notes, failed = EventLog(self.instance).notes_of(self.key(table)), self.failed(table)
        return [note.said.job_id for note in notes if note.is_report and note.said.job_id not in failed]

    def reports(self) -> Counter[str]:
        """How often the end of each sync is in the log."""
        return Counter(
            job_id
            for table in ("Customer", "Charge")
            for job_id in [
                *(each.metadata["posthog/job_id"].value for each in self.completed(table)),
                *self.failed(table),
                *self.overtaken(table),
            ]
        )


@pytest.fixture
def location(synced: EmbeddedWarehouse) -> Iterator[Location]:
    """The tables, of which `Customer` has been synced and reported."""
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location(synced, instance)
        location.tick()
        yield location


def counts(stripe: EmbeddedWarehouse) -> dict[str, int]:
    """How many syncs each table has had."""
    return {table: len(stripe.jobs(table)) for table in ("Customer", "Charge")}


def test_named_tables_alone_are_resynced(location, stripe) -> None:
    """A row that is gone at the source is gone, and the other table is left as it was."""
    stripe.set_rows("Customer", [{"id": 2, "name": "Grace", "updated": 2}])

    result = location.resync("posthog/stripe/acme/customer", confirm=["Customer"])

    assert result.success
    assert "| stripe_acme.Customer | completed | 1 |" in shown(result)
    assert [2] == [row["id"] for row in stripe.rows("Customer")]
    assert {"Customer": 2, "Charge": 0} == counts(stripe)


def test_what_is_dropped_is_told_before(location) -> None:
    """The number of rows and their age are in the log before the sync that drops them."""
    result = location.resync("Customer")
    log = [record.user_message for record in location.instance.all_logs(result.run_id)]
    told = next(index for index, line in enumerate(log) if "Customer: the resync drops 2 rows, last synced at" in line)
    assert told < next(index for index, line in enumerate(log) if "ASSET_OBSERVATION" in line)


def test_a_short_name_of_two_tables_confirms_neither(location, stripe) -> None:
    """In a step of several sources, a name that two of the selected tables have is refused, and nothing is sent."""
    hubspot = stripe.add_source("Hubspot", tables={"Customer": [{"id": 1}]})
    assets = build_posthog_assets(Tables(stripe.snapshot(), step_per="project"))
    step = next(each.op.name for each in assets if isinstance(each, dg.AssetsDefinition) and each.is_executable)
    config = {"sync_mode": "resync", "confirm_resync": ["Customer"]}

    run = dg.materialize(
        assets,
        selection=[location.key("Customer"), dg.AssetKey(["posthog", "hubspot", "customer"])],
        instance=location.instance,
        resources=location.resources,
        run_config={"ops": {step: {"config": config}}},
        raise_on_error=False,
    )

    assert "'Customer' is the name of 2 tables" in failure(run).description
    assert [] == list(stripe.client.list_jobs(hubspot.id))


def test_assets_show_what_a_run_of_their_own_would_show(location, stripe) -> None:
    """Materialization, data version and checks are those that a run has which materializes the table."""
    ops = {"sync_stripe_acme": {"config": {"sync_mode": "resync", "confirm_resync": ["stripe_acme.Customer"]}}}
    by_the_sensor = len(location.evaluations("Customer"))
    dg.materialize(
        location.assets,
        selection=[location.key("Customer")],
        instance=location.instance,
        resources=location.resources,
        run_config={"ops": ops},
    )
    asset_run = {evaluation.check_name: evaluation.passed for evaluation in location.evaluations("Customer")}
    by_the_run = len(location.evaluations("Customer")) - by_the_sensor
    assert location.resync("Customer").success

    here, there, _ = location.completed("Customer")
    assert there.metadata.keys() == here.metadata.keys()
    assert "dagster" == here.metadata["posthog/triggered_by"].value
    assert stripe.jobs("Customer")[0].id == here.tags["dagster/data_version"] == here.metadata["posthog/job_id"].value
    assert by_the_sensor + 2 * by_the_run == len(location.evaluations("Customer"))
    assert asset_run == {evaluation.check_name: evaluation.passed for evaluation in location.evaluations("Customer")}


@pytest.mark.parametrize(
    ("confirm", "told"),
    [
        ([], "This deletes 2 rows of 1 table, which the next sync imports and PostHog bills again."),
        (["*"], "No table is named '*'"),
        (BOTH, "The confirmation names stripe_acme.Charge, not among the chosen tables"),
    ],
)
def test_without_the_names_nothing_is_sent(location, everything, confirm, told) -> None:
    """The confirmation names exactly the chosen tables, without patterns."""
    before = everything()
    result = location.resync("Customer", confirm=confirm)
    assert told in failure(result).description
    assert before == everything()


@pytest.mark.parametrize("tags", WHO_IS_NO_PERSON)
def test_no_run_without_a_person_resyncs(location, everything, tags) -> None:
    """A schedule or sensor of a user's own has the confirmation in its config, and yet nobody has given it."""
    before = everything()
    result = location.resync("Customer", tags=tags)
    assert f"Refusing to delete data: this run is tagged {next(iter(tags))}" in failure(result).description
    assert before == everything()


def test_re_execution_resyncs_nothing(location, everything) -> None:
    """The confirmation was for the run that is repeated."""
    first = location.resync("Customer")
    before = everything()
    again = location.resync(
        "Customer", tags={"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id}
    )
    assert "this run is a retry or re-execution" in failure(again).description
    assert before == everything()


def test_table_without_an_asset_is_refused(location, stripe) -> None:
    """Nobody would see its end: nothing is sent for the others either."""
    stripe.add_source("Intercom", prefix="help", tables={"Ticket": [{"id": 1}]})
    result = location.resync("*", confirm=["Customer", "Charge", "Ticket"])
    assert failure(result).description.startswith("Not an asset of this code location: intercom_help.Ticket.")
    assert {"Customer": 1, "Charge": 0} == counts(stripe)


def test_failed_table_fails_the_run_and_not_the_others(location, stripe) -> None:
    """The run names it with PostHog's own error; its check is red, and the other table is materialized."""
    stripe.behave("Charge", fails("No such permission"))

    result = location.resync("*", confirm=BOTH)

    told = failure(result).description
    assert told.startswith("1 of 2 tables did not complete.\nThe sync of stripe_acme.Charge failed: ")
    assert "No such permission" in told
    assert "| stripe_acme.Charge | failed | 0 |" in shown(result)
    assert "| stripe_acme.Customer | completed | 2 |" in shown(result)
    assert [stripe.jobs("Charge")[0].id] == location.failed("Charge")
    assert stripe.jobs("Customer")[0].id == location.completed("Customer")[0].metadata["posthog/job_id"].value


def test_run_and_sensor_report_each_sync_once(location, stripe) -> None:
    """What the run has reported, the sensor leaves; what PostHog did before and after, the sensor reports."""
    stripe.behave("Charge", fails("No such permission"))
    stripe.sync("Customer")
    location.resync("*", confirm=BOTH)
    stripe.sync("Customer")
    for _ in range(3):
        location.tick()

    assert dict.fromkeys([job.id for table in ("Customer", "Charge") for job in stripe.jobs(table)], 1) == (
        location.reports()
    )


def test_sync_that_is_not_awaited_is_reported_by_the_sensor(location, stripe, wait_until) -> None:
    """With `wait: false` the run claims no success; the sensor says how it ended, and who asked for it."""
    stripe.behave("Customer", never_ends())
    result = location.resync("Customer", wait=False)
    location.tick()
    (job, _) = stripe.jobs("Customer")
    assert "| stripe_acme.Customer | submitted |" in shown(result)
    assert 0 == location.reports()[job.id]

    stripe.reset()
    wait_until(lambda: stripe.jobs("Customer")[0].status is JobStatus.COMPLETED)
    for _ in range(2):
        location.tick()
    assert 1 == location.reports()[job.id]
    assert "dagster" == location.completed("Customer")[0].metadata["posthog/triggered_by"].value
