"""What the embedded warehouse remembers: one frozen model per table of its state database."""

from __future__ import annotations

import json
from datetime import datetime, time
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict

# How a job that did not fail by itself says why it ended; there is no status for it.
CANCELLED = "Sync cancelled by user"
TURNED_OFF = "Sync stopped because syncing was turned off"
DELETED = "Sync stopped because the table was deleted"
RESTARTED = "The worker was restarted before this sync finished."


# the columns that tables commonly keep to follow changes, best first
_TRACKING_COLUMNS = ("updated_at", "modified_at", "last_modified", "updated", "modified", "created_at")


class Status(StrEnum):
    """States of a schema or a job, spelled as the API prints them."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    BILLING_LIMIT = "Billing limits"
    BILLING_LIMIT_TOO_LOW = "Billing limits too low"  # a job drops the "s", see its view


class StartedBy(StrEnum):
    """Why a job was started; kept for the log, the API does not show it."""

    API = "api"
    RESYNC = "resync"
    SCHEDULE = "schedule"
    ENABLE = "enable"
    CREATE = "create"


def _parse_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


JsonText = BeforeValidator(_parse_json)


class Row(BaseModel):
    """A row of the state database; `table` names where it is kept and `key` its primary key."""

    model_config = ConfigDict(frozen=True)
    table: ClassVar[str]
    key: ClassVar[str] = "id"


class Project(Row):
    """A PostHog project; the embedded warehouse has one."""

    table: ClassVar[str] = "projects"
    id: int
    name: str


class ApiKey(Row):
    """A personal API key, kept as a hash only."""

    table: ClassVar[str] = "api_keys"
    key: ClassVar[str] = "hash"
    hash: str
    scopes: Annotated[tuple[str, ...], JsonText]
    project_ids: Annotated[tuple[int, ...] | None, JsonText] = None  # None: every project
    created_at: datetime

    def allows(self, scope: str) -> bool:
        """Whether the key has a scope, such as `external_data_source:read`; write includes read."""
        needed = {"*", scope, f"{scope.partition(':')[0]}:write"}
        return not needed.isdisjoint(self.scopes)


class Source(Row):
    """An external data source with its connection fields, secrets included."""

    table: ClassVar[str] = "sources"
    id: UUID
    project_id: int
    source_type: str
    prefix: str | None
    description: str | None
    created_via: str
    created_at: datetime
    job_inputs: Annotated[dict[str, Any], JsonText]
    next_discovery: datetime
    webhook_id: UUID | None = None
    auto_sync_new_schemas: bool = False
    auto_sync_schema_patterns: Annotated[tuple[str, ...] | None, JsonText] = None
    deleted: bool = False


class DiscoveredColumn(BaseModel):
    """A column as the source describes it."""

    model_config = ConfigDict(frozen=True)
    name: str
    data_type: str
    is_nullable: bool


class DiscoveredField(BaseModel):
    """A column that an incremental sync could follow."""

    model_config = ConfigDict(frozen=True)
    field: str
    field_type: str
    is_indexed: bool


class DiscoveredTable(BaseModel):
    """What the last discovery found out about a table at the source."""

    model_config = ConfigDict(frozen=True)
    columns: tuple[DiscoveredColumn, ...] = ()
    primary_keys: tuple[str, ...] = ()
    incremental_fields: tuple[DiscoveredField, ...] = ()
    rows: int | None = None
    supports_webhooks: bool = False

    def default_settings(self) -> dict[str, Any]:
        """How the table is synced when nobody says: incremental if it can be, else append, else in full."""
        by_name = {field.field: field for field in self.incremental_fields}
        names = [*(name for name in _TRACKING_COLUMNS if name in by_name), *by_name]
        if not names:
            return {"sync_type": "full_refresh"}
        return {
            "sync_type": "incremental" if self.primary_keys else "append",
            "incremental_field": names[0],
            "incremental_field_type": by_name[names[0]].field_type,
        }


class SyncedColumn(BaseModel):
    """A column of the warehouse table, with its DuckDB type."""

    model_config = ConfigDict(frozen=True)
    name: str
    type: str


class SyncedTable(BaseModel):
    """The warehouse table as the last good sync left it."""

    model_config = ConfigDict(frozen=True)
    id: UUID
    row_count: int
    columns: tuple[SyncedColumn, ...]


class Schema(Row):
    """An external data schema: one table of a source and how it is synced."""

    table: ClassVar[str] = "schemas"
    id: UUID
    project_id: int
    source_id: UUID
    name: str
    created_at: datetime
    updated_at: datetime
    target_schema: str
    target_name: str
    should_sync: bool = False
    status: Status | None = None
    latest_error: str | None = None
    last_synced_at: datetime | None = None
    sync_type: str | None = None
    incremental_field: str | None = None
    incremental_field_type: str | None = None
    incremental_field_lookback_seconds: int | None = None
    sync_frequency: str = "6hour"
    sync_time_of_day: time | None = None
    primary_key_columns: Annotated[tuple[str, ...] | None, JsonText] = None
    enabled_columns: Annotated[tuple[str, ...] | None, JsonText] = None
    full_refresh_interval_days: int | None = None
    full_refresh_time_of_day: time | None = None
    next_full_refresh_at: datetime | None = None
    discovered: Annotated[DiscoveredTable, JsonText] = DiscoveredTable()
    synced: Annotated[SyncedTable | None, JsonText] = None
    reset_pipeline: bool = False
    deleted: bool = False


class Job(Row):
    """One run of one schema."""

    table: ClassVar[str] = "jobs"
    id: UUID
    source_id: UUID
    schema_id: UUID
    created_at: datetime
    finished_at: datetime | None = None
    status: Status = Status.RUNNING
    rows_synced: int = 0
    latest_error: str | None = None
    workflow_run_id: UUID
    started_by: StartedBy
    was_reset: bool = False
    counts_in_streak: bool = False  # a failure that may hold the next run back
    billable: bool | None = None
    cdc_write_mode: str | None = None


class Schedule(Row):
    """When a schema is synced by itself; made at its first enable."""

    table: ClassVar[str] = "schedules"
    key: ClassVar[str] = "schema_id"
    schema_id: UUID
    every_s: int
    offset_s: int
    start_at: datetime
    paused: bool = False
    next_tick: datetime


class LogLine(Row):
    """A line of a job's log."""

    table: ClassVar[str] = "log_lines"
    schema_id: UUID
    job_id: UUID
    timestamp: datetime
    level: str
    message: str


class PushedRow(Row):
    """A row that arrived by webhook, until a sync has taken it."""

    table: ClassVar[str] = "pushed_rows"
    schema_id: UUID
    content: Annotated[dict[str, Any], JsonText]


class ShownLine(LogLine):
    """A line of a job's log, with the key by which the API knows the job."""

    workflow_run_id: UUID
