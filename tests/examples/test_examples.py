"""Each example loads and runs unchanged, on a real warehouse, in a separate process."""

from __future__ import annotations

import runpy
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from dw_orchestration import PostHogWarehouseResource

ROOT = Path(__file__).parents[2]
ORDERS, CUSTOMERS = "posthog/postgres/shop/orders", "posthog/postgres/shop/customers"
TABLES = {ORDERS, CUSTOMERS, *(f"posthog/postgres/shop/{name}" for name in ("order_lines", "page_events", "products"))}


def test_component(examples) -> None:
    """A `dg` project with one component syncs every table, then makes the asset downstream of two of them."""
    examples.run("component", "dg", "utils", "refresh-defs-state")

    assets = examples.materialize("component", "shop_project.definitions")

    assert TABLES | {"orders_by_country"} == assets.keys()
    assert [CUSTOMERS, ORDERS] == assets["orders_by_country"]["upstream"]
    assert assets["orders_by_country"]["rows"] > 1


def test_python(examples) -> None:
    """Definitions without YAML do the same."""
    assets = examples.materialize("python", "definitions")

    assert TABLES | {"customers_by_country"} == assets.keys()
    assert [CUSTOMERS] == assets["customers_by_country"]["upstream"]
    assert assets["customers_by_country"]["rows"] > 1


@pytest.mark.thorough
def test_dbt(examples) -> None:
    """A dbt model has the synced tables upstream by the keys in `sources.yml`, and is built of their rows."""
    examples.run("dbt/transform", "dbt", "parse")

    assets = examples.materialize("dbt", "definitions")

    assert TABLES | {"revenue_by_country"} == assets.keys()
    assert [CUSTOMERS, ORDERS] == assets["revenue_by_country"]["upstream"]
    with duckdb.connect(str(examples.folder / "home" / "reports_of_dbt.duckdb"), read_only=True) as built:
        ((countries, orders),) = built.execute("select count(*), sum(orders) from revenue_by_country").fetchall()
    assert countries > 1
    assert assets[ORDERS]["rows"] / 2 < orders < assets[ORDERS]["rows"]


def test_the_tutorials_asset_reads_a_posthog_project(server) -> None:
    """The asset of part 3 runs unchanged after part 4 has replaced the warehouse: with PostHog's names and types."""
    tables = [
        {"id": f"{number:032}", "name": name, "should_sync": True, "status": "Completed", "sync_type": "incremental"}
        | {"table": {"id": f"t{number}", "name": f"postgres.shop.{name}", "row_count": 1}}
        for number, name in enumerate(("orders", "customers"))
    ]
    source = {"id": "s", "source_type": "Postgres", "prefix": "shop", "status": "Completed", "schemas": tables}
    found = {
        "results": [["DE", 2, "30.50"], ["it's", 1, "0.10"]],
        "columns": ["country", "orders", "revenue"],
        "types": [["country", "Nullable(String)"], ["orders", "UInt64"], ["revenue", "Nullable(Decimal(38, 2))"]],
        "hasMore": False,
    }
    server.answer({"count": 1, "next": None, "previous": None, "results": [source]}).answer(found)
    path = ROOT / "examples/component/src/shop_project/defs/orders_by_country.py"
    asset = runpy.run_path(str(path))["orders_by_country"]
    project = PostHogWarehouseResource(
        host=server.url, project_id="1", api_key="phx_of_the_test", requests_per_minute=0
    )

    run = dg.materialize([asset], resources={"posthog_warehouse": project})

    (event,) = run.asset_materializations_for_node("orders_by_country")
    assert "| it's | 1 | 0.10 |" in str(event.metadata["countries"].value)
    query = server.last.body["query"]["query"]
    assert 'from "postgres"."shop"."orders" as orders' in query
    assert 'join "postgres"."shop"."customers" as customers' in query
