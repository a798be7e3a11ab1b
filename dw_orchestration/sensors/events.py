"""What the job-status sensor adds to the event log."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from dw_orchestration.assets.checks import (
    CheckOutcome,
    not_stale,
    rows_usual,
    sync_succeeded,
    table_outcomes,
)
from dw_orchestration.assets.event_log import TableLog
from dw_orchestration.assets.full_refresh import was_full_refresh
from dw_orchestration.assets.metadata import TriggeredBy, end_metadata, result_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.enums import JobStatus, SyncStatus
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.table import Table
from dw_orchestration.text import in_markdown

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetObservation


def events_of(
    job: Job,
    table: Table,
    *,
    record: Schema | None,
    triggered_by: TriggeredBy,
    full_refresh: bool,
    log: TableLog,
    now: datetime,
    every_check: bool,
) -> list[AssetEvent]:
    """The events that report a finished job: what it imported, or why it failed.

    A job after which a later one has been reported becomes an observation: it must neither become the table's last
    sync nor change its checks. The materialization comes last: it is what says that the job has been reported, and
    nothing of the report may be missing then.

    Args:
        job: The job.
        table: Its table.
        record: The table as that job left it; None if it has changed since.
        triggered_by: Who asked for the job.
        full_refresh: Whether a run has recorded that it imports all rows again.
        log: What has been reported of the table.
        now: PostHog's time.
        every_check: Whether all checks are evaluated, since Dagster shows those of a table's last sync alone; otherwise
            only where one fails, or is green again. The event log takes some forty events a second.
    """
    if log.is_overtaken(job):
        return [_observation(job, table, triggered_by=triggered_by)]
    outcome = sync_succeeded(table, job)
    if job.status is not JobStatus.COMPLETED:
        return [outcome.to_evaluation()]
    before = log.syncs.before(job.id)
    full_refresh = full_refresh or was_full_refresh(table, job, before=before)
    outcomes = [
        outcome,
        rows_usual(table, job, syncs=log.syncs, full_refresh=full_refresh),
        *table_outcomes(table, record, before=before, full_refresh=full_refresh),
    ]
    if every_check and (staleness := not_stale(table, synced_at=job.created_at, now=now)):
        # otherwise the sensor reports changes of this check separately
        outcomes.append(staleness)
    # Dagster shows the check's row that was made last, and a run makes its rows as it starts: a good outcome in between
    # would hide what the run finds later
    are_shown = every_check and not log.is_awaited(outcome.check_key)
    told = [each.to_evaluation() for each in outcomes if are_shown or not each.passed or log.is_red(each.check_key)]
    metadata = result_metadata(
        table, job, record=record, triggered_by=triggered_by, full_refresh=full_refresh, before=before
    )
    return [*told, _materialization(job, table, metadata, triggered_by=triggered_by)]


def _materialization(
    job: Job, table: Table, metadata: Mapping[str, Any], *, triggered_by: TriggeredBy
) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset_key=asset_key(table),
        description="Synced by PostHog." if triggered_by == "posthog" else "Synced at a run's request.",
        metadata=metadata,
        tags={"dagster/data_version": job.id, "dagster/data_version_is_user_provided": "true"},
    )


def _observation(job: Job, table: Table, *, triggered_by: TriggeredBy) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=asset_key(table),
        description=f"Sync {job.id}: {in_markdown(job.status)}. A later one had been reported before it.",
        metadata=end_metadata(table, job, triggered_by=triggered_by),
    )


@dataclass(frozen=True)
class Staleness:
    """A table whose answer to `not_stale` has changed since the last tick."""

    table: Table
    outcome: CheckOutcome
    is_forgotten: bool
    """Whether PostHog is to sync it and shows nothing wrong: its last sync was good, and yet no other one came."""


def staleness_changes(
    sources: Iterable[Source], tables: Mapping[str, Table], *, known_stale: Collection[str], now: datetime
) -> list[Staleness]:
    """The tables that have become stale, or are not stale any more; those longest without rows first.

    A table that was never synced, or is disabled, cannot be stale.
    """
    found = [
        change
        for source in sources
        for schema in source.schemas
        if (table := tables.get(schema.id)) is not None
        and (change := _staleness_of(schema, table, now=now)) is not None
        and change.outcome.passed == (schema.id in known_stale)
    ]
    return sorted(found, key=lambda change: -change.outcome.metadata["posthog/age_s"])


def _staleness_of(schema: Schema, table: Table, *, now: datetime) -> Staleness | None:
    if not schema.should_sync or schema.last_synced_at is None:
        return None
    outcome = not_stale(table, synced_at=schema.last_synced_at, now=now)
    if outcome is None:
        return None
    is_posthogs = table.is_driven_by_posthog and table.schema_class is SchemaClass.SYNCABLE
    is_forgotten = is_posthogs and schema.status is SyncStatus.COMPLETED and not outcome.passed
    return Staleness(table=table, outcome=outcome, is_forgotten=is_forgotten)
