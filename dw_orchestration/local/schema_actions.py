"""What can be done to a schema: change it, sync it, stop it, empty it, delete it."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from dw_orchestration.local import webhooks
from dw_orchestration.local.errors import RuleError
from dw_orchestration.local.rows import CANCELLED, DELETED, TURNED_OFF, Schedule, Schema, StartedBy, Status
from dw_orchestration.local.scheduler import save_schedule, unpause_schedule
from dw_orchestration.local.syncing import SourceError, TargetTable
from dw_orchestration.local.ticks import EVERY, next_full_refresh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.local.services import Services

INCREMENTAL_TYPES = ("incremental", "append")

_CURSOR_FIELDS = (
    "incremental_field",
    "incremental_field_type",
    "incremental_field_lookback_seconds",
    "primary_key_columns",
)


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
        SourceError: another process keeps the warehouse file; nothing was changed.
    """
    if changes.get("apply_sync_defaults") and schema.sync_type is None and changes.get("sync_type") is None:
        changes = {**changes, **schema.discovered.default_settings()}
    stored = _stored(changes, sync_type=changes.get("sync_type", schema.sync_type))
    wanted = schema.model_copy(update=stored)
    _check_rules(services, schema, wanted=wanted, changes=changes)
    stored |= _full_refreshes(services, schema, wanted=wanted)
    restarts = _loses_cursor(services, wanted, changes=changes)
    if changes.get("sync_type") == "webhook":
        _ensure_webhook(services, schema)
    with services.store.transaction():
        stored |= {"updated_at": services.now()} | ({"reset_pipeline": True} if restarts else {})
        services.store.update(Schema, schema.id, **stored)
        _replan(services, before=schema, after=wanted)
    if "should_sync" in changes:
        _switch(services, wanted)
    if restarts:
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
    status, error = (latest[0].status, latest[0].latest_error) if latest else (Status.FAILED, schema.latest_error)
    services.store.update(Schema, schema.id, status=status, latest_error=error)
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
    """Delete a schema and its table; discovery revives it as it was. Its schedule ends at its next tick.

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
    services.store.update(Schema, schema.id, synced=None)


def _target(schema: Schema) -> TargetTable:
    return TargetTable(schema.target_schema, schema.target_name)


def _stored(changes: Mapping[str, Any], *, sync_type: str | None) -> dict[str, Any]:
    """The changes that are kept: a frequency cannot be cleared, and only some sync types have a cursor."""
    kept = {name: value for name, value in changes.items() if name in Schema.model_fields and name != "id"}
    if kept.get("sync_frequency", "") is None:
        del kept["sync_frequency"]
    if sync_type != "incremental":
        kept.pop("incremental_field_lookback_seconds", None)
    if sync_type not in INCREMENTAL_TYPES:
        kept = {name: value for name, value in kept.items() if name not in _CURSOR_FIELDS}
    for name in ("primary_key_columns", "enabled_columns"):
        if kept.get(name) is not None:
            kept[name] = tuple(kept[name])
    return kept


def _full_refreshes(services: Services, schema: Schema, *, wanted: Schema) -> dict[str, Any]:
    """The settings of scheduled full refreshes; another interval or time starts the clock again.

    Raises:
        RuleError: the sync type has none, or the table is synced less often.
    """
    days, at = wanted.full_refresh_interval_days, wanted.full_refresh_time_of_day
    before = (schema.full_refresh_interval_days, schema.full_refresh_time_of_day)
    if days is not None and wanted.sync_type not in INCREMENTAL_TYPES:
        if days != schema.full_refresh_interval_days:
            text = "Scheduled full refreshes are only available for incremental, append and xmin syncs."
            raise RuleError(text, attr="full_refresh_interval_days")
        days = None
    if days is None:
        at = None
    changed = (days, schema.sync_frequency) != (schema.full_refresh_interval_days, wanted.sync_frequency)
    if days is not None and changed and timedelta(days=days) < EVERY[wanted.sync_frequency]:
        text = (
            f"The table is synced every {EVERY[wanted.sync_frequency].days} days: full refreshes cannot be more often."
        )
        raise RuleError(text, attr="full_refresh_interval_days")
    if (days, at) == before:
        return {"full_refresh_time_of_day": at}
    due = next_full_refresh(services.now(), interval_days=days, time_of_day=at)
    return {"full_refresh_interval_days": days, "full_refresh_time_of_day": at, "next_full_refresh_at": due}


def check_sync_type(sync_type: str | None, *, source_type: str, table: str, can_push: bool) -> None:
    """Refuse sync types that need what the embedded warehouse has not.

    Raises:
        RuleError: the type cannot be used here.
    """
    if sync_type == "cdc":
        raise RuleError("CDC is not enabled for this team")
    if sync_type == "xmin" and source_type != "Postgres":
        raise RuleError("xmin replication is only available for Postgres sources.")
    if sync_type == "xmin":
        raise RuleError(
            f"xmin replication is not available for table '{table}'."
            " It requires a Postgres heap table or materialized view on PostgreSQL 13+."
        )
    if sync_type == "webhook" and not can_push:
        raise RuleError("This source type does not support webhooks. Set up a polling sync type instead.")


def _check_rules(services: Services, schema: Schema, *, wanted: Schema, changes: Mapping[str, Any]) -> None:
    check_columns(wanted)
    if changes.get("row_filters"):
        raise RuleError("Row filters are not supported for this source type.")
    source = services.store.source(schema.source_id)
    if source is not None:
        can_push = schema.discovered.supports_webhooks
        check_sync_type(changes.get("sync_type"), source_type=source.source_type, table=schema.name, can_push=can_push)
    if "sync_type" not in changes and wanted.sync_type not in INCREMENTAL_TYPES:
        _check_applicable(wanted.sync_type, changes=changes)
    if wanted.sync_type == "incremental":
        _check_keys(schema, wanted=wanted, changes=changes)
    if changes.get("should_sync") and wanted.sync_type is None:
        raise RuleError("Sync type must be set up first before enabling schema")


def _check_applicable(sync_type: str | None, *, changes: Mapping[str, Any]) -> None:
    useless = [name for name in _CURSOR_FIELDS if changes.get(name) is not None]
    if useless:
        raise RuleError(
            f"{', '.join(useless)} cannot be applied to a schema with sync type {sync_type or 'not set'} on its own."
            " Include sync_type in the same request to change the sync type."
        )


def _check_keys(schema: Schema, *, wanted: Schema, changes: Mapping[str, Any]) -> None:
    """Judge the change that makes a table incremental, or edits its key."""
    if schema.sync_type == "incremental" and "primary_key_columns" not in changes:
        return
    if lacks_key(wanted):
        raise RuleError(
            f"'{schema.name}' has no primary key to sync incrementally on."
            " Choose a primary key for it, or switch it to full table replication."
        )
    known = {column.name.lower() for column in schema.discovered.columns}
    unknown = [key for key in changes.get("primary_key_columns") or () if key.lower() not in known]
    if unknown:
        raise RuleError(f"'{schema.name}' has no column named {', '.join(unknown)} to merge on.")
    established = schema.primary_key_columns
    if established and schema.synced and wanted.primary_key_columns != established:
        raise RuleError(
            "Primary key cannot be changed after data has been synced."
            " Delete the synced data first, then change the primary key."
        )


def lacks_key(schema: Schema) -> bool:
    """Whether a table has no columns to merge on; a column `id` counts as a key."""
    return not schema.primary_key_columns and all(column.name.lower() != "id" for column in schema.discovered.columns)


def check_columns(schema: Schema) -> None:
    """Refuse chosen columns that the source does not have.

    Raises:
        RuleError: at least one column is unknown.
    """
    known = {column.name for column in schema.discovered.columns}
    if unknown := sorted(name for name in schema.enabled_columns or () if name not in known):
        raise RuleError(
            f"Unknown columns in enabled_columns: {unknown}. Run `Pull new schemas` to refresh available columns."
        )


def _ensure_webhook(services: Services, schema: Schema) -> None:
    source = services.store.source(schema.source_id)
    if source is not None and source.webhook_id is None:
        webhooks.create(services.store, source)


def _loses_cursor(services: Services, wanted: Schema, *, changes: Mapping[str, Any]) -> bool:
    """Let the sent incremental field lead from its highest value in the table on; True if it has none there.

    Rows of the source that lie before that value are skipped.
    """
    field = changes.get("incremental_field")
    if field is None or wanted.synced is None or wanted.sync_type not in INCREMENTAL_TYPES:
        return False
    return not services.warehouse.move_cursor(_target(wanted), field=field)


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
