"""Whether and how a table can be synced."""

from enum import StrEnum

from dw_orchestration.posthog.enums import AccessMethod, JobStatus, SyncStatus, SyncType
from dw_orchestration.posthog.jobs import tells_of_cancelling, was_cancelled
from dw_orchestration.posthog.models import Job, Schema


class SchemaClass(StrEnum):
    """What a reload means for a table."""

    SYNCABLE = "syncable"
    OBSERVE_ONLY = "observe_only"
    EXTERNAL = "external"
    OFF = "off"
    OFF_BY_POSTHOG = "off_by_posthog"

    @property
    def reason(self) -> str:
        """Why a table of this class is not synced from here, and what to do; empty for a syncable one."""
        return _REASONS[self]


_REASONS = {
    SchemaClass.SYNCABLE: "",
    SchemaClass.OBSERVE_ONLY: (
        "its changes arrive by change data capture or webhook, and a reload does not pull them. "
        "PostHog keeps it up to date; a resync in PostHog imports it from scratch."
    ),
    SchemaClass.EXTERNAL: (
        "PostHog queries it in place or manages it by itself, so there is nothing to sync. Just query it."
    ),
    SchemaClass.OFF: (
        "it is switched off in PostHog, or its sync type was never chosen. Set it up and switch it on there to sync it."
    ),
    SchemaClass.OFF_BY_POSTHOG: (
        "PostHog switched it off after a failure that it does not retry. "
        "Mend what its latest error names, then switch it on in PostHog."
    ),
}


def classify(schema: Schema, *, access_method: AccessMethod, latest_job: Job | None = None) -> SchemaClass:
    """Say whether and how a table can be synced.

    PostHog does not tell who switched a table off: when its latest job failed and nobody cancelled that, it was
    PostHog.

    Args:
        schema: The table.
        access_method: Its source's.
        latest_job: Its newest job, where known; without it, the table's own status and error decide.
    """
    if access_method is AccessMethod.DIRECT:
        return SchemaClass.EXTERNAL
    if schema.sync_type in {SyncType.CDC, SyncType.WEBHOOK}:
        return SchemaClass.OBSERVE_ONLY
    if schema.should_sync and schema.sync_type is not None:
        return SchemaClass.SYNCABLE
    gave_up = _failed(schema, latest_job) and schema.sync_type is not None
    return SchemaClass.OFF_BY_POSTHOG if gave_up else SchemaClass.OFF


def _failed(schema: Schema, latest_job: Job | None) -> bool:
    if latest_job is None:
        error = (schema.latest_error or "").strip()
        return schema.status is SyncStatus.FAILED and not tells_of_cancelling(error)
    return latest_job.status is JobStatus.FAILED and not was_cancelled(latest_job)
