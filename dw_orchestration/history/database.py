"""The database of the sync history: a DuckDB file, or another one through DuckDB. Imports no Dagster."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dw_orchestration.tables.errors import SetupError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# such as `md:warehouse`; a single letter is a drive
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+:")
# what DuckDB itself connects to; all others are attached
_OPENED_BY_DUCKDB = ("md:", "motherduck:")
_SECRET = re.compile(r"(?i)(password|passwd|pwd|secret|token)\s*=|://[^/\s:@]*:[^/\s@]+@")


def is_address(database: str) -> bool:
    """Whether it is an address such as `md:warehouse`, and not the path of a file."""
    return _ADDRESS.match(database) is not None


def is_duckdbs(database: str) -> bool:
    """Whether DuckDB's own SQL runs in it, as in a file and in MotherDuck."""
    return not is_address(database) or database.startswith(_OPENED_BY_DUCKDB)


def refuse_secrets(database: str) -> None:
    """Refuse an address with a secret in it: Dagster stores and shows it.

    Raises:
        SetupError: There is one. The text does not contain it.
    """
    if _SECRET.search(database):
        raise SetupError(
            "The address of the sync history contains a password or a token, which Dagster would store and show. Leave"
            " it out, and set it in the environment, where DuckDB reads it: `motherduck_token`, `PGPASSWORD`."
        )


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
