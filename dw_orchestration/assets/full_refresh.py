"""Syncs that import all rows again, because a full refresh of the table was due.

A table that follows a column can have a full refresh every few days. The first sync that PostHog's schedule starts from
an hour before the due time on is the full refresh, and a reload goes through that schedule too. The job does not show
it, so this module compares the job with the due time that was known before: afterwards it is one interval later.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import dagster as dg

from dw_orchestration.assets.metadata import SyncMetadata
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.limits import FULL_REFRESH_LEAD
from dw_orchestration.posthog.models import Job
from dw_orchestration.tables.table import Table


def is_due(due_at: datetime | None, began_at: datetime) -> bool:
    """Whether a sync that began at this time is a full refresh."""
    return due_at is not None and began_at >= due_at - FULL_REFRESH_LEAD


def was_full_refresh(table: Table, job: Job, *, before: Mapping[str, dg.MetadataValue]) -> bool:
    """Whether a completed sync was the first since a full refresh had become due.

    Args:
        table: The table, as the state has it.
        job: The sync.
        before: The metadata of the sync before; empty if there is none.
    """
    earlier = SyncMetadata.of(before) if before else None
    known = [table.schema.next_full_refresh_at, earlier.next_full_refresh_at if earlier else None]
    # the due time only moves ahead, and the state may be older than the sync before
    due_at = max((each for each in known if each is not None), default=None)
    is_first = earlier is None or earlier.synced_as_of is None or not is_due(due_at, earlier.synced_as_of)
    return is_first and is_due(due_at, job.created_at)


def live_due_times(client: PostHogWarehouseClient, tables: Iterable[Table], *, now: datetime) -> dict[str, datetime]:
    """The due times of the tables that may be due now, by schema id: one request per source that has such a table.

    Raises:
        PostHogError: A source could not be read.
    """
    maybe_due = [table for table in tables if is_due(table.schema.next_full_refresh_at, now)]
    sources = dict.fromkeys(table.source.id for table in maybe_due)
    live = (schema for source_id in sources for schema in client.get_source(source_id).schemas)
    due_at = {schema.id: schema.next_full_refresh_at for schema in live}
    return {table.id: found for table in maybe_due if (found := due_at.get(table.id)) is not None}
