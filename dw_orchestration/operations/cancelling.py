"""Stop syncs that are running, no matter who started them."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from dw_orchestration.operations.operation import ChangedTablesParams, Operation
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.enums import CancelOutcome, SyncStatus
from dw_orchestration.posthog.errors import PostHogError, RateLimitedError, ServerError, TransportError
from dw_orchestration.posthog.jobs import is_over, was_cancelled
from dw_orchestration.posthog.limits import ABANDONED_AFTER, INSTANT, JOBS_PER_ANSWER
from dw_orchestration.sync.clock import Clock, SystemClock
from dw_orchestration.tables.table import by_source, names_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Job
    from dw_orchestration.tables.table import Table

COLUMNS = ("table", "result", "job_id", "rows_synced", "note")
LOOK_EVERY_S = 2.0
WAIT_S = 60.0
# of a source, to find those that are running
JOBS_READ = 1000
NOTHING = "nothing running"
NO_ANSWER = "no answer"
BAD = frozenset({"failed", "still running", NO_ANSWER})


def cancel_syncs(
    project: Project,
    tables: Sequence[str],
    *,
    dry_run: bool = False,
    wait_s: float = WAIT_S,
    clock: Clock | None = None,
) -> Report:
    """Cancel the running syncs of tables, and see them end.

    Args:
        project: The tables' project.
        tables: Names and patterns of tables.
        dry_run: Only show which syncs are running.
        wait_s: How long to wait for their end: older servers cancel after they have answered.
        clock: For the waiting.

    Raises:
        UsageError: A name is unknown; nothing was cancelled.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    chosen = project.tables().matching(tables)
    running = running_jobs(project.client, chosen)
    if dry_run:
        rows = [_row(table, running[table.id], result="would be cancelled") for table in chosen if table.id in running]
        return Report(summary=f"Dry run: {counted(len(rows), 'sync')} would be cancelled.", rows=rows, columns=COLUMNS)
    project.client.check_access(write=True)
    clock = clock or SystemClock()
    rows = _ask_all(project.client, chosen, running, wait_s=wait_s, clock=clock)
    asked = {table.id: table for table, row in zip(chosen, rows, strict=True) if row["result"] == "asked"}
    ended = _wait(project.client, asked, running, wait_s=wait_s, clock=clock)
    rows = [_seen(row, ended, wait_s=wait_s) for row in rows]
    cancelled = sum(row["result"] == "cancelled" for row in rows)
    failed = sum(row["result"] in BAD for row in rows)
    summary = f"{counted(cancelled, 'sync')} cancelled, of {counted(len(rows), 'table')}."
    rows = [row for row in rows if row["result"] != NOTHING]
    if failed:
        summary += f" {counted(failed, 'table')} may still be syncing."
    return Report(summary=summary, rows=rows, columns=COLUMNS, dispensable=("job_id",), failed=failed > 0)


def running_jobs(client: PostHogWarehouseClient, tables: Sequence[Table]) -> dict[str, Job]:
    """The newest job of each table if it is running, by schema id.

    A job that has been running for many days is a leftover that PostHog never ended: it holds nothing up.

    Raises:
        PostHogError: PostHog is unreachable.
    """
    newest: dict[str, Job] = {}
    for own in by_source(tables).values():
        newest |= _newest(client, own)
    now = client.server_time
    ids = {table.id for table in tables}
    return {key: job for key, job in newest.items() if key in ids and not is_over(job) and not _is_leftover(job, now)}


def _newest(client: PostHogWarehouseClient, tables: Sequence[Table]) -> dict[str, Job]:
    """The newest job of the tables of a source: of the newest ones, and of all tables whose status is running."""
    newest: dict[str, Job] = {}
    missing = {table.id for table in tables if table.schema.status is SyncStatus.RUNNING}
    for count, job in enumerate(islice(client.list_jobs(tables[0].source.id, schemas=names_of(tables)), JOBS_READ), 1):
        newest.setdefault(job.schema_id, job)
        missing.discard(job.schema_id)
        if count >= JOBS_PER_ANSWER and not missing:
            break
    return newest


def _is_leftover(job: Job, now: datetime | None) -> bool:
    return now is not None and now - job.created_at >= ABANDONED_AFTER


def _ask_all(
    client: PostHogWarehouseClient,
    tables: Sequence[Table],
    running: Mapping[str, Job],
    *,
    wait_s: float,
    clock: Clock,
) -> list[Row]:
    """Ask for each table, and again where there was no answer: a sync that nobody cancels continues and is billed."""
    rows: dict[str, Row] = {}
    deadline = clock.monotonic() + wait_s
    unanswered = tables
    while True:
        rows |= {table.id: _ask(client, table, running.get(table.id)) for table in unanswered}
        unanswered = [table for table in unanswered if rows[table.id]["result"] == NO_ANSWER]
        if not unanswered or clock.monotonic() >= deadline:
            return [rows[table.id] for table in tables]
        clock.sleep(LOOK_EVERY_S)


def _ask(client: PostHogWarehouseClient, table: Table, job: Job | None) -> Row:
    row = _row(table, job, result=NOTHING)
    # the status says Running before there is a job
    if job is None and table.schema.status is not SyncStatus.RUNNING:
        return row
    try:
        outcome = client.cancel_schema(table.id)
    except (TransportError, ServerError, RateLimitedError) as error:
        return row | {"result": NO_ANSWER, "note": error.text}
    except PostHogError as error:
        return row | {"result": "failed", "note": error.text}
    # with nothing running any more, the job shows how it ended: perhaps by a request whose answer was lost
    return row | {"result": "asked" if outcome is CancelOutcome.REQUESTED or job is not None else NOTHING}


def _row(table: Table, job: Job | None, *, result: str) -> Row:
    return {
        "table": table.name,
        "id": table.id,
        "result": result,
        "job_id": job and job.id,
        "rows_synced": job and job.rows_synced,
        "note": None,
    }


def _wait(
    client: PostHogWarehouseClient,
    asked: Mapping[str, Table],
    running: Mapping[str, Job],
    *,
    wait_s: float,
    clock: Clock,
) -> dict[str, Job]:
    """The jobs that have ended in time, by schema id."""
    ended: dict[str, Job] = {}
    deadline = clock.monotonic() + wait_s
    while waiting := [table for key, table in asked.items() if key in running and key not in ended]:
        for source_id, own in by_source(waiting).items():
            ended |= _ended(client, source_id, own, running)
        if len(ended) == len(asked.keys() & running.keys()) or clock.monotonic() >= deadline:
            break
        clock.sleep(LOOK_EVERY_S)
    return ended


def _ended(
    client: PostHogWarehouseClient, source_id: str, tables: Sequence[Table], running: Mapping[str, Job]
) -> dict[str, Job]:
    wanted = {running[table.id].id for table in tables}
    after = min(running[table.id].created_at for table in tables) - INSTANT
    ended: dict[str, Job] = {}
    # the request to cancel was accepted: that must not be lost for want of seeing its end
    with suppress(PostHogError):
        for job in client.list_jobs(source_id, after=after, schemas=names_of(tables)):
            if job.id in wanted and is_over(job):
                ended[job.schema_id] = job
            wanted.discard(job.id)
            if not wanted:
                break
    return ended


def _seen(row: Row, ended: Mapping[str, Job], *, wait_s: float) -> Row:
    if row["result"] != "asked":
        return row
    job = ended.get(str(row["id"]))
    if job is not None:
        result = "cancelled" if was_cancelled(job) else "ended by itself"
        return row | {"result": result, "rows_synced": job.rows_synced, "note": job.latest_error}
    if row["job_id"] is None:
        return row | {"result": "cancelled", "note": "PostHog showed no job of it."}
    return row | {"result": "still running", "note": f"PostHog was asked, and it has not ended in {wait_s:.0f} s."}


CANCEL_SYNCS = Operation(
    name="cancel_syncs",
    command="cancel",
    params=ChangedTablesParams,
    run=cancel_syncs,
    description="Cancel the running syncs of tables, no matter who started them, and wait until they have ended."
    " PostHog shows a cancelled sync as Failed; the rows of earlier syncs stay.",
    examples=("cancel postgres_shop.orders", "cancel '*'"),
)
