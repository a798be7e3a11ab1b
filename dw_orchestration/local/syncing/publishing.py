"""From the staging file into the warehouse: table, cursor and job note in one transaction."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from dw_orchestration.local.syncing import bookkeeping
from dw_orchestration.local.syncing.bookkeeping import Cursor
from dw_orchestration.local.syncing.cancelling import interrupting
from dw_orchestration.local.syncing.models import (
    SourceError,
    SyncCancelled,
    SyncRequest,
    SyncResult,
    TableColumn,
    literal,
    quoted,
)
from dw_orchestration.local.syncing.types import common_type, is_cursor_type

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

    `behind` is the cursor behind which the staged rows lie, None when they are the whole table.

    Raises:
        SourceError: the rows do not fit the table, or the table was changed meanwhile.
        SyncCancelled: `cancelled` was set before the commit.
    """
    connection.execute(f"ATTACH {literal(str(staged.path))} AS staging (READ_ONLY)")
    with _transaction(connection, cancelled=cancelled):
        columns = _staged_columns(connection)
        if behind is None:
            _replace(connection, request, staged, columns=columns)
        else:
            _check_cursor(connection, request, behind=behind)
            _widen(connection, request, columns=columns)
            _add(connection, request, staged, columns=columns)
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


def _check_cursor(connection: duckdb.DuckDBPyConnection, request: SyncRequest, *, behind: Cursor) -> None:
    """Make sure that the rows still continue the table.

    Raises:
        SourceError: the table was dropped or synced by someone else since the rows were read.
    """
    if bookkeeping.read_cursor(connection, request.target) != behind:
        raise SourceError(
            f"Table {request.table!r} was deleted or replaced while it was syncing. Sync it again.",
            permanent=False,
        )


def _replace(
    connection: duckdb.DuckDBPyConnection,
    request: SyncRequest,
    staged: StagedRows,
    *,
    columns: Sequence[TableColumn],
) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(request.target.schema)}")
    rows = f"SELECT * FROM {_STAGED}"  # noqa: S608 - a constant
    if request.sync_type == "incremental":
        rows = _one_row_per_key(connection, request, staged, columns=columns)
    connection.execute(f"CREATE OR REPLACE TABLE {request.target.qualified} AS {rows}")


def _widen(connection: duckdb.DuckDBPyConnection, request: SyncRequest, *, columns: Sequence[TableColumn]) -> None:
    """Give the table every staged column, in a type that holds the old values and the new ones.

    Raises:
        SourceError: there is no such type.
    """
    table = request.target.qualified
    kept = {column.name.lower(): column.type for column in bookkeeping.table_columns(connection, request.target)}
    for column in columns:
        before = kept.get(column.name.lower())
        if before is None:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(column.name)} {column.type}")
            continue
        after = common_type(before, column.type)
        if after is None:
            raise SourceError(
                f"Column {column.name!r} of table {request.table!r} was {before} and is {column.type} now."
                " No type holds both: resync the table."
            )
        if after != before:
            connection.execute(f"ALTER TABLE {table} ALTER {quoted(column.name)} SET DATA TYPE {after}")


def _add(
    connection: duckdb.DuckDBPyConnection,
    request: SyncRequest,
    staged: StagedRows,
    *,
    columns: Sequence[TableColumn],
) -> None:
    table = request.target.qualified
    if request.sync_type == "append":
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {_STAGED}")  # noqa: S608 - quoted
        return
    rows = _one_row_per_key(connection, request, staged, columns=columns)
    keys = _keys(request, staged)
    matched = " AND ".join(f"kept.{key} IS NOT DISTINCT FROM arriving.{key}" for key in keys)
    changes = ", ".join(f"{name} = arriving.{name}" for name in (quoted(column.name) for column in columns))
    connection.execute(
        f"MERGE INTO {table} AS kept USING ({rows}) AS arriving ON {matched}"
        f" WHEN MATCHED THEN UPDATE SET {changes} WHEN NOT MATCHED THEN INSERT BY NAME"
    )


def _one_row_per_key(
    connection: duckdb.DuckDBPyConnection,
    request: SyncRequest,
    staged: StagedRows,
    *,
    columns: Sequence[TableColumn],
) -> str:
    """Return the SELECT of the staged rows, without those that a later row of the same key replaces."""
    keys = ", ".join(_keys(request, staged))
    # a sort of all rows is costly, and a real primary key never needs it
    repeated = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {_STAGED} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1)"  # noqa: S608 - quoted
    ).fetchall()
    rows = f"SELECT * FROM {_STAGED}"  # noqa: S608 - a constant
    if not repeated[0][0]:
        return rows
    cursor = _cursor_column(request, staged, columns=columns)
    latest = f"{quoted(cursor.name)} DESC NULLS LAST" if cursor else "1"
    return f"{rows} QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {latest}) = 1"


def _keys(request: SyncRequest, staged: StagedRows) -> list[str]:
    missing = [key for key in request.primary_keys if key not in staged.names]
    if missing:
        raise SourceError(
            f"Table {request.table!r} has no column {', '.join(map(repr, missing))}, named by its primary"
            " key. Correct the primary key, or use full_refresh."
        )
    return [quoted(staged.names[key]) for key in request.primary_keys]


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
        cursor = Cursor(request.sync_type, request.incremental_field, highest)
        bookkeeping.write_cursor(connection, request.target, cursor)


def _cursor_column(request: SyncRequest, staged: StagedRows, *, columns: Sequence[TableColumn]) -> TableColumn | None:
    """Return the cursor's column as staged; None for a full refresh.

    Raises:
        SourceError: the table has no such column, or its type has no order.
    """
    field = request.incremental_field
    if request.sync_type == "full_refresh" or field is None:
        return None
    for column in columns:
        if column.name == staged.names.get(field):
            if is_cursor_type(column.type):
                return column
            raise SourceError(
                f"Column {field!r} of table {request.table!r} is {column.type} and cannot be an incremental"
                " field. Choose a number, date or timestamp."
            )
    raise SourceError(f"Table {request.table!r} has no column {field!r}, its incremental field. Choose another one.")
