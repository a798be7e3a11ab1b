"""How this package opens DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb


def open_duckdb(path: str, *, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """Open a database with the settings under which memory stays flat, however large the table.

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
    connection = duckdb.connect(path, config=settings)
    # not among the settings: the time zones are an extension, which loads after them
    connection.execute("SET TimeZone = 'UTC'")
    return connection


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
    connection = duckdb.connect(path if exists else ":memory:", read_only=exists, config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(_MACROS)
    connection.execute("SET lock_configuration = true")
    return connection
