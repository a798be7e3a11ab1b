"""Sources that are served from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from dw_orchestration.local.syncing import CursorColumn, OfferedTable, SourceError, connector_for
from dw_orchestration.local.syncing.models import OfferedColumn

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Lab

MERGE = {
    "sync_type": "incremental",
    "incremental_field": "at",
    "incremental_field_type": "timestamp",
    "primary_keys": ("id",),
}
CUSTOMERS = """
select * from (values
    (1, timestamptz '2024-01-01 00:00:00Z', 1.50::decimal(9,2), {'a': 1}, uuid '12345678-1234-1234-1234-123456789abc'),
    (2, timestamptz '2024-01-02 00:00:00Z', null, null, null)) t (id, "at", price, nested, token)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the source type Stripe, in other letters than the type's."""
    folder = tmp_path / "fixtures" / "sTrIpE"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def lab(make_lab: Any, folder: Path) -> Lab:
    """A lab whose source are files."""
    return make_lab(connector_for("Stripe", {}, fixtures=folder.parent))


def write(sql: str, path: Path) -> None:
    """Write a query's rows into a file of the kind that its name says."""
    kind = {".parquet": "parquet", ".csv": "csv, header", ".jsonl": "json"}[path.suffix]
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"copy ({sql}) to '{path}' (format {kind})")


def test_files_are_tables(lab: Lab, folder: Path) -> None:
    """Each file is a table, with `id` as its key and every ordered column as a candidate."""
    write("select 1 as id, date '2024-01-01' as day, 'x' as name, 0.5::double as share", folder / "charge.parquet")
    write("select i // 2 as id, timestamp '2024-01-01' as moment from range(4) r(i)", folder / "event.csv")
    (folder / "README.md").write_text("no table")
    charge, event = lab.connector.discover()
    assert (
        OfferedTable(
            name="charge",
            columns=(
                OfferedColumn("id", "INTEGER", is_nullable=True),
                OfferedColumn("day", "DATE", is_nullable=True),
                OfferedColumn("name", "VARCHAR", is_nullable=True),
                OfferedColumn("share", "DOUBLE", is_nullable=True),
            ),
            primary_keys=("id",),
            incremental_fields=(
                CursorColumn("id", "integer", is_indexed=False),
                CursorColumn("day", "date", is_indexed=False),
                CursorColumn("share", "numeric", is_indexed=False),
            ),
            rows=1,
        )
        == charge
    )
    assert ("event", ("id",), 4) == (event.name, event.primary_keys, event.rows)


def test_types_survive(lab: Lab, folder: Path) -> None:
    """What a Parquet file holds is what the table holds, with nested values as JSON text."""
    write(CUSTOMERS, folder / "customer.parquet")
    lab.sync("customer")
    as_text = "to_json(nested)::varchar as nested, token::varchar as token"
    expected = duckdb.sql(f"select * replace ({as_text}) from ({CUSTOMERS})").fetchall()
    assert expected == lab.query("select * from lab.customer order by id")
    assert ["INTEGER", "TIMESTAMP WITH TIME ZONE", "DECIMAL(9,2)", "VARCHAR", "VARCHAR"] == [
        column.type for column in lab.warehouse.describe(lab.request("customer").target)[1]
    ]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("at", "field_type", "read_again"),
    [
        ("date '2024-01-01' + i::int", "date", 1),
        ("timestamptz '2024-01-01 00:00:00Z' + i * interval 1 day", "timestamp", 0),
        ("i", "integer", 0),
        ("i / 2.0", "numeric", 0),
    ],
)
def test_all_sync_types_work(lab: Lab, folder: Path, *, suffix: str, at: str, field_type: str, read_again: int) -> None:
    """Files are merged and appended like any source, for every type of cursor; a date reads its last day again."""
    rows = "select i as id, {at} as \"at\", 'v' || ({version}) as v from range(1, {end}) r(i)"
    append = {"sync_type": "append", "incremental_field": "at", "incremental_field_type": field_type}
    write(rows.format(at=at, version=1, end=4), folder / f"t.{suffix}")
    merge = MERGE | {"incremental_field_type": field_type}
    settings = {"lab": {}, "merged": merge, "appended": append}
    for schema, setting in settings.items():
        target = type(lab.request("t").target)(schema, "t")
        assert 3 == lab.sync("t", target=target, **setting).rows_synced
    write(rows.format(at=at, version=2, end=6), folder / f"t.{suffix}")
    found = {
        schema: lab.sync("t", target=type(lab.request("t").target)(schema, "t"), **setting).rows_synced
        for schema, setting in settings.items()
    }
    behind = 2 + read_again
    assert {"lab": 5, "merged": behind, "appended": behind} == found
    assert [("v1", 5 - behind), ("v2", behind)] == lab.query("select v, count(*) from merged.t group by 1 order by 1")
    assert [("v1", 3), ("v2", behind)] == lab.query("select v, count(*) from appended.t group by 1 order by 1")


def test_lookback_works_on_files(lab: Lab, folder: Path) -> None:
    """A time cursor in a file moves back by the lookback."""
    write(CUSTOMERS, folder / "customer.parquet")
    lab.sync("customer", **MERGE)
    assert 1 == lab.sync("customer", **MERGE, lookback_seconds=86_400).rows_synced


def test_a_missing_folder_is_named(lab: Lab, folder: Path) -> None:
    """Without files the message says which folder to create, and what to put into it."""
    with pytest.raises(SourceError, match=r"Put one .parquet, .csv or .jsonl file"):
        lab.connector.check()
    folder.rmdir()
    with pytest.raises(SourceError, match=r"Create the folder .*fixtures/stripe"):
        lab.connector.check()


def test_a_broken_file_is_named(lab: Lab, folder: Path) -> None:
    """A file that is not what its name says is reported by its path."""
    (folder / "t.parquet").write_text("not parquet")
    with pytest.raises(SourceError, match=r"The file .*/t.parquet cannot be read"):
        lab.connector.discover()
    with pytest.raises(SourceError, match=r"The file .*/t.parquet cannot be read"):
        lab.sync("t")


def test_a_vanished_file_says_so(lab: Lab, folder: Path) -> None:
    """A table without its file has its own error."""
    write("select 1 as id", folder / "t.csv")
    with pytest.raises(SourceError, match="no file for table 'u'"):
        lab.sync("u")
