"""Rows from a source into a DuckDB file of the job's own."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from dw_orchestration.local.syncing.cancelling import interrupting
from dw_orchestration.local.syncing.duck import given_back, open_duckdb
from dw_orchestration.local.syncing.models import SyncCancelled, quoted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dw_orchestration.local.syncing.connector import RowStream

_MOST_DIGITS = 38
_USUAL_SCALE = 18  # of a column of numbers that has none


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
            connection.unregister("arriving")
            for column in stream.columns:
                if column.is_exact_number:
                    _settle_number(connection, quoted(self.names[column.source_name]))

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
        opened = open_duckdb(str(self.path), memory_limit=self._memory_limit)
        with given_back(opened, memory_limit=self._memory_limit) as connection:
            yield connection


def _settle_number(connection: duckdb.DuckDBPyConnection, column: str) -> None:
    """Give a column of numbers, which came as text, the narrowest scale that holds them; or leave it text."""
    digits = (
        f"SELECT max(length(split_part(ltrim({column}, '-'), '.', 1))), max(length(split_part({column}, '.', 2)))"  # noqa: S608 - quoted
        " FROM staged"
    )
    whole, scale = connection.execute(digits).fetchall()[0]
    if whole is None:
        whole, scale = 0, _USUAL_SCALE
    if whole + scale <= _MOST_DIGITS:
        connection.execute(f"ALTER TABLE staged ALTER {column} TYPE DECIMAL({_MOST_DIGITS}, {scale})")


def warehouse_names(source_names: Sequence[str]) -> dict[str, str]:
    """Return each column's name in the warehouse: in snake case, and with a number where two would be the same.

    Example:
        `["id", "ID"]` gives `{"id": "id", "ID": "id_2"}`.
    """
    names: dict[str, str] = {}
    taken = {snake_case(name) for name in source_names}
    seen: set[str] = set()
    for name in source_names:
        unique, number = snake_case(name), 1
        while unique in seen or (number > 1 and unique in taken):
            number += 1
            unique = f"{snake_case(name)}_{number}"
        seen.add(unique)
        names[name] = unique
    return names


def snake_case(name: str) -> str:
    """Return a name in lower snake case: `CustomerIO` is `customer_io`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"\W+", "_", split).lower()
