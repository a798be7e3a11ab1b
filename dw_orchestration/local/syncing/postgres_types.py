"""How each Postgres type reaches DuckDB: what Postgres sends, and what DuckDB makes of it."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DECIMAL_DIGITS = 38
_KEY_DECIMAL = "DECIMAL(38,9)"
_COMPOSITE = "c"

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
    "uuid": "UUID",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "interval": "INTERVAL",
    "bytea": "BLOB",
    "json": "JSON",
    "jsonb": "JSON",
}
_LIST_ELEMENTS = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "uuid"})

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

    `{}` is the column in both expressions.
    """

    sent: str
    received: str
    type: str


_AS_TEXT = Passage("CAST({} AS text)", "{}", "VARCHAR")


def passage(of: PostgresType, *, is_key: bool) -> Passage:
    """Return how values of a type travel; `is_key` means that they identify rows.

    What has no faithful form in DuckDB arrives as Postgres's own text.
    """
    if of.name in {"numeric", "money"}:
        return _number(of, is_key=is_key)
    if of.element is not None:
        return _array(of)
    if of.name in _NATIVE:
        endless = of.name in {"date", "timestamp", "timestamptz"}
        return Passage("{}", _with_infinities(of.name) if endless else "{}", _NATIVE[of.name])
    if of.kind == _COMPOSITE:
        return Passage("to_jsonb({})", "{}", "JSON")
    # an oid is unsigned, and would arrive as a signed number of the same width
    return Passage("CAST({} AS int8)", "{}", "BIGINT") if of.name == "oid" else _AS_TEXT


def _number(of: PostgresType, *, is_key: bool) -> Passage:
    """Return the way of an exact number, which travels as text.

    Without a declared precision it becomes DOUBLE, which takes any number and can be summed. In a key
    it stays exact: two keys that differ in the 17th digit must stay two rows.
    """
    precision, scale = _precision(of.modifier)
    if of.name == "numeric" and 0 <= scale <= precision <= _MAX_DECIMAL_DIGITS and precision:
        decimal = f"DECIMAL({precision},{scale})"
        # DECIMAL knows no NaN, and NULL is the only other way to say "no number"
        return Passage("{}", f"CAST(nullif({{}}, 'nan') AS {decimal})", decimal)
    if is_key:
        return Passage("{}", f"CAST({{}} AS {_KEY_DECIMAL})", _KEY_DECIMAL)
    return Passage("CAST({} AS numeric)", "CAST({} AS DOUBLE)", "DOUBLE")


def _precision(modifier: int) -> tuple[int, int]:
    if modifier < 0:
        return 0, 0
    packed = modifier - 4
    # the scale is an 11-bit number with a sign
    return packed >> 16, ((packed & 0x7FF) ^ 1024) - 1024


def _array(of: PostgresType) -> Passage:
    if of.dimensions > 1 or of.element not in _LIST_ELEMENTS:
        return Passage("to_jsonb({})", "{}", "JSON")
    # A column declared int[] may hold int[][] too, which would arrive flattened. Postgres itself
    # refuses to append to such a value, so that the sync fails rather than changes the data.
    sent = "CASE WHEN array_ndims({0}) > 1 THEN array_append({0}, NULL) ELSE {0} END"
    return Passage(sent, "{}", f"{_NATIVE[of.element]}[]")


def _with_infinities(name: str) -> str:
    plus, minus = _DATE_ENDS if name == "date" else _TIMESTAMP_ENDS
    type_name = _NATIVE[name]
    if name == "timestamptz":
        plus, minus = (f"CAST({end} AS {type_name})" for end in (plus, minus))
    return (
        f"CASE {{0}} WHEN {plus} THEN CAST('infinity' AS {type_name})"
        f" WHEN {minus} THEN CAST('-infinity' AS {type_name}) ELSE {{0}} END"
    )
