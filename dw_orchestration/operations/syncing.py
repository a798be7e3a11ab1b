"""Sync tables by their names: the engine for it, and the outcome of each table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted, CancelReport, Ended, SyncEvent
from dw_orchestration.sync.settings import SyncMode, SyncSettings, TableRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.tables.table import Table

COLUMNS = ("table", "outcome", "rows_synced", "duration_s", "error")
MINUTE_S = 60
GOOD = frozenset({SyncOutcome.COMPLETED.value, SyncOutcome.SUBMITTED.value})


def sync_batch(project: Project, tables: Sequence[Table], *, settings: SyncSettings) -> SyncEngine:
    """The batch that syncs these tables; nothing is sent before its events are read."""
    requests = [
        TableRequest(source_id=table.source.id, schema_id=table.id, name=table.schema.name, label=table.name)
        for table in tables
    ]
    return SyncEngine(project.client, requests, settings=settings)


def planned(tables: Sequence[Table], *, mode: SyncMode) -> Report:
    """What would be synced: the rows are those of the last sync, and PostHog bills those that it imports."""
    rows: list[Row] = [
        {
            "table": table.name,
            "id": table.id,
            "sync_type": table.schema.sync_type,
            "rows": table.schema.table.row_count if table.schema.table else None,
            "last_synced_at": table.schema.last_synced_at,
            "result": "would be resynced" if mode is SyncMode.RESYNC else "would be synced",
        }
        for table in tables
    ]
    columns = ("table", "sync_type", "rows", "last_synced_at", "result")
    return Report(summary=f"Dry run: {counted(len(rows), 'table')}, nothing is synced.", rows=rows, columns=columns)


class Outcomes:
    """The outcome of each table, for the report at the end."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._rows: dict[str, Row] = {table.id: _row(table) for table in tables}
        self._is_interrupted = False

    def note(self, event: SyncEvent) -> None:
        """Record an event of the engine."""
        match event:
            case Adopted():
                self._rows[event.schema_id] |= {"job_id": event.job.id, "started": event.started}
            case Ended():
                self._rows[event.schema_id] |= {
                    "outcome": event.outcome.value,
                    "job_id": event.job and event.job.id,
                    "rows_synced": event.job and event.job.rows_synced,
                    "queue_s": event.queue_s,
                    "duration_s": event.duration_s,
                    "error": event.error.text if event.error else None,
                }

    def note_cancelled(self, report: CancelReport) -> None:
        """Take in how cancelling a table's sync went."""
        self._is_interrupted = True
        self._rows[report.schema_id] |= {
            "outcome": report.result.value,
            "job_id": report.job_id,
            "started": True,
            "error": report.text,
        }

    def report(self, *, took_s: float | None = None) -> Report:
        """How the tables ended; one that has not ended is `left`.

        Args:
            took_s: How long all of it took, for the summary.
        """
        rows = list(self._rows.values())
        good = sum(row["outcome"] in GOOD for row in rows)
        started = sum(row["outcome"] == SyncOutcome.SUBMITTED for row in rows)
        time = "" if took_s is None else f" in {_in_words(round(took_s))}"
        summary = f"{good - started} of {counted(len(rows), 'table')} synced{time}."
        if started:
            summary = f"{counted(started, 'sync')} started, of {counted(len(rows), 'table')}: PostHog continues."
        if self._is_interrupted:
            summary = f"Cancelled by you. {summary}"
        return Report(summary=summary, rows=rows, columns=COLUMNS, failed=good < len(rows))


def _in_words(seconds: int) -> str:
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= MINUTE_S else f"{seconds} s"


def _row(table: Table) -> Row:
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
