"""What the job-status sensor adds to the event log."""

import dagster as dg

from dw_orchestration.assets.checks import sync_succeeded
from dw_orchestration.assets.metadata import TriggeredBy, result_metadata
from dw_orchestration.assets.specs import TableAsset
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job, Schema

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation


def events_of(
    job: Job, asset: TableAsset, *, record: Schema | None, triggered_by: TriggeredBy, was_red: bool
) -> list[AssetEvent]:
    """The events that report a finished job: what it brought, or why it failed.

    A completed job also turns the table's check green again, if the last thing it said was red.
    """
    verdict = sync_succeeded(asset.key, asset.table, job).to_evaluation()
    if job.status is not JobStatus.COMPLETED:
        return [verdict]
    materialization = dg.AssetMaterialization(
        asset_key=asset.key,
        description="Synced by PostHog." if triggered_by == "posthog" else "Synced at a run's request.",
        metadata=result_metadata(asset.table, job, record=record, triggered_by=triggered_by),
        tags={"dagster/data_version": job.id, "dagster/data_version_is_user_provided": "true"},
    )
    return [materialization, verdict] if was_red else [materialization]
