"""What a downstream asset looks like: the embedded shop's revenue by day, from tables that were just synced."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from dw_orchestration.resources.warehouse import WarehouseResource

ORDERS = dg.AssetKey(["posthog", "postgres", "shop", "orders"])
CUSTOMERS = dg.AssetKey(["posthog", "postgres", "shop", "customers"])

_REVENUE_BY_DAY = """
    select
        toDate(orders.placed_at) as day,
        count(*) as orders,
        count(distinct customers.country) as countries,
        sum(orders.total) as revenue
    from {orders} as orders
    join {customers} as customers on customers.id = orders.customer_id
    where orders.status <> 'cancelled'
    group by day
    order by day desc
"""


@dg.asset(
    deps=[ORDERS, CUSTOMERS],
    group_name="reports",
    kinds={"duckdb"},
    automation_condition=dg.AutomationCondition.eager(),
)
def revenue_by_day(
    context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource, reports: DuckDBResource
) -> dg.MaterializeResult[None]:
    """Revenue of the embedded shop by day, without cancelled orders."""
    days = posthog_warehouse.query(_REVENUE_BY_DAY, tables={"orders": ORDERS, "customers": CUSTOMERS})
    rows = [tuple(day.values()) for day in days.to_pylist()]
    with reports.get_connection() as connection:
        connection.execute(
            "create or replace table revenue_by_day (day date, orders bigint, countries bigint, revenue decimal(14, 2))"
        )
        connection.executemany("insert into revenue_by_day values (?, ?, ?, ?)", rows)
    context.log.info(f"{len(rows)} days")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "revenue": float(sum(row[3] for row in rows)),
            "last days": dg.MetadataValue.md(_as_table(rows[:7])),
        }
    )


def _as_table(rows: list[tuple[object, ...]]) -> str:
    lines = ["| day | orders | countries | revenue |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {day} | {orders} | {countries} | {revenue} |" for day, orders, countries, revenue in rows]
    return "\n".join(lines)
