"""The warehouse file: opened only for moments, so that other processes can read between syncs."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import duckdb

from dw_orchestration.local.syncing import bookkeeping
from dw_orchestration.local.syncing.duck import given_back, open_duckdb, open_locked_down
from dw_orchestration.local.syncing.models import (
    SourceError,
    SyncCancelled,
    SyncResult,
    TableColumn,
    TargetTable,
)
from dw_orchestration.local.syncing.staging import StagedRows, snake_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0
_DAMAGE = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException, OSError)
_DISK_FULL = "No space left"
_LOCKED = ("Could not set lock", "different configuration")


class Warehouse:
    """One DuckDB file and the staging folder next to it. One object per file and process.

    DuckDB gives a file to one process at a time; every method waits up to `busy_timeout_s` for it.
    """

    def __init__(
        self, path: Path, *, staging: Path, memory_limit: str = "256MB", busy_timeout_s: float = 300.0
    ) -> None:
        self._path = path
        self.staging = staging
        self._memory_limit = memory_limit
        self._busy_timeout_s = busy_timeout_s
        self._turn = threading.Lock()

    def published(self, job_id: str) -> SyncResult | None:
        """Return a job's result if it was committed (also asked after a crash), else None.

        Raises:
            SourceError: another process keeps the file, or it is damaged.
        """
        if not self._path.exists():
            return None
        with self.opened() as connection:
            return bookkeeping.published(connection, job_id)

    def drop(self, target: TargetTable) -> None:
        """Delete a table and its cursor, in one transaction.

        Raises:
            SourceError: another process keeps the file, or it is damaged.
        """
        if not self._path.exists():
            return
        with self.opened() as connection:
            connection.execute("BEGIN")
            connection.execute(f"DROP TABLE IF EXISTS {target.qualified}")
            bookkeeping.forget_cursor(connection, target)
            connection.execute("COMMIT")

    def describe(self, target: TargetTable) -> tuple[int, tuple[TableColumn, ...]] | None:
        """Return a table's row count and columns, or None when it is not there.

        Raises:
            SourceError: another process keeps the file, or it is damaged.
        """
        if not self._path.exists():
            return None
        with self.opened() as connection:
            columns = bookkeeping.table_columns(connection, target)
            return (bookkeeping.row_count(connection, target), columns) if columns else None

    def move_cursor(self, target: TargetTable, *, field: str) -> bool:
        """Let a column lead from its highest value in the table on; False when it has none there.

        Raises:
            SourceError: another process keeps the file.
        """
        if not self._path.exists():
            return False
        with self.opened() as connection:
            cursor = bookkeeping.read_cursor(connection, target)
            if cursor is not None and cursor.field == field:
                return True
            columns = bookkeeping.table_columns(connection, target)
            highest = bookkeeping.highest_value(connection, target.qualified, columns, field=snake_case(field))
            if highest is not None:
                bookkeeping.write_cursor(connection, target, bookkeeping.Cursor(field, highest))
            return highest is not None

    def clean_staging(self) -> None:
        """Remove what killed syncs left. To be called while no sync is running."""
        if self.staging.is_file():
            self.staging.unlink()
        shutil.rmtree(self.staging, ignore_errors=True)

    def staging_for(self, job_id: str) -> StagedRows:
        """Return the job's own staging file, not yet made."""
        return StagedRows(self.staging / f"{job_id}.duckdb", memory_limit=self._memory_limit)

    @contextmanager
    def opened(self, *, cancelled: threading.Event | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file, after waiting for this process's other syncs and for other processes.

        Raises:
            SourceError: another process keeps the file, or it is damaged.
            SyncCancelled: `cancelled` was set while waiting.
        """
        stop = cancelled or threading.Event()
        self._take_turn(stop)
        try:
            with given_back(self._connect(stop), memory_limit=self._memory_limit) as connection:
                bookkeeping.prepare(connection)
                yield connection
        except _DAMAGE as exc:
            if _DISK_FULL in str(exc):
                raise
            raise SourceError(self._damaged(exc), permanent=False) from exc
        finally:
            self._turn.release()

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for foreign SQL: it can change nothing, and read nothing but this file.

        Raises:
            SourceError: another process keeps the file, or it is damaged.
        """
        self._take_turn(threading.Event())
        try:
            open_file = partial(open_locked_down, memory_limit=self._memory_limit)
            with self._connect(threading.Event(), open_file=open_file) as connection:
                yield connection
        finally:
            self._turn.release()

    def _take_turn(self, stop: threading.Event) -> None:
        while not self._turn.acquire(timeout=_LONGEST_DELAY_S):
            if stop.is_set():
                raise SyncCancelled

    def _connect(
        self, stop: threading.Event, *, open_file: Callable[[str], duckdb.DuckDBPyConnection] | None = None
    ) -> duckdb.DuckDBPyConnection:
        open_file = open_file or partial(open_duckdb, memory_limit=self._memory_limit)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        waited_s, delay_s = 0.0, _FIRST_DELAY_S
        while True:
            try:
                return open_file(str(self._path))
            except duckdb.Error as exc:
                # a file of another version is none of its subclasses
                if not any(text in str(exc) for text in _LOCKED):
                    raise SourceError(self._damaged(exc), permanent=False) from exc
                if waited_s >= self._busy_timeout_s:
                    raise SourceError(self._kept_by_another(exc), permanent=False) from exc
            if stop.wait(delay_s):
                raise SyncCancelled
            waited_s += delay_s
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _damaged(self, exc: Exception) -> str:
        return (
            f"The warehouse file {self._path} cannot be used. Restore it from a backup, or move it away: each table"
            f" is then imported again by its next sync. The reason: {str(exc).splitlines()[0]}"
        )

    def _kept_by_another(self, exc: Exception) -> str:
        return (
            f"Another process kept the warehouse file {self._path} for {self._busy_timeout_s:.0f} s."
            f" Close it there and sync again. DuckDB says: {str(exc).splitlines()[0]}"
        )
