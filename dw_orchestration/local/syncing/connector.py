"""What every source of rows offers, and the SQL that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dw_orchestration.local.syncing.models import literal, quoted

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from dw_orchestration.local.syncing.models import OfferedTable

# how to recognize a value that sorts after all others: such a row would hold the cursor permanently
_ENDLESS = {
    "TIMESTAMP": "isfinite({column})",
    "TIMESTAMP WITH TIME ZONE": "isfinite({column})",
    "DATE": "isfinite({column})",
    "DOUBLE": "{column} < CAST('infinity' AS double precision)",
}


@dataclass(frozen=True, slots=True)
class Since:
    """Where an earlier sync of the table ended: read what lies behind it.

    `inclusive` also reads rows that equal `value` (a merge can safely take them again).
    """

    field: str
    value: str
    inclusive: bool
    lookback_seconds: int


@dataclass(frozen=True, slots=True)
class StreamColumn:
    """A column of a stream: its source name, and the DuckDB expression that gives its value."""

    source_name: str
    expression: str


@dataclass(frozen=True, slots=True)
class RowStream:
    """Rows on their way, in batches."""

    batches: pa.RecordBatchReader
    columns: tuple[StreamColumn, ...]


class Connector(Protocol):
    """A source of tables. Its methods raise `SourceError` with a message for people."""

    def check(self) -> None:
        """Try the credentials against the live source.

        Raises:
            SourceError: the source cannot be used as configured.
        """

    def discover(self) -> list[OfferedTable]:
        """List the tables that the source offers.

        Raises:
            SourceError: the source cannot be read.
        """

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None,
        keys: Sequence[str],
        since: Since | None,
        cancelled: threading.Event,
    ) -> AbstractContextManager[RowStream]:
        """Stream a table's rows, stopping when `cancelled` is set; `keys` are the columns to merge on.

        Raises:
            SourceError: the table cannot be read, or reading broke off.
        """


def chosen(available: Sequence[str], *, columns: Sequence[str] | None) -> list[str]:
    """Return the columns to read, in the table's order; one that the source no longer has is left out."""
    return [name for name in available if columns is None or name in columns]


def since_condition(since: Since, *, cursor_type: str) -> str:
    """Return the SQL test for rows behind a cursor, in words that Postgres and DuckDB share.

    `cursor_type` is the column's type; the comparison is made in it, as the cursor's value was.
    """
    column = f"CAST({quoted(since.field)} AS {_shared_name(cursor_type)})"
    bound = f"CAST({literal(since.value)} AS {_shared_name(cursor_type)})"
    if since.lookback_seconds and ("TIMESTAMP" in cursor_type or cursor_type == "DATE"):
        bound += f" - INTERVAL '{since.lookback_seconds} seconds'"
    condition = f"{column} {'>=' if since.inclusive else '>'} {bound}"
    finite = _ENDLESS.get(cursor_type)
    return f"{condition} AND {finite.format(column=column)}" if finite else condition


def _shared_name(cursor_type: str) -> str:
    return "double precision" if cursor_type == "DOUBLE" else cursor_type
