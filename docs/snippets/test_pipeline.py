"""Tests of a pipeline: an asset of our own downstream of a table that PostHog syncs."""

# region pipeline
import dagster as dg
import pytest

from dw_orchestration import PostHogSyncConfig, WarehouseResource, build_posthog_definitions
from dw_orchestration.testing import EmbeddedWarehouse, billing_limit, fails, runs_for

CHARGE = dg.AssetKey(["posthog", "stripe", "charge"])


@dg.asset(deps=[CHARGE], automation_condition=dg.AutomationCondition.eager())
def revenue(posthog_warehouse: WarehouseResource) -> int:
    charges = posthog_warehouse.query("select amount from {table}", table=CHARGE)
    return sum(charges["amount"].to_pylist())


@pytest.fixture
def warehouse(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1, "amount": 5}, {"id": 2, "amount": 7}]})
    return embedded_warehouse


def definitions(warehouse: EmbeddedWarehouse) -> dg.Definitions:
    at_once = PostHogSyncConfig(poll_min_s=0.1)
    return build_posthog_definitions(warehouse.resource, state=warehouse.snapshot(), assets=[revenue], sync=at_once)


def materialize(warehouse: EmbeddedWarehouse, **config: object) -> dg.ExecuteInProcessResult:
    defs = definitions(warehouse)
    return dg.materialize(
        [each for each in defs.assets or () if isinstance(each, dg.AssetsDefinition | dg.AssetSpec)],
        resources=defs.resources,
        run_config={"ops": {"sync_stripe": {"config": config}}},
        raise_on_error=False,
    )


# endregion


# region good
def test_revenue_is_made_of_what_was_synced(warehouse: EmbeddedWarehouse) -> None:
    run = materialize(warehouse)

    assert 12 == run.output_for_node("revenue")


# endregion


# region failing
def test_revenue_is_not_made_after_a_failed_sync(warehouse: EmbeddedWarehouse) -> None:
    warehouse.behave("Charge", fails("the key was revoked", times=1))

    run = materialize(warehouse)

    assert not run.success
    assert "the key was revoked" in str(run.failure_data_for_node("sync_stripe"))
    assert [] == run.asset_materializations_for_node("revenue")
    assert materialize(warehouse).success


# endregion


# region slow
def test_a_slow_sync_is_given_up_and_continues_in_posthog(warehouse: EmbeddedWarehouse) -> None:
    warehouse.behave("Charge", runs_for(60))

    run = materialize(warehouse, total_timeout_s=1)

    assert not run.success
    assert "total_timeout_s" in str(run.failure_data_for_node("sync_stripe"))
    assert ["Running"] == [job.status for job in warehouse.jobs("Charge")]


# endregion


# region billing
def test_a_billing_limit_fails_the_run(warehouse: EmbeddedWarehouse) -> None:
    warehouse.behave("Charge", billing_limit())

    run = materialize(warehouse)

    assert "Raise the limit in PostHog" in str(run.failure_data_for_node("sync_stripe"))
    assert ["Billing limits"] == [job.status for job in warehouse.jobs("Charge")]


# endregion


# region automation
def test_revenue_is_requested_when_its_table_is_synced(warehouse: EmbeddedWarehouse) -> None:
    defs, reports = definitions(warehouse), dg.AssetSelection.assets(revenue)
    with dg.DagsterInstance.ephemeral() as instance:
        before = dg.evaluate_automation_conditions(defs, instance, asset_selection=reports)
        defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, asset_selection=[CHARGE])
        after = dg.evaluate_automation_conditions(defs, instance, asset_selection=reports, cursor=before.cursor)

    assert (0, 1) == (before.get_num_requested(revenue.key), after.get_num_requested(revenue.key))


# endregion
