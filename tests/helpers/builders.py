"""Snapshots to build definitions from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

if TYPE_CHECKING:
    from dw_orchestration.posthog.models import Schema


def snapshot_of(*sources: SourceSnapshot) -> WarehouseSnapshot:
    """A snapshot of these sources."""
    return WarehouseSnapshot(
        taken_at=datetime(2026, 11, 3, tzinfo=UTC), host="https://eu.posthog.com", project_id="1", sources=sources
    )


def source_of(
    *schemas: Schema, source_type: str = "Postgres", prefix: str | None = None, source_id: str = "s", host: str = ""
) -> SourceSnapshot:
    """A source of these schemas."""
    return SourceSnapshot(
        id=source_id,
        source_type=source_type,
        prefix=prefix,
        description=None,
        access_method=AccessMethod.WAREHOUSE,
        upstream=prefix or host or source_type,
        schemas=schemas,
    )
