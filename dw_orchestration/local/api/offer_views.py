"""How tables of a source could be synced, as the API shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from dw_orchestration.local.syncing import SourceError

if TYPE_CHECKING:
    from dw_orchestration.local.rows import DiscoveredField, DiscoveredTable
    from dw_orchestration.local.syncing import OfferedTable


class IncrementalFieldOut(BaseModel):
    """A column that an incremental sync could follow."""

    label: str
    type: str
    field: str
    field_type: str
    nullable: bool
    is_indexed: bool


class SyncColumnOut(BaseModel):
    """A column of the source in the answer about sync options."""

    field: str
    label: str
    type: str
    nullable: bool


class SyncOptionsOut(BaseModel):
    """How a table could be synced."""

    incremental_fields: list[IncrementalFieldOut]
    incremental_available: bool
    append_available: bool
    cdc_available: bool | None = None
    xmin_available: bool | None = None
    full_refresh_available: bool = True
    supports_webhooks: bool
    webhook_only: bool = False
    available_columns: list[SyncColumnOut]
    detected_primary_keys: list[str] | None


class OfferedTableOut(BaseModel):
    """A table that a source offers before the source is made."""

    table: str
    label: str | None = None
    should_sync: bool = False
    incremental_fields: list[IncrementalFieldOut]
    incremental_available: bool
    append_available: bool
    cdc_available: bool | None = None
    incremental_field: str | None
    sync_type: str | None
    rows: int | None
    supports_webhooks: bool
    webhook_only: bool = False
    description: str | None = None
    should_sync_default: bool = True
    available_columns: list[SyncColumnOut]
    detected_primary_keys: list[str] | None
    permission_error: str | None = None
    rls_warning: str | None = None


def sync_options(table: DiscoveredTable) -> SyncOptionsOut:
    """How a table could be synced."""
    return SyncOptionsOut(
        incremental_fields=_incremental_fields(table),
        incremental_available=bool(table.incremental_fields),
        append_available=bool(table.incremental_fields),
        supports_webhooks=table.supports_webhooks,
        available_columns=_sync_columns(table),
        detected_primary_keys=list(table.primary_keys) or None,
    )


def offered_table(name: str, table: DiscoveredTable) -> OfferedTableOut:
    """A table that a source offers, with the settings it would get."""
    defaults = table.default_settings()
    return OfferedTableOut(
        table=name,
        incremental_fields=_incremental_fields(table),
        incremental_available=bool(table.incremental_fields),
        append_available=bool(table.incremental_fields),
        supports_webhooks=table.supports_webhooks,
        incremental_field=defaults.get("incremental_field"),
        sync_type=defaults["sync_type"],
        rows=table.rows,
        available_columns=_sync_columns(table),
        detected_primary_keys=list(table.primary_keys) or None,
    )


def table_of(tables: list[OfferedTable], name: str) -> OfferedTable:
    """The table with this name.

    Raises:
        SourceError: the source has none.
    """
    for table in tables:
        if table.name == name:
            return table
    raise SourceError(f"Schema with name {name} not found")


def _incremental_fields(table: DiscoveredTable) -> list[IncrementalFieldOut]:
    nullable = {column.name: column.is_nullable for column in table.columns}
    return [_incremental_field(field, nullable=nullable.get(field.field, True)) for field in table.incremental_fields]


def _incremental_field(field: DiscoveredField, *, nullable: bool) -> IncrementalFieldOut:
    return IncrementalFieldOut(
        label=field.field,
        type=field.field_type,
        field=field.field,
        field_type=field.field_type,
        nullable=nullable,
        is_indexed=field.is_indexed,
    )


def _sync_columns(table: DiscoveredTable) -> list[SyncColumnOut]:
    return [
        SyncColumnOut(field=column.name, label=column.name, type=column.data_type, nullable=column.is_nullable)
        for column in table.columns
    ]
