"""`dw sync`: sync tables and follow them to their end."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from dw_orchestration.cli.exits import Exit
from dw_orchestration.cli.options import Confirm, Json, Tables
from dw_orchestration.cli.output import session_of
from dw_orchestration.cli.progress import Progress, progress_of
from dw_orchestration.operations.catalogue import NamedTable, Project
from dw_orchestration.operations.deletion import check_confirmed
from dw_orchestration.operations.errors import UsageError
from dw_orchestration.report import Report, Row, counted
from dw_orchestration.sync.batch import SyncBatch
from dw_orchestration.sync.events import Adopted, Ended
from dw_orchestration.sync.settings import IfRunning, SyncMode, SyncSettings, TableRequest

COLUMNS = ("table", "outcome", "rows_synced", "duration_s", "error")


def sync(
    ctx: typer.Context,
    wanted: Tables,
    *,
    resync: Annotated[
        bool, typer.Option("--resync", help="Delete what was synced and import it again, which is billed.")
    ] = False,
    confirm: Confirm = None,
    if_running: Annotated[
        IfRunning, typer.Option(help="When a sync is going on: follow it, wait and sync again, or fail.")
    ] = IfRunning.ATTACH,
    wait: Annotated[bool, typer.Option(help="Whether to stay until the syncs have ended.")] = True,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at PostHog, at first.")] = 2.0,
    as_json: Json = False,
) -> int:
    """Sync tables now and follow them to their end; Ctrl-C cancels what it has started."""
    session = session_of(ctx, as_json=as_json)
    mode = SyncMode.RESYNC if resync else SyncMode.RELOAD
    slowest_s = max(SyncSettings.poll_max_s, poll_s)
    settings = SyncSettings(mode=mode, if_running=if_running, wait=wait, poll_min_s=poll_s, poll_max_s=slowest_s)
    with session.connection.project() as project:
        tables = _chosen(project, wanted, confirm or (), mode=mode)
        project.client.check_access(write=True)
        run = _Run(project, tables, settings)
        with progress_of(tables, mode=mode) as progress:
            code = run.follow(progress)
    return session.show(run.report(), code=code)


def _chosen(project: Project, wanted: Sequence[str], confirm: Sequence[str], *, mode: SyncMode) -> list[NamedTable]:
    """The tables, if they may be synced so.

    Raises:
        UsageError: A name is unknown, or a resync is not confirmed.
    """
    catalogue = project.catalogue()
    tables = catalogue.select(wanted)
    if mode is SyncMode.RESYNC:
        check_confirmed(tables, confirm, catalogue=catalogue)
    elif confirm:
        raise UsageError("--confirm is for --resync alone: give both, or neither.")
    return tables


class _Run:
    """One batch on its way."""

    def __init__(self, project: Project, tables: Sequence[NamedTable], settings: SyncSettings) -> None:
        requests = [
            TableRequest(source_id=table.source.id, schema_id=table.id, name=table.schema.name) for table in tables
        ]
        self._batch = SyncBatch(project.client, requests, settings=settings)
        self._started: dict[str, bool] = {}
        self._rows: dict[str, Row] = {table.id: _row(table) for table in tables}

    def follow(self, progress: Progress) -> Exit | None:
        """Sync, and tell how it goes; the exit status, if it is another than the result's."""
        try:
            with _interrupted_by_termination():
                for event in self._batch.events():
                    progress.tell(event)
                    if isinstance(event, Adopted):
                        self._started[event.schema_id] = event.started
                    elif isinstance(event, Ended):
                        self._end(event)
        except KeyboardInterrupt:
            progress.say("Interrupted: cancelling what was started. Once more leaves it to PostHog.")
            self._cancel(progress)
            return Exit.INTERRUPTED
        return None

    def report(self) -> Report:
        """How the tables ended."""
        rows = list(self._rows.values())
        good = sum(row["outcome"] in {"completed", "submitted"} for row in rows)
        summary = f"{good} of {counted(len(rows), 'table')} synced."
        return Report(summary=summary, rows=rows, columns=COLUMNS, failed=good < len(rows))

    def _end(self, event: Ended) -> None:
        self._rows[event.schema_id] |= {
            "outcome": event.outcome.value,
            "job_id": event.job and event.job.id,
            "started": self._started.get(event.schema_id, False),
            "rows_synced": event.job and event.job.rows_synced,
            "queue_s": event.queue_s,
            "duration_s": event.duration_s,
            "error": str(event.error) if event.error else None,
        }

    def _cancel(self, progress: Progress) -> None:
        for report in self._batch.cancel_started():
            progress.say(report.text)
            self._rows[report.schema_id] |= {
                "outcome": report.result.value,
                "job_id": report.job_id,
                "started": True,
                "error": report.text,
            }


def _row(table: NamedTable) -> Row:
    return {
        "table": table.name,
        "id": table.id,
        "outcome": "left",
        "job_id": None,
        "started": False,
        "rows_synced": None,
        "queue_s": None,
        "duration_s": None,
        "error": None,
    }


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Treat SIGTERM, which ends jobs of CI and containers, as Ctrl-C."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
