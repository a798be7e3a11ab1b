"""One sync of one table, from the source to the committed result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from dw_orchestration.local.syncing import bookkeeping
from dw_orchestration.local.syncing.connector import MISSING_KEY, Connector, Since, describe_since
from dw_orchestration.local.syncing.models import WITHOUT_CURSOR, SourceError, SyncRequest, SyncResult
from dw_orchestration.local.syncing.publishing import publish

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dw_orchestration.local.syncing.bookkeeping import Cursor
    from dw_orchestration.local.syncing.staging import StagedRows
    from dw_orchestration.local.syncing.warehouse import Warehouse

_SYNC_TYPES = ("full_refresh", "incremental", "append", "webhook")


def run_sync(
    request: SyncRequest,
    connector: Connector,
    warehouse: Warehouse,
    *,
    on_progress: Callable[[int], None],
    on_step: Callable[[str], None] = lambda _: None,
    cancelled: threading.Event,
) -> SyncResult:
    """Sync a table; a job that was committed before a crash is not run again.

    `on_progress` is called from another thread with the number of rows read so far, `on_step` with lines for a log.

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
    since = _since(request, behind=behind)
    on_step(f"Reading {describe_since(since) if since else 'all rows'} of {request.table}")
    try:
        _stage(request, connector, staged, since=since, on_progress=on_progress, cancelled=cancelled)
        on_step(f"Read {staged.rows_read} rows of {request.table}")
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
    since: Since | None,
    on_progress: Callable[[int], None],
    cancelled: threading.Event,
) -> None:
    with connector.read(
        request.table,
        columns=_columns(request),
        keys=request.primary_keys if request.sync_type == "incremental" else (),
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
    if request.sync_type in WITHOUT_CURSOR:
        return
    if request.incremental_field is None or request.incremental_field_type is None:
        raise SourceError(
            f"Table {request.table!r} has no incremental field, or no type of it. Set both, or use full_refresh."
        )
    if request.sync_type == "incremental" and not request.primary_keys:
        raise SourceError(MISSING_KEY)


def _cursor(connection: duckdb.DuckDBPyConnection, request: SyncRequest) -> Cursor | None:
    """Return where to continue, or None to start from scratch."""
    if request.reset or request.sync_type in WITHOUT_CURSOR:
        return None
    cursor = bookkeeping.read_cursor(connection, request.target)
    return cursor if cursor is not None and cursor.field == request.incremental_field else None


def _since(request: SyncRequest, *, behind: Cursor | None) -> Since | None:
    field, field_type = request.incremental_field, request.incremental_field_type
    if request.sync_type in WITHOUT_CURSOR or field is None or field_type is None:
        return None
    return Since(
        field=field,
        field_type=field_type,
        value=behind.value if behind else None,
        # rows that append reads again would be there twice
        lookback_seconds=(request.lookback_seconds or 0) if request.sync_type == "incremental" else 0,
    )


def _columns(request: SyncRequest) -> tuple[str, ...] | None:
    if request.enabled_columns is None:
        return None
    cursor = (request.incremental_field,) if request.incremental_field else ()
    return (*request.enabled_columns, *request.primary_keys, *cursor)
