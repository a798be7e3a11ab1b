"""One table from all sides: what it is, when PostHog syncs it next, how its last syncs ended, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from dw_orchestration.operations.operation import Operation, TableParams
from dw_orchestration.operations.report import Report, Row, as_text, counted
from dw_orchestration.posthog.jobs import duration_s
from dw_orchestration.tables.classify import why_not_synced
from dw_orchestration.tables.takeover import is_taken

if TYPE_CHECKING:
    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.models import Job
    from dw_orchestration.tables.table import Table

LAST_SYNCS = 5


def show_table(project: Project, table: str) -> Report:
    """Everything about a table that is known of it.

    Raises:
        UnknownNameError: The name is that of no table, or of several.
        PostHogError: PostHog is unreachable.
    """
    found = project.tables(settings=True).table(table)
    jobs = list(islice(project.client.list_jobs(found.source.id, schemas=[found.schema.name]), LAST_SYNCS))
    row = _row(found, jobs, now=project.client.server_time or datetime.now(UTC))
    reason = why_not_synced(found.schema, found.schema_class)
    summary = f"{found.name}: {reason[:1].upper()}{reason[1:]}" if reason else f"{found.name} can be synced by Dagster."
    if is_taken(found.schema):
        summary += f" Dagster alone schedules it, until `dw takeover --restore {found.name}`."
    return Report(summary=summary, rows=[row], columns=list(row), is_record=True)


def _row(table: Table, jobs: list[Job], *, now: datetime) -> Row:
    schema, own = table.schema, table.own_cadence
    return {
        "table": table.name,
        "id": table.id,
        "source_id": table.source.id,
        "asset_key": table.key,
        "queried_as": schema.table.name if schema.table else None,
        "link": table.url,
        "class": str(table.schema_class),
        "enabled": schema.should_sync,
        "sync_type": schema.sync_type,
        "incremental_field": schema.incremental_field,
        "synced": own.describe() if own else None,
        "next_sync_at": own.next_tick(now) if own else None,
        "before_takeover": table.cadence.describe() if table.cadence and is_taken(schema) else None,
        "full_refresh_interval_days": schema.full_refresh_interval_days,
        "next_full_refresh_at": schema.next_full_refresh_at,
        "rows": schema.table.row_count if schema.table else None,
        "last_synced_at": schema.last_synced_at,
        "status": schema.status,
        "last_syncs": [_in_words(job) for job in jobs],
        "error": schema.latest_error,
    }


def _in_words(job: Job) -> str:
    parts = [as_text(job.created_at), str(job.status), counted(job.rows_synced or 0, "row")]
    if (seconds := duration_s(job)) is not None:
        parts.append(f"{seconds:,.0f} s")
    return " · ".join([*parts, job.id])


SHOW_TABLE = Operation(
    name="show_table",
    command="show",
    params=TableParams,
    run=show_table,
    has_job=False,
    description="Show everything about a table: its key, when PostHog syncs it next, its last syncs and its error.",
    examples=("show stripe.Charge", "show stripe.Charge --json"),
)
