"""The embedded warehouse's syncs: Postgres and files into DuckDB, whole or not at all."""

from __future__ import annotations

from dw_orchestration.local.syncing.connector import MISSING_KEY, REPEATED_KEY, Connector
from dw_orchestration.local.syncing.models import (
    CursorColumn,
    OfferedColumn,
    OfferedTable,
    SourceError,
    SyncCancelled,
    SyncRequest,
    SyncResult,
    TableColumn,
    TargetTable,
)
from dw_orchestration.local.syncing.run import run_sync
from dw_orchestration.local.syncing.source_types import connector_for
from dw_orchestration.local.syncing.staging import snake_case
from dw_orchestration.local.syncing.warehouse import Warehouse

__all__ = [
    "MISSING_KEY",
    "REPEATED_KEY",
    "Connector",
    "CursorColumn",
    "OfferedColumn",
    "OfferedTable",
    "SourceError",
    "SyncCancelled",
    "SyncRequest",
    "SyncResult",
    "TableColumn",
    "TargetTable",
    "Warehouse",
    "connector_for",
    "run_sync",
    "snake_case",
]
