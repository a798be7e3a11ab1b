"""What people see while tables are synced: bars on a terminal, lines elsewhere; always on the error output."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from dw_orchestration.operations.report import counted
from dw_orchestration.posthog.enums import SyncType
from dw_orchestration.sync.events import Adopted, BillingStopped, Ended, Notice, SyncEvent
from dw_orchestration.sync.events import Progress as Moved
from dw_orchestration.sync.settings import SyncMode
from dw_orchestration.text import visible, visible_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dw_orchestration.tables.table import Table


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
    columns = (
        # of characters that every encoding has
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    with Bars(*columns, console=console) as bars:
        yield _Rows(names, bars, {table.id: _expected_rows(table, mode=mode) for table in tables})


class _Lines:
    def __init__(self, names: Mapping[str, str], console: Console) -> None:
        self._names = names
        self._console = console

    def tell(self, event: SyncEvent) -> None:
        match event:
            case Adopted():
                began = "began" if event.started else "was running already, and is followed"
                self.say(f"{self._names[event.schema_id]}: sync {event.job.id} {began}.")
            case Ended():
                rows = f", {counted(event.job.rows_synced or 0, 'row')}" if event.job else ""
                self.say(f"{self._names[event.schema_id]}: {event.outcome}{rows}.")
            case Notice() | BillingStopped():
                self.say(event.text if isinstance(event, Notice) else str(event.error))

    def say(self, text: str) -> None:
        self._console.print(Text(visible_lines(text)))


class _Rows:
    def __init__(self, names: Mapping[str, str], bars: Bars, totals: Mapping[str, int | None]) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {
            key: bars.add_task(name, total=totals[key], start=False, state="waiting") for key, name in names.items()
        }

    def tell(self, event: SyncEvent) -> None:
        match event:
            case Adopted():
                self._bars.start_task(self._tasks[event.schema_id])
                self._bars.update(self._tasks[event.schema_id], state="syncing")
            case Moved():
                self._bars.update(self._tasks[event.schema_id], completed=event.job.rows_synced or 0)
            case Ended():
                rows = event.job.rows_synced or 0 if event.job else 0
                task = self._tasks[event.schema_id]
                self._bars.update(task, completed=rows, total=max(rows, 1), state=event.outcome.value)
                self._bars.stop_task(task)
            case Notice() | BillingStopped():
                self.say(event.text if isinstance(event, Notice) else str(event.error))

    def say(self, text: str) -> None:
        self._bars.console.print(Text(visible_lines(text)))


def _expected_rows(table: Table, *, mode: SyncMode) -> int | None:
    """The rows of the last sync, if this sync imports all rows again; otherwise unknown."""
    is_whole = mode is SyncMode.RESYNC or table.schema.sync_type is SyncType.FULL_REFRESH
    return table.schema.table.row_count if is_whole and table.schema.table else None
