"""What can be done to a schema: change it, sync it, stop it, empty it, delete it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from dw_orchestration.local.rows import CANCELLED, DELETED, TURNED_OFF, Schedule, Schema, StartedBy, Status
from dw_orchestration.local.scheduler import save_schedule, unpause_schedule
from dw_orchestration.local.services import RuleError
from dw_orchestration.local.syncing import SourceError, TargetTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.local.services import Services

INCREMENTAL_TYPES = ("incremental", "append")

_REFUSED_SYNC_TYPES = {
    "cdc": "CDC is not enabled for this team",
    "webhook": "This source type does not support webhooks. Set up a polling sync type instead.",
    "xmin": "xmin syncs are not enabled for this team",
}
_REFUSED_FREQUENCIES = {
    "1min": "'1min' is not a valid sync frequency. The shortest one is 5min.",
    "never": "'never' is not a valid sync frequency. Set should_sync to false to stop syncing.",
}


class Cancelled(Enum):
    """How a request to cancel went."""

    STOPPED = "stopped"
    STATUS_REPAIRED = "status repaired"
    NOTHING_RUNNING = "nothing running"
    FINISHED_FIRST = "finished first"


def update_schema(services: Services, schema: Schema, *, changes: Mapping[str, Any]) -> Schema:
    """Change a schema, its schedule and its run as PostHog does.

    Raises:
        RuleError: the change is not allowed; nothing was changed.
    """
    wanted = schema.model_copy(update=_stored(changes))
    _check_refused(changes)
    _check_rules(schema, wanted=wanted, changes=changes)
    new_cursor = _moves_cursor(schema, wanted)
    with services.store.transaction():
        stored = _stored(changes) | {"updated_at": services.now()}
        services.store.update(Schema, schema.id, **stored)
        if new_cursor:
            services.store.update(Schema, schema.id, reset_pipeline=True)
        _replan(services, before=schema, after=wanted)
    if "should_sync" in changes:
        _switch(services, wanted)
    if new_cursor and wanted.should_sync:
        services.runner.trigger(wanted, started_by=StartedBy.RESYNC)
    return services.store.schema(schema.id) or wanted


def enable(services: Services, schema: Schema, *, started_by: StartedBy) -> None:
    """Let a schema be synced by itself; the first time it is synced at once as well."""
    schedule = services.store.schedule(schema.id)
    if schedule is None:
        save_schedule(services.store, schema, now=services.now())
        services.runner.trigger(schema, started_by=started_by)
    elif schedule.paused:
        unpause_schedule(services.store, schedule, now=services.now())


def resync(services: Services, schema: Schema) -> None:
    """Sync from scratch; a run in progress is ended first."""
    if services.runner.running_job(schema.id):
        services.runner.cancel(schema.id, reason=CANCELLED)
    services.store.update(Schema, schema.id, reset_pipeline=True)
    services.runner.trigger(schema, started_by=StartedBy.RESYNC)


def cancel(services: Services, schema: Schema) -> Cancelled:
    """End the run of the schema's latest job before returning."""
    if services.runner.running_job(schema.id):
        stopped = services.runner.cancel(schema.id)
        return Cancelled.STOPPED if stopped else Cancelled.FINISHED_FIRST
    if schema.status is not Status.RUNNING:
        return Cancelled.NOTHING_RUNNING
    services.runner.cancel(schema.id)  # still queued: it ends without a job
    latest = services.store.jobs_of(schema.id, limit=1)
    services.store.update(Schema, schema.id, status=latest[0].status if latest else None)
    return Cancelled.STATUS_REPAIRED


def delete_data(services: Services, schema: Schema) -> None:
    """Empty a schema: the next run imports everything again.

    Raises:
        SourceError: another process keeps the warehouse file; nothing was changed.
    """
    if schema.synced is None:
        return
    services.warehouse.drop(_target(schema))
    emptied = {"synced": None, "last_synced_at": None, "status": None, "reset_pipeline": True}
    services.store.update(Schema, schema.id, **emptied)


def delete_schema(services: Services, schema: Schema) -> None:
    """Delete a schema and its table; discovery adds it again, disabled.

    Raises:
        SourceError: another process keeps the warehouse file; the schema stays.
    """
    services.store.update(Schema, schema.id, deleted=True)
    services.runner.ask_to_stop(schema.id, reason=DELETED)
    try:
        services.warehouse.drop(_target(schema))
    except SourceError:
        services.store.update(Schema, schema.id, deleted=False)
        raise
    services.store.delete_schedule(schema.id)


def _target(schema: Schema) -> TargetTable:
    return TargetTable(schema.target_schema, schema.target_name)


def _stored(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that are kept: a frequency cannot be cleared, a CDC mode means nothing without CDC."""
    kept = {name: value for name, value in changes.items() if name in Schema.model_fields and name != "id"}
    if kept.get("sync_frequency", "") is None:
        del kept["sync_frequency"]
    for name in ("primary_key_columns", "enabled_columns"):
        if kept.get(name) is not None:
            kept[name] = tuple(kept[name])
    return kept


def check_sync_type(sync_type: str | None) -> None:
    """Refuse sync types that need what the embedded warehouse has not.

    Raises:
        RuleError: the type cannot be used here.
    """
    if sync_type in _REFUSED_SYNC_TYPES:
        raise RuleError(_REFUSED_SYNC_TYPES[sync_type])


def _check_refused(changes: Mapping[str, Any]) -> None:
    check_sync_type(changes.get("sync_type"))
    if changes.get("sync_frequency") in _REFUSED_FREQUENCIES:
        raise RuleError(_REFUSED_FREQUENCIES[changes["sync_frequency"]])
    if changes.get("row_filters"):
        raise RuleError("Row filters are not supported for this source type")


def _check_rules(schema: Schema, *, wanted: Schema, changes: Mapping[str, Any]) -> None:
    if changes.get("should_sync") and wanted.sync_type is None:
        raise RuleError("Sync type must be set up first before enabling schema")
    asks_cursor = not changes.keys().isdisjoint({"sync_type", "incremental_field", "incremental_field_type"})
    has_cursor = wanted.incremental_field and wanted.incremental_field_type
    if asks_cursor and wanted.sync_type in INCREMENTAL_TYPES and not has_cursor:
        raise RuleError(f"An incremental field and its type are required for sync type {wanted.sync_type}")
    new_key = wanted.primary_key_columns != schema.primary_key_columns
    if new_key and schema.synced and wanted.sync_type == "incremental":
        raise RuleError("Primary key cannot be changed after data has been synced. Delete the synced data first.")
    check_columns(wanted)


def check_columns(schema: Schema) -> None:
    """Refuse chosen columns that the source does not have.

    Raises:
        RuleError: at least one column is unknown.
    """
    known = {column.name for column in schema.discovered.columns}
    if unknown := [name for name in schema.enabled_columns or () if name not in known]:
        raise RuleError(f"Unknown columns in enabled_columns: {', '.join(unknown)}")


def _moves_cursor(before: Schema, after: Schema) -> bool:
    """Whether the table's rows were read along another column: then they are all read again."""
    changed = after.incremental_field != before.incremental_field
    return before.synced is not None and after.sync_type in INCREMENTAL_TYPES and changed


def _replan(services: Services, *, before: Schema, after: Schema) -> None:
    schedule = services.store.schedule(before.id)
    when = ("sync_frequency", "sync_time_of_day")
    if schedule and any(getattr(before, name) != getattr(after, name) for name in when):
        save_schedule(services.store, after, now=services.now(), paused=schedule.paused)


def _switch(services: Services, schema: Schema) -> None:
    if schema.should_sync:
        enable(services, schema, started_by=StartedBy.ENABLE)
        return
    services.store.update(Schedule, schema.id, paused=True)
    services.runner.ask_to_stop(schema.id, reason=TURNED_OFF)
