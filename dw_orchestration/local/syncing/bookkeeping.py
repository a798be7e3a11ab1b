"""What the warehouse file stores in addition to the tables: cursors, and the jobs that were committed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dw_orchestration.local.syncing.models import SyncResult, TableColumn, TargetTable, quoted
from dw_orchestration.local.syncing.types import can_be_endless, cursor_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

_KEPT_JOBS = 1000


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the last sync of a table ended."""

    field: str
    value: str


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the bookkeeping tables, if they are not there."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS _dw")
    connection.execute("CREATE TABLE IF NOT EXISTS _dw.cursors (target VARCHAR, field VARCHAR, value VARCHAR)")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS _dw.published"
        " (number BIGINT, job_id VARCHAR, target VARCHAR, rows_synced BIGINT, row_count BIGINT, columns JSON)"
    )


def read_cursor(connection: duckdb.DuckDBPyConnection, target: TargetTable) -> Cursor | None:
    """Return a table's cursor, or None when there is none."""
    query = "SELECT field, value FROM _dw.cursors WHERE target = ?"
    rows = connection.execute(query, [target.qualified]).fetchall()
    return Cursor(*rows[0]) if rows else None


def write_cursor(connection: duckdb.DuckDBPyConnection, target: TargetTable, cursor: Cursor) -> None:
    """Replace a table's cursor."""
    forget_cursor(connection, target)
    connection.execute(
        "INSERT INTO _dw.cursors (target, field, value) VALUES (?, ?, ?)",
        [target.qualified, cursor.field, cursor.value],
    )


def highest_value(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Iterable[TableColumn], *, field: str
) -> str | None:
    """Return a column's highest finite value as text; None when it has none, or cannot lead.

    An endless value would hold the cursor permanently.
    """
    for column in columns:
        if column.name == field and cursor_kind(column.type):
            name = quoted(field)
            finite = f"WHERE isfinite({name})" if can_be_endless(column.type) else ""
            query = f"SELECT CAST(max({name}) AS VARCHAR) FROM {table} {finite}"  # noqa: S608 - quoted
            return cast("str | None", connection.execute(query).fetchall()[0][0])
    return None


def forget_cursor(connection: duckdb.DuckDBPyConnection, target: TargetTable) -> None:
    """Remove a table's cursor: the next sync takes everything."""
    connection.execute("DELETE FROM _dw.cursors WHERE target = ?", [target.qualified])


def record(connection: duckdb.DuckDBPyConnection, target: TargetTable, result: SyncResult) -> None:
    """Note that a job's rows are in the table, and let go of the oldest notes."""
    columns = json.dumps([[column.name, column.type] for column in result.columns])
    connection.execute(
        "INSERT INTO _dw.published SELECT coalesce(max(number), 0) + 1, ?, ?, ?, ?, ? FROM _dw.published",
        [result.job_id, target.qualified, result.rows_synced, result.row_count, columns],
    )
    connection.execute(
        "DELETE FROM _dw.published WHERE number <= (SELECT max(number) FROM _dw.published) - ?", [_KEPT_JOBS]
    )


def published(connection: duckdb.DuckDBPyConnection, job_id: str) -> SyncResult | None:
    """Return a committed job's result, or None."""
    query = "SELECT rows_synced, row_count, columns FROM _dw.published WHERE job_id = ?"
    for rows_synced, count, columns in connection.execute(query, [job_id]).fetchall():
        described = tuple(TableColumn(name, data_type) for name, data_type in json.loads(columns))
        return SyncResult(job_id, rows_synced, count, described)
    return None


def table_columns(connection: duckdb.DuckDBPyConnection, target: TargetTable) -> tuple[TableColumn, ...]:
    """Return a table's columns in order; none when there is no such table."""
    query = (
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = current_database() AND schema_name = ? AND table_name = ?"
        " ORDER BY column_index"
    )
    rows = connection.execute(query, [target.schema, target.name]).fetchall()
    return tuple(TableColumn(name, data_type) for name, data_type in rows)


def row_count(connection: duckdb.DuckDBPyConnection, target: TargetTable) -> int:
    """Return the number of rows of an existing table."""
    rows = connection.execute(f"SELECT count(*) FROM {target.qualified}").fetchall()  # noqa: S608 - quoted
    return int(rows[0][0])
