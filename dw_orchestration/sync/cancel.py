"""Cancel what a batch has started, and nothing else."""

from collections import defaultdict
from collections.abc import Sequence

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.sync.clock import Clock
from dw_orchestration.sync.events import CancelReport, CancelResult
from dw_orchestration.sync.outcome import SyncOutcome
from dw_orchestration.sync.phase import Phase
from dw_orchestration.sync.reader import JobReader
from dw_orchestration.sync.settings import MINUTE_S, SyncSettings
from dw_orchestration.sync.table_sync import TableSync

# How long to wait for the jobs to end. Dagster's run monitoring gives a run that is being terminated a few minutes.
CANCEL_TIMEOUT_S = MINUTE_S


class Cancelling:
    """One attempt to cancel the syncs that some tables have started, and to see them end."""

    def __init__(self, api: WarehouseApi, tables: Sequence[TableSync], *, settings: SyncSettings, clock: Clock) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        for table in tables:
            table.keep_watching()
        self._pending = [table for table in tables if table.is_ours]
        self._asked: set[str] = set()
        self._trouble: dict[str, str] = {}

    def run(self, *, timeout_s: float) -> list[CancelReport]:
        """Cancel, and wait for the jobs' end; report on each table, in their order."""
        deadline = self._clock.monotonic() + timeout_s
        reports: dict[str, CancelReport] = {}
        while waiting := [table for table in self._pending if table.id not in reports]:
            is_last = self._clock.monotonic() >= deadline
            found = [self._report(table) for table in self._look(waiting)]
            reports |= {report.schema_id: report for report in found if report is not None}
            if is_last:
                reports = {table.id: self._give_up(table) for table in waiting} | reports
            else:
                self._clock.sleep(self._settings.poll_min_s)
        return [reports[table.id] for table in self._pending]

    def _look(self, tables: Sequence[TableSync]) -> list[TableSync]:
        """Bring the tables up to date; the ones whose source could be read."""
        by_source: dict[str, list[TableSync]] = defaultdict(list)
        for table in tables:
            by_source[table.request.source_id].append(table)
        return [table for source_id in by_source for table in self._look_at(source_id, by_source[source_id])]

    def _look_at(self, source_id: str, tables: Sequence[TableSync]) -> Sequence[TableSync]:
        try:
            jobs = JobReader(self._api, source_id).look([table.want for table in tables])
        except PostHogError as exc:
            self._trouble |= {table.id: f"PostHog does not answer: {exc}" for table in tables}
            return ()
        for table in tables:
            own = [job for job in jobs if job.schema_id == table.id]
            # Only the table's new state counts here; its events have no reader any more.
            list(table.see(own, self._clock.monotonic(), server_now=self._clock.now()))
        return tables

    def _report(self, table: TableSync) -> CancelReport | None:
        """The end of the matter for this table, if it has come; otherwise ask PostHog to cancel."""
        if table.ended is not None and not table.is_live:
            is_cancelled = table.ended.outcome is SyncOutcome.CANCELLED
            result = CancelResult.CANCELLED if is_cancelled else CancelResult.ALREADY_FINISHED
            return _say(table, result, f"its sync has ended: {table.ended.outcome}")
        if not table.is_ours:
            return _say(table, CancelResult.REPLACED, "another run has taken its place, and is left alone")
        if table.phase is Phase.FOLLOWING:
            self._cancel(table)
        return None

    def _cancel(self, table: TableSync) -> None:
        """Ask once. PostHog cancels the table's newest job, so that has to be ours."""
        newest = table.book.running()[0]
        if table.job is None or newest.id != table.job.id:
            self._trouble[table.id] = f"PostHog cancels only the newest sync, {newest.id}, and that is not ours"
        elif table.id not in self._asked:
            try:
                self._api.cancel_schema(table.id)
                self._asked.add(table.id)
            except PostHogError as exc:
                self._trouble[table.id] = f"PostHog did not take the request: {exc}"

    def _give_up(self, table: TableSync) -> CancelReport:
        if table.phase is Phase.AWAITING and table.id not in self._trouble:
            return _say(table, CancelResult.NO_JOB, "no job has appeared; it may yet start")
        trouble = self._trouble.get(table.id, "its sync still shows as running")
        return _say(table, CancelResult.NOT_CONFIRMED, trouble)


def _say(table: TableSync, result: CancelResult, text: str) -> CancelReport:
    job_id = table.job.id if table.job is not None else None
    return CancelReport(schema_id=table.id, job_id=job_id, result=result, text=f"{table.label}: {text}")
