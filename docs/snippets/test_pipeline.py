import dagster as dg
import pytest

from dw_orchestration import build_posthog_definitions
from dw_orchestration.testing import EmbeddedWarehouse, billing_limit, fails, runs_for

CHARGE = dg.AssetKey(["posthog", "stripe", "charge"])


# region pipeline
@dg.asset(deps=[CHARGE], automation_condition=dg.AutomationCondition.eager())
def revenue(posthog_warehouse: dg.ResourceParam[object]) -> int:
    query = "select sum(amount) as total from {table}"
    return int(posthog_warehouse.query(query, table=CHARGE)["total"][0].as_py())


@pytest.fixture
def warehouse(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1, "amount": 5}, {"id": 2, "amount": 7}]})
    return embedded_warehouse


def materialize(warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance | None = None, **config: object):
    defs = build_posthog_definitions(warehouse.resource, state=warehouse.snapshot())
    return dg.materialize(
        [*defs.assets, revenue],
        resources=defs.resources,
        instance=instance,
        run_config={"ops": {"sync_stripe": {"config": config}}},
        raise_on_error=False,
    )


# endregion
