"""Snapshots of projects that are nowhere, to build definitions from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dw_orchestration.posthog.enums import AccessMethod, SyncFrequency, SyncStatus, SyncType
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

TAKEN_AT = datetime(2026, 11, 3, tzinfo=UTC)


def table(name: str, **settings: Any) -> Schema:
    """An enabled table, synced in full every six hours, except for the given settings."""
    as_usual: dict[str, Any] = {
        "id": f"id-of-{name}",
        "name": name,
        "should_sync": True,
        "sync_type": SyncType.FULL_REFRESH,
        "sync_frequency": SyncFrequency.SIX_HOURS,
    }
    return Schema(**as_usual | settings)


OFF = {"should_sync": False}
NEVER_SET_UP = {"should_sync": False, "sync_type": None}
GIVEN_UP = {"should_sync": False, "status": SyncStatus.FAILED, "latest_error": "Connection refused"}


def source(source_type: str, tables: Sequence[Schema], *, prefix: str | None = None, **more: Any) -> SourceSnapshot:
    """A source with these tables."""
    as_usual: dict[str, Any] = {
        "id": f"id-of-{source_type}-{prefix}",
        "source_type": source_type,
        "prefix": prefix,
        "description": None,
        "access_method": AccessMethod.WAREHOUSE,
        "upstream": prefix or source_type,
        "schemas": tuple(tables),
    }
    return SourceSnapshot(**as_usual | more)


def project(*sources: SourceSnapshot, **more: Any) -> WarehouseSnapshot:
    """A project with these sources."""
    as_usual: dict[str, Any] = {"taken_at": TAKEN_AT, "host": "https://eu.posthog.com", "project_id": "1"}
    return WarehouseSnapshot(**as_usual | {"sources": sources} | more)
