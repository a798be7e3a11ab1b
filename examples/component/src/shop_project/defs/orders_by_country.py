"""An asset downstream of two synced tables, which it reads in the same way from any warehouse."""

import dagster as dg

from dw_orchestration import WarehouseResource

ORDERS = dg.AssetKey(["posthog", "postgres", "shop", "orders"])
CUSTOMERS = dg.AssetKey(["posthog", "postgres", "shop", "customers"])
QUERY = """
    select customers.country as country, count(*) as orders, sum(orders.total) as revenue
    from {orders} as orders
    join {customers} as customers on customers.id = orders.customer_id
    group by customers.country
    order by revenue desc
"""


@dg.asset(
    deps=[ORDERS, CUSTOMERS],
    automation_condition=dg.AutomationCondition.eager(),
    kinds={"posthog"},
)
def orders_by_country(posthog_warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """Orders and revenue of each country; made again whenever its tables were synced, by PostHog or by a run."""
    rows = posthog_warehouse.query(QUERY, tables={"orders": ORDERS, "customers": CUSTOMERS}).to_pylist()
    lines = [f"| {row['country']} | {row['orders']} | {row['revenue']} |" for row in rows]
    table = "\n".join(["| country | orders | revenue |", "| --- | --- | --- |", *lines])
    return dg.MaterializeResult(metadata={"dagster/row_count": len(rows), "countries": dg.MetadataValue.md(table)})
