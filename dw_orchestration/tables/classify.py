"""Whether and how a table can be synced."""

from enum import StrEnum

from dw_orchestration.posthog.enums import AccessMethod, JobStatus, SyncStatus, SyncType
from dw_orchestration.posthog.jobs import means_cancelled, was_cancelled
from dw_orchestration.posthog.models import Job, Schema


class SchemaClass(StrEnum):
    """What a reload means for a table."""

    SYNCABLE = "syncable"
    OBSERVE_ONLY = "observe_only"
    EXTERNAL = "external"
    DISABLED = "disabled"
    DISABLED_BY_POSTHOG = "disabled_by_posthog"

    @property
    def reason(self) -> str:
        """Why Dagster does not sync a table of this class, and what to do; empty for a syncable table."""
        return _REASONS[self]


_REASONS = {
    SchemaClass.SYNCABLE: "",
    SchemaClass.OBSERVE_ONLY: (
        "its changes arrive by change data capture or webhook, and a reload does not import them. PostHog keeps the"
        " table up to date; a resync in PostHog imports it from scratch."
    ),
    SchemaClass.EXTERNAL: "PostHog queries the table in place or manages it, so there is nothing to sync. Query it.",
    SchemaClass.DISABLED: (
        "the table is disabled in PostHog, or has no sync type yet. Choose a sync type and enable the table in PostHog"
        " to sync it."
    ),
    SchemaClass.DISABLED_BY_POSTHOG: (
        "PostHog disabled the table after a failure that PostHog does not retry. Fix the table's latest error, then"
        " enable the table in PostHog."
    ),
}


class DisabledBy(StrEnum):
    """Who disabled a table."""

    USER = "user"
    POSTHOG = "posthog"


def classify(schema: Schema, *, access_method: AccessMethod, latest_job: Job | None = None) -> SchemaClass:
    """Whether and how a table can be synced.

    Args:
        schema: The table.
        access_method: The access method of its source.
        latest_job: Its newest job, where known; without it, the table's own status and error decide.
    """
    if access_method is AccessMethod.DIRECT:
        return SchemaClass.EXTERNAL
    if schema.sync_type in {SyncType.CDC, SyncType.WEBHOOK}:
        return SchemaClass.OBSERVE_ONLY
    if schema.should_sync and schema.sync_type is not None:
        return SchemaClass.SYNCABLE
    # a table that was never set up has nothing that could have failed
    by_posthog = schema.sync_type is not None and disabled_by(schema, latest_job=latest_job) is DisabledBy.POSTHOG
    return SchemaClass.DISABLED_BY_POSTHOG if by_posthog else SchemaClass.DISABLED


def disabled_by(schema: Schema, *, latest_job: Job | None = None) -> DisabledBy | None:
    """Who disabled a table; None if it is enabled.

    PostHog does not record who disabled a table. If its latest job failed, and nobody had cancelled that job, PostHog
    did: a user's own click cancels the running job.
    """
    if schema.should_sync:
        return None
    if latest_job is None:
        error = (schema.latest_error or "").strip()
        failed = schema.status is SyncStatus.FAILED and not means_cancelled(error)
    else:
        failed = latest_job.status is JobStatus.FAILED and not was_cancelled(latest_job)
    return DisabledBy.POSTHOG if failed else DisabledBy.USER


def is_disabled_by_user(source_access: AccessMethod, schema: Schema) -> bool:
    """Whether a user disabled a table, or never set it up. Tables that PostHog queries in place are never disabled."""
    if source_access is AccessMethod.DIRECT:
        return False
    return schema.sync_type is None or disabled_by(schema) is DisabledBy.USER
