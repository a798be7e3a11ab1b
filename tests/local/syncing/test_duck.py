"""Instances of DuckDB are kept, since each start takes many times as long as to open a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from dw_orchestration.local.syncing import duck

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "32MB"


@pytest.fixture(autouse=True)
def no_idle_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without an instance."""
    monkeypatch.setitem(duck._idle, LIMIT, [])


def write(path: Path, *statements: str) -> duckdb.DuckDBPyConnection:
    """Execute statements in a file; the connection, which has it no longer open."""
    with duck.given_back(duck.open_duckdb(str(path), memory_limit=LIMIT), memory_limit=LIMIT) as connection:
        for statement in statements:
            connection.execute(statement)
    return connection


def test_an_instance_is_used_again_and_leaves_each_file(tmp_path: Path) -> None:
    """The next file is opened in the same instance, which has nothing of the one before; that is free, without log."""
    first, second = tmp_path / "first.duckdb", tmp_path / "second.duckdb"
    used = write(first, "create table t as select 1 as i")
    assert used is write(second, f"attach '{first}' as other (read_only)", "create table t as select * from other.t")
    assert [("memory",)] == used.execute("select database_name from duckdb_databases() where not internal").fetchall()
    assert ["first.duckdb", "second.duckdb"] == sorted(path.name for path in tmp_path.iterdir())
    for path in (first, second):
        with duckdb.connect(str(path)) as connection:
            assert [(1,)] == connection.execute("from t").fetchall()


def test_an_instance_that_failed_is_not_used_again(tmp_path: Path) -> None:
    """An error in the block closes it with its file, of which the open transaction is undone."""
    path = tmp_path / "a.duckdb"
    write(path, "create table t as select 1 as i")
    with pytest.raises(duckdb.CatalogException):
        write(path, "begin", "insert into t values (2)", "from missing")
    assert [] == duck._idle[LIMIT]
    with duckdb.connect(str(path)) as connection:
        assert [(1,)] == connection.execute("from t").fetchall()


def test_an_instance_that_needed_the_disk_is_replaced(tmp_path: Path) -> None:
    """What exceeds the memory is kept next to the file, and not in the folder of an earlier one."""
    more_than_memory = (
        "create temp table big as select i, md5(i::text) as a, md5((i + 1)::text) as b from range(600000) r(i)"
    )
    used = write(tmp_path / "first.duckdb", more_than_memory)
    next_one = write(tmp_path / "second.duckdb", more_than_memory)
    assert used is not next_one
    (folder,) = next_one.execute("select current_setting('temp_directory')").fetchone()
    assert str(tmp_path / "second.duckdb.tmp") == folder
