"""Sources and jobs as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from dw_orchestration.local.api.schema_views import SchemaBrief, SchemaOut, schema_brief, schema_out
from dw_orchestration.local.rows import Status
from dw_orchestration.local.webhooks import supports_webhooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dw_orchestration.local.rows import Job, Schema, Source
    from dw_orchestration.local.store import Store

# The connection fields that are no secrets; a type that is not here shows none.
_OPEN_INPUTS = {"Postgres": ("host", "port", "database", "user", "schema")}


class RevenueConfigOut(BaseModel):
    """Settings of PostHog's revenue analytics; the embedded warehouse has none."""

    enabled: bool = False
    include_invoiceless_charges: bool = False


class _SourceFields(BaseModel):
    id: UUID
    created_at: datetime
    created_by: str | None = None
    created_via: str
    status: str
    source_type: str
    latest_error: str | None
    prefix: str | None
    description: str | None
    access_method: str = "warehouse"
    engine: str | None = None
    last_run_at: datetime | None
    job_inputs: dict[str, Any]
    revenue_analytics_config: RevenueConfigOut = RevenueConfigOut()
    user_access_level: str = "editor"
    supports_webhooks: bool
    supports_column_selection: bool = True
    direct_query_enabled: bool = False
    auto_sync_new_schemas: bool
    auto_sync_schema_patterns: list[str] | None
    api_version: str | None = None
    api_version_deprecation: dict[str, Any] | None = None


class SourceOut(_SourceFields):
    """A source with its schemas in full."""

    schemas: list[SchemaOut]


class SourceListOut(_SourceFields):
    """A source in a list, with its schemas in brief."""

    schemas: list[SchemaBrief]


class CreatedOut(BaseModel):
    """The answer to a created source."""

    id: UUID


class JobSchemaOut(BaseModel):
    """The schema of a job, as it is now."""

    id: UUID
    name: str
    label: str | None = None
    should_sync: bool
    last_synced_at: datetime | None
    sync_type: str | None


class JobOut(BaseModel):
    """One run of one schema."""

    id: UUID
    created_at: datetime
    created_by: int | None = None
    finished_at: datetime | None
    status: str
    schema_: Annotated[JobSchemaOut, Field(alias="schema")]
    rows_synced: int | None
    latest_error: str | None
    workflow_run_id: str | None
    cdc_write_mode: str | None = None
    billable: bool | None = None
    destination_ids: list[str] = []


class RefreshOut(BaseModel):
    """What a discovery changed."""

    added: int
    deleted: int
    auto_enabled: int
    total_tables_seen: int


class WebhookInfoOut(BaseModel):
    """The state of a source's webhook."""

    supports_webhooks: bool
    exists: bool
    webhook_url: str | None
    external_status: dict[str, Any] | None = None


class WebhookCreatedOut(BaseModel):
    """The answer to a webhook that was made."""

    success: bool = True
    webhook_url: str
    error: str | None = None
    pending_inputs: list[str] = []


class ReceivedOut(BaseModel):
    """How many posted rows wait for the next sync."""

    received: int


class WebhookDeletedOut(BaseModel):
    """The answer to a webhook that was removed."""

    success: bool = True
    external_deleted: bool = True
    error: str | None = None


def source_out(store: Store, source: Source) -> SourceOut:
    """A source with its schemas in full."""
    schemas = store.schemas_of(source.id)
    return SourceOut(**_fields(store, source, schemas), schemas=[schema_out(schema) for schema in schemas])


def source_list_out(store: Store, source: Source) -> SourceListOut:
    """A source with its schemas in brief."""
    schemas = store.schemas_of(source.id)
    return SourceListOut(**_fields(store, source, schemas), schemas=[schema_brief(schema) for schema in schemas])


def job_out(job: Job, *, schema: Schema, running: str | None = None) -> JobOut:
    """A job with its schema; `running` replaces the status of one that is."""
    shown = {Status.BILLING_LIMIT_TOO_LOW: "Billing limit too low", Status.RUNNING: running or Status.RUNNING}
    return JobOut(
        **job.model_dump(exclude={"status", "workflow_run_id"}),
        status=shown.get(job.status, job.status),
        schema=JobSchemaOut(**schema.model_dump()),
        workflow_run_id=str(job.workflow_run_id),
    )


def computed_status(schemas: Sequence[Schema]) -> str:
    """A source's status: only enabled schemas can make it bad. Without any, it stays Running."""
    looked_at = [schema for schema in schemas if schema.should_sync or schema.latest_error is not None]
    statuses = {schema.status for schema in looked_at}
    bad = {schema.status for schema in looked_at if schema.should_sync}
    for status in (Status.FAILED, Status.BILLING_LIMIT, Status.BILLING_LIMIT_TOO_LOW):
        if status in bad:
            return status
    return next((status for status in (Status.RUNNING, Status.COMPLETED) if status in statuses), Status.RUNNING)


def _fields(store: Store, source: Source, schemas: Sequence[Schema]) -> dict[str, Any]:
    latest = store.latest_completed(source.id)
    errors = (schema.latest_error for schema in schemas if schema.latest_error is not None)
    shown = _OPEN_INPUTS.get(source.source_type, ())
    return source.model_dump(exclude={"job_inputs", "webhook_id"}) | {
        "supports_webhooks": supports_webhooks(schemas),
        "status": computed_status(schemas),
        "latest_error": next(errors, None),
        "last_run_at": latest.created_at if latest else None,
        "job_inputs": {name: source.job_inputs[name] for name in shown if name in source.job_inputs},
    }
