"""What holds for every history of a table."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dw_orchestration.local.syncing import TargetTable
from dw_orchestration.local.syncing.staging import warehouse_names

if TYPE_CHECKING:
    from conftest import Lab

# every example has a table of its own, so sharing the database between them is harmless
on_a_database = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
tables = itertools.count()

ids = st.integers(min_value=1, max_value=8)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
# a history: rounds of writes, with a sync after each
histories = st.lists(st.lists(st.tuples(ids, texts), max_size=6), min_size=1, max_size=4)

UPSERT = """
insert into {table} (id, v, stamp) values (%s, %s, nextval('stamps'))
on conflict (id) do update set v = excluded.v, stamp = excluded.stamp
"""
MERGE = {
    "sync_type": "incremental",
    "incremental_field": "stamp",
    "incremental_field_type": "integer",
    "primary_keys": ("id",),
}
APPEND = {"sync_type": "append", "incremental_field": "n", "incremental_field_type": "integer"}


def new_table(database: Any, columns: str) -> str:
    """Make an empty table and return its name."""
    name = f"t{next(tables)}"
    database.execute(f"create sequence if not exists stamps; create table {name} ({columns})")
    return name


@on_a_database
@given(history=histories)
def test_merging_follows_the_source(lab: Lab, postgres_database: Any, history: list[list[Any]]) -> None:
    """After any inserts and updates, with syncs between, the table equals its source."""
    table = new_table(postgres_database, "id int primary key, v text, stamp bigint")
    for writes in history:
        for write in writes:
            postgres_database.execute(UPSERT.format(table=table), write)
        lab.sync(table, **MERGE)
    expected = postgres_database.execute(f"select id, v, stamp from {table} order by id")
    assert expected == lab.query(f"select id, v, stamp from lab.{table} order by id")


@on_a_database
@given(history=histories, deleted=st.sets(ids))
def test_a_resync_equals_a_fresh_sync(
    lab: Lab, postgres_database: Any, history: list[list[Any]], deleted: set[int]
) -> None:
    """After any history, a resync leaves what a first sync would have."""
    table = new_table(postgres_database, "id int primary key, v text, stamp bigint")
    for writes in history:
        for write in writes:
            postgres_database.execute(UPSERT.format(table=table), write)
        lab.sync(table, **MERGE)
    postgres_database.execute(f"delete from {table} where id = any(%s)", [list(deleted)])
    again = lab.sync(table, **MERGE, reset=True)
    fresh = lab.sync(table, **MERGE, target=TargetTable("fresh", table))
    assert fresh == replace(again, job_id=fresh.job_id)
    rows = "select * from {}.{} order by id"
    assert lab.query(rows.format("fresh", table)) == lab.query(rows.format("lab", table))


@on_a_database
@given(sizes=st.lists(st.integers(min_value=0, max_value=5), min_size=1, max_size=6))
def test_append_takes_each_row_once(lab: Lab, postgres_database: Any, sizes: list[int]) -> None:
    """While the cursor strictly grows, append neither loses nor repeats a row."""
    table = new_table(postgres_database, "n bigint generated always as identity, v text")
    counts = []
    for size in sizes:
        postgres_database.execute(f"insert into {table} (v) select 'x' from generate_series(1, {size})")
        counts.append(lab.sync(table, **APPEND).rows_synced)
    assert sizes == counts
    assert [(n,) for n in range(1, sum(sizes) + 1)] == lab.query(f"select n from lab.{table} order by n")


@given(names=st.lists(st.text(st.sampled_from("aAbB_2"), min_size=1, max_size=4), unique=True))
def test_warehouse_names_are_unique(names: list[str]) -> None:
    """Columns keep their number, and no two are the same to DuckDB."""
    given_names = warehouse_names(names)
    assert names == list(given_names)
    assert len(names) == len({name.lower() for name in given_names.values()})
