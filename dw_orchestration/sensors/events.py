"""What the job-status sensor adds to the event log."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import dagster as dg

from dw_orchestration.assets.checks import (
    DATA_AS_USUAL,
    CheckOutcome,
    ReportedSyncs,
    are_rows_as_before,
    data_as_usual,
    is_late,
    not_overdue,
    overdue,
    sync_succeeded,
)
from dw_orchestration.assets.event_log import TableLog
from dw_orchestration.assets.full_refresh import was_full_refresh
from dw_orchestration.assets.metadata import TriggeredBy, end_metadata, result_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.enums import JobStatus
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
        every_check: Whether all checks are evaluated, since Dagster shows those of a table's last sync alone; otherwise
            only where one fails, or is green again. The event log takes some forty events a second.
    """
    if log.is_overtaken(job):
        said = f"Sync {job.id}: {in_markdown(job.status)}. A later one had been reported before it."
        return [_observation(job, table, said, triggered_by=triggered_by)]
    outcome = sync_succeeded(table, job)
    if job.status is not JobStatus.COMPLETED:
        said = f"Sync {job.id}: {in_markdown(job.status)}."
        return [outcome.to_evaluation(), _observation(job, table, said, triggered_by=triggered_by)]
    before = log.before(job)
    full_refresh = full_refresh or was_full_refresh(table, job, before=before)
    # the syncs before the last one cost a read for each table
    is_told = every_check or log.is_red(dg.AssetCheckKey(asset_key(table), DATA_AS_USUAL))
    syncs = log.syncs if is_told or not are_rows_as_before(job, before) else ReportedSyncs((before,), ("",))
    outcomes = [outcome, data_as_usual(table, job, record=record, syncs=syncs, full_refresh=full_refresh)]
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


def _observation(job: Job, table: Table, said: str, *, triggered_by: TriggeredBy) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=asset_key(table),
        description=said,
        metadata=end_metadata(table, job, triggered_by=triggered_by),
    )


@dataclass(frozen=True)
class Lateness:
    """A table that is overdue now, or no longer."""

    table: Table
    outcome: CheckOutcome

    @property
    def is_overdue(self) -> bool:
        """Whether PostHog has silently stopped syncing it."""
        return not self.outcome.passed

    @property
    def is_forgotten(self) -> bool:
        """Whether it is overdue, and a sync at Dagster's request would help."""
        return self.is_overdue and self.table.schema_class is SchemaClass.SYNCABLE


def lateness_changes(
    sources: Iterable[Source], tables: Mapping[str, Table], *, known: Collection[str], now: datetime
) -> list[Lateness]:
    """The tables that PostHog has silently stopped syncing, longest without a sync first; then those no longer late.

    A table of `known` stays overdue until it has a new sync or is expected to have none: meanwhile a sync may run or
    fail, which is reported as any other.
    """
    records = [(tables[each.id], each) for source in sources for each in source.schemas if each.id in tables]
    found = [
        (record.last_synced_at or now, Lateness(table, outcome))
        for table, record in records
        if record.id not in known and (outcome := overdue(table, record, now=now)) is not None
    ]
    over = [
        Lateness(table, not_overdue(table, record, now=now))
        for table, record in records
        if record.id in known and not is_late(table, record, now=now)
    ]
    return [change for _, change in sorted(found, key=itemgetter(0))] + over
