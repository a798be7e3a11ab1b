"""The database of the sync history: a DuckDB file, or another one through DuckDB. Imports no Dagster."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# such as `md:warehouse`; a single letter is a drive
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+:")
# what DuckDB itself connects to; all others are attached
_OPENED_BY_DUCKDB = ("md:", "motherduck:")


def is_address(database: str) -> bool:
    """Whether it is an address such as `md:warehouse`, and not the path of a file."""
    return _ADDRESS.match(database) is not None


def is_duckdbs(database: str) -> bool:
    """Whether DuckDB's own SQL runs in it, as in a file and in MotherDuck."""
    return not is_address(database) or database.startswith(_OPENED_BY_DUCKDB)


def connected(address: str, config: Mapping[str, Any]) -> "DuckDBPyConnection":
    """A connection whose default database is the one at the address."""
    from duckdb import Error, connect

    if address.startswith(_OPENED_BY_DUCKDB):
        return connect(address, config=dict(config))
    connection = connect(":memory:", config=dict(config))
    try:
        quoted = address.replace("'", "''")
        connection.execute(f"attach '{quoted}' as history")
        connection.execute("use history")
    except Error:
        connection.close()
        raise
    return connection
