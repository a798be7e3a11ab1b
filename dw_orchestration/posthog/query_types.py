"""ClickHouse's types, as PostHog names them in the answer to a query, and the values that its JSON has for them.

What PostHog sends is read without loss. It sends NaN and the infinities as null.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

# of a number or a name with its arguments, which may be types
_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z0-9_.-]+)|`(?P<name>(?:[^`\\]|\\.)*)`|(?P<text>'(?:[^'\\]|\\.)*')|(?P<mark>.))"
)
# a longer name first
_VARIANTS = (("DateTime", "DateTime"), ("Date", "Date"), ("Interval", "Int64"))
# how many types are inside of these
_PARTS = {"Array": 1, "Map": 2}
# types that only say how the values of another one are stored
_WRAPPERS = frozenset({"Nullable", "LowCardinality", "SimpleAggregateFunction"})


@dataclass(frozen=True)
class ValueType:
    """A type with the types inside of it.

    Attributes:
        name: ClickHouse's name without arguments and variants: `DateTime` is `DateTime64`, too. What is not known is
            `String`.
        parts: The types of the items of an array, the fields of a tuple, or the keys and values of a map.
        names: The names of a tuple's fields; `1`, `2` and so on where they have none.
        numbers: The precision and scale of a decimal.
    """

    name: str
    parts: tuple["ValueType", ...] = ()
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    @property
    def read(self) -> Callable[[Any], Any] | None:
        """Turns JSON's value, unless it is null, into Python's; None if it is the same."""
        match self.name:
            case "Array":
                return self._read_array
            case "Tuple":
                return self._read_tuple
            case "Map":
                return self._read_map
            case name:
                return _READERS[name]

    def _read_array(self, items: list[Any]) -> list[Any]:
        return [_read(self.parts[0], item) for item in items]

    def _read_tuple(self, fields: Any) -> dict[str, Any]:
        values = list(fields.values()) if isinstance(fields, dict) else fields
        named = zip(self.names, self.parts, values, strict=True)
        return {name: _read(part, value) for name, part, value in named}

    def _read_map(self, items: dict[str, Any]) -> list[tuple[Any, Any]]:
        key, value = self.parts
        # JSON's keys are text
        read_key = int if "Int" in key.name else key.read or str
        return [(read_key(name), _read(value, item)) for name, item in items.items()]


@cache
def value_type(text: str) -> ValueType:
    """A type by ClickHouse's name: `Nullable(Decimal(10, 2))`. One that is not known is read as text."""
    tokens = _Tokens(text)
    found = _parsed(tokens)
    return found if tokens.peek is None else ValueType("String")


class _Tokens:
    """The words, names, texts and marks of a type."""

    def __init__(self, text: str) -> None:
        self._rest: Iterator[re.Match[str]] = _TOKEN.finditer(text.strip())
        self.peek: re.Match[str] | None = next(self._rest, None)

    def take(self) -> re.Match[str] | None:
        taken, self.peek = self.peek, next(self._rest, None)
        return taken

    def take_mark(self, mark: str) -> bool:
        if self.peek is None or self.peek["mark"] != mark:
            return False
        self.take()
        return True


def _parsed(tokens: _Tokens) -> ValueType:
    first = tokens.take()
    name = (first and first["word"]) or "String"
    arguments = list(_arguments(tokens)) if tokens.take_mark("(") else []
    types = [argument for _, argument in arguments if isinstance(argument, ValueType)]
    if name in _WRAPPERS and types:
        return types[-1]
    if name.startswith("Decimal"):
        return _decimal_type(name, [argument for _, argument in arguments if isinstance(argument, int)])
    if len(types) == _PARTS.get(name) or (name == "Tuple" and types):
        return ValueType(name, tuple(types), tuple(label or str(n) for n, (label, _) in enumerate(arguments, 1)))
    return ValueType(_plain_name(name))


def _plain_name(name: str) -> str:
    name = next((plain for prefix, plain in _VARIANTS if name.startswith(prefix)), name)
    return name if name in _READERS else "String"


def _arguments(tokens: _Tokens) -> Iterator[tuple[str | None, ValueType | int | None]]:
    """The arguments of a type up to the bracket that ends them, each with its name if it has one."""
    while tokens.peek is not None and not tokens.take_mark(")"):
        if tokens.take_mark(","):
            continue
        first = tokens.peek
        if first["text"] is not None or (first["mark"] or "") not in ("", None):
            tokens.take()  # a time zone, or the value of an enumeration
            continue
        if (first["word"] or "").isdecimal():
            tokens.take()
            yield None, int(first["word"])
            continue
        yield _named_argument(tokens)


def _named_argument(tokens: _Tokens) -> tuple[str | None, ValueType]:
    first = tokens.peek
    parsed = _parsed(tokens)
    follower = tokens.peek
    if first is not None and follower is not None and follower["word"] and not parsed.parts:
        return first["name"] or first["word"], _parsed(tokens)
    return None, parsed


def _decimal_type(name: str, numbers: list[int]) -> ValueType:
    digits = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}.get(name)
    if digits is not None:
        numbers = [digits, *numbers]
    precision, scale = (*numbers, 0, 0)[:2]
    return ValueType("Decimal", numbers=(precision or 38, scale))


def _read(kind: ValueType, value: Any) -> Any:
    read = kind.read
    return value if value is None or read is None else read(value)


def _time(value: Any) -> datetime:
    """A time in UTC. Without an offset it is in UTC, as all of PostHog's are."""
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _date(value: str) -> date:
    return date.fromisoformat(value[:10])


def _decimal(value: Any) -> Decimal:
    # a number of JSON has been read as the nearest binary one, whose shortest spelling is what the server sent
    return Decimal(str(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_SAME_IN_JSON = (
    "Bool",
    "Float32",
    "Float64",
    "Nothing",
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
)
_READERS: dict[str, Callable[[Any], Any] | None] = {
    **dict.fromkeys(_SAME_IN_JSON),
    "Date": _date,
    "DateTime": _time,
    "Decimal": _decimal,
    "String": _text,
}
