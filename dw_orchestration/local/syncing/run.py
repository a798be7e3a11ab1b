"""One sync of one table, from the source to the committed result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from dw_orchestration.local.syncing import bookkeeping
from dw_orchestration.local.syncing.connector import Connector, Since
from dw_orchestration.local.syncing.models import SourceError, SyncRequest, SyncResult
from dw_orchestration.local.syncing.publishing import publish

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dw_orchestration.local.syncing.bookkeeping import Cursor
    from dw_orchestration.local.syncing.staging import StagedRows
    from dw_orchestration.local.syncing.warehouse import Warehouse

_SYNC_TYPES = ("full_refresh", "incremental", "append")


def run_sync(
    request: SyncRequest,
    connector: Connector,
    warehouse: Warehouse,
    *,
    on_progress: Callable[[int], None],
    cancelled: threading.Event,
) -> SyncResult:
    """Sync a table; a job that was committed before a crash is not run again.

    `on_progress` is called from another thread with the number of rows read so far.

    Raises:
        SourceError: the table cannot be synced; the old one is as it was.
        SyncCancelled: `cancelled` was set in time; the old table is as it was.
    """
    _check(request)
    with warehouse.opened(cancelled=cancelled) as connection:
        done = bookkeeping.published(connection, request.job_id)
        behind = _cursor(connection, request)
    if done is not None:
        return done
    staged = warehouse.staging_for(request.job_id)
    try:
        _stage(request, connector, staged, behind=behind, on_progress=on_progress, cancelled=cancelled)
        with warehouse.opened(cancelled=cancelled) as connection:
            return publish(connection, request, staged, behind=behind, cancelled=cancelled)
    except duckdb.Error as exc:
        line = str(exc).strip().splitlines()[0]
        raise SourceError(f"Table {request.table!r} cannot be written: {line}", permanent=False) from exc
    finally:
        staged.remove()


def _stage(
    request: SyncRequest,
    connector: Connector,
    staged: StagedRows,
    *,
    behind: Cursor | None,
    on_progress: Callable[[int], None],
    cancelled: threading.Event,
) -> None:
    since = _since(request, behind=behind)
    with connector.read(
        request.table,
        columns=_columns(request),
        keys=request.primary_keys,
        since=since,
        cancelled=cancelled,
    ) as stream:
        staged.fill(stream, on_progress=on_progress, cancelled=cancelled)


def _check(request: SyncRequest) -> None:
    if request.sync_type not in _SYNC_TYPES:
        raise SourceError(
            f"Table {request.table!r} has the sync type {request.sync_type!r}, which is not served here."
            f" Use one of {', '.join(_SYNC_TYPES)}."
        )
    if request.sync_type == "full_refresh":
        return
    if request.incremental_field is None:
        raise SourceError(f"Table {request.table!r} has no incremental field. Set one, or use full_refresh.")
    if request.sync_type == "incremental" and not request.primary_keys:
        raise SourceError(
            f"Table {request.table!r} has no primary key to merge on. Set its primary key columns, or use"
            " append or full_refresh."
        )


def _cursor(connection: duckdb.DuckDBPyConnection, request: SyncRequest) -> Cursor | None:
    """Return where to continue, or None to take everything.

    A table that append wrote may hold a key twice, so another sync type starts from scratch.
    """
    if request.reset or request.sync_type == "full_refresh" or request.incremental_field is None:
        return None
    cursor = bookkeeping.read_cursor(connection, request.target)
    if cursor is None or cursor.sync_type != request.sync_type:
        return None
    if cursor.field == request.incremental_field:
        return cursor
    return bookkeeping.move_cursor(connection, request.target, cursor, field=request.incremental_field)


def _since(request: SyncRequest, *, behind: Cursor | None) -> Since | None:
    if behind is None:
        return None
    merging = request.sync_type == "incremental"
    return Since(
        field=behind.field,
        value=behind.value,
        inclusive=merging,
        # rows that append reads again would be there twice
        lookback_seconds=(request.lookback_seconds or 0) if merging else 0,
    )


def _columns(request: SyncRequest) -> tuple[str, ...] | None:
    if request.enabled_columns is None:
        return None
    cursor = (request.incremental_field,) if request.incremental_field else ()
    return (*request.enabled_columns, *request.primary_keys, *cursor)
