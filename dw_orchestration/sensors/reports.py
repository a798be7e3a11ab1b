"""What the job-status sensor adds to the event log."""

from collections.abc import Mapping

import dagster as dg

from dw_orchestration.assets.checks import rows_usual, sync_succeeded, table_verdicts
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import TriggeredBy, result_metadata
from dw_orchestration.assets.reported import ReportedSyncs
from dw_orchestration.assets.specs import TableAsset
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job, Schema

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation


def events_of(
    job: Job,
    asset: TableAsset,
    *,
    record: Schema | None,
    triggered_by: TriggeredBy,
    syncs: ReportedSyncs,
    log: EventLog,
) -> list[AssetEvent]:
    """The events that report a finished job: what it brought, or why it failed.

    Checks are evaluated only where their answer changes, because the event log takes some forty events a second: when
    one fails, and when one that was red is green again. The materialization comes last: it is what says that the job
    has been reported, and nothing of the report may be missing then.
    """
    verdict = sync_succeeded(asset.key, asset.table, job)
    if job.status is not JobStatus.COMPLETED:
        return [verdict.to_evaluation()]
    verdicts = [
        verdict,
        rows_usual(asset.key, asset.table, job, syncs=syncs),
        *table_verdicts(asset.key, asset.table, record, before=syncs.last),
    ]
    changed = [each.to_evaluation() for each in verdicts if not each.passed or log.is_red(each.check_key)]
    return [*changed, _materialization(job, asset, record=record, triggered_by=triggered_by, before=syncs.last)]


def _materialization(
    job: Job,
    asset: TableAsset,
    *,
    record: Schema | None,
    triggered_by: TriggeredBy,
    before: Mapping[str, dg.MetadataValue],
) -> dg.AssetMaterialization:
    metadata = result_metadata(asset.table, job, record=record, triggered_by=triggered_by, key=asset.key, before=before)
    return dg.AssetMaterialization(
        asset_key=asset.key,
        description="Synced by PostHog." if triggered_by == "posthog" else "Synced at a run's request.",
        metadata=metadata,
        tags={"dagster/data_version": job.id, "dagster/data_version_is_user_provided": "true"},
    )
