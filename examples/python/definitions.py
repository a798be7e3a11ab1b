"""Tables of the warehouse, their schedules and sensors, and a downstream asset: plain Python, without YAML."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from dw_orchestration import (
    LocalWarehouse,
    PostHogTranslator,
    Table,
    WarehouseResource,
    asset_key_for,
    build_posthog_definitions,
    posthog_assets,
)

# for a project on PostHog: PostHogWarehouseResource(project_id=..., api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"))
WAREHOUSE = LocalWarehouse(home=str(Path(__file__).parent / ".dw_orchestration"))


class Owners(PostHogTranslator):
    """The package's own specs, with an owner for the tables about money."""

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset."""
        spec = super().get_asset_spec(table)
        return spec.replace_attributes(owners=["team:finance"]) if table.schema.name.startswith("order") else spec


OWNERS = Owners()


@posthog_assets(WAREHOUSE, select=["shop.order*"], translator=OWNERS)
def orders(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
    """The tables about orders, which are announced before and counted after their syncs."""
    context.log.info("The orders are synced now.")
    yield from posthog_warehouse.sync(context)
    found = posthog_warehouse.query("select count(*) as orders from {table}", table="shop.orders")
    context.log.info(f"There are {found['orders'][0]} orders.")


@dg.asset(deps=[asset_key_for("shop.customers", WAREHOUSE)], kinds={"posthog"})
def customers_by_country(posthog_warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """How many customers each country has."""
    query = "select country, count(*) as customers from {table} group by country"
    rows = posthog_warehouse.query(query, table="shop.customers").to_pylist()
    countries = {row["country"]: row["customers"] for row in rows}
    return dg.MaterializeResult(metadata={"dagster/row_count": len(countries), "countries": countries})


@dg.definitions
def defs() -> dg.Definitions:
    """Everything: each load of the code server fetches the state, which all other processes read from its file."""
    return build_posthog_definitions(WAREHOUSE, translator=OWNERS, assets=[orders, customers_by_country])
