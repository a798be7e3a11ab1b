"""Read synced tables. The file belongs to the embedded warehouse, so it is opened read-only."""

import dagster as dg
from dagster_duckdb import DuckDBResource

WAREHOUSE = DuckDBResource(
    database=".dw_orchestration/warehouse.duckdb", connection_config={"access_mode": "READ_ONLY"}
)


@dg.asset(deps=[["posthog", "stripe", "acme", "charge"]])
def revenue(warehouse: DuckDBResource) -> float:
    """The sum of all charges."""
    with warehouse.get_connection() as connection:
        ((total,),) = connection.execute("select sum(amount) from stripe_acme.charge").fetchall()
    return float(total)


defs = dg.Definitions(assets=[revenue], resources={"warehouse": WAREHOUSE})
