"""Which DuckDB types a cursor can follow, and which changes of a column's type a resync cures."""

from __future__ import annotations

import re

_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_DECIMAL = re.compile(r"DECIMAL(\(\d+,\s*\d+\))?")
_FLOATING = ("FLOAT", "DOUBLE")


def cursor_kind(duckdb_type: str) -> str | None:
    """Return `number` or `time` for a type that a cursor can follow, None for any other."""
    if _is_plain_number(duckdb_type) or _DECIMAL.fullmatch(duckdb_type):
        return "number"
    is_time = duckdb_type == "DATE" or (duckdb_type.startswith("TIMESTAMP") and not duckdb_type.endswith("]"))
    return "time" if is_time else None


def can_be_endless(duckdb_type: str) -> bool:
    """Return whether a type has infinities."""
    return duckdb_type.startswith(("TIMESTAMP", "DATE", *_FLOATING))


def is_cured_by_reset(stored: str, incoming: str) -> bool:
    """Return whether PostHog resyncs a table by itself when a column changes from one type to the other."""
    return _is_plain_number(stored) and _is_plain_number(incoming)


def _is_plain_number(duckdb_type: str) -> bool:
    return duckdb_type in _FLOATING or bool(_INTEGER.fullmatch(duckdb_type))
