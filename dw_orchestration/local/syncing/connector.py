"""What every source of rows offers, and the SQL that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dw_orchestration.local.syncing.models import SourceError, literal, quoted
from dw_orchestration.local.syncing.types import cursor_kind

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from dw_orchestration.local.syncing.models import OfferedTable

MISSING_KEY = (
    "This table needs a primary key to sync incrementally, but none is set. Choose a primary key for the table in its"
    " sync settings, or switch it to full table replication, then re-enable the sync."
)
REPEATED_KEY = (
    "The primary key set for this table isn't unique, so incremental syncing can't reliably match rows to update."
    " Choose a unique primary key in the table's sync settings, or switch it to full table replication, then re-enable"
    " the sync."
)

# how to recognize a value that sorts after all others: such a row would hold the cursor permanently
_ENDLESS = {
    "TIMESTAMP": "isfinite({column})",
    "TIMESTAMP WITH TIME ZONE": "isfinite({column})",
    "DATE": "isfinite({column})",
    "DOUBLE": "{column} < CAST('infinity' AS double precision)",
}


# the kinds of PostHog's types of incremental fields
_KINDS = {"integer": "number", "numeric": "number", "date": "time", "datetime": "time", "timestamp": "time"}
# where PostHog begins to read; older rows, and those without a value, are never imported
_INITIAL = {"number": "0", "time": "1970-01-01"}


@dataclass(frozen=True, slots=True)
class Since:
    """Where an earlier sync of the table ended: read what lies behind it.

    `value` is None at the first sync. A `date` reads its last day again, as rows may have arrived during that day.
    """

    field: str
    field_type: str
    value: str | None
    lookback_seconds: int

    @property
    def includes_value(self) -> bool:
        """Whether rows that equal `value` are read as well."""
        return self.value is not None and self.field_type == "date"


@dataclass(frozen=True, slots=True)
class StreamColumn:
    """A column of a stream: its source name, and the DuckDB expression that gives its value.

    `is_exact_number` marks the text of numbers without a declared precision: the rows decide about their type.
    """

    source_name: str
    expression: str
    is_exact_number: bool = False


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
            SourceError: the table cannot be read, its keys are not unique, or reading broke off.
        """


def chosen(available: Sequence[str], *, columns: Sequence[str] | None) -> list[str]:
    """Return the columns to read, in the table's order; one that the source no longer has is left out."""
    return [name for name in available if columns is None or name in columns]


def since_condition(since: Since, *, cursor_type: str) -> str:
    """Return the SQL test for rows behind a cursor, in words that Postgres and DuckDB share.

    `cursor_type` is the column's type; the comparison is made in it, as the cursor's value was.

    Raises:
        SourceError: the column cannot be a cursor, or does not have the declared type.
    """
    kind = cursor_kind(cursor_type)
    if kind is None or kind != _KINDS.get(since.field_type):
        raise SourceError(
            f"Column {since.field!r} is {cursor_type} and cannot be an incremental field of the type"
            f" {since.field_type!r}. Choose a number, date or timestamp, and its type."
        )
    column = f"CAST({quoted(since.field)} AS {_shared_name(cursor_type)})"
    bound = f"CAST({literal(since.value or _INITIAL[kind])} AS {_shared_name(cursor_type)})"
    if since.value is not None and since.lookback_seconds and kind == "time":
        bound += f" - INTERVAL '{since.lookback_seconds} seconds'"
    condition = f"{column} {'>=' if since.includes_value else '>'} {bound}"
    finite = _ENDLESS.get(cursor_type)
    return f"{condition} AND {finite.format(column=column)}" if finite else condition


def describe_since(since: Since) -> str:
    """Return which rows are read, in words."""
    if since.value is None:
        return f"the rows with {since.field} above the initial value"
    back = f", {since.lookback_seconds} s back," if since.lookback_seconds else ""
    return f"the rows with {since.field} {'from' if since.includes_value else 'above'} {since.value}{back}"


def repeated_key_query(table: str, *, keys: Sequence[str]) -> str:
    """Return the SELECT of a key that several rows have, in words that Postgres and DuckDB share."""
    names = ", ".join(map(quoted, keys))
    return f"SELECT 1 FROM {table} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"  # noqa: S608 - quoted


def check_keys(keys: Sequence[str], *, available: Sequence[str], table: str) -> None:
    """Make sure that a table has the columns to merge on.

    Raises:
        SourceError: one of them is missing.
    """
    missing = [key for key in keys if key not in available]
    if missing:
        raise SourceError(
            f"Table {table!r} has no column {', '.join(map(repr, missing))}, named by its primary key."
            " Correct the primary key, or use full_refresh."
        )


def _shared_name(cursor_type: str) -> str:
    return "double precision" if cursor_type == "DOUBLE" else cursor_type
