"""The text of a query: what fills its placeholders, and whether it has a LIMIT. Values never become a part of it."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from dw_orchestration.posthog.errors import UsageError

_TOKEN = re.compile(
    r"""
    '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.)*` | --[^\n]* | /\*.*?\*/
    | \{\s*(?P<placeholder>[A-Za-z_]\w*)\s*\}
    | (?P<word>[A-Za-z_]\w*)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# LIMIT ... BY keeps some rows of each group: it does not end the result
_LIMIT_ROWS = re.compile(r"\s+(?:\d+\s*,\s*)?(\d+)")
_LIMIT_BY = re.compile(r"\s+\S+(?:\s*(?:,|\boffset\b)\s*\S+)?\s+by\b", re.IGNORECASE)
_COMBINED = frozenset({"union", "intersect", "except", "offset"})

Value = str | bool | int | float | Decimal | datetime | date | UUID | list[Any] | tuple[Any, ...] | None
"""What a placeholder takes. A list has values of one kind."""

# what PostHog's functions for them can represent
_TIMES = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
_DATES = (date(1970, 1, 1), date(2149, 6, 6))
_DECIMAL_DIGITS = 18
_INTEGERS = range(-(2**63), 2**64)


def filled(text: str, *, tables: Mapping[str, str], values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A query with the names of its tables, and the values that are sent next to it.

    Args:
        text: The query, with placeholders such as `{table}` and `{since}`.
        tables: The names that queries use, by placeholder.
        values: The values by placeholder.

    Raises:
        UsageError: A placeholder has nothing that fills it, nothing uses a value, or a value is not possible.
    """
    if both := tables.keys() & values.keys():
        raise UsageError(f"{_listed(both)} is both a table and a value: give each placeholder one of the two.")
    used: set[str] = set()
    sent: dict[str, Any] = {}
    pieces: list[str] = []
    for token in _TOKEN.finditer(text):
        name = token["placeholder"]
        if name is None:
            pieces.append(token[0])
        elif name in tables:
            pieces.append(quoted(tables[name]))
        elif name in values:
            pieces.append(_placeholder(name, values[name], sent))
        else:
            raise UsageError(
                f"Nothing fills {{{name}}} in the query. Give a table (`tables={{{name!r}: ...}}`, or `--table"
                f" {name}=TABLE` of the command) or a value (`values={{{name!r}: ...}}`, or `--value {name}=VALUE`)."
            )
        used.add(name or "")
    if unused := (tables.keys() | values.keys()) - used:
        raise UsageError(f"The query does not use {_listed(unused)}: put the name in braces where it belongs.")
    return "".join(pieces), sent


def quoted(table: str) -> str:
    """The name of a table as a query spells it, with any words and characters in it.

    The embedded warehouse quotes names itself, PostHog does not.
    """
    parts = re.findall(r'"(?:[^"]|"")*"|[^."]+', table)
    return ".".join(part if part.startswith('"') else identifier(part) for part in parts)


def identifier(name: str) -> str:
    """A name in quotes, as HogQL and DuckDB read it."""
    return '"' + name.replace('"', '""') + '"'


def limited(text: str, most: int) -> tuple[str, int | None]:
    """A query with an end to its rows, and the number that it asked for itself; None if it did not.

    A LIMIT that is not a plain number counts as `most`.
    """
    text = text.rstrip().rstrip(";")
    is_combined = False
    own: int | None = None
    for word, end in _outer_words(text):
        if word == "limit" and not _LIMIT_BY.match(text, end):
            rows = _LIMIT_ROWS.match(text, end)
            own = int(rows[1]) if rows else most
        is_combined = is_combined or word in _COMBINED
    if own is not None:
        return text, own
    if is_combined:
        # it would count for the last part only
        return f"select * from (\n{text}\n) limit {most}", None  # noqa: S608  the user's own query
    return f"{text}\nlimit {most}", None


def after_key(text: str, *, key: str, rows: int, is_first: bool) -> str:
    """A query for the next rows in the order of a key, those from `{last_key}` on.

    Rows without a key come last, and would otherwise be in the first answer only.
    """
    column = identifier(key)
    # each answer starts with the key that the one before ended with, because its rows may have been cut there
    condition = "" if is_first else f"\nwhere ({column} >= {{last_key}} or {column} is null)"
    text = text.rstrip().rstrip(";")
    return f"select * from (\n{text}\n){condition}\norder by {column} limit {rows}"  # noqa: S608  as above


def _outer_words(text: str) -> Iterator[tuple[str, int]]:
    """The words that are in no bracket, text or comment, each with the position of its end."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"(": 1, ")": -1}.get(token["mark"] or "", 0)
        if token["word"] and depth == 0:
            yield token["word"].lower(), token.end()


def _placeholder(name: str, value: Any, sent: dict[str, Any]) -> str:
    """How the query spells the placeholder of a value: with the function for its type, which JSON does not have."""
    if isinstance(value, list | tuple):
        items = list(value)
        if all(_is_plain(item) for item in items):
            sent[name] = [_plain(name, item) for item in items]
            return f"{{{name}}}"
        return f"[{', '.join(_placeholder(f'{name}__{n}', item, sent) for n, item in enumerate(items))}]"
    if _is_plain(value):
        sent[name] = _plain(name, value)
        return f"{{{name}}}"
    sent[name], function = _typed(name, value)
    return function.format(f"{{{name}}}")


def _typed(name: str, value: Any) -> tuple[str, str]:
    """A value that JSON has no type for, as text, and the function that turns the text into it."""
    match value:
        case datetime():
            moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            _check_range(name, moment, _TIMES)
            return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z", "toDateTime({})"
        case date():
            _check_range(name, value, _DATES)
            return value.isoformat(), "toDate({})"
        case Decimal():
            text, scale = _decimal(name, value)
            return text, f"toDecimal({{}}, {scale})"
        case UUID():
            # PostHog stores ids as text
            return str(value), "{}"
        case _:
            raise UsageError(
                f"The value {name!r} is a {type(value).__name__}: give text, a number, a boolean, a date, a datetime, a"
                " Decimal, a UUID, None, or a list of these."
            )


def _is_plain(value: object) -> bool:
    """Whether JSON has its type."""
    return value is None or isinstance(value, str | bool | int | float)


def _plain(name: str, value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            raise UsageError(f"The value {name!r} is {value}, which cannot be sent: give a finite number.")
        case str() if any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError(f"The value {name!r} is not valid Unicode text.")
        case int() if value not in _INTEGERS:
            raise UsageError(f"The value {name!r} has more than 64 bits: give a smaller number, or text.")
        case _:
            return value


def _decimal(name: str, value: Decimal) -> tuple[str, int]:
    """A decimal as text, and its digits after the point."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise UsageError(f"The value {name!r} is {value}, which cannot be sent: give a finite number.")
    text = f"{value:f}"
    if len(text.lstrip("-0").replace(".", "")) > _DECIMAL_DIGITS:
        raise UsageError(f"The value {name!r} has more than {_DECIMAL_DIGITS} digits, the most of PostHog's decimals.")
    return text, max(-exponent, 0)


def _check_range(name: str, value: Any, bounds: tuple[Any, Any]) -> None:
    first, last = bounds
    if not first <= value <= last:
        raise UsageError(f"The value {name!r} is not between {first} and {last}, the range of PostHog's type.")


def _listed(names: set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))
