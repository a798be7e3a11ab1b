"""What a project has: sources, tables and their syncs."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import Field

from dw_orchestration.operations.operation import Operation, Params, SomeTablesParams
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.jobs import duration_s
from dw_orchestration.tables.table import by_source, names_of
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Job, Source
    from dw_orchestration.tables.selection import NamedSource
    from dw_orchestration.tables.table import Table

SOURCE_COLUMNS = ("source", "type", "tables", "enabled", "last_run_at", "error", "id")
TABLE_COLUMNS = ("table", "enabled", "sync_type", "synced", "rows", "last_synced_at", "status", "error")
JOB_COLUMNS = ("table", "status", "created_at", "duration_s", "rows_synced", "error", "id")


def list_sources(project: Project) -> Report:
    """All sources.

    Raises:
        PostHogError: PostHog is unreachable.
    """
    records = {source.id: source for source in project.sources()}
    rows = [_source_row(named, records[named.id]) for named in Tables.live(records.values()).sources]
    return Report(
        summary=f"{counted(len(rows), 'source')}.", rows=rows, columns=SOURCE_COLUMNS, dispensable=("id", "type")
    )


def list_tables(project: Project, tables: Sequence[str] = ()) -> Report:
    """Tables with how and when they are synced; all of them if none is named.

    Raises:
        UnknownNameError: A name is unknown.
        PostHogError: PostHog is unreachable.
    """
    live = project.tables(settings=True)
    rows = [_table_row(table) for table in (live.matching(tables) if tables else live)]
    return Report(
        summary=f"{counted(len(rows), 'table')}.",
        rows=rows,
        columns=TABLE_COLUMNS,
        dispensable=("sync_type", "enabled", "synced"),
    )


def list_jobs(project: Project, tables: Sequence[str] = (), *, limit: int = 20) -> Report:
    """The newest syncs of tables, newest first; of all tables if none is named.

    Args:
        project: The tables' project.
        tables: Names and patterns of tables.
        limit: How many at most.

    Raises:
        UnknownNameError: A name is unknown.
        PostHogError: PostHog is unreachable.
    """
    live = project.tables()
    chosen = {table.id: table for table in (live.matching(tables) if tables else live)}
    streams = [_jobs_of(project.client, own, chosen) for own in by_source(chosen.values()).values()]
    newest = islice(heapq.merge(*streams, key=lambda job: job.created_at, reverse=True), limit)
    rows = [_job_row(chosen[job.schema_id], job) for job in newest]
    return Report(
        summary=f"{counted(len(rows), 'sync')}.", rows=rows, columns=JOB_COLUMNS, dispensable=("id", "duration_s")
    )


def _jobs_of(client: PostHogWarehouseClient, own: Sequence[Table], chosen: Mapping[str, Table]) -> Iterator[Job]:
    jobs = client.list_jobs(own[0].source.id, schemas=names_of(own))
    return (job for job in jobs if job.schema_id in chosen)


def _source_row(source: NamedSource, record: Source) -> Row:
    return {
        "source": source.name,
        "id": source.id,
        "type": record.source_type,
        "prefix": record.prefix,
        "description": record.description,
        "access_method": record.access_method,
        "tables": len(record.schemas),
        "enabled": sum(schema.should_sync for schema in record.schemas),
        "last_run_at": record.last_run_at,
        "error": record.latest_error,
    }


def _table_row(table: Table) -> Row:
    schema = table.schema
    own = table.own_cadence
    return {
        "table": table.name,
        "id": table.id,
        "source": table.source_name,
        "asset_key": table.key,
        "enabled": schema.should_sync,
        "sync_type": schema.sync_type,
        "incremental_field": schema.incremental_field,
        "synced": own.describe() if own else None,
        "sync_frequency": schema.sync_frequency,
        "sync_time_of_day": schema.sync_time_of_day,
        "rows": schema.table.row_count if schema.table else None,
        "table_name": schema.table.name if schema.table else None,
        "last_synced_at": schema.last_synced_at,
        "status": schema.status,
        "error": schema.latest_error,
    }


def _job_row(table: Table, job: Job) -> Row:
    return {
        "table": table.name,
        "id": job.id,
        "table_id": table.id,
        "status": job.status,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "duration_s": duration_s(job),
        "rows_synced": job.rows_synced,
        "error": job.latest_error,
    }


class JobsParams(SomeTablesParams):
    """The newest syncs of some tables."""

    limit: int = Field(default=20, ge=1, description="How many syncs to list at most.")


LIST_SOURCES = Operation(
    name="list_sources",
    command="sources",
    params=Params,
    run=list_sources,
    has_job=False,
    description="List the sources.",
    examples=("sources", "sources --json"),
)
LIST_TABLES = Operation(
    name="list_tables",
    command="tables",
    params=SomeTablesParams,
    run=list_tables,
    has_job=False,
    description="List tables with how and when PostHog syncs them.",
    examples=("tables", "tables 'stripe.*' -q", "tables --fields table,rows,id --json"),
)
LIST_JOBS = Operation(
    name="list_jobs",
    command="jobs",
    params=JobsParams,
    run=list_jobs,
    has_job=False,
    description="List the newest syncs of tables, newest first.",
    examples=("jobs stripe.Charge", "jobs --limit 100 --json"),
)
