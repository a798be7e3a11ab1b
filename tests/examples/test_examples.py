"""Each example loads and runs unchanged, on a real warehouse, in a separate process."""

from __future__ import annotations

import duckdb

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
