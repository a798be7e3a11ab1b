"""Schemas and their tables as the API shows them."""

from __future__ import annotations

from datetime import datetime, time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from dw_orchestration.local.api.table_views import TableBrief, TableOut, table_brief, table_out
from dw_orchestration.local.syncing import MISSING_KEY, REPEATED_KEY

if TYPE_CHECKING:
    from dw_orchestration.local.rows import (
        Schema,
        ShownLine,
        Source,
    )

# the errors that another primary key cures
_BLOCKED = {MISSING_KEY: "missing_primary_key", REPEATED_KEY: "duplicate_primary_key"}


class AvailableColumnOut(BaseModel):
    """A column that the source offers."""

    name: str
    data_type: str
    is_nullable: bool


class SchemaSourceOut(BaseModel):
    """The source of a schema; only the answer for a single schema has it."""

    id: UUID
    source_type: str
    access_method: str = "warehouse"
    supports_column_selection: bool = True
    supports_row_filters: bool = False
    user_access_level: str = "editor"


class SchemaOut(BaseModel):
    """A schema in full."""

    id: UUID
    name: str
    label: str | None = None
    table: TableOut | None
    should_sync: bool
    last_synced_at: datetime | None
    latest_error: str | None
    incremental_sync_blocked: str | None
    incremental: bool
    status: str | None
    sync_type: str | None
    incremental_field: str | None
    incremental_field_type: str | None
    incremental_field_lookback_seconds: int | None
    sync_frequency: str | None
    sync_time_of_day: time | None
    full_refresh_interval_days: int | None
    full_refresh_time_of_day: time | None
    next_full_refresh_at: datetime | None
    description: str | None = None
    primary_key_columns: list[str] | None
    cdc_table_mode: str = "consolidated"
    enabled_columns: list[str] | None
    available_columns: list[AvailableColumnOut]
    row_filters: list[Any] | None = None
    source_column_metadata_available: bool
    api_version: str | None = None
    api_version_deprecation: dict[str, Any] | None = None
    user_access_level: str = "editor"
    source: SchemaSourceOut | None = None


class SchemaBrief(BaseModel):
    """A schema in a list of sources."""

    id: UUID
    name: str
    label: str | None = None
    should_sync: bool
    status: str | None
    sync_type: str | None
    sync_frequency: str | None
    last_synced_at: datetime | None
    latest_error: str | None
    table: TableBrief | None


class LogLineOut(BaseModel):
    """A line of a job's log."""

    log_source_id: UUID
    instance_id: UUID
    timestamp: datetime
    level: str
    message: str


def schema_out(schema: Schema, *, source: Source | None = None) -> SchemaOut:
    """A schema in full; with its source only where PostHog shows it."""
    fields = schema.model_dump(exclude={"synced", "discovered"})
    columns = [AvailableColumnOut(**column.model_dump()) for column in schema.discovered.columns]
    return SchemaOut(
        **fields,
        table=table_out(schema),
        incremental=schema.sync_type == "incremental",
        incremental_sync_blocked=_BLOCKED.get(schema.latest_error or ""),
        available_columns=columns,
        source_column_metadata_available=bool(columns),
        source=SchemaSourceOut(id=source.id, source_type=source.source_type) if source else None,
    )


def schema_brief(schema: Schema) -> SchemaBrief:
    """A schema as a list of sources shows it."""
    return SchemaBrief(**schema.model_dump(), table=table_brief(schema))


def log_line_out(line: ShownLine) -> LogLineOut:
    """A line of a job's log; the run of the job is the instance of the schema's log."""
    return LogLineOut(
        log_source_id=line.schema_id,
        instance_id=line.workflow_run_id,
        timestamp=line.timestamp,
        level=line.level,
        message=line.message,
    )
