"""Whether and how a table can be synced."""

from enum import StrEnum

from dw_orchestration.posthog.enums import AccessMethod, IncrementalSyncBlock, JobStatus, SyncStatus, SyncType
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


_CURES = {
    IncrementalSyncBlock.MISSING_PRIMARY_KEY: (
        "PostHog merges rows by a primary key, and the table has none. Set its primary_key_columns, or choose a"
        " sync_type that needs no key (append, full_refresh). Then enable the table."
    ),
    IncrementalSyncBlock.DUPLICATE_PRIMARY_KEY: (
        "PostHog merges rows by the primary key, and several rows of the source have the same one. Delete the table's"
        " data and set primary_key_columns that are unique, or choose a sync_type that needs no key (append,"
        " full_refresh). Then enable the table."
    ),
}


def cure_of(block: IncrementalSyncBlock | None) -> str | None:
    """What to do about a table whose incremental sync PostHog has blocked; None if it has not, or not for its key."""
    return None if block is None else _CURES.get(block)


def why_not_synced(schema: Schema, found: SchemaClass) -> str:
    """Why Dagster does not sync a table of this class, and what to do; empty for a syncable table."""
    cure = cure_of(schema.incremental_sync_blocked)
    is_disabled = found in {SchemaClass.DISABLED, SchemaClass.DISABLED_BY_POSTHOG}
    return f"PostHog disabled the table. {cure}" if is_disabled and cure else found.reason


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

    Only newer servers record a reason, and only for a primary key. Otherwise, if the latest job failed, and nobody had
    cancelled that job, PostHog did: a user's own click cancels the running job.
    """
    if schema.should_sync:
        return None
    if schema.incremental_sync_blocked is not None:
        return DisabledBy.POSTHOG
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
