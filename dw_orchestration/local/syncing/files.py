"""Any other source type, served from files: `<fixtures>/<source type>/<table>.parquet|csv|jsonl`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from dw_orchestration.local.syncing.cancelling import interrupting
from dw_orchestration.local.syncing.connector import (
    REPEATED_KEY,
    RowStream,
    Since,
    StreamColumn,
    check_keys,
    chosen,
    repeated_key_query,
    since_condition,
)
from dw_orchestration.local.syncing.duck import IN_MEMORY, given_back, open_duckdb
from dw_orchestration.local.syncing.models import (
    CursorColumn,
    OfferedColumn,
    OfferedTable,
    SourceError,
    SyncCancelled,
    TableColumn,
    literal,
    quoted,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# the whole file decides about a column's type, not its first rows
_READERS = {
    ".parquet": "read_parquet({})",
    ".csv": "read_csv({}, sample_size = -1)",
    ".jsonl": "read_json({}, format = 'newline_delimited', sample_size = -1)",
}
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})
_BATCH_ROWS = 65_536
# names the tables of the folder that can arrive by webhook
WEBHOOK_TABLES = "webhooks.txt"
_MEMORY_LIMIT = "128MB"


class FilesConnector:
    """A folder of files that represents one source."""

    def __init__(self, source_type: str, *, fixtures: Path) -> None:
        self._source_type = source_type
        self._fixtures = fixtures

    def check(self) -> None:
        """Make sure that the folder is there.

        Raises:
            SourceError: it is missing or holds no table.
        """
        self._files()

    def discover(self) -> list[OfferedTable]:
        """List one table per file.

        Raises:
            SourceError: the folder is missing, or a file cannot be read.
        """
        pushed = self._pushed_tables()
        with _duckdb() as connection:
            tables = [_source_table(connection, path) for path in self._files().values()]
        return [replace(table, supports_webhooks=table.name in pushed) for table in tables]

    @contextmanager
    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None,
        keys: Sequence[str],
        since: Since | None,
        cancelled: threading.Event,
    ) -> Iterator[RowStream]:
        """Stream a file's rows.

        Raises:
            SourceError: the file is gone or cannot be read, or its keys are not unique.
            SyncCancelled: `cancelled` was set.
        """
        path = self._files().get(table)
        if path is None:
            raise SourceError(
                f"There is no file for table {table!r} in {self._folder()}. Refresh the source's schemas."
            )
        with _duckdb() as connection, _reading(path, cancelled=cancelled):
            described = _columns(connection, path)
            names = chosen([column.name for column in described], columns=columns)
            check_keys(keys, available=[column.name for column in described], table=table)
            if keys and connection.execute(repeated_key_query(_scan(path), keys=keys)).fetchall():
                raise SourceError(REPEATED_KEY)
            values = (_value(column) for column in described if column.name in names)
            query = f"SELECT {', '.join(values)} FROM {_scan(path)}"  # noqa: S608 - quoted
            if since:
                query += f" WHERE {since_condition(since, cursor_type=_cursor_type(described, since=since))}"
            with interrupting(cancelled, connection.interrupt):
                stream = connection.sql(query).to_arrow_reader(_BATCH_ROWS)
                yield RowStream(stream, tuple(StreamColumn(name, quoted(name)) for name in names))

    def _pushed_tables(self) -> set[str]:
        """The tables of which the source can push rows to a webhook."""
        listed = self._folder() / WEBHOOK_TABLES
        return set(listed.read_text().split()) if listed.exists() else set()

    def _folder(self) -> Path:
        """Return the source type's folder; the case of its name is ignored.

        Raises:
            SourceError: there is none.
        """
        if self._fixtures.is_dir():
            for folder in sorted(self._fixtures.iterdir()):
                if folder.is_dir() and folder.name.lower() == self._source_type.lower():
                    return folder
        raise SourceError(
            f"Source type {self._source_type!r} is served from files. Create the folder"
            f" {self._fixtures / self._source_type.lower()} with one .parquet, .csv or .jsonl file per table."
        )

    def _files(self) -> dict[str, Path]:
        folder = self._folder()
        found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _READERS}
        if not found:
            raise SourceError(f"The folder {folder} is empty. Put one .parquet, .csv or .jsonl file per table into it.")
        return found


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    opened = open_duckdb(IN_MEMORY, memory_limit=_MEMORY_LIMIT)
    with given_back(opened, memory_limit=_MEMORY_LIMIT) as connection:
        # without it JSON, UUID and wide integers would lose their types on the way through Arrow
        connection.execute("SET arrow_lossless_conversion = true")
        yield connection
        connection.execute("RESET arrow_lossless_conversion")


@contextmanager
def _reading(path: Path, *, cancelled: threading.Event) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as exc:
        if cancelled.is_set():
            raise SyncCancelled from None
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: Exception) -> SourceError:
    line = (str(exc).strip().splitlines() or ["unknown error"])[0]
    return SourceError(f"The file {path} cannot be read: {line}")


def _scan(path: Path) -> str:
    return _READERS[path.suffix.lower()].format(literal(str(path)))


def _columns(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[TableColumn, ...]:
    described = connection.execute(f"DESCRIBE SELECT * FROM {_scan(path)}").fetchall()  # noqa: S608 - quoted
    return tuple(TableColumn(name, data_type) for name, data_type, *_ in described)


def _value(column: TableColumn) -> str:
    """Return the expression of a value as PostHog keeps it: what is nested, and what it has no type for, as text."""
    name = quoted(column.name)
    if column.type.endswith(("]", ")")) and not column.type.startswith("DECIMAL"):
        return f"CAST(to_json({name}) AS VARCHAR) AS {name}"
    return f"CAST({name} AS VARCHAR) AS {name}" if column.type in {"UUID", "JSON"} else name


def _cursor_type(columns: Sequence[TableColumn], *, since: Since) -> str:
    for column in columns:
        if column.name == since.field:
            return column.type
    raise SourceError(
        f"Column {since.field!r}, the incremental field, is not in the file any more. Choose another one."
    )


def _source_table(connection: duckdb.DuckDBPyConnection, path: Path) -> OfferedTable:
    try:
        columns = _columns(connection, path)
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {_scan(path)}").fetchall()  # noqa: S608 - quoted
    except duckdb.Error as exc:
        raise _unreadable(path, exc) from exc
    return OfferedTable(
        name=path.stem,
        columns=tuple(OfferedColumn(column.name, column.type, is_nullable=True) for column in columns),
        primary_keys=tuple(column.name for column in columns if column.name == "id"),
        incremental_fields=tuple(
            CursorColumn(column.name, field_type, is_indexed=False)
            for column in columns
            if (field_type := _field_type(column.type))
        ),
        rows=rows,
    )


def _field_type(duckdb_type: str) -> str | None:
    if duckdb_type in _INTEGERS:
        return "integer"
    if duckdb_type.startswith("DECIMAL") or duckdb_type == "DOUBLE":
        return "numeric"
    if duckdb_type == "DATE":
        return "date"
    return "timestamp" if duckdb_type.startswith("TIMESTAMP") else None
