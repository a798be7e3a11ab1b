"""How this package opens DuckDB."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from dw_orchestration.local.syncing.models import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_MEMORY = ":memory:"
_MOST_IDLE = 4
# DuckDB instances without a file, by their memory limit. To start one takes many times as long as to open a file in it.
_idle: defaultdict[str, list[duckdb.DuckDBPyConnection]] = defaultdict(list)


def open_duckdb(path: str, *, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """Open a database, to be used in `given_back`, which closes it.

    The file must not be open elsewhere in this process: DuckDB does not notice that.
    """
    with suppress(IndexError):
        connection = _idle[memory_limit].pop()
        with suppress(duckdb.Error):
            return _with_file(connection, path)
        connection.close()
    return _with_file(_started(memory_limit), path)


@contextmanager
def given_back(connection: duckdb.DuckDBPyConnection, *, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Close what was opened by `open_duckdb` at the end of the block."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    # as when a connection is closed, what was committed stays, and the log is read when the file is opened again
    with suppress(duckdb.Error):
        _detach_files(connection)
        if len(_idle[memory_limit]) < _MOST_IDLE:
            _idle[memory_limit].append(connection)
            return
    connection.close()


def _started(memory_limit: str) -> duckdb.DuckDBPyConnection:
    """An instance with the settings under which memory stays flat, however large the table.

    Two threads keep up with one Postgres connection; each additional one has its own buffers. The order
    of rows means nothing in a table, and keeping it would hold batches back.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": 2,
        "preserve_insertion_order": False,
        # a sync must not depend on a download
        "autoinstall_known_extensions": False,
    }
    connection = duckdb.connect(IN_MEMORY, config=settings)
    # not among the settings: the time zones are an extension, which loads after them
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _with_file(connection: duckdb.DuckDBPyConnection, path: str) -> duckdb.DuckDBPyConnection:
    if path != IN_MEMORY:
        try:
            # an instance that has used its folder for what exceeds the memory refuses another one
            connection.execute(f"SET temp_directory = {literal(f'{path}.tmp')}")
            name = quoted(Path(path).stem)
            connection.execute(f"ATTACH {literal(path)} AS {name}")
            connection.execute(f"USE {name}")
        except duckdb.Error:
            connection.close()
            raise
    return connection


def _detach_files(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("USE memory")
    attached = "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'"
    for (name,) in connection.execute(attached).fetchall():
        connection.execute(f"DETACH {quoted(name)}")


# functions of HogQL that DuckDB lacks and the values of placeholders need, with those that convert types
_MACROS = """
    CREATE TEMP MACRO toDate(value) AS CAST(value AS DATE);
    CREATE TEMP MACRO toDateTime(value) AS CAST(value AS TIMESTAMPTZ);
    CREATE TEMP MACRO toString(value) AS CAST(value AS VARCHAR);
    CREATE TEMP MACRO toInt(value) AS CAST(value AS BIGINT);
    CREATE TEMP MACRO toFloat(value) AS CAST(value AS DOUBLE);
"""


def open_locked_down(path: str, *, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """Open a database for SQL of unknown origin; without the file, an empty one.

    Nothing can be changed, no other file, extension or Python variable is within reach, and no setting can alter that.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": 2,
        "enable_external_access": False,
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }
    exists = Path(path).exists()
    connection = duckdb.connect(path if exists else IN_MEMORY, read_only=exists, config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(_MACROS)
    connection.execute("SET lock_configuration = true")
    return connection
