"""Asset checks that say how healthy a table's syncs are."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from dw_orchestration.assets.metadata import JOB_ID
from dw_orchestration.assets.tables import Table
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job

SYNC_SUCCEEDED = "sync_succeeded"


def sync_succeeded_spec(key: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check whether a table's last sync completed; runs and the job-status sensor evaluate it."""
    return dg.AssetCheckSpec(
        name=SYNC_SUCCEEDED,
        asset=key,
        description="The last sync completed. Anything else fails the check, with PostHog's own reason.",
    )


def sync_succeeded_key(key: dg.AssetKey) -> dg.AssetCheckKey:
    """The key of a table's check `sync_succeeded`."""
    return dg.AssetCheckKey(asset_key=key, name=SYNC_SUCCEEDED)


@dataclass(frozen=True)
class SyncVerdict:
    """The check's verdict on one job, for a run's step or for a sensor's tick."""

    key: dg.AssetKey
    passed: bool
    description: str
    metadata: dict[str, Any]

    def to_result(self) -> dg.AssetCheckResult:
        """As a step yields it."""
        return dg.AssetCheckResult(
            asset_key=self.key,
            check_name=SYNC_SUCCEEDED,
            passed=self.passed,
            description=self.description,
            metadata=self.metadata,
        )

    def to_evaluation(self) -> dg.AssetCheckEvaluation:
        """As a sensor reports it."""
        return dg.AssetCheckEvaluation(
            asset_key=self.key,
            check_name=SYNC_SUCCEEDED,
            passed=self.passed,
            description=self.description,
            metadata=self.metadata,
        )


def sync_succeeded(key: dg.AssetKey, table: Table, job: Job) -> SyncVerdict:
    """The verdict on a job that has ended."""
    passed = job.status is JobStatus.COMPLETED
    return SyncVerdict(
        key=key,
        passed=passed,
        description=f"Sync {job.id}: {job.status}"
        + ("" if passed or not job.latest_error else f". {job.latest_error}"),
        metadata=_job_metadata(table, job),
    )


def _job_metadata(table: Table, job: Job) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        JOB_ID: job.id,
        "posthog/status": str(job.status),
        "posthog/rows_synced": job.rows_synced or 0,
        "posthog/job_created_at": dg.MetadataValue.timestamp(job.created_at),
    }
    if job.latest_error:
        metadata["posthog/error"] = job.latest_error
    if table.page:
        metadata["posthog/link"] = dg.MetadataValue.url(table.page)
    return metadata
