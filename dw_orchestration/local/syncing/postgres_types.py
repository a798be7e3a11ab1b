"""How each Postgres type reaches DuckDB: what Postgres sends, and what DuckDB makes of it."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DECIMAL_DIGITS = 38
_COMPOSITE = "c"
_EXACT = "DECIMAL"

# types that come over the wire with their meaning intact
_NATIVE = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "text": "VARCHAR",
    "varchar": "VARCHAR",
    "bpchar": "VARCHAR",
    "name": "VARCHAR",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "interval": "INTERVAL",
    "bytea": "BLOB",
}

# Arrow counts from 1970 and Postgres from 2000: moved by that, the two infinities (the ends of the
# integer range) turn into these values, which no real Postgres date or timestamp can have.
_TIMESTAMP_ENDS = ("make_timestamp(-9222425352054775809)", "make_timestamp(-9222425352054775808)")
_DATE_ENDS = ("DATE '1970-01-01' + (-2147472692)", "DATE '1970-01-01' + (-2147472691)")


@dataclass(frozen=True, slots=True)
class PostgresType:
    """A column's type with its domain resolved.

    `kind` is pg_type's typtype; `element` names an array's element type; `modifier` is the typmod,
    -1 for none; `dimensions` is what an array column was declared with.
    """

    name: str
    kind: str
    element: str | None
    modifier: int
    dimensions: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A value's way: the Postgres expression, the DuckDB expression, the type it ends with.

    `{}` is the column in both expressions. The type of an exact number, DECIMAL, gets its digits from the rows.
    """

    sent: str
    received: str
    type: str

    @property
    def is_exact_number(self) -> bool:
        """Whether the rows decide about the type."""
        return self.type == _EXACT


_AS_TEXT = Passage("CAST({} AS text)", "{}", "VARCHAR")


def passage(of: PostgresType) -> Passage:
    """Return how values of a type travel.

    What PostHog has no type for arrives as text: arrays and composites as JSON, the rest as Postgres writes it.
    """
    if of.name == "numeric":
        return _number(of)
    if of.element is not None or of.kind == _COMPOSITE:
        return Passage("CAST(to_jsonb({}) AS text)", "{}", "VARCHAR")
    if of.name in _NATIVE:
        endless = of.name in {"date", "timestamp", "timestamptz"}
        return Passage("{}", _with_infinities(of.name) if endless else "{}", _NATIVE[of.name])
    return _AS_TEXT


def _number(of: PostgresType) -> Passage:
    """Return the way of an exact number, which travels as text.

    DECIMAL knows neither NaN nor infinity, and NULL is the only other way to say "no number".
    """
    if of.modifier < 0:
        return Passage("{}", "nullif(nullif(nullif({}, 'nan'), 'inf'), '-inf')", _EXACT)
    precision, scale = _precision(of.modifier)
    if precision > _MAX_DECIMAL_DIGITS:
        return _AS_TEXT
    decimal = f"DECIMAL({precision},{scale})"
    return Passage("{}", f"CAST(nullif({{}}, 'nan') AS {decimal})", decimal)


def _precision(modifier: int) -> tuple[int, int]:
    """Return how many digits a number has, and how many of them behind the point.

    Postgres also allows for a scale below zero, and for one beyond the precision.
    """
    packed = modifier - 4
    # the scale is an 11-bit number with a sign
    precision, scale = packed >> 16, ((packed & 0x7FF) ^ 1024) - 1024
    return max(precision - min(scale, 0), scale), max(scale, 0)


def _with_infinities(name: str) -> str:
    plus, minus = _DATE_ENDS if name == "date" else _TIMESTAMP_ENDS
    type_name = _NATIVE[name]
    if name == "timestamptz":
        plus, minus = (f"CAST({end} AS {type_name})" for end in (plus, minus))
    return (
        f"CASE {{0}} WHEN {plus} THEN CAST('infinity' AS {type_name})"
        f" WHEN {minus} THEN CAST('-infinity' AS {type_name}) ELSE {{0}} END"
    )
