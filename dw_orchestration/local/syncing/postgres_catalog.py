"""What a Postgres database offers, read from its catalog."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, LiteralString

from psycopg.rows import class_row

from dw_orchestration.local.syncing.models import CursorColumn, OfferedColumn, OfferedTable, SourceError
from dw_orchestration.local.syncing.postgres_types import PostgresType

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

_CURSOR_TYPES = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamp",
}

_COLUMNS: LiteralString = """
WITH RECURSIVE resolved (type, base, modifier) AS (
    SELECT oid, oid, -1 FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT d.oid, r.base, CASE WHEN d.typtypmod >= 0 THEN d.typtypmod ELSE r.modifier END
    FROM pg_type d JOIN resolved r ON r.type = d.typbasetype
    WHERE d.typtype = 'd'
)
SELECT
    c.oid::int8 AS table_id,
    n.nspname::text AS namespace,
    c.relname::text AS table_name,
    c.reltuples::int8 AS estimate,
    a.attname::text AS name,
    format_type(a.atttypid, NULL) AS declared,
    NOT a.attnotnull AS is_nullable,
    b.typname::text AS base,
    b.typtype::text AS kind,
    CASE WHEN b.typcategory = 'A' THEN e.typname::text END AS element,
    CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE r.modifier END AS modifier,
    a.attndims::int AS dimensions,
    (SELECT array_position(i.indkey::int2[], a.attnum) FROM pg_index i
      WHERE i.indrelid = c.oid AND i.indisprimary) AS key_position,
    EXISTS (SELECT FROM pg_index i
      WHERE i.indrelid = c.oid AND i.indisvalid AND i.indkey[0] = a.attnum) AS leads_index
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN resolved r ON r.type = a.atttypid
JOIN pg_type b ON b.oid = r.base
LEFT JOIN pg_type e ON e.oid = b.typelem
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
  AND (%(table)s::text IS NULL
       OR %(table)s = CASE WHEN %(schema)s::text IS NULL THEN n.nspname || '.' ELSE '' END || c.relname)
ORDER BY n.nspname, c.relname, a.attnum
"""


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column as the catalog has it; `key_position` is its place in the primary key, or None."""

    table_id: int
    namespace: str
    table_name: str
    estimate: int
    name: str
    declared: str
    is_nullable: bool
    base: str
    kind: str
    element: str | None
    modifier: int
    dimensions: int
    key_position: int | None
    leads_index: bool

    @property
    def type(self) -> PostgresType:
        """The column's type, domains resolved."""
        return PostgresType(self.base, self.kind, self.element, self.modifier, self.dimensions)


def catalog_columns(
    connection: psycopg.Connection, *, schema: str | None, table: str | None = None
) -> list[CatalogColumn]:
    """Return the columns of all tables of a schema (None: of every schema), or of one table."""
    with connection.cursor(row_factory=class_row(CatalogColumn)) as cursor:
        return cursor.execute(_COLUMNS, {"schema": schema, "table": table}).fetchall()


def check_schema(connection: psycopg.Connection, *, schema: str | None) -> None:
    """Make sure that a configured schema exists.

    Raises:
        SourceError: it does not.
    """
    if schema is None:
        return
    found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
    if found is None:
        raise SourceError(
            f"Schema {schema!r} does not exist in the database. Correct `schema`, or leave it empty for all."
        )


def source_tables(columns: Iterable[CatalogColumn], *, schema: str | None) -> list[OfferedTable]:
    """Group catalog columns into tables, named without their schema when one is configured."""
    tables = (tuple(group) for _, group in groupby(columns, key=attrgetter("table_id")))
    return [_source_table(group, schema=schema) for group in tables]


def primary_key(columns: Iterable[CatalogColumn]) -> tuple[str, ...]:
    """Return the declared primary key of a table, in its own order."""
    keyed = [(column.key_position, column.name) for column in columns if column.key_position is not None]
    return tuple(name for _, name in sorted(keyed))


def _source_table(columns: tuple[CatalogColumn, ...], *, schema: str | None) -> OfferedTable:
    first = columns[0]
    return OfferedTable(
        name=first.table_name if schema else f"{first.namespace}.{first.table_name}",
        columns=tuple(OfferedColumn(c.name, c.declared, c.is_nullable) for c in columns),
        # as PostHog does, where nothing is declared
        primary_keys=primary_key(columns) or tuple(c.name for c in columns if c.name == "id"),
        incremental_fields=tuple(
            CursorColumn(c.name, _CURSOR_TYPES[c.base], c.leads_index) for c in columns if c.base in _CURSOR_TYPES
        ),
        # Postgres writes -1 for a table that it has never counted
        rows=first.estimate if first.estimate >= 0 else None,
    )
