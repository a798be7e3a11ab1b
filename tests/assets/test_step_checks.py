"""What a run leaves of its tables' checks: each has an outcome with its reason, in few rows of the event log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from warehouse import failure_of, log_of

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.checks import check_keys
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.step import Execute, sync_tables
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.testing import billing_limit, fails, runs_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dw_orchestration.resources.warehouse import WarehouseResource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

CHARGE = dg.AssetKey(["posthog", "stripe", "acme", "charge"])
REFUND = dg.AssetKey(["posthog", "stripe", "acme", "refund"])
# the rows of the event log that a table has in a run
OF_A_TABLE = {
    "ASSET_MATERIALIZATION_PLANNED": 1,
    "ASSET_CHECK_EVALUATION_PLANNED": 2,
    "ASSET_OBSERVATION": 1,
    "STEP_OUTPUT": 1,
    "ASSET_MATERIALIZATION": 1,
    "ASSET_CHECK_EVALUATION": 2,
}


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with two tables."""
    rows = [{"id": number} for number in range(10)]
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": rows, "Refund": rows})
    return embedded_warehouse


def run(
    stripe: EmbeddedWarehouse,
    instance: dg.DagsterInstance,
    *keys: dg.AssetKey,
    selected: Sequence[dg.AssetCheckKey] | None = None,
    tables: Tables | None = None,
    resource: WarehouseResource | None = None,
    execute: Execute = sync_tables,
) -> dg.ExecuteInProcessResult:
    """Materialize tables, with all of their checks or with the selected ones."""
    selection = dg.AssetSelection.assets(*keys)
    if selected is not None:
        selection = selection.without_checks() | dg.AssetSelection.checks(*selected)
    defs = dg.Definitions(
        assets=build_posthog_assets(tables or Tables(stripe.snapshot(), include_disabled=True), execute=execute),
        jobs=[dg.define_asset_job("sync", selection=selection)],
        resources={DEFAULT_RESOURCE_KEY: resource or stripe.resource},
    )
    config = {"ops": {"sync_stripe_acme": {"config": {"poll_min_s": 0.2}}}}
    return defs.resolve_job_def("sync").execute_in_process(run_config=config, raise_on_error=False, instance=instance)


def rows_of(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> Counter[str]:
    """How many rows of each kind a run has left of its tables."""
    events = [record.dagster_event for record in instance.all_logs(result.run_id)]
    return Counter(event.event_type_value for event in events if event and event.event_type_value in OF_A_TABLE)


def shown(instance: dg.DagsterInstance, key: dg.AssetKey = CHARGE) -> dict[str, tuple[bool, str]]:
    """What the UI shows of a table's checks: whether each passed, and its text; "execution failed" has neither."""
    storage = instance.event_log_storage
    newest = storage.get_latest_asset_check_execution_by_key([*check_keys(key)])
    evaluations = [newest[check].evaluation for check in check_keys(key)]
    return {
        each.check_name: (each.passed, each.description or "")
        for each in evaluations
        if isinstance(each, dg.AssetCheckEvaluation)
    }


def test_a_table_leaves_at_most_eight_rows_in_a_run(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """Rows of the event log are what a run of many tables costs Dagster; a check has one as planned, and one more."""
    result = run(stripe, instance, CHARGE)
    assert result.success
    assert OF_A_TABLE == rows_of(instance, result)
    # Dagster would list the outputs of all checks, which are not yielded, in a line as long as the log
    assert "expected outputs" not in log_of(result, instance)


def test_a_failed_table_leaves_no_more_rows(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """A failure costs no more than a success."""
    stripe.behave("Charge", fails("Stripe is down"))
    result = run(stripe, instance, CHARGE)
    assert not result.success
    assert 8 >= rows_of(instance, result).total()


def test_the_reason_is_where_people_look(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """The failed table's newest event has the reason, and names are those that people type, not ids."""
    stripe.behave("Charge", fails("Stripe is down"))
    result = run(stripe, instance, CHARGE)
    (record,) = instance.fetch_observations(CHARGE, limit=1).records
    assert record.asset_observation is not None
    failed, *_ = failure_of(result).splitlines()[1:]
    assert failed == record.asset_observation.description == record.asset_observation.metadata["posthog/error"].value
    assert failed.startswith("The sync of stripe_acme.Charge failed: Stripe is down.")
    assert stripe.schema("Charge").id not in failed
    assert [] == [job for job in stripe.jobs("Charge") if job.id in failed]


def test_a_check_shows_the_materialization_that_it_judges(
    stripe: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """The UI shows an outcome with its sync, as it does with those that Dagster records itself."""
    result = run(stripe, instance, CHARGE, REFUND)
    newest = {key: instance.fetch_materializations(key, limit=1).records[0].storage_id for key in (CHARGE, REFUND)}
    judged = [
        (each.asset_key, each.target_materialization_data and each.target_materialization_data.storage_id)
        for each in result.get_asset_check_evaluations()
    ]
    assert Counter(2 * list(newest.items())) == Counter(judged)


def test_a_table_is_evaluated_while_others_are_synced(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """The checks of a thousand tables take a minute, which the step spends while it waits anyway."""
    stripe.behave("Refund", runs_for(3))
    result = run(stripe, instance, CHARGE, REFUND)
    (refund,) = instance.fetch_materializations(REFUND, limit=1).records
    evaluated = [
        record.timestamp
        for record in instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if record.dagster_event and record.dagster_event.asset_check_evaluation_data.asset_key == CHARGE
    ]
    assert [True, True] == [at < refund.timestamp for at in evaluated]


def test_a_failed_sync_is_red_once(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """`sync_succeeded` has PostHog's reason; the other check has nothing new to judge, and is as it was."""
    run(stripe, instance, CHARGE)
    stripe.set_rows("Charge", [{"id": 1}])
    run(stripe, instance, CHARGE)
    warned = shown(instance)["data_as_usual"]
    stripe.behave("Charge", fails("Stripe is down"))
    for _ in range(2):
        run(stripe, instance, CHARGE, REFUND)
        assert {
            "sync_succeeded": (False, "stripe_acme.Charge: Failed. Stripe is down"),
            "data_as_usual": (False, f"No new sync. {warned[1]}"),
        } == shown(instance)
        assert [True, True] == [passed for passed, _ in shown(instance, REFUND).values()]


def test_a_table_that_was_never_synced_warns_of_nothing(
    stripe: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """There are no rows to be unusual."""
    stripe.behave("Charge", fails("Stripe is down"))
    run(stripe, instance, CHARGE)
    passed, text = shown(instance)["data_as_usual"]
    assert passed
    assert text.startswith("No new sync. ")


def test_a_table_that_is_refused_has_the_reason(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """Without a job there is no job's error, and the check has that of the run; the next good sync turns it."""
    schema = stripe.schema("Charge")
    tables = Tables(stripe.snapshot(), include_disabled=True)
    stripe.client.update_schema(schema.id, SchemaUpdate(should_sync=False))
    run(stripe, instance, CHARGE, REFUND, tables=tables)
    passed, text = shown(instance)["sync_succeeded"]
    assert not passed
    assert text.startswith("stripe_acme.Charge cannot be synced from here: the table is disabled in PostHog")
    stripe.client.update_schema(schema.id, SchemaUpdate(should_sync=True))
    run(stripe, instance, CHARGE)
    assert [True, True] == [passed for passed, _ in shown(instance).values()]


def test_a_failure_of_the_run_fails_no_table(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """A key that PostHog does not accept is one failure, which the run is red for: the tables are as they were."""
    run(stripe, instance, CHARGE, REFUND)
    endpoint = stripe.resource.ensure_running()
    wrong = PostHogWarehouseResource(
        host=endpoint["host"], project_id=endpoint["project_id"], api_key="phx_no_such_key"
    )
    result = run(stripe, instance, CHARGE, REFUND, resource=wrong)
    assert not result.success
    for key in (CHARGE, REFUND):
        assert {"sync_succeeded", "data_as_usual"} == set(shown(instance, key))
        assert all(passed and text.startswith("No new sync. ") for passed, text in shown(instance, key).values())
    evaluation = EventLog(instance).last_evaluation(check_keys(CHARGE)[0])
    assert evaluation is not None
    assert "PostHog does not accept the API key" in str(evaluation.metadata["posthog/no_new_sync"].value)
    # what repeats a report is not another one
    assert "posthog/job_id" not in evaluation.metadata


def test_a_billing_limit_fails_the_table_that_met_it(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """The tables that were not triggered because of it have no new sync."""
    run(stripe, instance, CHARGE, REFUND)
    stripe.behave("Charge", billing_limit())
    stripe.behave("Refund", billing_limit())
    run(stripe, instance, CHARGE, REFUND)
    billed = [key for key, table in ((CHARGE, "Charge"), (REFUND, "Refund")) if 1 < len(stripe.jobs(table))]
    assert {key: key not in billed for key in (CHARGE, REFUND)} == {
        key: shown(instance, key)["sync_succeeded"][0] for key in (CHARGE, REFUND)
    }


@pytest.mark.parametrize("selected", [[], check_keys(CHARGE)[1:]])
def test_checks_are_evaluated_though_they_are_not_selected(
    stripe: EmbeddedWarehouse, instance: dg.DagsterInstance, selected: list[dg.AssetCheckKey]
) -> None:
    """A re-execution from the failure selects no check that has an evaluation, and its good sync turns them green."""
    stripe.behave("Charge", fails("Stripe is down", times=1))
    run(stripe, instance, CHARGE)
    assert run(stripe, instance, CHARGE, selected=selected).success
    assert [True, True] == [passed for passed, _ in shown(instance).values()]


def test_a_retry_evaluates_what_its_first_try_did_not(stripe: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
    """A try that dies after a result leaves the checks to the next one; a try that has evaluated them does not."""
    evaluated = []

    def dies_once(context: dg.AssetExecutionContext, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for result in sync_tables(context, *args, **kwargs):
            yield result
            if context.retry_number == 0:
                raise dg.RetryRequested(max_retries=2)
        evaluated.append(shown(instance))
        if context.retry_number == 1:
            raise dg.RetryRequested(max_retries=2)

    result = run(stripe, instance, CHARGE, execute=dies_once)
    assert result.success
    assert [True, True] == [passed for passed, _ in evaluated[0].values()]
    rows = rows_of(instance, result)
    assert (1, 2) == (rows["ASSET_MATERIALIZATION"], rows["ASSET_CHECK_EVALUATION"])
