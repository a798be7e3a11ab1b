"""What people see while tables are synced: one line for all and the running tables on a terminal, lines elsewhere.

Always on the error output. What failed is printed as it fails, with PostHog's reason, and stays.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from dw_orchestration.operations.report import counted, remark
from dw_orchestration.operations.syncing import GOOD
from dw_orchestration.posthog.enums import SyncType
from dw_orchestration.sync.events import Adopted, BillingStopped, Ended, Notice, SyncEvent
from dw_orchestration.sync.events import Progress as Moved
from dw_orchestration.sync.settings import SyncMode
from dw_orchestration.text import visible, visible_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dw_orchestration.tables.table import Table

# more running tables are counted, but have no line
MOST_LINES = 10
# a narrower terminal has room for names, counts and times alone
WITH_BARS = 120


class Progress(Protocol):
    """Prints progress for people."""

    def tell(self, event: SyncEvent) -> None:
        """Show an event."""

    def say(self, text: str) -> None:
        """Show a sentence."""


@contextmanager
def progress_of(tables: Sequence[Table], *, mode: SyncMode) -> Iterator[Progress]:
    """Bars if the error output is a terminal, lines if not."""
    console = Console(stderr=True)
    names = {table.id: visible(table.name) for table in tables}
    if not console.is_terminal:
        yield _Lines(names, Console(stderr=True, soft_wrap=True))
        return
    columns = [
        # of characters that every encoding has
        SpinnerColumn("line", finished_text=" "),
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=20)] if console.width >= WITH_BARS else []),
        TimeElapsedColumn(),
    ]
    with Bars(*columns, console=console) as bars:
        yield _Bars(names, bars, {table.id: _expected_rows(table, mode=mode) for table in tables})


class _Lines:
    def __init__(self, names: Mapping[str, str], console: Console) -> None:
        self._names = names
        self._console = console

    def tell(self, event: SyncEvent) -> None:
        match event:
            case Adopted():
                began = "began" if event.started else "was running already, and is followed"
                self.say(f"{self._names[event.schema_id]}: sync {event.job.id} {began}.")
            case Ended() if event.outcome.value in GOOD:
                rows = f", {counted(event.job.rows_synced or 0, 'row')}" if event.job else ""
                self.say(f"{self._names[event.schema_id]}: {event.outcome}{rows}.")
            case Ended():
                self.say(_reason(self._names[event.schema_id], event))
            case Notice() | BillingStopped():
                self.say(event.text if isinstance(event, Notice) else str(event.error))

    def say(self, text: str) -> None:
        self._console.print(Text(visible_lines(text)))


class _Bars:
    """A line for all tables, and one for each of those that run; a table that failed leaves a line with the reason."""

    def __init__(self, names: Mapping[str, str], bars: Bars, expected: Mapping[str, int | None]) -> None:
        self._names = names
        self._bars = bars
        self._expected = expected
        self._rows: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._running: set[str] = set()
        self._done = self._failed = 0
        self._all = bars.add_task("", total=len(names))
        self._update()

    def tell(self, event: SyncEvent) -> None:
        match event:
            case Adopted():
                self._running.add(event.schema_id)
                self._show(event.schema_id)
            case Moved():
                self._rows[event.schema_id] = rows = event.job.rows_synced or 0
                if event.schema_id in self._tasks:
                    self._bars.update(
                        self._tasks[event.schema_id], completed=rows, description=self._line(event.schema_id)
                    )
            case Ended():
                self._end(event)
            case Notice() | BillingStopped():
                self.say(event.text if isinstance(event, Notice) else str(event.error))
        self._update()

    def say(self, text: str) -> None:
        self._bars.console.print(Text(visible_lines(text)))

    def _show(self, schema_id: str) -> None:
        if len(self._tasks) < MOST_LINES:
            total = self._expected[schema_id]
            self._tasks[schema_id] = self._bars.add_task(self._line(schema_id), total=total)

    def _line(self, schema_id: str) -> str:
        rows = self._rows.get(schema_id)
        return f"  {self._names[schema_id]}" + (f": {_rows(rows)}" if rows else "")

    def _end(self, event: Ended) -> None:
        self._running.discard(event.schema_id)
        if event.job is not None:
            self._rows[event.schema_id] = event.job.rows_synced or 0
        if event.outcome.value in GOOD:
            self._done += 1
        else:
            self._failed += 1
            self._bars.console.print(Text(_reason(self._names[event.schema_id], event), style="red"))
        if (task := self._tasks.pop(event.schema_id, None)) is not None:
            self._bars.remove_task(task)
            for waiting in sorted(self._running - self._tasks.keys())[:1]:
                self._show(waiting)

    def _update(self) -> None:
        parts = [
            f"{self._done} done",
            f"{len(self._running)} running",
            *([f"{self._failed} failed"] if self._failed else []),
            _rows(sum(self._rows.values())),
        ]
        text = f"{counted(len(self._names), 'table')}: {', '.join(parts)}"
        self._bars.update(self._all, completed=self._done + self._failed, description=text)


def _reason(name: str, event: Ended) -> str:
    """Why a table has failed, in one line."""
    return remark(name, visible(event.error.text if event.error is not None else event.outcome.value))


def _rows(count: int) -> str:
    return counted(count, "row")


def _expected_rows(table: Table, *, mode: SyncMode) -> int | None:
    """The rows of the last sync, if this sync imports all rows again; otherwise unknown."""
    is_whole = mode is SyncMode.RESYNC or table.schema.sync_type is SyncType.FULL_REFRESH
    return table.schema.table.row_count if is_whole and table.schema.table else None
