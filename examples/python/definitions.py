"""Tables of the warehouse, their schedules and sensors, and a downstream asset: plain Python, without YAML."""

from pathlib import Path

import dagster as dg

from dw_orchestration import (
    LocalWarehouse,
    Table,
    Tables,
    WarehouseResource,
    asset_spec,
    build_job_status_sensor,
    build_posthog_assets,
    build_posthog_schedules,
    build_terminated_runs_sensor,
    load_state,
)

CUSTOMERS = dg.AssetKey(["posthog", "postgres", "shop", "customers"])
HOME = Path(__file__).parent / ".dw_orchestration"
STATE = HOME / "state_of_the_python_example.json"
# for a project on PostHog: PostHogWarehouseResource(project_id=..., api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"))
WAREHOUSE = LocalWarehouse(home=str(HOME))


def spec_of(table: Table) -> dg.AssetSpec:
    """The spec of a table: the package's own, with an owner for the tables about money."""
    spec = asset_spec(table)
    return spec.replace_attributes(owners=["team:finance"]) if table.schema.name.startswith("order") else spec


@dg.asset(deps=[CUSTOMERS], kinds={"posthog"})
def customers_by_country(posthog_warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """How many customers each country has."""
    query = "select country, count(*) as customers from {table} group by country"
    countries = {
        row["country"]: row["customers"] for row in posthog_warehouse.query(query, table=CUSTOMERS).to_pylist()
    }
    return dg.MaterializeResult(metadata={"dagster/row_count": len(countries), "countries": countries})


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions; the code server fetches the state once, and every other process reads it from its file."""
    tables = Tables(load_state(WAREHOUSE, STATE), spec_of=spec_of)
    return dg.Definitions(
        assets=[*build_posthog_assets(tables), customers_by_country],
        schedules=build_posthog_schedules(tables),
        sensors=[
            build_job_status_sensor(tables),
            build_terminated_runs_sensor(tables),
        ],
        resources={"posthog_warehouse": WAREHOUSE},
    )
