"""From the tables that a source offers to rows of schemas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from dw_orchestration.local.rows import DiscoveredTable, Schedule, Schema, Source, Status
from dw_orchestration.local.syncing import SourceError, snake_case

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dw_orchestration.local.services import Services
    from dw_orchestration.local.syncing import OfferedTable

# the columns that tables commonly keep for this purpose, best first
_TRACKING_COLUMNS = ("updated_at", "modified_at", "last_modified", "updated", "modified", "created_at")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a discovery changed."""

    added: int
    deleted: int
    total_tables_seen: int


def discovered(table: OfferedTable) -> DiscoveredTable:
    """What is remembered of a table that the source offers."""
    return DiscoveredTable.model_validate(table, from_attributes=True)


def default_settings(table: DiscoveredTable) -> dict[str, Any]:
    """How a table is synced when nobody says: incremental if it can be, else append, else in full."""
    by_name = {field.field: field for field in table.incremental_fields}
    names = [*(name for name in _TRACKING_COLUMNS if name in by_name), *by_name]
    if not names:
        return {"sync_type": "full_refresh"}
    return {
        "sync_type": "incremental" if table.primary_keys else "append",
        "incremental_field": names[0],
        "incremental_field_type": by_name[names[0]].field_type,
    }


def new_schemas(
    services: Services, source: Source, tables: Iterable[tuple[OfferedTable, dict[str, Any]]]
) -> list[Schema]:
    """Add a row for each of the tables, with the given settings."""
    taken = {_target_key(row) for row in services.store.schemas(source.project_id)}
    rows = []
    for table, settings in tables:
        row = _new_schema(services, source, table=table, settings=settings, taken=taken)
        taken.add(_target_key(row))
        services.store.insert(row)
        rows.append(row)
    return rows


def refresh(services: Services, source: Source) -> Refreshed:
    """List the source's tables again: new ones become disabled schemas, vanished ones are put away.

    Raises:
        SourceError: the source cannot be reached.
    """
    tables = {table.name: table for table in services.connect(source.source_type, source.job_inputs).discover()}
    with services.store.transaction():
        if services.store.source(source.id) is None:
            raise SourceError("The source was deleted meanwhile.")
        known = {schema.name: schema for schema in services.store.schemas_of(source.id)}
        added = new_schemas(services, source, [(tables[name], {}) for name in tables if name not in known])
        for name in tables.keys() & known.keys():
            describe(services, known[name], tables[name])
        deleted = [known[name] for name in known if name not in tables]
        for schema in deleted:
            _put_away(services, schema)
    return Refreshed(added=len(added), deleted=len(deleted), total_tables_seen=len(tables))


def describe(services: Services, schema: Schema, table: OfferedTable) -> None:
    """Remember how the source describes a table; its key only where there is none."""
    keys = schema.primary_key_columns or table.primary_keys or None
    services.store.update(Schema, schema.id, discovered=discovered(table), primary_key_columns=keys)


def _put_away(services: Services, schema: Schema) -> None:
    if schema.synced is None and not schema.should_sync:
        services.store.update(Schema, schema.id, deleted=True)
        return
    services.store.update(Schema, schema.id, should_sync=False, status=Status.COMPLETED)
    services.store.update(Schedule, schema.id, paused=True)


def _new_schema(
    services: Services,
    source: Source,
    *,
    table: OfferedTable,
    settings: dict[str, Any],
    taken: set[tuple[str, str]],
) -> Schema:
    schema_id, now = uuid4(), services.now()
    target_schema, target_name = _target(source, table.name, schema_id=schema_id, taken=taken)
    row = Schema(
        id=schema_id,
        project_id=source.project_id,
        source_id=source.id,
        name=table.name,
        created_at=now,
        updated_at=now,
        target_schema=target_schema,
        target_name=target_name,
        discovered=discovered(table),
    )
    detected = {"primary_key_columns": settings.get("primary_key_columns") or table.primary_keys or None}
    return Schema.model_validate(row.model_dump() | settings | detected)


def _target(source: Source, name: str, *, schema_id: UUID, taken: set[tuple[str, str]]) -> tuple[str, str]:
    schema = snake_case(source.source_type) + (f"_{snake_case(source.prefix)}" if source.prefix else "")
    table = name.replace(".", "_")
    if (schema, table.lower()) in taken:
        table = f"{table}_{schema_id.hex[:6]}"
    return schema, table


def _target_key(schema: Schema) -> tuple[str, str]:
    # DuckDB's names ignore case
    return schema.target_schema.lower(), schema.target_name.lower()
