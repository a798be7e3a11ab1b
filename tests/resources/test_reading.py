"""What an asset reads of synced tables, through a resource and the embedded warehouse's real server."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dw_orchestration import WarehouseResource, errors
from dw_orchestration.assets import asset_spec
from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.posthog.query_text import filled
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.resources.local import LocalWarehouse

CHARGE = dg.AssetKey(["posthog", "stripe", "acme", "charge"])
ROWS = [{"id": n, "name": f"O'Brien {n}", "day": n % 3} for n in range(10)]


@pytest.fixture(scope="module")
def stripe(embedded_warehouse_process: LocalWarehouse) -> Iterator[EmbeddedWarehouse]:
    """The warehouse with a synced table that no test changes, and one that was never synced."""
    with EmbeddedWarehouse(embedded_warehouse_process) as warehouse:
        warehouse.add_source("Stripe", prefix="acme", tables={"Charge": ROWS, "Refund": ROWS})
        warehouse.sync("Charge")
        yield warehouse


@pytest.fixture(scope="module")
def resource(stripe: EmbeddedWarehouse) -> LocalWarehouse:
    """Its resource."""
    return stripe.resource


@pytest.mark.parametrize("table", [CHARGE, CHARGE.path, CHARGE.to_user_string(), "Charge", "stripe_acme.charge"])
def test_a_table_is_named_in_any_way(resource: WarehouseResource, table: Any) -> None:
    """By its asset key, or by any of the names that users type for it."""
    found = resource.query("select * from {table} where name = {name}", table=table, values={"name": "O'Brien 7"})
    assert [ROWS[7]] == found.to_pylist()


def test_several_tables_in_one_query(resource: WarehouseResource) -> None:
    """Each has its own placeholder."""
    query = "select count(*) as n from {a} as a join {b} as b on a.id = b.id"
    assert [{"n": 10}] == resource.query(query, tables={"a": CHARGE, "b": "Charge"}).to_pylist()


@pytest.mark.parametrize(
    ("table", "error", "text"),
    [
        ("Refund", errors.UsageError, "stripe_acme.Refund has no rows yet: sync it first"),
        ("Nothing", errors.UnknownNameError, "No table is named 'Nothing'"),
    ],
)
def test_a_table_that_cannot_be_read(
    resource: WarehouseResource, table: str, error: type[Exception], text: str
) -> None:
    """The error names it as users do, before a query is sent."""
    with pytest.raises(error, match=text):
        resource.query("select * from {table}", table=table)


def test_a_translated_key_names_its_table(stripe: EmbeddedWarehouse) -> None:
    """In a run, the keys are those of the code location, also where they are another table's default ones."""

    def spec_of(table: Any) -> dg.AssetSpec:
        return asset_spec(table).replace_attributes(key=["bills", table.schema.name])

    @dg.asset(deps=[["bills", "Charge"]])
    def count(posthog_warehouse: WarehouseResource) -> int:
        found = posthog_warehouse.query("select count(*) as n from {table}", table=["bills", "Charge"])
        return int(found["n"][0].as_py())

    tables = Tables(stripe.snapshot(), spec_of=spec_of)
    defs = dg.Definitions(
        assets=[*build_posthog_assets(tables), count], resources={"posthog_warehouse": stripe.resource}
    )
    run = defs.resolve_implicit_global_asset_job_def().execute_in_process(asset_selection=[count.key])
    assert 10 == run.output_for_node("count")


def test_a_cut_is_an_error_unless_asked_for(resource: WarehouseResource) -> None:
    """More than 50,000 rows are refused, 50,000 are not, and a LIMIT asks for a part."""
    with pytest.raises(errors.TooManyRowsError, match="more than 50,000 rows"):
        resource.query("select * from range(50001)")
    assert 50_000 == resource.query("select * from range(50000)").num_rows
    assert 50_000 == resource.query("select * from range(50001) limit 50000").num_rows


@pytest.mark.parametrize("key", ["id", "name", "day"])
def test_batches_have_each_row_once(resource: WarehouseResource, key: str) -> None:
    """Read by a number or a text, unique or not, no row is missing or doubled."""
    batches = list(resource.in_batches("select * from {table}", table=CHARGE, key=key, rows=6))
    assert len(batches) > 1
    assert ROWS == sorted(pa.concat_tables(batches).to_pylist(), key=lambda row: row["id"])


def test_data_frames_of_pandas_and_polars(resource: WarehouseResource) -> None:
    """The same rows as a data frame of either, one by one or in batches."""
    pandas = resource.query("select * from {table} order by id", table=CHARGE, to="pandas")
    (polars,) = resource.in_batches("select * from {table}", table=CHARGE, key="id", to="polars")
    assert ROWS == pandas.to_dict("records") == polars.to_dicts()


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars"])
def test_a_missing_package_is_named(resource: WarehouseResource, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Before the query is sent, with how to install it."""
    name = {"arrow": "pyarrow"}.get(kind, kind)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(errors.SetupError, match=rf"{kind} need the package {name}: pip install"):
        resource.query("select 1", to=kind)


VALUES = {
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    "integer": st.integers(-(2**63), 2**64 - 1),
    "boolean": st.booleans(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "date": st.dates(dt.date(1970, 1, 1), dt.date(2149, 6, 6)),
    "time": st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2299, 12, 31), timezones=st.just(dt.UTC)),  # noqa: DTZ001
    "decimal": st.decimals(-(10**12), 10**12, places=4),
    "uuid": st.uuids().map(str),
}


@settings(max_examples=12)
@given(row=st.fixed_dictionaries({name: st.lists(values | st.none(), max_size=3) for name, values in VALUES.items()}))
def test_each_value_comes_back_equal(resource: WarehouseResource, row: dict[str, list[Any]]) -> None:
    """A value of any supported type goes through a placeholder and comes back equal, alone and in a list."""
    alone = {f"{name}_{n}": value for name, values in row.items() for n, value in enumerate(values)}
    sent = alone | {name: [value for value in values if value is not None] for name, values in row.items()}
    shown = ", ".join(f'{{{name}}} as "{name}"' for name in sent)
    (found,) = resource.query(f"select {shown}", values=sent).to_pylist()
    assert sent == found
    assert all(type(value) in (type(found[name]), type(None)) for name, value in sent.items())


def test_no_value_becomes_text() -> None:
    """The text of a query is the same for every value of a type."""
    texts = {filled("select {a}", tables={}, values={"a": value})[0] for value in ("x", "' or 1=1 --", 5, None, [1])}
    assert {"select {a}"} == texts
    typed = {filled("select {a}", tables={}, values={"a": Decimal(value)})[0] for value in ("1.5", "-9.9")}
    assert {"select toDecimal({a}, 1)"} == typed
