"""What the job-status sensor adds to the event log."""

import dagster as dg

from dw_orchestration.assets.checks import sync_succeeded, table_verdicts
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import COLUMNS, TriggeredBy, result_metadata
from dw_orchestration.assets.specs import TableAsset
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job, Schema

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation


def events_of(
    job: Job, asset: TableAsset, *, record: Schema | None, triggered_by: TriggeredBy, log: EventLog
) -> list[AssetEvent]:
    """The events that report a finished job: what it brought, or why it failed.

    Checks are evaluated only where their answer changes, because the event log takes some forty events a second: when
    one fails, and when one that was red is green again.
    """
    verdict = sync_succeeded(asset.key, asset.table, job)
    if job.status is not JobStatus.COMPLETED:
        return [verdict.to_evaluation()]
    before = log.last_sync(asset.key)
    metadata = result_metadata(asset.table, job, record=record, triggered_by=triggered_by)
    if COLUMNS not in metadata and COLUMNS in before:
        # the list of sources shows no columns: those last seen stay, or the asset's page would have none
        metadata[COLUMNS] = before[COLUMNS]
    materialization = dg.AssetMaterialization(
        asset_key=asset.key,
        description="Synced by PostHog." if triggered_by == "posthog" else "Synced at a run's request.",
        metadata=metadata,
        tags={"dagster/data_version": job.id, "dagster/data_version_is_user_provided": "true"},
    )
    verdicts = [verdict, *table_verdicts(asset.key, asset.table, record, before=before)]
    changed = [each.to_evaluation() for each in verdicts if not each.passed or log.is_red(each.check_key)]
    return [materialization, *changed]
