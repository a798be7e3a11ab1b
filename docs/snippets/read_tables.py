"""Read synced tables, with the same code from PostHog and from the embedded warehouse."""

import dagster as dg

from dw_orchestration import LocalWarehouse, WarehouseResource

CHARGE = dg.AssetKey(["posthog", "stripe", "acme", "charge"])


@dg.asset(deps=[CHARGE])
def revenue(posthog_warehouse: WarehouseResource) -> float:
    """The sum of all charges above a limit."""
    found = posthog_warehouse.query(
        "select sum(amount) as total from {table} where amount >= {least}", table=CHARGE, values={"least": 1}
    )
    return float(found["total"][0].as_py())


@dg.asset(deps=[CHARGE])
def charges(posthog_warehouse: WarehouseResource) -> int:
    """Every charge, in Arrow tables of at most 50,000 rows."""
    count = 0
    for batch in posthog_warehouse.in_batches("select id, amount from {table}", table=CHARGE, key="id"):
        count += batch.num_rows  # write the batch to where you need it
    return count


defs = dg.Definitions(
    assets=[revenue, charges], resources={"posthog_warehouse": LocalWarehouse(home=".dw_orchestration")}
)
