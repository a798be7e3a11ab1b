"""The API's records: frozen, with aware UTC times. Unknown fields are ignored, because PostHog keeps adding some."""

from collections.abc import Mapping
from datetime import UTC, datetime, time
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from dw_orchestration.posthog.enums import (
    AccessMethod,
    CdcTableMode,
    IncrementalFieldType,
    IncrementalSyncBlock,
    JobStatus,
    LogLevel,
    SyncFrequency,
    SyncStatus,
    SyncType,
)
from dw_orchestration.posthog.errors import UsageError
from dw_orchestration.posthog.rows import NO_TABLE, Rows


def _in_utc(value: datetime) -> datetime:
    """PostHog's times are UTC, also those without an offset."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Servers from before June 2026 answer 200 but store these only if `sync_type` is in the same body.
NEEDS_SYNC_TYPE = frozenset({"incremental_field", "incremental_field_type", "primary_key_columns"})

UtcDatetime = Annotated[datetime, AfterValidator(_in_utc)]


class ApiModel(BaseModel):
    """Base of all records that the API returns."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Column(ApiModel):
    """One column of a synced table."""

    name: str
    type: str = "unknown"
    key: str | None = None


class SourceColumn(ApiModel):
    """One column of a table in its source."""

    name: str


class WarehouseTable(ApiModel):
    """The synced table of a schema. It does not exist before the first successful sync.

    `name` is the name that a query uses: show it, do not parse it.
    """

    id: str
    name: str
    row_count: int | None = None
    columns: Rows[Column] = Rows()


class SourceReference(ApiModel):
    """The source of a schema. Only newer servers include it, and only in a single schema."""

    id: str
    source_type: str | None = None
    access_method: AccessMethod | None = None


class Schema(ApiModel):
    """An external data schema: one table that PostHog syncs.

    `last_synced_at` is the *start* of the last successful job: the data is complete as of then. In a list of sources,
    newer servers include only the fields up to `table`.
    """

    id: str
    name: str
    label: str | None = None
    should_sync: bool = False
    status: SyncStatus | None = None
    sync_type: SyncType | None = None
    last_synced_at: UtcDatetime | None = None
    latest_error: str | None = None
    table: WarehouseTable | None = None
    incremental: bool = False
    incremental_field: str | None = None
    incremental_field_type: IncrementalFieldType | None = None
    incremental_field_lookback_seconds: int | None = None
    sync_frequency: SyncFrequency | None = None
    sync_time_of_day: time | None = None
    description: str | None = None
    primary_key_columns: tuple[str, ...] | None = None
    cdc_table_mode: CdcTableMode | None = None
    enabled_columns: tuple[str, ...] | None = None
    available_columns: Rows[SourceColumn] | None = None
    row_filters: object = None
    full_refresh_interval_days: int | None = None
    full_refresh_time_of_day: time | None = None
    next_full_refresh_at: UtcDatetime | None = None
    incremental_sync_blocked: IncrementalSyncBlock | None = None
    user_access_level: str | None = None
    source: SourceReference | None = None


class Source(ApiModel):
    """An external data source with its schemas.

    Do not base decisions on `status`: PostHog computes it, and a source with no enabled schema is always
    Running.
    """

    id: str
    source_type: str
    created_at: UtcDatetime | None = None
    created_by: str | None = None
    status: SyncStatus | None = None
    latest_error: str | None = None
    prefix: str | None = None
    description: str | None = None
    access_method: AccessMethod = AccessMethod.WAREHOUSE
    engine: str | None = None
    last_run_at: UtcDatetime | None = None
    # required: another product's JSON must not look like a source without tables
    schemas: Rows[Schema]
    job_inputs: Mapping[str, object] | None = Field(default=None, repr=False)
    supports_webhooks: bool | None = None
    created_via: str | None = None
    auto_sync_new_schemas: bool | None = None
    auto_sync_schema_patterns: tuple[str, ...] | None = None
    revenue_analytics_config: Mapping[str, object] | None = None
    user_access_level: str | None = None


class JobSchema(ApiModel):
    """The schema of a job, as it is *now*, not as it was when the job ran."""

    id: str
    name: str
    label: str | None = None
    should_sync: bool = False
    sync_type: SyncType | None = None
    last_synced_at: UtcDatetime | None = None


class Job(ApiModel):
    """One sync of one schema. `rows_synced` counts the rows of this job, not of the table."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    created_at: UtcDatetime
    status: JobStatus
    table: JobSchema = Field(alias="schema")
    finished_at: UtcDatetime | None = None
    rows_synced: int | None = None
    latest_error: str | None = None
    workflow_run_id: str | None = None
    cdc_write_mode: str | None = None
    billable: bool | None = None

    @field_validator("table", mode="before")
    @classmethod
    def _belongs_to_a_table(cls, value: object) -> object:
        """Jobs from before a job synced one table are still listed, with a schema that has no id."""
        if value is None or (isinstance(value, Mapping) and value.get("id") is None):
            raise PydanticCustomError(NO_TABLE, "it has no id, so the job belongs to no table")
        return value

    @property
    def schema_id(self) -> str:
        """The id of the schema that this job syncs."""
        return self.table.id


class IncrementalField(ApiModel):
    """A column that an incremental sync can use as its cursor."""

    field: str
    field_type: IncrementalFieldType
    label: str | None = None
    type: str | None = None
    nullable: bool | None = None
    is_indexed: bool | None = None


class AvailableColumn(ApiModel):
    """A column of a table in its source, with its type."""

    field: str
    type: str | None = None
    label: str | None = None
    nullable: bool | None = None


class IncrementalFields(ApiModel):
    """How a schema can be synced, as its source reports now."""

    incremental_fields: Rows[IncrementalField] = Rows()
    incremental_available: bool = False
    append_available: bool = False
    full_refresh_available: bool = True
    cdc_available: bool | None = None
    supports_webhooks: bool | None = None
    available_columns: Rows[AvailableColumn] = Rows()
    detected_primary_keys: tuple[str, ...] | None = None


class LogLine(ApiModel):
    """A line that PostHog logged during a sync."""

    timestamp: UtcDatetime
    level: LogLevel
    message: str
    instance_id: str | None = None


class RefreshedSchemas(ApiModel):
    """How many tables a discovery changed."""

    added: int = 0
    deleted: int = 0
    total_tables_seen: int | None = None
    auto_enabled: int | None = None


class WebhookCreated(ApiModel):
    """The answer to `create_webhook`. If the provider refused, `success` is False and `error` has the reason."""

    success: bool
    webhook_url: str | None = None
    error: str | None = None
    pending_inputs: Rows[str] | None = None


class WebhookDeleted(ApiModel):
    """The answer to `delete_webhook`."""

    success: bool
    external_deleted: bool | None = None
    error: str | None = None


class WebhookStatus(ApiModel):
    """The state of a webhook at the provider; `error` is the provider's own."""

    error: str | None = None


class WebhookInfo(ApiModel):
    """Whether a source's webhook exists. Check it before `create_webhook`, which may register a second one."""

    exists: bool = False
    webhook_url: str | None = None
    error: str | None = None
    external_status: WebhookStatus | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with the webhook, in PostHog's or the provider's words; None if nothing is known to be."""
        return self.error or (self.external_status.error if self.external_status else None)


class SchemaUpdate(BaseModel):
    """A change of a schema's settings. Only the fields that are set are sent.

    An explicit None clears `sync_time_of_day`, `full_refresh_interval_days`, `full_refresh_time_of_day`,
    `enabled_columns` (all columns) and `row_filters` (all rows). To disable a table use `should_sync=False`; no
    frequency does that.

    `apply_sync_defaults=True` enables a table that was never configured, with the settings that PostHog chooses. Only
    `bulk_update_schemas` takes it, on servers since November 2026.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    should_sync: bool | None = None
    sync_type: SyncType | None = None
    incremental_field: str | None = None
    incremental_field_type: IncrementalFieldType | None = None
    incremental_field_lookback_seconds: int | None = Field(default=None, ge=0, le=5_184_000)
    sync_frequency: SyncFrequency | None = None
    sync_time_of_day: time | None = None
    primary_key_columns: tuple[str, ...] | None = None
    cdc_table_mode: CdcTableMode | None = None
    enabled_columns: tuple[str, ...] | None = None
    row_filters: tuple[Mapping[str, object], ...] | None = None
    full_refresh_interval_days: int | None = Field(default=None, ge=1, le=90)
    full_refresh_time_of_day: time | None = None
    apply_sync_defaults: bool | None = None

    def body(self) -> dict[str, object]:
        """The JSON body of the change.

        Raises:
            UsageError: PostHog would accept the change but lose it, or break the schema. The message says what to send.
        """
        self._refuse_what_posthog_would_lose()
        body: dict[str, object] = self.model_dump(mode="json", exclude_unset=True)
        for name, moment in self._times().items():
            # PostHog accepts exactly HH:MM:SS, without a fraction or an offset.
            body[name] = moment.strftime("%H:%M:%S")
        return body

    def _times(self) -> dict[str, time]:
        times = {name: getattr(self, name) for name in ("sync_time_of_day", "full_refresh_time_of_day")}
        return {name: moment for name, moment in times.items() if moment is not None}

    def _refuse_what_posthog_would_lose(self) -> None:
        sent = self.model_fields_set
        if not sent:
            raise UsageError("The update is empty: set at least one field.")
        if "sync_frequency" in sent and self.sync_frequency in (None, SyncFrequency.NEVER):
            raise UsageError(
                f"Invalid sync_frequency {self.sync_frequency!s}: "
                "disable the table with should_sync=False, or use the longest frequency, 30day."
            )
        if self.sync_type is None and (orphans := sorted(sent & NEEDS_SYNC_TYPE)):
            raise UsageError(
                f"Cannot set {', '.join(orphans)} without sync_type: PostHog would answer 200 and store nothing. "
                "Set the table's sync_type in the same update."
            )
        for name, moment in self._times().items():
            if moment.utcoffset():
                raise UsageError(f"Invalid {name} {moment}: PostHog uses only UTC, so leave out the offset.")
