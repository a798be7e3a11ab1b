"""From the staging file into the warehouse: table, cursor and job note in one transaction."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from dw_orchestration.local.syncing import bookkeeping
from dw_orchestration.local.syncing.bookkeeping import Cursor
from dw_orchestration.local.syncing.cancelling import interrupting
from dw_orchestration.local.syncing.models import (
    WITHOUT_CURSOR,
    SourceError,
    SyncCancelled,
    SyncRequest,
    SyncResult,
    TableColumn,
    literal,
    quoted,
)
from dw_orchestration.local.syncing.types import cursor_kind, is_cured_by_reset

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from dw_orchestration.local.syncing.staging import StagedRows

_STAGED = "staging.staged"


def publish(
    connection: duckdb.DuckDBPyConnection,
    request: SyncRequest,
    staged: StagedRows,
    *,
    behind: Cursor | None,
    cancelled: threading.Event,
) -> SyncResult:
    """Make a sync visible, whole or not at all.

    `behind` is the cursor behind which the staged rows lie, None for the first rows.

    Raises:
        SourceError: the rows do not fit the table, or the table was changed meanwhile.
        SyncCancelled: `cancelled` was set before the commit.
    """
    connection.execute(f"ATTACH {literal(str(staged.path))} AS staging (READ_ONLY)")
    with _transaction(connection, cancelled=cancelled):
        columns = _staged_columns(connection)
        is_full = request.reset or request.sync_type == "full_refresh"
        if not is_full:
            _check_cursor(connection, request, behind=behind)
        if is_full or not bookkeeping.table_columns(connection, request.target):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(request.target.schema)}")
            connection.execute(f"CREATE OR REPLACE TABLE {request.target.qualified} AS FROM {_STAGED}")
        else:
            _add(connection, request, staged, rows=_arriving(connection, request, columns=columns))
        _keep_cursor(connection, request, staged, columns=columns, behind=behind)
        target = request.target
        count = bookkeeping.row_count(connection, target)
        described = bookkeeping.table_columns(connection, target)
        result = SyncResult(request.job_id, staged.rows_read, count, described)
        bookkeeping.record(connection, target, result)
    return result


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, *, cancelled: threading.Event) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        # the commit stays outside: interrupted, nobody could say whether it had happened
        with interrupting(cancelled, connection.interrupt):
            yield
    except duckdb.Error:
        if cancelled.is_set():
            raise SyncCancelled from None
        raise
    if cancelled.is_set():
        raise SyncCancelled
    connection.execute("COMMIT")


def _staged_columns(connection: duckdb.DuckDBPyConnection) -> tuple[TableColumn, ...]:
    described = connection.execute(f"DESCRIBE {_STAGED}").fetchall()
    return tuple(TableColumn(name, data_type) for name, data_type, *_ in described)


def _check_cursor(connection: duckdb.DuckDBPyConnection, request: SyncRequest, *, behind: Cursor | None) -> None:
    """Make sure that the rows still continue the table.

    Raises:
        SourceError: the table was dropped or synced by someone else since the rows were read.
    """
    if bookkeeping.read_cursor(connection, request.target) != behind:
        raise SourceError(
            f"Table {request.table!r} was deleted or replaced while it was syncing. Sync it again.",
            permanent=False,
        )


def _arriving(connection: duckdb.DuckDBPyConnection, request: SyncRequest, *, columns: Sequence[TableColumn]) -> str:
    """Return the SELECT of the staged rows in the types of the table, which gets the columns that it lacks.

    Raises:
        SourceError: values of a column whose type changed at the source do not fit into the table.
    """
    table = request.target.qualified
    stored = {column.name: column.type for column in bookkeeping.table_columns(connection, request.target)}
    chosen = []
    for column in columns:
        name = quoted(column.name)
        if column.name not in stored:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {column.type}")
        elif column.type != stored[column.name]:
            _check_fit(connection, column, stored_type=stored[column.name])
            name = f"CAST({name} AS {stored[column.name]}) AS {name}"
        chosen.append(name)
    return f"SELECT {', '.join(chosen)} FROM {_STAGED}"  # noqa: S608 - quoted


def _check_fit(connection: duckdb.DuckDBPyConnection, column: TableColumn, *, stored_type: str) -> None:
    """Make sure that a column's values keep all of themselves in the type that the table has.

    Raises:
        SourceError: they do not, in PostHog's words.
    """
    name = quoted(column.name)
    kept = f"TRY_CAST(TRY_CAST({name} AS {stored_type}) AS {column.type})"
    query = f"SELECT 1 FROM {_STAGED} WHERE {kept} IS DISTINCT FROM {name} LIMIT 1"  # noqa: S608 - quoted
    if not connection.execute(query).fetchall():
        return
    by_itself = is_cured_by_reset(stored_type, column.type)
    cure = (
        "This table will be reset and fully re-synced automatically at the next scheduled sync. No action is needed."
        if by_itself
        else "Reset and fully re-sync this table to adopt the new type."
    )
    raise SourceError(
        f"Source column type changed: {column.name!r} has values that no longer fit its stored type {stored_type}"
        f" (incoming data is now {column.type}). {cure}",
        cured_by_reset=by_itself,
    )


def _add(connection: duckdb.DuckDBPyConnection, request: SyncRequest, staged: StagedRows, *, rows: str) -> None:
    table = request.target.qualified
    if request.sync_type == "append" or not request.primary_keys:
        connection.execute(f"INSERT INTO {table} BY NAME {rows}")
        return
    keys = (quoted(staged.names[key]) for key in request.primary_keys)
    matched = " AND ".join(f"kept.{key} IS NOT DISTINCT FROM arriving.{key}" for key in keys)
    arriving = set(staged.names.values())
    changes = ", ".join(
        # a column that the source has dropped is empty in all rows that it sends
        f"{quoted(column.name)} = " + (f"arriving.{quoted(column.name)}" if column.name in arriving else "NULL")
        for column in bookkeeping.table_columns(connection, request.target)
    )
    connection.execute(
        f"MERGE INTO {table} AS kept USING ({rows}) AS arriving ON {matched}"
        f" WHEN MATCHED THEN UPDATE SET {changes} WHEN NOT MATCHED THEN INSERT BY NAME"
    )


def _keep_cursor(
    connection: duckdb.DuckDBPyConnection,
    request: SyncRequest,
    staged: StagedRows,
    *,
    columns: Sequence[TableColumn],
    behind: Cursor | None,
) -> None:
    """Store the highest cursor value of the rows themselves; a clock would run ahead of them."""
    column = _cursor_column(request, staged, columns=columns)
    if column is None or request.incremental_field is None:
        bookkeeping.forget_cursor(connection, request.target)
        return
    highest = bookkeeping.highest_value(connection, _STAGED, columns, field=column.name)
    if behind is not None:
        # rows that were changed or deleted at the source do not turn the cursor back
        greatest = f"SELECT CAST(greatest(CAST(? AS {column.type}), CAST(? AS {column.type})) AS VARCHAR)"
        highest = connection.execute(greatest, [highest, behind.value]).fetchall()[0][0]
    if highest is None:
        bookkeeping.forget_cursor(connection, request.target)
    else:
        cursor = Cursor(request.incremental_field, highest)
        bookkeeping.write_cursor(connection, request.target, cursor)


def _cursor_column(request: SyncRequest, staged: StagedRows, *, columns: Sequence[TableColumn]) -> TableColumn | None:
    """Return the cursor's column as staged; None for a sync type that has none.

    Raises:
        SourceError: the table has no such column, or its type has no order.
    """
    field = request.incremental_field
    if request.sync_type in WITHOUT_CURSOR or field is None:
        return None
    for column in columns:
        if column.name == staged.names.get(field):
            if cursor_kind(column.type):
                return column
            raise SourceError(
                f"Column {field!r} of table {request.table!r} is {column.type} and cannot be an incremental"
                " field. Choose a number, date or timestamp."
            )
    raise SourceError(f"Table {request.table!r} has no column {field!r}, its incremental field. Choose another one.")
