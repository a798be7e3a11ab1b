"""What each sync type reads, and what it makes of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.local.syncing import SourceError, TableColumn, TargetTable, connector_for

if TYPE_CHECKING:
    from conftest import Lab

MERGE = {"sync_type": "incremental", "incremental_field": "at", "primary_keys": ("id",)}
APPEND = {"sync_type": "append", "incremental_field": "id"}
ORDERS = """
create table orders (id int primary key, at timestamptz, note text);
insert into orders
select i, timestamptz '2024-01-01 00:00Z' + i * interval '1 minute', 'old' from generate_series(1, 5) i;
"""


@pytest.fixture
def orders(postgres_database: Any) -> Any:
    """Five orders, a minute apart."""
    postgres_database.execute(ORDERS)
    return postgres_database


def test_full_refresh_replaces(lab: Lab, orders: Any) -> None:
    """A full refresh is the source's table of now: what was deleted or dropped there goes here too."""
    lab.sync("orders")
    orders.execute("delete from orders where id > 2; alter table orders drop column note")
    result = lab.sync("orders")
    assert (2, 2) == (result.rows_synced, result.row_count)
    assert ["id", "at"] == [column.name for column in result.columns]
    assert [(1,), (2,)] == lab.query("select id from lab.orders order by 1")


def test_progress_ends_at_the_rows_synced(lab: Lab, postgres_database: Any) -> None:
    """RowCounter grows with each batch, up to the number of rows that the result states."""
    postgres_database.execute("create table many as select i, md5(i::text) from generate_series(1, 300000) i")
    result = lab.sync("many")
    assert 300_000 == result.rows_synced == lab.progress[-1]
    assert sorted(set(lab.progress)) == lab.progress
    assert len(lab.progress) > 2


def test_incremental_reads_from_its_cursor_on(lab: Lab, orders: Any) -> None:
    """A merge reads rows at or behind the highest cursor value, and changes only those."""
    assert 5 == lab.sync("orders", **MERGE).rows_synced
    orders.execute("update orders set note = 'new', at = '2024-02-01Z' where id = 2")
    orders.execute("insert into orders values (6, '2024-02-02Z', 'six')")
    result = lab.sync("orders", **MERGE)
    # the row that holds the cursor is read once more
    assert (3, 6) == (result.rows_synced, result.row_count)
    expected = [(1, "old"), (2, "new"), (3, "old"), (4, "old"), (5, "old"), (6, "six")]
    assert expected == lab.query("select id, note from lab.orders order by id")


def test_rows_with_the_cursors_own_time_are_not_lost(lab: Lab, orders: Any) -> None:
    """A row that comes later with the very time of the cursor is merged."""
    lab.sync("orders", **MERGE)
    orders.execute("insert into orders values (6, (select max(at) from orders), 'twin')")
    lab.sync("orders", **MERGE)
    assert [("twin",)] == lab.query("select note from lab.orders where id = 6")


def test_append_adds_rows_behind_its_cursor_only(lab: Lab, orders: Any) -> None:
    """Append takes each row once, and never looks back."""
    lab.sync("orders", **APPEND)
    orders.execute("update orders set note = 'changed'; insert into orders values (6, null, 'six')")
    assert 1 == lab.sync("orders", **APPEND).rows_synced
    assert 0 == lab.sync("orders", **APPEND).rows_synced
    assert [(5, "old"), (1, "six")] == lab.query("select count(*), note from lab.orders group by 2 order by 2")


def test_reset_takes_everything(lab: Lab, orders: Any) -> None:
    """After a reset the table is the source's, deletions and all."""
    lab.sync("orders", **MERGE)
    orders.execute("delete from orders where id < 4")
    result = lab.sync("orders", **MERGE, reset=True)
    assert (2, 2) == (result.rows_synced, result.row_count)


@pytest.mark.parametrize(("lookback_seconds", "rows"), [(None, 1), (0, 1), (90, 2), (240, 5)])
def test_lookback_moves_a_time_cursor_back(lab: Lab, orders: Any, lookback_seconds: int, rows: int) -> None:
    """Late rows inside the lookback are read again."""
    lab.sync("orders", **MERGE)
    assert rows == lab.sync("orders", **MERGE, lookback_seconds=lookback_seconds).rows_synced


def test_rows_without_a_cursor_value_come_with_full_syncs_only(lab: Lab, orders: Any) -> None:
    """NULL and endless cursor values never lead the cursor, nor are they behind it."""
    orders.execute("insert into orders values (7, null, 'n'), (8, 'infinity', 'i'), (9, '-infinity', 'm')")
    assert 8 == lab.sync("orders", **MERGE).rows_synced
    orders.execute("insert into orders values (10, null, 'n'), (11, 'infinity', 'i')")
    assert 1 == lab.sync("orders", **MERGE).rows_synced


@pytest.mark.parametrize(
    ("declared", "first", "second"),
    [
        ("int", "1", "2"),
        ("bigint", "9007199254740993", "9007199254740994"),
        ("numeric(20,4)", "1.0001", "1.0002"),
        ("numeric", "0.5", "0.75"),
        ("date", "2024-01-01", "2024-01-02"),
        ("timestamp", "2024-01-01 00:00:00.000001", "2024-01-01 00:00:00.000002"),
        ("timestamptz", "2024-07-01 00:00:00+02", "2024-07-01 00:00:00+01"),
    ],
)
def test_every_cursor_type_goes_on_exactly(
    lab: Lab, postgres_database: Any, declared: str, first: str, second: str
) -> None:
    """Append reads the next value, however near, and not the last one again."""
    postgres_database.execute(f"create table t (at {declared})")
    for value in (first, second):
        postgres_database.execute(f"insert into t values (%s::{declared})", [value])
        assert 1 == lab.sync("t", sync_type="append", incremental_field="at").rows_synced


def test_nan_never_leads_a_numeric_cursor(lab: Lab, postgres_database: Any) -> None:
    """NaN orders after all numbers in Postgres; it is read by full syncs only."""
    postgres_database.execute("create table t (at numeric); insert into t values (1), ('NaN')")
    append = {"sync_type": "append", "incremental_field": "at"}
    assert 2 == lab.sync("t", **append).rows_synced
    assert 0 == lab.sync("t", **append).rows_synced


def test_the_latest_of_a_repeated_key_wins(lab: Lab, postgres_database: Any) -> None:
    """Where a view repeats a key, one row stays: the one with the highest cursor."""
    postgres_database.execute("create table t (id int, at int, v text)")
    for rows in ("(1, 2, 'b'), (1, 1, 'a'), (1, null, 'z')", "(1, 4, 'd'), (1, 3, 'c'), (2, 5, 'e')"):
        postgres_database.execute(f"insert into t values {rows}")
        lab.sync("t", **MERGE)
    assert [(1, "d"), (2, "e")] == lab.query("select id, v from lab.t order by 1")


def test_keys_of_several_columns_merge(lab: Lab, postgres_database: Any) -> None:
    """A key is all of its columns; a NULL in it is a value like others."""
    postgres_database.execute("create table t (a int, b int, at int); insert into t values (1, 1, 1), (1, null, 1)")
    keys = MERGE | {"primary_keys": ("a", "b")}
    lab.sync("t", **keys)
    postgres_database.execute("update t set at = 2; insert into t values (1, 2, 2)")
    assert 3 == lab.sync("t", **keys).row_count


def test_another_incremental_field_goes_on_from_the_table(lab: Lab, orders: Any) -> None:
    """When the field changes, the new one's highest value in the table becomes the cursor."""
    lab.sync("orders", **MERGE)
    orders.execute("insert into orders values (6, '2020-01-01Z', 'six')")
    assert 2 == lab.sync("orders", **(MERGE | {"incremental_field": "id"})).rows_synced


def test_another_sync_type_starts_anew(lab: Lab, orders: Any) -> None:
    """A table that append wrote may repeat keys, so a merge does not build on it."""
    lab.sync("orders", **APPEND)
    assert 5 == lab.sync("orders", **MERGE).rows_synced


def test_a_dropped_table_starts_anew(lab: Lab, orders: Any) -> None:
    """Dropping a table forgets its cursor; describing it then gives None."""
    lab.sync("orders", **MERGE)
    target = TargetTable("lab", "orders")
    assert 5 == lab.warehouse.describe(target)[0]
    lab.warehouse.drop(target)
    assert lab.warehouse.describe(target) is None
    assert 5 == lab.sync("orders", **MERGE).rows_synced


def test_enabled_columns_come_with_key_and_cursor(lab: Lab, orders: Any) -> None:
    """Column selection never loses what a merge needs."""
    result = lab.sync("orders", **MERGE, enabled_columns=())
    assert ["id", "at"] == [column.name for column in result.columns]


def test_a_new_column_is_null_in_older_rows(lab: Lab, orders: Any) -> None:
    """A column added at the source appears; one dropped there stays, NULL in newer rows."""
    lab.sync("orders", **APPEND)
    orders.execute("alter table orders drop column note, add column extra int")
    orders.execute("insert into orders values (6, null, 66)")
    lab.sync("orders", **APPEND)
    expected = [(5, "old", None), (6, None, 66)]
    assert expected == lab.query("select id, note, extra from lab.orders where id > 4 order by id")


@pytest.mark.parametrize(
    ("before", "after", "value", "expected"),
    [
        ("int", "bigint", "5000000000", TableColumn("v", "BIGINT")),
        ("bigint", "int", "5", TableColumn("v", "BIGINT")),
        ("int", "text", "five", TableColumn("v", "VARCHAR")),
        ("text", "int", "5", TableColumn("v", "VARCHAR")),
        ("real", "double precision", "0.5", TableColumn("v", "DOUBLE")),
        ("numeric(6,2)", "numeric(8,4)", "1.2345", TableColumn("v", "DECIMAL(8,4)")),
        ("date", "timestamp", "2024-01-01 12:00", TableColumn("v", "TIMESTAMP")),
    ],
)
def test_a_column_widens(
    lab: Lab, postgres_database: Any, *, before: str, after: str, value: str, expected: TableColumn
) -> None:
    """A changed type ends in one that holds the old values and the new ones."""
    postgres_database.execute(f"create table t (id int, v {before}); insert into t values (1, null)")
    lab.sync("t", **APPEND)
    postgres_database.execute(f"alter table t alter v type {after} using null")
    postgres_database.execute(f"insert into t values (2, '{value}')")
    result = lab.sync("t", **APPEND)
    assert expected == result.columns[1]
    assert [(value,)] == lab.query("select regexp_replace(v::varchar, ':00$', '') from lab.t where id = 2")


def test_types_without_a_common_one_ask_for_a_resync(lab: Lab, orders: Any) -> None:
    """An impossible change names column, both types and the cure, and leaves the table alone."""
    lab.sync("orders", **APPEND)
    orders.execute("alter table orders drop column note, add column note bytea; insert into orders values (6)")
    with pytest.raises(SourceError, match=r"'note' .* was VARCHAR and is BLOB now.*resync"):
        lab.sync("orders", **APPEND)
    assert [(5,)] == lab.query("select count(*) from lab.orders")
    assert 6 == lab.sync("orders", **APPEND, reset=True).row_count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sync_type": "incremental", "incremental_field": "at"}, "'orders' has no primary key.*Set its primary"),
        ({"sync_type": "append"}, "'orders' has no incremental field. Set one"),
        ({"sync_type": "append", "incremental_field": "gone"}, "has no column 'gone'.*Choose another"),
        ({"sync_type": "append", "incremental_field": "note"}, "'note' .* is VARCHAR and cannot be"),
        (MERGE | {"primary_keys": ("gone",)}, "has no column 'gone'.*primary key"),
        ({"sync_type": "cdc"}, "'cdc', which is not served here"),
    ],
)
def test_a_wrong_configuration_names_the_cure(lab: Lab, orders: Any, settings: dict[str, Any], message: str) -> None:
    """What cannot work says which table, what is wrong and what to do; trying again is useless."""
    with pytest.raises(SourceError, match=message) as caught:
        lab.sync("orders", **settings)
    assert caught.value.permanent
    assert [] == lab.leftovers()


def test_a_vanished_cursor_column_names_the_cure(lab: Lab, orders: Any) -> None:
    """A cursor column that was dropped at the source is reported, not silently ignored."""
    lab.sync("orders", **MERGE)
    orders.execute("alter table orders drop column at")
    with pytest.raises(SourceError, match=r"'at', the incremental field, is not in the table any more"):
        lab.sync("orders", **MERGE)


def test_a_forbidden_table_names_the_grant(
    lab: Lab, orders: Any, make_lab: Any, job_inputs: Any, tmp_path: Any
) -> None:
    """A table that the source's user may not read says which right is missing."""
    orders.execute("create role reader login password 'reader'")
    connector = connector_for("Postgres", job_inputs | {"user": "reader", "password": "reader"}, fixtures=tmp_path)
    try:
        with pytest.raises(SourceError, match=r"may not read table 'orders'. Grant SELECT"):
            make_lab(connector).sync("orders")
    finally:
        orders.execute("drop role reader")


def test_a_vanished_table_says_so(lab: Lab, orders: Any) -> None:
    """A table that is gone at the source leaves the last good one."""
    lab.sync("orders")
    orders.execute("drop table orders")
    with pytest.raises(SourceError, match="'orders' is not in the database any more"):
        lab.sync("orders")
    assert [(5,)] == lab.query("select count(*) from lab.orders")
