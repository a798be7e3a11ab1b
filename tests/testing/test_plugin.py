"""The pytest plugin, as a user's tests see it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from pathlib import Path

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse, Row

CUSTOMERS = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]


def test_a_new_table_is_on_and_has_no_jobs(embedded_warehouse: EmbeddedWarehouse) -> None:
    """Adding a source starts nothing, so that a test counts the syncs that it has caused."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": CUSTOMERS})
    schema = embedded_warehouse.schema("Customer")
    assert (True, None, None) == (schema.should_sync, schema.status, schema.table)
    assert [] == embedded_warehouse.jobs("Customer")
    assert [] == embedded_warehouse.rows("Customer")


def test_rows_arrive_with_their_types(embedded_warehouse: EmbeddedWarehouse) -> None:
    """A sync imports the source's rows into the DuckDB file, times and numbers as such."""
    rows: list[Row] = [{"id": 1, "at": datetime(2026, 11, 3, 12, tzinfo=UTC), "price": 1.5, "note": None}]
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": rows})
    job = embedded_warehouse.sync("Charge")
    assert "Completed" == job.status
    assert rows == embedded_warehouse.rows("Charge")


def test_the_next_sync_brings_the_sources_new_rows(embedded_warehouse: EmbeddedWarehouse) -> None:
    """An incremental table's second sync reads what the source has got since."""
    embedded_warehouse.add_source(
        "Stripe",
        tables={"Customer": CUSTOMERS},
        sync_type="incremental",
        incremental_field="id",
        incremental_field_type="integer",
        primary_key_columns=["id"],
    )
    embedded_warehouse.sync("Customer")
    everyone = [*CUSTOMERS, {"id": 3, "name": "Edsger"}]
    embedded_warehouse.set_rows("Customer", everyone)
    embedded_warehouse.sync("Customer")
    assert everyone == embedded_warehouse.rows("Customer")


def test_a_table_can_be_off(embedded_warehouse: EmbeddedWarehouse) -> None:
    """Tables that are named as off are there, and not synced."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": CUSTOMERS, "Refund": [{"id": 1}]}, off=["Refund"])
    assert {"Customer": True, "Refund": False} == {
        schema.name: schema.should_sync for schema in embedded_warehouse.snapshot().schemas
    }


def test_the_resource_serves_a_pipeline(embedded_warehouse: EmbeddedWarehouse) -> None:
    """Assets built from the snapshot sync by way of the resource."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": CUSTOMERS})
    result = dg.materialize(
        build_posthog_assets(Tables(embedded_warehouse.snapshot(), include_disabled=True)),
        resources={"posthog_warehouse": embedded_warehouse.resource},
    )
    assert result.success
    assert CUSTOMERS == embedded_warehouse.rows("Customer")
    assert 1 == len(embedded_warehouse.jobs("Customer"))


def test_no_test_sees_another_ones_tables(embedded_warehouse: EmbeddedWarehouse) -> None:
    """What a test has added is gone when the next one begins, its files too."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": CUSTOMERS})
    embedded_warehouse.sync("Customer")
    # as the code may do that a test is about
    embedded_warehouse.client.create_source("Stripe", {"schemas": []}, prefix="eu")
    embedded_warehouse.clear()
    assert () == embedded_warehouse.snapshot().sources
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 7}]})
    assert [] == embedded_warehouse.rows("Customer")


def test_two_sources_of_a_type_have_tables_of_different_names(embedded_warehouse: EmbeddedWarehouse) -> None:
    """Sources of one type share a folder of files, so that a name is refused rather than overwritten."""
    embedded_warehouse.add_source("Stripe", prefix="a", tables={"Customer": CUSTOMERS})
    with pytest.raises(ValueError, match="choose another name"):
        embedded_warehouse.add_source("Stripe", prefix="b", tables={"Customer": [{"id": 1}]})
    embedded_warehouse.add_source("Stripe", prefix="b", tables={"Refund": [{"id": 1}]})
    assert [2, 1] == [embedded_warehouse.sync(table).rows_synced for table in ("Customer", "Refund")]


def test_a_table_without_rows_is_refused(embedded_warehouse: EmbeddedWarehouse) -> None:
    """Without a row the columns are unknown; the message explains what to pass."""
    with pytest.raises(ValueError, match="'Customer' has no rows"):
        embedded_warehouse.add_source("Stripe", tables={"Customer": []})


@pytest.mark.parametrize("table", ["Customer", "Missing"])
def test_an_unknown_table_is_an_error(embedded_warehouse: EmbeddedWarehouse, table: str) -> None:
    """A slip in a table's name fails the test at once, with the name."""
    with pytest.raises(KeyError, match=table):
        embedded_warehouse.jobs(table)


def test_the_plugin_is_light(tmp_path: Path) -> None:
    """Every run of pytest loads the plugin, so it imports neither Dagster nor the rest of the package."""
    heavy = "{'dagster', 'duckdb', 'httpx', 'pydantic', 'pyarrow'}"
    code = f"import sys, dw_orchestration.testing.plugin; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "[]" == ran.stdout.strip()
