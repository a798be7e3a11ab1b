"""What each sync type reads, and what it makes of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.local.syncing import SourceError, TargetTable, connector_for

if TYPE_CHECKING:
    from conftest import Lab

MERGE = {
    "sync_type": "incremental",
    "incremental_field": "at",
    "incremental_field_type": "timestamp",
    "primary_keys": ("id",),
}
APPEND = {"sync_type": "append", "incremental_field": "id", "incremental_field_type": "integer"}
MERGE_BY_AT = MERGE | {"incremental_field_type": "integer"}
MERGE_BY_ID = MERGE | {"incremental_field": "id", "incremental_field_type": "integer"}
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
    """A merge reads rows behind the highest cursor value, and changes only those."""
    assert 5 == lab.sync("orders", **MERGE).rows_synced
    orders.execute("update orders set note = 'new', at = '2024-02-01Z' where id = 2")
    orders.execute("insert into orders values (6, '2024-02-02Z', 'six')")
    result = lab.sync("orders", **MERGE)
    assert (2, 6) == (result.rows_synced, result.row_count)
    expected = [(1, "old"), (2, "new"), (3, "old"), (4, "old"), (5, "old"), (6, "six")]
    assert expected == lab.query("select id, note from lab.orders order by id")


@pytest.mark.parametrize(
    "settings", [MERGE, APPEND | {"incremental_field": "at", "incremental_field_type": "datetime"}]
)
def test_late_rows_with_the_cursors_own_time_are_lost(lab: Lab, orders: Any, settings: dict[str, Any]) -> None:
    """A row that comes later with the very time of the cursor is never read, and an idle sync reads nothing."""
    lab.sync("orders", **settings)
    assert 0 == lab.sync("orders", **settings).rows_synced
    orders.execute("insert into orders values (6, (select max(at) from orders), 'twin')")
    assert (0, 5) == ((result := lab.sync("orders", **settings)).rows_synced, result.row_count)


@pytest.mark.parametrize(
    ("declared", "field_type", "never", "first"),
    [
        ("int", "integer", ["0", "-1"], "1"),
        ("numeric", "numeric", ["0", "-0.5"], "0.5"),
        ("double precision", "numeric", ["0", "-Infinity", "Infinity"], "0.5"),
        ("date", "date", ["1970-01-01", "1969-12-31"], "1970-01-02"),
        ("timestamp", "timestamp", ["1970-01-01 00:00:00", "1960-01-01", "infinity"], "1970-01-01 00:00:01"),
        ("timestamptz", "datetime", ["1970-01-01 00:00:00Z", "1960-01-01"], "1970-01-01 00:00:00.5Z"),
    ],
)
@pytest.mark.parametrize("sync_type", ["incremental", "append"])
def test_rows_up_to_the_initial_value_are_never_imported(
    lab: Lab, postgres_database: Any, *, sync_type: str, declared: str, field_type: str, never: list[str], first: str
) -> None:
    """NULL, zero, negative numbers, and times up to 1970 only come with a full refresh, never with a reset."""
    postgres_database.execute(f"create table t (id serial primary key, at {declared})")
    for value in (*never, first, None):
        postgres_database.execute(f"insert into t (at) values (%s::text::{declared})", [value])
    settings = MERGE | {"sync_type": sync_type, "incremental_field_type": field_type}
    for reset in (False, True):
        assert 1 == lab.sync("t", **settings, reset=reset).row_count
    assert len(never) + 2 == lab.sync("t").row_count


def test_a_date_reads_its_last_day_again(lab: Lab, postgres_database: Any) -> None:
    """A merge takes late rows of the last day; an append has that day's rows twice."""
    postgres_database.execute("create table t (id int primary key, day date); insert into t values (1, '2024-01-01')")
    by_day = {"incremental_field": "day", "incremental_field_type": "date"}
    appended = by_day | {"sync_type": "append", "target": TargetTable("appended", "t")}
    for settings in (MERGE | by_day, appended):
        lab.sync("t", **settings)
    postgres_database.execute("insert into t values (2, '2024-01-01')")
    for settings in (MERGE | by_day, appended):
        assert 2 == lab.sync("t", **settings).rows_synced
    assert [(1,), (2,)] == lab.query("select id from lab.t order by 1")
    assert [(1,), (1,), (2,)] == lab.query("select id from appended.t order by 1")


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


@pytest.mark.parametrize(("lookback_seconds", "rows"), [(None, 0), (0, 0), (90, 2), (240, 4)])
def test_lookback_moves_a_time_cursor_back(lab: Lab, orders: Any, lookback_seconds: int, rows: int) -> None:
    """Late rows inside the lookback are read again."""
    lab.sync("orders", **MERGE)
    assert rows == lab.sync("orders", **MERGE, lookback_seconds=lookback_seconds).rows_synced


def test_append_has_no_lookback(lab: Lab, orders: Any) -> None:
    """An append would have the rows of the lookback twice: PostHog looks back in merges only."""
    append = APPEND | {"incremental_field": "at", "incremental_field_type": "timestamp"}
    lab.sync("orders", **append)
    assert 0 == lab.sync("orders", **append, lookback_seconds=240).rows_synced


@pytest.mark.parametrize(
    ("declared", "field_type", "first", "second"),
    [
        ("int", "integer", "1", "2"),
        ("bigint", "integer", "9007199254740993", "9007199254740994"),
        ("numeric(20,4)", "numeric", "1.0001", "1.0002"),
        ("numeric", "numeric", "0.50", "0.75"),
        ("timestamp", "timestamp", "2024-01-01 00:00:00.000001", "2024-01-01 00:00:00.000002"),
        ("timestamptz", "datetime", "2024-07-01 00:00:00+02", "2024-07-01 00:00:00+01"),
    ],
)
def test_every_cursor_type_goes_on_exactly(
    lab: Lab, postgres_database: Any, *, declared: str, field_type: str, first: str, second: str
) -> None:
    """Append reads the next value, however near, and not the last one again."""
    postgres_database.execute(f"create table t (at {declared})")
    for value in (first, second):
        postgres_database.execute(f"insert into t values (%s::{declared})", [value])
        append = {"sync_type": "append", "incremental_field": "at", "incremental_field_type": field_type}
        assert 1 == lab.sync("t", **append).rows_synced


def test_nan_never_leads_a_numeric_cursor(lab: Lab, postgres_database: Any) -> None:
    """NaN orders after all numbers in Postgres; only a full refresh reads it."""
    postgres_database.execute("create table t (at numeric); insert into t values (1), ('NaN')")
    append = {"sync_type": "append", "incremental_field": "at", "incremental_field_type": "numeric"}
    assert 1 == lab.sync("t", **append).rows_synced
    assert 0 == lab.sync("t", **append).rows_synced


@pytest.mark.parametrize("synced_before", [False, True])
def test_a_repeated_key_fails(lab: Lab, postgres_database: Any, *, synced_before: bool) -> None:
    """Where a key has several rows, read or not, a merge fails in PostHog's words; an append does not ask."""
    postgres_database.execute("create table t (id int, at int)")
    postgres_database.execute("insert into t values (1, 1), (2, 2)")
    if synced_before:
        lab.sync("t", **MERGE_BY_AT)
    postgres_database.execute("insert into t values (1, null)")
    with pytest.raises(SourceError, match="The primary key set for this table isn't unique") as caught:
        lab.sync("t", **MERGE_BY_AT)
    assert caught.value.permanent
    assert 2 == lab.sync("t", **MERGE_BY_AT | {"sync_type": "append", "target": TargetTable("other", "t")}).row_count


def test_a_row_without_a_key_is_one_row(lab: Lab, postgres_database: Any) -> None:
    """NULL in a key equals NULL: two such rows are a repeated key."""
    postgres_database.execute("create table t (id int, at int); insert into t values (null, 1)")
    for _ in range(2):
        assert 1 == lab.sync("t", **MERGE_BY_AT).row_count
        postgres_database.execute("update t set at = at + 1")
    postgres_database.execute("insert into t values (null, 9)")
    with pytest.raises(SourceError, match="isn't unique"):
        lab.sync("t", **MERGE_BY_AT)


def test_keys_of_several_columns_merge(lab: Lab, postgres_database: Any) -> None:
    """A key is all of its columns; a NULL in it is a value like others."""
    postgres_database.execute("create table t (a int, b int, at int); insert into t values (1, 1, 1), (1, null, 1)")
    keys = MERGE_BY_AT | {"primary_keys": ("a", "b")}
    lab.sync("t", **keys)
    postgres_database.execute("update t set at = 2; insert into t values (1, 2, 2)")
    assert 3 == lab.sync("t", **keys).row_count


def test_another_incremental_field_goes_on_from_the_table(lab: Lab, orders: Any) -> None:
    """When the field changes, the new one's highest value in the table becomes the cursor: rows before it are lost."""
    lab.sync("orders", **MERGE)
    orders.execute("insert into orders values (6, '2020-01-01Z', 'six'), (-1, '2030-01-01Z', 'lost')")
    assert lab.warehouse.move_cursor(TargetTable("lab", "orders"), field="id")
    assert 1 == lab.sync("orders", **MERGE_BY_ID).rows_synced
    assert not lab.warehouse.move_cursor(TargetTable("lab", "orders"), field="note")
    assert not lab.warehouse.move_cursor(TargetTable("lab", "unknown"), field="id")


def test_another_sync_type_goes_on_from_the_cursor(lab: Lab, orders: Any) -> None:
    """A merge continues where an append ended, even if that has left rows twice, and the other way round."""
    lab.sync("orders", **MERGE)
    orders.execute("insert into orders values (6, '2024-02-01Z', 'six')")
    assert 1 == lab.sync("orders", **MERGE | {"sync_type": "append"}).rows_synced
    orders.execute("update orders set at = '2024-02-02Z', note = 'new' where id = 1")
    result = lab.sync("orders", **MERGE)
    assert (1, 6) == (result.rows_synced, result.row_count)
    assert [(1,)] == lab.query("select id from lab.orders where note = 'new'")


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


@pytest.mark.parametrize("settings", [MERGE, APPEND])
def test_a_dropped_column_is_null_in_rows_that_arrive(lab: Lab, orders: Any, settings: dict[str, Any]) -> None:
    """A row that is merged again has NULL in a column that its source has dropped."""
    lab.sync("orders", **settings)
    orders.execute("alter table orders drop column note; insert into orders values (6, '2024-02-01Z')")
    orders.execute("update orders set at = '2024-02-02Z' where id = 1")
    lab.sync("orders", **settings)
    expected = [(1, None)] if settings == MERGE else [(1, "old")]
    assert [*expected, (6, None)] == lab.query("select id, note from lab.orders where id in (1, 6) order by id")


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("int", "bigint", "5000000000"),
        ("smallint", "int", "70000"),
        ("real", "double precision", "0.1"),
        ("int", "double precision", "0.5"),
    ],
)
def test_a_widened_number_is_cured_by_a_reset(
    lab: Lab, postgres_database: Any, *, before: str, after: str, value: str
) -> None:
    """A number that no longer fits fails the sync, in PostHog's words; a sync from scratch will take the new type."""
    postgres_database.execute(f"create table t (id int, v {before}); insert into t values (1, 7)")
    lab.sync("t", **APPEND)
    postgres_database.execute(f"alter table t alter v type {after}; insert into t values (2, {value})")
    with pytest.raises(SourceError, match=r"^Source column type changed: 'v'.*automatically at the next") as caught:
        lab.sync("t", **APPEND)
    assert (True, True) == (caught.value.permanent, caught.value.cured_by_reset)
    assert [(1, 7)] == lab.query("select id, v from lab.t")
    assert 2 == lab.sync("t", **APPEND, reset=True).row_count


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("int", "text", "five"),
        ("numeric(6,2)", "numeric(8,4)", "1.2345"),
        ("numeric", "numeric", "1.2345"),
        ("date", "timestamp", "2024-01-01 12:00"),
        ("int", "bytea", "x"),
        ("boolean", "int", "2"),
    ],
)
def test_another_type_asks_for_a_resync(
    lab: Lab, postgres_database: Any, *, before: str, after: str, value: str
) -> None:
    """Any other value that no longer fits fails the sync for good, and leaves the table alone."""
    first = {"date": "2024-01-01", "boolean": "true", "numeric": "1.2"}.get(before, "7")
    postgres_database.execute(f"create table t (id int, v {before}); insert into t values (1, '{first}')")
    lab.sync("t", **APPEND)
    postgres_database.execute("alter table t rename column v to old")
    postgres_database.execute(f"alter table t add column v {after}; alter table t drop column old")
    postgres_database.execute(f"insert into t values (2, '{value}')")
    with pytest.raises(SourceError, match=r"^Source column type changed: 'v'.* Reset and fully re-sync") as caught:
        lab.sync("t", **APPEND)
    assert (True, False) == (caught.value.permanent, caught.value.cured_by_reset)
    assert [(1,)] == lab.query("select id from lab.t")


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("int", "bigint", "6"),
        ("bigint", "int", "5"),
        ("text", "int", "5"),
        ("int", "text", "5"),
        ("date", "timestamp", "2024-01-01"),
    ],
)
def test_a_value_that_still_fits_keeps_the_tables_type(
    lab: Lab, postgres_database: Any, *, before: str, after: str, value: str
) -> None:
    """A changed type alone fails nothing: values that fit arrive in the type that the table has."""
    postgres_database.execute(f"create table t (id int, v {before}); insert into t values (1, null)")
    stored = lab.sync("t", **APPEND).columns
    postgres_database.execute(f"alter table t alter v type {after} using null; insert into t values (2, '{value}')")
    assert stored == lab.sync("t", **APPEND).columns
    assert [(value,)] == lab.query("select v::varchar from lab.t where id = 2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (MERGE | {"primary_keys": ()}, "needs a primary key to sync incrementally, but none is set"),
        ({"sync_type": "append"}, "'orders' has no incremental field, or no type of it. Set both"),
        (APPEND | {"incremental_field_type": None}, "or no type of it"),
        (APPEND | {"incremental_field": "gone"}, "'gone', the incremental field, is not in the table any more"),
        (APPEND | {"incremental_field": "note"}, "'note' is VARCHAR and cannot be"),
        (APPEND | {"incremental_field": "at"}, "'at' is TIMESTAMP .* of the type 'integer'"),
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
