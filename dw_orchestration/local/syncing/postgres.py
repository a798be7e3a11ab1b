"""Postgres as a source: psycopg asks the catalog, ADBC reads the rows as Arrow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_postgresql import StatementOptions, dbapi
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dw_orchestration.local.syncing.cancelling import interrupting
from dw_orchestration.local.syncing.connector import (
    REPEATED_KEY,
    RowStream,
    Since,
    StreamColumn,
    check_keys,
    chosen,
    repeated_key_query,
    since_condition,
)
from dw_orchestration.local.syncing.models import OfferedTable, SourceError, SyncCancelled, quoted
from dw_orchestration.local.syncing.postgres_catalog import (
    CatalogColumn,
    catalog_columns,
    check_schema,
    primary_key,
    source_tables,
)
from dw_orchestration.local.syncing.postgres_errors import connection_error, reading_error
from dw_orchestration.local.syncing.postgres_types import Passage, passage

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence

_CONNECT_TIMEOUT_S = 10
# small enough for a moving row count and flat memory; larger batches were no faster
_BATCH_BYTES = "4194304"
_SETTINGS = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    # types that travel as text must read the same for all defaults of the role
    (
        "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),"
        " set_config('IntervalStyle', 'postgres', true), set_config('bytea_output', 'hex', true)"
    ),
)


class PostgresConnector:
    """Tables of one Postgres database; with a `schema`, bare table names of that schema alone."""

    def __init__(self, conninfo: str, *, schema: str | None) -> None:
        self._conninfo = conninfo
        self._schema = schema

    @classmethod
    def from_job_inputs(cls, job_inputs: Mapping[str, object]) -> PostgresConnector:
        """Return the connector for PostHog's Postgres inputs: a `connection_string`, or its parts.

        Raises:
            SourceError: a part is missing, or the connection string cannot be parsed.
        """
        given = {key: str(value) for key, value in job_inputs.items() if value not in (None, "")}
        if "connection_string" in given:
            parts = _parsed(given["connection_string"])
        else:
            _require(given, names=("host", "database", "user"))
            names = {
                "host": "host",
                "port": "port",
                "database": "dbname",
                "user": "user",
                "password": "password",
            }
            parts = {libpq: given[name] for name, libpq in names.items() if name in given}
        parts.setdefault("connect_timeout", str(_CONNECT_TIMEOUT_S))
        return cls(make_conninfo("", **parts), schema=given.get("schema"))

    def check(self) -> None:
        """Log in, and make sure that the configured schema exists.

        Raises:
            SourceError: the server, the login, the database or the schema is not as configured.
        """
        with self._catalog() as connection:
            check_schema(connection, schema=self._schema)

    def discover(self) -> list[OfferedTable]:
        """List tables, partitioned tables, views, materialized views and foreign tables.

        Raises:
            SourceError: the database cannot be read.
        """
        with self._catalog() as connection:
            check_schema(connection, schema=self._schema)
            return source_tables(catalog_columns(connection, schema=self._schema), schema=self._schema)

    @contextmanager
    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None,
        keys: Sequence[str],
        since: Since | None,
        cancelled: threading.Event,
    ) -> Iterator[RowStream]:
        """Stream a table from one snapshot of the database.

        Raises:
            SourceError: the table is gone or may not be read, its keys are not unique, or the connection broke.
            SyncCancelled: `cancelled` was set.
        """
        available = self._columns(table)
        names = [column.name for column in available]
        check_keys(keys, available=names, table=table)
        found = [column for column in available if column.name in chosen(names, columns=columns)]
        passages = [passage(column.type) for column in found]
        query = _query(found, passages=passages, since=since)
        arrivals = tuple(
            StreamColumn(column.name, way.received.format(f"c{position}"), is_exact_number=way.is_exact_number)
            for position, (column, way) in enumerate(zip(found, passages, strict=True))
        )
        with (
            _reading(table, cancelled=cancelled),
            dbapi.connect(self._conninfo) as connection,
            interrupting(cancelled, connection.adbc_cancel),
            connection.cursor() as cursor,
        ):
            for setting in _SETTINGS:
                cursor.execute(setting)
            if keys and not _is_unique(keys, declared=primary_key(available)):
                cursor.execute(repeated_key_query(_qualified(found[0]), keys=keys))
                if cursor.fetchall():
                    raise SourceError(REPEATED_KEY)
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: _BATCH_BYTES})
            cursor.execute(query)
            yield RowStream(cursor.fetch_record_batch(), arrivals)

    def _columns(self, table: str) -> list[CatalogColumn]:
        with self._catalog() as connection:
            found = catalog_columns(connection, schema=self._schema, table=table)
        if not found:
            raise SourceError(
                f"Table {table!r} is not in the database any more, or has no columns. Refresh the source's schemas."
            )
        return found

    @contextmanager
    def _catalog(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                yield connection
        except psycopg.Error as exc:
            raise connection_error(exc, parts=conninfo_to_dict(self._conninfo)) from exc


def _query(columns: Sequence[CatalogColumn], *, passages: Sequence[Passage], since: Since | None) -> str:
    """Return the SELECT; its columns are numbered, as Arrow and DuckDB do not distinguish "id" and "ID"."""
    sent = ", ".join(
        f"{way.sent.format(quoted(column.name))} AS c{position}"
        for position, (column, way) in enumerate(zip(columns, passages, strict=True))
    )
    query = f"SELECT {sent} FROM {_qualified(columns[0])}"  # noqa: S608 - quoted
    return f"{query} WHERE {_condition(columns, passages=passages, since=since)}" if since else query


def _qualified(column: CatalogColumn) -> str:
    return f"{quoted(column.namespace)}.{quoted(column.table_name)}"


def _is_unique(keys: Sequence[str], *, declared: Sequence[str]) -> bool:
    """Whether Postgres itself sees to it; asking for every row would be slow."""
    return bool(declared) and set(declared) <= set(keys)


def _condition(columns: Sequence[CatalogColumn], *, passages: Sequence[Passage], since: Since) -> str:
    for column, way in zip(columns, passages, strict=True):
        if column.name == since.field:
            condition = since_condition(since, cursor_type=way.type)
            # NaN orders after every number, and arrives as NULL
            return f"{condition} AND {quoted(column.name)} <> 'NaN'" if column.base == "numeric" else condition
    raise SourceError(
        f"Column {since.field!r}, the incremental field, is not in the table any more. Choose another one."
    )


@contextmanager
def _reading(table: str, *, cancelled: threading.Event) -> Iterator[None]:
    try:
        yield
    except (AdbcError, pa.ArrowException, OSError) as exc:
        if cancelled.is_set():
            raise SyncCancelled from None
        raise reading_error(exc, table=table) from exc


def _parsed(connection_string: str) -> dict[str, str]:
    try:
        return {key: str(value) for key, value in conninfo_to_dict(connection_string).items() if value is not None}
    except psycopg.ProgrammingError:
        # the parser's own text repeats the string, and with it the password
        raise SourceError(
            "The connection string cannot be parsed. Its form is postgresql://user:password@host:5432/database."
        ) from None


def _require(given: Mapping[str, str], *, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in given]
    if missing:
        raise SourceError(f"The Postgres source lacks {', '.join(missing)}. Add it to the source's connection.")
