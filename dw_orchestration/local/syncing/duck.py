"""How this package opens DuckDB."""

from __future__ import annotations

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
