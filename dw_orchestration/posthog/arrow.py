"""The result of a query as an Arrow table, or as a data frame of pandas or Polars."""

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from dw_orchestration.posthog.errors import SetupError
from dw_orchestration.posthog.queries import QueryResult
from dw_orchestration.posthog.query_types import ValueType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Frame = Literal["arrow", "pandas", "polars"]

# Arrow's names of types, where they differ in more than their case
_ALIASES = {"Date": "date32", "Float32": "float", "Float64": "double", "Nothing": "null"}
# types whose values are text in JSON
_AS_TEXT = frozenset({"Date", "DateTime", "Decimal", "String"})
# the most digits of Arrow's smaller decimals, which more programs can read
_SMALL_DECIMAL = 38


@overload
def as_frame(result: QueryResult, kind: Literal["arrow"]) -> "pa.Table": ...
@overload
def as_frame(result: QueryResult, kind: Literal["pandas"]) -> "pd.DataFrame": ...
@overload
def as_frame(result: QueryResult, kind: Literal["polars"]) -> "pl.DataFrame": ...
def as_frame(result: QueryResult, kind: Frame) -> Any:
    """The result as a table of this kind.

    Raises:
        SetupError: A package that this needs is not installed.
    """
    check_installed(kind)
    table = arrow_table(result)
    match kind:
        case "arrow":
            return table
        case "pandas":
            return table.to_pandas()
        case "polars":
            return import_module("polars").from_arrow(table)


def check_installed(kind: str) -> None:
    """Check, before a query is sent, that its result can be shown so.

    Raises:
        SetupError: A package that this needs is not installed, or there is no such kind.
    """
    if kind not in {"arrow", "pandas", "polars"}:
        raise SetupError(f"Invalid kind of table {kind!r}: choose arrow, pandas or polars.")
    for name in ("pyarrow",) if kind == "arrow" else ("pyarrow", kind):
        try:
            import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name != name:
                raise
            extra = "pip install 'dw-orchestration[query]'" if name == "pyarrow" else f"pip install {name}"
            raise SetupError(f"Query results as {kind} need the package {name}: {extra}.") from None


def arrow_table(result: QueryResult) -> "pa.Table":
    """The result as an Arrow table. `Read the tables` in the documentation lists which type becomes which."""
    pa = import_module("pyarrow")
    columns = [_array(result, index) for index in range(len(result.columns))]
    return pa.Table.from_arrays(columns, names=list(result.columns))


def _array(result: QueryResult, index: int) -> Any:
    """A column of the table."""
    pa = import_module("pyarrow")
    if not result.types:
        return pa.array(result.column(index))
    kind = result.types[index]
    if kind.name in _AS_TEXT:
        # converted by Arrow if it can read them all, which takes a tenth of the time
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([row[index] for row in result.rows], pa.string()).cast(arrow_type(kind))
    return pa.array(result.column(index), arrow_type(kind))


def arrow_type(kind: ValueType) -> Any:
    """The Arrow type of ClickHouse's."""
    pa = import_module("pyarrow")
    parts = [arrow_type(part) for part in kind.parts]
    match kind.name:
        case "Array":
            return pa.list_(*parts)
        case "Tuple":
            return pa.struct(list(zip(kind.names, parts, strict=True)))
        case "Map":
            return pa.map_(*parts)
        case "Decimal":
            precision, scale = kind.numbers
            return (pa.decimal128 if precision <= _SMALL_DECIMAL else pa.decimal256)(precision, scale)
        case "DateTime":
            return pa.timestamp("us", tz="UTC")
        case name:
            return pa.type_for_alias(_ALIASES.get(name, name.lower()))
