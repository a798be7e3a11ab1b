"""Cancels what a run has started, and nothing else.

PostHog cancels a table's newest job, and takes no job id. So a table is cancelled only if its newest running job is the
one that the run started.

`Cancellation` is for a run that is being stopped: it knows its tables, and waits until their jobs have ended.
`cancel_started_jobs` is for a run that was killed: it has only the jobs that the run recorded, and does not wait. Call
it again for the jobs that are not stopped.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import CancelOutcome
from dw_orchestration.posthog.errors import BudgetSpentError, NotFoundError, PostHogError, ProjectNotFoundError
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.clock import Clock, Now
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import CancelReport, CancelResult
from dw_orchestration.sync.jobs import JobQuery, JobReader
from dw_orchestration.sync.settings import MINUTE_S, SyncSettings
from dw_orchestration.sync.table_sync import JUST_BEFORE, State, TableSync
from dw_orchestration.text import visible

# PostHog ends most cancelled jobs within seconds. A process that is being terminated has little more than a minute.
CANCEL_TIMEOUT_S = MINUTE_S


class Cancellation:
    """Cancels the syncs that some tables have started, and waits until they end."""

    def __init__(self, api: WarehouseApi, tables: Sequence[TableSync], *, settings: SyncSettings, clock: Clock) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        for table in tables:
            table.keep_following()
        self._tables = [table for table in tables if table.is_ours]
        self._requested: set[str] = set()
        self._problems: dict[str, str] = {}

    def run(self, *, timeout_s: float) -> list[CancelReport]:
        """Cancel, and wait at most this long for the jobs to end. One report for each table, in their order."""
        deadline = self._clock.monotonic() + timeout_s
        reports: dict[str, CancelReport] = {}
        while waiting := [table for table in self._tables if table.id not in reports]:
            is_last = self._clock.monotonic() >= deadline
            found = [self._cancel_or_report(table) for table in self._poll(waiting)]
            reports |= {report.schema_id: report for report in found if report is not None}
            if is_last:
                reports = {table.id: self._give_up(table) for table in waiting} | reports
            else:
                self._clock.sleep(self._settings.poll_min_s)
        return [reports[table.id] for table in self._tables]

    def _poll(self, tables: Sequence[TableSync]) -> list[TableSync]:
        """Update the tables; returns those whose source could be read."""
        by_source: dict[str, list[TableSync]] = defaultdict(list)
        for table in tables:
            by_source[table.request.source_id].append(table)
        return [table for source_id in by_source for table in self._poll_source(source_id, by_source[source_id])]

    def _poll_source(self, source_id: str, tables: Sequence[TableSync]) -> Sequence[TableSync]:
        try:
            jobs = JobReader(self._api, source_id).read([table.query for table in tables])
        except PostHogError as exc:
            self._problems |= {table.id: _unread(exc) for table in tables}
            return ()
        now = Now(self._clock.monotonic(), self._clock.now())
        for table in tables:
            # Only the new state matters here: nobody reads the events any more.
            list(table.take_jobs([job for job in jobs if job.schema_id == table.id], now))
        return tables

    def _cancel_or_report(self, table: TableSync) -> CancelReport | None:
        """Ask PostHog to cancel the table's job; or the report, if there is nothing to cancel any more."""
        if table.ended is not None and not table.is_live:
            is_cancelled = table.ended.outcome is SyncOutcome.CANCELLED
            result = CancelResult.CANCELLED if is_cancelled else CancelResult.ALREADY_FINISHED
            return _table_report(table, result, f"its sync has ended: {table.ended.outcome}")
        if not table.is_ours:
            return _table_report(table, CancelResult.REPLACED, "another sync has replaced ours, and is left alone")
        if table.state is State.FOLLOWING:
            self._cancel(table)
        return None

    def _cancel(self, table: TableSync) -> None:
        newest = table.history.running()[0]
        if table.job is None or newest.id != table.job.id:
            self._problems[table.id] = f"PostHog cancels only the newest sync, {newest.id}, which is not ours"
        elif table.id not in self._requested:
            try:
                self._api.cancel_schema(table.id)
                self._requested.add(table.id)
            except PostHogError as exc:
                self._problems[table.id] = f"PostHog did not accept the request to cancel: {exc}"

    def _give_up(self, table: TableSync) -> CancelReport:
        if table.state is State.STARTING and table.id not in self._problems:
            return _table_report(table, CancelResult.NO_JOB, "no job has appeared, but the sync may still start")
        problem = self._problems.get(table.id, "its sync is still shown as running")
        return _table_report(table, CancelResult.NOT_CONFIRMED, problem)


def _unread(exc: PostHogError) -> str:
    return str(exc) if isinstance(exc, BudgetSpentError) else f"PostHog is unreachable: {exc}"


def _table_report(table: TableSync, result: CancelResult, text: str) -> CancelReport:
    job_id = table.job.id if table.job is not None else None
    return CancelReport(schema_id=table.id, job_id=job_id, result=result, text=f"{table.label}: {text}")


@dataclass(frozen=True, kw_only=True)
class StartedJob:
    """A job that a run has started, as the run recorded it."""

    source_id: str
    schema_id: str
    name: str
    job_id: str
    created_at: datetime


def cancel_started_jobs(api: WarehouseApi, jobs: Iterable[StartedJob]) -> Iterator[CancelReport]:
    """Ask PostHog to cancel those of the jobs that still run, without waiting until they end.

    A problem with one job is in its report; nothing is raised.
    """
    by_source: dict[str, list[StartedJob]] = defaultdict(list)
    for job in jobs:
        by_source[job.source_id].append(job)
    for source_id, started in by_source.items():
        queries = [JobQuery(name=job.name, after=job.created_at - JUST_BEFORE, job_id=job.job_id) for job in started]
        try:
            found = JobReader(api, source_id).read(queries)
        except ProjectNotFoundError as exc:
            yield from (_job_report(job, CancelResult.NOT_CONFIRMED, str(exc)) for job in started)
            continue
        except NotFoundError:
            text = "its source was deleted, and its sync with it"
            yield from (_job_report(job, CancelResult.ALREADY_FINISHED, text) for job in started)
            continue
        except PostHogError as exc:
            yield from (_job_report(job, CancelResult.NOT_CONFIRMED, _unread(exc)) for job in started)
            continue
        for job in started:
            yield _cancel_job(api, job, [row for row in found if row.schema_id == job.schema_id and not is_over(row)])


def _cancel_job(api: WarehouseApi, job: StartedJob, running: Sequence[Job]) -> CancelReport:
    if job.job_id in {row.id for row in api.unreadable}:
        return _job_report(job, CancelResult.NOT_CONFIRMED, f"its sync {job.job_id} is shown, but cannot be read")
    if job.job_id not in {row.id for row in running}:
        return _job_report(job, CancelResult.ALREADY_FINISHED, "its sync has ended")
    if running[0].id != job.job_id:
        text = f"PostHog cancels only the newest sync, {running[0].id}, which is not ours"
        return _job_report(job, CancelResult.REPLACED, text)
    try:
        outcome = api.cancel_schema(job.schema_id)
    except PostHogError as exc:
        return _job_report(job, CancelResult.NOT_CONFIRMED, f"PostHog did not accept the request to cancel: {exc}")
    if outcome is CancelOutcome.NOTHING_RUNNING:
        return _job_report(job, CancelResult.ALREADY_FINISHED, "its sync has ended")
    return _job_report(job, CancelResult.CANCELLED, f"its sync {job.job_id} is cancelled")


def _job_report(job: StartedJob, result: CancelResult, text: str) -> CancelReport:
    return CancelReport(schema_id=job.schema_id, job_id=job.job_id, result=result, text=f"{visible(job.name)}: {text}")
