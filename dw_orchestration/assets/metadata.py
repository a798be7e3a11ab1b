"""What a finished sync says about itself in Dagster, alike for runs and for the job-status sensor."""

from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg

from dw_orchestration.assets.tables import Table
from dw_orchestration.posthog.models import Job, Schema

JOB_ID = "posthog/job_id"
TRIGGERED_BY = "posthog/triggered_by"
COLUMNS = "dagster/column_schema"

# who asked for the sync: this run, or anybody else (PostHog's schedule, a colleague, another run)
TriggeredBy = Literal["dagster", "adopted", "posthog"]


def adoption_metadata(job: Job, *, triggered_by: TriggeredBy) -> dict[str, Any]:
    """What is written down before the wait: a retry finds the job by it, and the sensor leaves the job to its run."""
    return {
        JOB_ID: job.id,
        TRIGGERED_BY: triggered_by,
        "posthog/job_created_at": dg.MetadataValue.timestamp(job.created_at),
    }


def result_metadata(
    table: Table,
    job: Job,
    *,
    record: Schema | None,
    triggered_by: TriggeredBy,
    queue_s: float | None = None,
) -> dict[str, Any]:
    """The metadata of a completed sync; numbers stay numbers, so that Dagster plots them.

    Args:
        table: The synced table.
        job: The sync.
        record: The schema as PostHog showed it after the sync; without it, there is no row count and no columns.
        triggered_by: Who asked for the sync.
        queue_s: Seconds between asking for the sync and its beginning.
    """
    metadata: dict[str, Any] = {
        JOB_ID: job.id,
        TRIGGERED_BY: triggered_by,
        "posthog/rows_synced": job.rows_synced or 0,
        "posthog/synced_as_of": dg.MetadataValue.timestamp(job.created_at),
        # readers of freshness take the moment of the sync, not that of the event
        "dagster/last_updated_timestamp": dg.MetadataValue.timestamp(job.created_at),
    }
    if job.finished_at is not None:
        metadata["posthog/duration_s"] = round((job.finished_at - job.created_at).total_seconds(), 3)
    if queue_s is not None:
        metadata["posthog/queue_s"] = round(queue_s, 3)
    if table.page:
        metadata["posthog/link"] = dg.MetadataValue.url(table.page)
    if record is not None and record.table is not None:
        metadata |= _table_metadata(record)
    return metadata


def finished_at(job: Job) -> datetime:
    """When the job ended; old rows may lack it and count as ended when they began."""
    return (job.finished_at or job.created_at).astimezone(UTC)


def _table_metadata(record: Schema) -> dict[str, Any]:
    table = record.table
    if table is None:
        return {}
    metadata: dict[str, Any] = {"dagster/table_name": table.name}
    if table.row_count is not None:
        metadata["dagster/row_count"] = table.row_count
    if table.columns:
        columns = [dg.TableColumn(name=column.name, type=column.type) for column in table.columns]
        metadata[COLUMNS] = dg.TableSchema(columns=columns)
    return metadata
