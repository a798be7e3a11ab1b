"""From the tables that a source offers to rows of schemas."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from dw_orchestration.local import schema_actions
from dw_orchestration.local.rows import DiscoveredTable, Schedule, Schema, Source, StartedBy, Status
from dw_orchestration.local.syncing import SourceError, snake_case

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dw_orchestration.local.services import Services
    from dw_orchestration.local.syncing import OfferedTable


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a discovery changed."""

    added: int
    deleted: int
    auto_enabled: int
    total_tables_seen: int


def discovered(table: OfferedTable) -> DiscoveredTable:
    """What is remembered of a table that the source offers."""
    return DiscoveredTable.model_validate(table, from_attributes=True)


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
    """List the source's tables again: new ones become schemas, deleted ones return, vanished ones are put away.

    Raises:
        SourceError: the source cannot be reached.
    """
    tables = {table.name: table for table in services.connect(source.source_type, source.job_inputs).discover()}
    with services.store.transaction():
        if services.store.source(source.id) is None:
            raise SourceError("The source was deleted meanwhile.")
        known = {schema.name: schema for schema in services.store.schemas_of(source.id)}
        added = _add(services, source, [tables[name] for name in tables if name not in known])
        for name in tables.keys() & known.keys():
            describe(services, known[name], tables[name])
        deleted = sum(_put_away(services, known[name]) for name in known if name not in tables)
        enabled = [schema for schema in added if _is_enabled_by_itself(source, schema)]
        for schema in enabled:
            settings = schema.discovered.default_settings() | {"should_sync": True}
            services.store.update(Schema, schema.id, **settings)
    for schema in enabled:
        schema_actions.enable(services, services.store.schema(schema.id) or schema, started_by=StartedBy.CREATE)
    return Refreshed(added=len(added), deleted=deleted, auto_enabled=len(enabled), total_tables_seen=len(tables))


def _add(services: Services, source: Source, tables: list[OfferedTable]) -> list[Schema]:
    """Add new tables; one that was deleted returns as it was, and with its id."""
    deleted = {schema.name: schema for schema in services.store.schemas_of(source.id, deleted_too=True)}
    for table in tables:
        if table.name in deleted:
            services.store.update(Schema, deleted[table.name].id, deleted=False)
            describe(services, deleted[table.name], table)
    new = new_schemas(services, source, [(table, {}) for table in tables if table.name not in deleted])
    return [deleted[table.name] for table in tables if table.name in deleted] + new


def _is_enabled_by_itself(source: Source, schema: Schema) -> bool:
    """Whether PostHog enables a table that it has discovered: by patterns of names, never against a user's choice."""
    if not source.auto_sync_new_schemas or schema.should_sync or schema.sync_type is not None:
        return False
    patterns = [pattern.strip().lower() for pattern in source.auto_sync_schema_patterns or () if pattern.strip()]
    names = {schema.name.lower(), schema.name.lower().rpartition(".")[2]}
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def describe(services: Services, schema: Schema, table: OfferedTable) -> None:
    """Remember how the source describes a table; its key only where there is none."""
    keys = schema.primary_key_columns or table.primary_keys or None
    services.store.update(Schema, schema.id, discovered=discovered(table), primary_key_columns=keys)


def _put_away(services: Services, schema: Schema) -> bool:
    """Delete a vanished table that never synced, or disable it; whether it was deleted."""
    is_deleted = schema.synced is None and not schema.should_sync
    if is_deleted:
        services.store.update(Schema, schema.id, deleted=True)
    else:
        services.store.update(Schema, schema.id, should_sync=False, status=Status.COMPLETED)
        services.store.update(Schedule, schema.id, paused=True)
    return is_deleted


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
