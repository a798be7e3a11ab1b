"""Which DuckDB types hold all the values of which others: the rules by which a table's column widens."""

from __future__ import annotations

import re

_WIDER = {
    "TINYINT": ("SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"),
    "SMALLINT": ("INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"),
    "INTEGER": ("BIGINT", "HUGEINT", "DOUBLE"),
    "BIGINT": ("HUGEINT",),
    "FLOAT": ("DOUBLE",),
    "DATE": ("TIMESTAMP",),
    "UUID": ("VARCHAR",),
    "JSON": ("VARCHAR",),
}
_INTEGER_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_TEXT_FORM = re.compile(
    r"(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|FLOAT|DOUBLE|BOOLEAN|DATE|TIME|TIMESTAMP|DECIMAL|UUID|JSON).*(?<!\])"
)
_CURSOR = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE|DATE|TIMESTAMP.*")


def common_type(kept: str, arriving: str) -> str | None:
    """Return the type that holds the values of both, or None when there is none.

    Text is the last resort: it holds every plain value.
    """
    if kept == arriving or _holds(kept, arriving):
        return kept
    if _holds(arriving, kept):
        return arriving
    both = _common_decimal(kept, arriving)
    if both:
        return both
    return "VARCHAR" if _text_form(kept) and _text_form(arriving) and "VARCHAR" in (kept, arriving) else None


def is_cursor_type(duckdb_type: str) -> bool:
    """Return whether values of a type have an order that a cursor can follow."""
    return bool(_CURSOR.fullmatch(duckdb_type)) and not duckdb_type.endswith("]")


def can_be_endless(duckdb_type: str) -> bool:
    """Return whether a type has infinities."""
    return duckdb_type.startswith(("TIMESTAMP", "DATE", "DOUBLE", "FLOAT"))


def _holds(wide: str, narrow: str) -> bool:
    if wide in _WIDER.get(narrow, ()):
        return True
    decimal = _decimal(wide)
    if decimal is None:
        return False
    whole, scale = decimal
    other = _decimal(narrow) or (_INTEGER_DIGITS.get(narrow, 99), 0)
    return whole >= other[0] and scale >= other[1]


def _common_decimal(one: str, other: str) -> str | None:
    first, second = _decimal(one), _decimal(other)
    if first is None or second is None:
        return None
    whole, scale = max(first[0], second[0]), max(first[1], second[1])
    return f"DECIMAL({whole + scale},{scale})" if whole + scale <= 38 else None  # noqa: PLR2004 - DuckDB's limit


def _decimal(duckdb_type: str) -> tuple[int, int] | None:
    """Return the digits before and behind the point."""
    found = _DECIMAL.fullmatch(duckdb_type)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else None


def _text_form(duckdb_type: str) -> bool:
    return duckdb_type == "VARCHAR" or bool(_TEXT_FORM.fullmatch(duckdb_type))
