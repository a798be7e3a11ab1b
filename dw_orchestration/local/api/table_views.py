"""Warehouse tables as the API shows them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

import duckdb
from pydantic import BaseModel

if TYPE_CHECKING:
    from dw_orchestration.local.rows import Schema

# DuckDB's types by the names that PostHog gives to types of columns; what is not here is a string.
_TYPE_NAMES = {
    "BOOLEAN": "boolean",
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "HUGEINT": "integer",
    "UTINYINT": "integer",
    "USMALLINT": "integer",
    "UINTEGER": "integer",
    "UBIGINT": "integer",
    "FLOAT": "float",
    "DOUBLE": "float",
    "DATE": "date",
    "TIMESTAMP": "datetime",
    "TIMESTAMP WITH TIME ZONE": "datetime",
}


class ColumnOut(BaseModel):
    """A column of a warehouse table."""

    key: str
    name: str
    type: str
    schema_valid: bool = True


class TableOut(BaseModel):
    """The warehouse table of a schema."""

    id: UUID
    name: str
    columns: list[ColumnOut]
    row_count: int


class TableBrief(BaseModel):
    """The warehouse table of a schema in a list of sources."""

    id: UUID
    name: str
    row_count: int


def table_out(schema: Schema) -> TableOut | None:
    """The table of a schema; None before its first good sync."""
    table = schema.synced
    if table is None:
        return None
    columns = [ColumnOut(key=column.name, name=column.name, type=_type_name(column.type)) for column in table.columns]
    return TableOut(id=table.id, name=table_name(schema), columns=columns, row_count=table.row_count)


def table_brief(schema: Schema) -> TableBrief | None:
    """The table of a schema without its columns."""
    table = schema.synced
    return TableBrief(id=table.id, name=table_name(schema), row_count=table.row_count) if table else None


def table_name(schema: Schema) -> str:
    """The name that a query of the warehouse table uses."""
    return f"{_identifier(schema.target_schema)}.{_identifier(schema.target_name)}"


def _identifier(name: str) -> str:
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _reserved_words():
        return name
    return '"' + name.replace('"', '""') + '"'


@cache
def _reserved_words() -> frozenset[str]:
    with duckdb.connect() as connection:
        sql = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        return frozenset(word for (word,) in connection.execute(sql).fetchall())


def _type_name(duckdb_type: str) -> str:
    if duckdb_type.startswith("DECIMAL"):
        return "decimal"
    return _TYPE_NAMES.get(duckdb_type, "datetime" if duckdb_type.startswith("TIMESTAMP") else "string")
