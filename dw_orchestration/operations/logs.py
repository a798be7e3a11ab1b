"""What PostHog logged during a sync of a table, once or as long as the sync runs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from dw_orchestration.operations.report import Report, Row
from dw_orchestration.posthog.errors import NotFoundError, PermissionDeniedError
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER
from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.enums import LogLevel
    from dw_orchestration.posthog.models import Job, LogLine
    from dw_orchestration.tables.table import Table

COLUMNS = ("time", "level", "message")
POLL_S = 2.0
# the most that PostHog returns at once: a sync may log more between two polls than a user wants to see of the past
LINES_PER_POLL = 500


def log_lines(
    project: Project, table: Table, job: Job, *, levels: Collection[LogLevel] = (), limit: int = 50
) -> list[LogLine]:
    """The last lines of a sync, the oldest first.

    Raises:
        UsageError: This server keeps no logs, or this key may not read them.
        PostHogError: PostHog is unreachable.
    """
    try:
        lines = project.client.list_logs(table.id, run_id=job.workflow_run_id, levels=levels, limit=limit)
    except (NotFoundError, PermissionDeniedError) as error:
        raise UsageError(f"No logs of {table.name}: only servers since November 2026 have them. {error}") from error
    return lines[::-1]


def followed_lines(
    project: Project,
    table: Table,
    job: Job,
    *,
    levels: Collection[LogLevel] = (),
    limit: int = 50,
    sleep: Callable[[float], None],
) -> Iterator[LogLine]:
    """The lines of a sync as PostHog writes them, until the sync has ended; a request every two seconds.

    Raises:
        UsageError: This server keeps no logs, or this key may not read them.
        PostHogError: PostHog is unreachable.
    """
    shown: set[tuple[object, str]] = set()
    while True:
        # before the lines are read, so that the last ones are not missed
        has_ended = is_over(job)
        for line in log_lines(project, table, job, levels=levels, limit=LINES_PER_POLL if shown else limit):
            if (line.timestamp, line.message) not in shown:
                shown.add((line.timestamp, line.message))
                yield line
        if has_ended:
            return
        sleep(POLL_S)
        job = find_job(project, table, job.id)


def find_job(project: Project, table: Table, job_id: str | None = None) -> Job:
    """The newest sync of a table, or the one with this id among its newest 50.

    Raises:
        UsageError: There is no such sync.
        PostHogError: PostHog is unreachable.
    """
    jobs = list(islice(project.client.list_jobs(table.source.id, schemas=[table.schema.name]), JOBS_PER_ANSWER))
    found = next((job for job in jobs if job_id in (None, job.id)), None)
    if found is not None:
        return found
    if job_id is None:
        raise UsageError(f"{table.name} has never been synced, so there is no log.")
    raise UsageError(
        f"The last {len(jobs)} syncs of {table.name} do not include {job_id!r}: `dw jobs {table.name}` lists them."
    )


def report_of_lines(table: Table, job: Job, lines: Collection[LogLine]) -> Report:
    """The lines of a sync as rows."""
    rows: list[Row] = [{"time": line.timestamp, "level": str(line.level), "message": line.message} for line in lines]
    summary = f"Sync {job.id} of {table.name}: {job.status}, {len(rows)} lines."
    return Report(summary=summary, rows=rows, columns=COLUMNS)
