"""What can be done to a source: make it, change its connection, delete it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from dw_orchestration.local import discovery, schema_actions
from dw_orchestration.local.errors import RefusedError, RuleError
from dw_orchestration.local.requests import SYNC_TYPES, SourceCreate, SourcePatch, TableChoice
from dw_orchestration.local.rows import Schema, Source, StartedBy
from dw_orchestration.local.scheduler import DISCOVERY_EVERY
from dw_orchestration.local.syncing import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.local.services import Services
    from dw_orchestration.local.syncing import OfferedTable

_CHOICES = TypeAdapter(list[TableChoice])

# Where the credentials would be sent: another place needs them typed in again.
_ADDRESS_FIELDS = ("host", "port")
_SECRET_FIELDS = ("password", "connection_string")


def create_source(services: Services, request: SourceCreate, *, project_id: int) -> Source:
    """Check the credentials, list the tables, add source and schemas, and start the first syncs.

    Raises:
        RuleError: the prefix is malformed.
        RefusedError: the source cannot be made as asked for; nothing was added.
    """
    prefix = request.prefix or None
    _check_prefix(services, request, prefix=prefix, project_id=project_id)
    job_inputs = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in request.payload.items()
        if name != "schemas"
    }
    tables = _tables(services, request.source_type, job_inputs)
    chosen = _chosen(request.payload.get("schemas"), tables)
    source = Source(
        id=uuid4(),
        project_id=project_id,
        source_type=request.source_type,
        prefix=prefix,
        description=request.description,
        created_via=request.created_via or "api",
        created_at=services.now(),
        job_inputs=job_inputs,
        next_discovery=services.now() + DISCOVERY_EVERY,
    )
    with services.store.transaction():
        # again: another source may have taken the prefix in the meantime
        _check_prefix(services, request, prefix=prefix, project_id=project_id)
        services.store.insert(source)
        schemas = discovery.new_schemas(services, source, chosen)
        _check_schemas(source, schemas)
    for schema in schemas:
        if schema.should_sync:
            schema_actions.enable(services, schema, started_by=StartedBy.CREATE)
    return source


def update_source(services: Services, source: Source, *, patch: SourcePatch) -> Source:
    """Change description and connection fields; fields and secrets that are left out stay.

    Raises:
        RuleError: the change is not allowed, or the new credentials do not work.
    """
    if patch.access_method != "warehouse":
        raise RuleError("Access method cannot be changed. Create a new source instead.")
    changes: dict[str, Any] = patch.model_dump(exclude_unset=True, exclude={"access_method", "job_inputs"})
    if patch.job_inputs:
        changes["job_inputs"] = _merged_inputs(services, source, sent=patch.job_inputs)
    if changes:
        services.store.update(Source, source.id, **changes)
    return services.store.source(source.id) or source


def delete_source(services: Services, source: Source) -> None:
    """Delete a source, its schemas, their schedules and their tables; runs in progress are ended.

    Raises:
        SourceError: another process keeps the warehouse file; the source stays.
    """
    for schema in services.store.schemas_of(source.id):
        schema_actions.delete_schema(services, schema)
        services.store.delete_schedule(schema.id)
    services.store.update(Source, source.id, deleted=True)


def _check_prefix(services: Services, request: SourceCreate, *, prefix: str | None, project_id: int) -> None:
    if request.access_method == "direct":
        # the embedded warehouse copies tables; it has no way to query a source in place
        raise RefusedError("Direct query mode is currently supported only for Postgres sources.")
    if prefix and (not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", prefix) or not prefix.strip("_")):
        raise RuleError(
            "Prefix must start with a letter or an underscore, contain only letters, digits and underscores, "
            "and not consist of underscores alone."
        )
    same_type = [source for source in services.store.sources(project_id) if source.source_type == request.source_type]
    if prefix is None and any(source.prefix is None for source in same_type):
        raise RefusedError(
            "You already have a source of this type. Add a table prefix so this connection's tables don't clash with"
            " your existing source."
        )
    if prefix is not None and any(source.prefix == prefix for source in same_type):
        raise RefusedError(
            f"Another source of this type already uses the prefix '{prefix}'. Choose a different prefix so this"
            " connection's tables don't clash."
        )


def _tables(services: Services, source_type: str, job_inputs: Mapping[str, Any]) -> dict[str, OfferedTable]:
    try:
        connector = services.connect(source_type, job_inputs)
        connector.check()
        return {table.name: table for table in connector.discover()}
    except SourceError as error:
        raise RefusedError(str(error)) from error


def _chosen(sent: object, tables: Mapping[str, OfferedTable]) -> list[tuple[OfferedTable, dict[str, Any]]]:
    """Pair the tables with their settings; without a choice all are taken, as they are best synced."""
    if sent is not None and not isinstance(sent, list):
        raise RefusedError("The 'schemas' field must be a list of the tables to sync.")
    if not sent:
        defaults = {name: discovery.discovered(tables[name]).default_settings() for name in tables}
        return [(tables[name], defaults[name] | {"should_sync": True}) for name in tables]
    items = [item if isinstance(item, dict) else {} for item in sent]
    if any(item.get("name") not in tables for item in items):
        raise RefusedError("Schemas given do not exist in source")
    for item in items:
        if item.get("sync_type") not in (None, *SYNC_TYPES):
            raise RefusedError(f"Unknown sync type: {item['sync_type']}. Use one of: {', '.join(SYNC_TYPES)}")
    try:
        choices = _CHOICES.validate_python(sent)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in ("schemas", *problem["loc"]))
        raise RefusedError(f"Invalid source config: {place}: {problem['msg']}") from error
    by_name = {choice.name: choice for choice in choices}
    return [(tables[name], choice.settings()) for name, choice in by_name.items()]


def _check_schemas(source: Source, schemas: list[Schema]) -> None:
    for schema in schemas:
        if schema.should_sync and schema.sync_type is None:
            raise RefusedError("Sync type must be set up first before enabling schema")
        if schema.should_sync and schema.sync_type in schema_actions.INCREMENTAL_TYPES:
            if not schema.incremental_field:
                raise RefusedError("Incremental schemas given do not have an incremental field set")
            if not schema.incremental_field_type:
                raise RefusedError("Incremental schemas given do not have an incremental field type set")
        if schema.sync_type == "incremental" and schema_actions.lacks_key(schema):
            raise RefusedError(
                f"Table '{schema.name}' has no primary key to sync incrementally on."
                " Choose a primary key for it, or switch it to full table replication."
            )
        try:
            schema_actions.check_sync_type(
                schema.sync_type,
                source_type=source.source_type,
                table=schema.name,
                can_push=schema.discovered.supports_webhooks,
            )
            schema_actions.check_columns(schema)
        except RuleError as error:
            raise RefusedError(str(error)) from error


def _merged_inputs(services: Services, source: Source, *, sent: Mapping[str, Any]) -> dict[str, Any]:
    merged = _merge(source.job_inputs, sent)
    moved = any(merged.get(name) != source.job_inputs.get(name) for name in _ADDRESS_FIELDS)
    has_secret = any(source.job_inputs.get(name) for name in _SECRET_FIELDS)
    if moved and has_secret and not any(sent.get(name) for name in _SECRET_FIELDS):
        raise RuleError("The connection's host or port changed: enter the credentials again.")
    try:
        services.connect(source.source_type, merged).check()
    except SourceError as error:
        raise RuleError(str(error)) from error
    return merged


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in new.items():
        kept = merged.get(name)
        merged[name] = _merge(kept, value) if isinstance(kept, dict) and isinstance(value, dict) else value
    return merged
