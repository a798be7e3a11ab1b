"""What a sync is asked for, what it reports, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass

# sync types that read all that there is
WITHOUT_CURSOR = ("full_refresh", "webhook")


class SourceError(Exception):
    """A source or table cannot be synced; the message says what is wrong and what to do.

    Attributes:
        permanent: whether trying again without a change is useless.
        cured_by_reset: whether a sync from scratch will work, without a change.
    """

    def __init__(self, message: str, *, permanent: bool = True, cured_by_reset: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.cured_by_reset = cured_by_reset


class SyncCancelled(Exception):  # noqa: N818 - an end that was asked for, not an error
    """The sync was stopped on request; the table is as it was."""


@dataclass(frozen=True, slots=True)
class OfferedColumn:
    """A column as the source describes it."""

    name: str
    data_type: str
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class CursorColumn:
    """A column that can serve as a cursor."""

    field: str
    field_type: str
    is_indexed: bool


@dataclass(frozen=True, slots=True)
class OfferedTable:
    """A table that the source offers; `rows` is an estimate, or None when the source has none."""

    name: str
    columns: tuple[OfferedColumn, ...]
    primary_keys: tuple[str, ...]
    incremental_fields: tuple[CursorColumn, ...]
    rows: int | None
    supports_webhooks: bool = False


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A table in the warehouse file."""

    schema: str
    name: str

    @property
    def qualified(self) -> str:
        """The name as SQL uses it."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a warehouse table, with its DuckDB type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One sync of one table.

    `reset` takes everything again; `enabled_columns` is None for all columns.
    """

    job_id: str
    table: str
    target: TargetTable
    sync_type: str
    incremental_field: str | None
    incremental_field_type: str | None
    primary_keys: tuple[str, ...]
    lookback_seconds: int | None
    enabled_columns: tuple[str, ...] | None
    reset: bool


@dataclass(frozen=True, slots=True)
class SyncResult:
    """A committed sync: the rows it read, and the table as it is now."""

    job_id: str
    rows_synced: int
    row_count: int
    columns: tuple[TableColumn, ...]


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier, for Postgres and DuckDB alike."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return `text` as an SQL string, for Postgres and DuckDB alike."""
    return "'" + text.replace("'", "''") + "'"
