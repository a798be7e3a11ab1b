"""An asset downstream of two synced tables."""

import dagster as dg
import duckdb

WAREHOUSE = ".dw_orchestration/warehouse.duckdb"
QUERY = """
    select customers.country, count(*) as orders, sum(orders.total) as revenue
    from postgres_shop.orders
    join postgres_shop.customers on customers.id = orders.customer_id
    group by customers.country
    order by revenue desc
"""


@dg.asset(
    deps=[["posthog", "postgres", "shop", "orders"], ["posthog", "postgres", "shop", "customers"]],
    automation_condition=dg.AutomationCondition.eager(),
    kinds={"duckdb"},
)
def orders_by_country() -> dg.MaterializeResult[None]:
    """Orders and revenue of each country; made again whenever its tables were synced, by PostHog or by a run."""
    with duckdb.connect(WAREHOUSE, read_only=True) as connection:
        rows = connection.execute(QUERY).fetchall()
    lines = [f"| {country} | {orders} | {revenue} |" for country, orders, revenue in rows]
    table = "\n".join(["| country | orders | revenue |", "| --- | --- | --- |", *lines])
    return dg.MaterializeResult(metadata={"dagster/row_count": len(rows), "countries": dg.MetadataValue.md(table)})
