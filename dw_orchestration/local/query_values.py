"""DuckDB's values as PostHog's JSON has them, with the types of ClickHouse that PostHog stores such columns in."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRINTABLE = range(32, 127)
# since 1970, from the year 1 to 9999
_MICROSECONDS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DAYS = (-719_162, 2_932_896)
_PLAIN_TYPES = (
    (pa.types.is_boolean, "Bool"),
    *((getattr(pa.types, f"is_{name.lower()}"), name) for name in ("Int8", "Int16", "Int32", "Int64")),
    *((getattr(pa.types, f"is_{name.lower()}"), name) for name in ("UInt8", "UInt16", "UInt32", "UInt64")),
    (pa.types.is_float32, "Float32"),
    (pa.types.is_float64, "Float64"),
    (pa.types.is_date, "Date32"),
    (pa.types.is_timestamp, "DateTime64(6, 'UTC')"),
    (pa.types.is_null, "Nothing"),
)


def clickhouse_type(kind: pa.DataType, duckdb_type: str = "") -> str:
    """The type of a column. Sums of integers are larger integers in DuckDB, but not in ClickHouse."""
    if duckdb_type in {"HUGEINT", "UHUGEINT"}:
        return "Nullable(Int64)"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"Array({clickhouse_type(kind.value_type)})"
    if pa.types.is_struct(kind):
        fields = (f"`{_escaped(part.name)}` {clickhouse_type(part.type)}" for part in kind)
        return f"Tuple({', '.join(fields)})"
    if pa.types.is_map(kind):
        key = clickhouse_type(kind.key_type).removeprefix("Nullable(").removesuffix(")")
        return f"Map({key}, {clickhouse_type(kind.item_type)})"
    return f"Nullable({_plain_type(kind)})"


def json_values(column: pa.Array, duckdb_type: str = "") -> list[Any]:
    """The values of a column for JSON."""
    if duckdb_type in {"HUGEINT", "UHUGEINT"}:
        column = column.cast(pa.decimal128(38, 0)).cast(pa.int64())
    if pa.types.is_nested(column.type):
        return [_json(value) for value in column.to_pylist()]
    values: list[Any] = _as_in_json(column).to_pylist()
    return values if _is_same_in_json(column.type) else [_json(value) for value in values]


def _as_in_json(column: pa.Array) -> pa.Array:
    """The column in a type that JSON has, where Arrow can convert it: value by value takes ten times as long."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        moments = column.cast(pa.timestamp("us"))
        text = _in_range(moments, moments.cast(pa.int64()), _MICROSECONDS).cast(pa.string())
        return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")
    if pa.types.is_date32(kind):
        return _in_range(column, column.cast(pa.int32()), _DAYS).cast(pa.string())
    if pa.types.is_decimal(kind):
        return column.cast(pa.string())
    if pa.types.is_floating(kind):
        # PostHog answers null for what JSON has no number for
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    return column


def _in_range(column: pa.Array, numbers: pa.Array, bounds: tuple[int, int]) -> pa.Array:
    """The column without the infinities and other times that Python and ClickHouse do not have."""
    first, last = bounds
    is_possible = pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))
    return pc.if_else(is_possible, column, pa.scalar(None, column.type))


def _plain_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"Decimal({kind.precision}, {kind.scale})"
    return next((name for check, name in _PLAIN_TYPES if check(kind)), "String")


def _is_same_in_json(kind: pa.DataType) -> bool:
    return any(check(kind) for check, name in _PLAIN_TYPES) or pa.types.is_string(kind) or pa.types.is_decimal(kind)


def _json(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return f"{moment.replace(tzinfo=None).isoformat()}Z"
        case dict():
            return {str(name): _json(each) for name, each in value.items()}
        case list():
            return _map_or_list(value)
        case None | bool() | int():
            return value
        case _:
            return _text(value)


def _text(value: Any) -> str:
    match value:
        case bytes():
            return "".join(chr(byte) if byte in _PRINTABLE else f"\\x{byte:02X}" for byte in value)
        case pa.MonthDayNano():
            return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
        case _:
            return str(value)


def _map_or_list(value: Sequence[Any]) -> Any:
    # a map arrives as a list of pairs
    if value and all(isinstance(each, tuple) for each in value):
        return {str(_json(key)): _json(item) for key, item in value}
    return [_json(each) for each in value]


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("`", "\\`")
