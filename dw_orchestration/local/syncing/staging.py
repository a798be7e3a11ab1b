"""Rows from a source into a DuckDB file of the job's own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from dw_orchestration.local.syncing.cancelling import interrupting
from dw_orchestration.local.syncing.duck import open_duckdb
from dw_orchestration.local.syncing.models import SyncCancelled, quoted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dw_orchestration.local.syncing.connector import RowStream


class StagedRows:
    """The staging file of one job: its rows, and the names that the columns have in the warehouse."""

    def __init__(self, path: Path, *, memory_limit: str) -> None:
        self.path = path
        self.rows_read = 0
        self.names: dict[str, str] = {}
        self._memory_limit = memory_limit

    def fill(self, stream: RowStream, *, on_progress: Callable[[int], None], cancelled: threading.Event) -> None:
        """Take all rows of a stream.

        Raises:
            SyncCancelled: `cancelled` was set.
            Exception: the failure of the stream itself.
        """
        self.names = warehouse_names([column.source_name for column in stream.columns])
        chosen = ", ".join(
            f"{column.expression} AS {quoted(self.names[column.source_name])}" for column in stream.columns
        )
        failures: list[Exception] = []
        batches = self._counted(stream, on_progress=on_progress, cancelled=cancelled, failures=failures)
        arriving = pa.RecordBatchReader.from_batches(stream.batches.schema, batches)
        with self._open() as connection, interrupting(cancelled, connection.interrupt):
            connection.register("arriving", arriving)
            try:
                connection.execute(f"CREATE TABLE staged AS SELECT {chosen} FROM arriving")  # noqa: S608 - quoted
            except duckdb.Error:
                if cancelled.is_set():
                    raise SyncCancelled from None
                # DuckDB wraps the failure of the stream into another traceback
                if failures:
                    raise failures[0] from None
                raise

    def remove(self) -> None:
        """Delete the file and the files that DuckDB put next to it."""
        for leftover in self.path.parent.glob(f"{self.path.name}*"):
            if leftover.is_file():
                leftover.unlink()

    def _counted(
        self,
        stream: RowStream,
        *,
        on_progress: Callable[[int], None],
        cancelled: threading.Event,
        failures: list[Exception],
    ) -> Iterator[pa.RecordBatch]:
        try:
            for batch in stream.batches:
                if cancelled.is_set():
                    raise SyncCancelled  # noqa: TRY301 - recorded like any other end of the stream
                self.rows_read += batch.num_rows
                on_progress(self.rows_read)
                yield batch
        except Exception as exc:
            failures.append(exc)
            raise

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.remove()
        with open_duckdb(str(self.path), memory_limit=self._memory_limit) as connection:
            yield connection


def warehouse_names(source_names: Sequence[str]) -> dict[str, str]:
    """Return each column's name in DuckDB, which does not distinguish "id" and "ID" as Postgres does.

    Example:
        `["id", "ID"]` gives `{"id": "id", "ID": "ID_2"}`.
    """
    names: dict[str, str] = {}
    taken = {name.lower() for name in source_names}
    seen: set[str] = set()
    for name in source_names:
        unique, number = name, 1
        while unique.lower() in seen or (number > 1 and unique.lower() in taken):
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique.lower())
        names[name] = unique
    return names
