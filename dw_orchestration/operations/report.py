"""What an operation found or did: a sentence and a table, for people and for programs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from dw_orchestration.text import in_markdown, visible, visible_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A sentence, rows, and whether something was not done.

    Attributes:
        summary: A sentence or two.
        rows: One for each thing; all have the same keys, which programs rely on. Amounts of money are `Decimal`.
        columns: The keys that people are shown, in their order; the first one names the row.
        dispensable: The columns that a narrow terminal leaves out first, the least important one first.
        is_exact: Whether numbers are shown digit by digit: values of the user's own data are copied and compared.
        is_record: Whether it is one thing with many properties, which people read as a list.
        failed: Whether something that was asked for has not been done.
    """

    summary: str
    rows: Sequence[Row] = ()
    columns: Sequence[str] = ()
    dispensable: Sequence[str] = ()
    is_exact: bool = False
    is_record: bool = False
    failed: bool = False

    def cells(self) -> list[list[str]]:
        """The rows as people read them."""
        return [[visible(as_text(row.get(column))) for column in self.columns] for row in self.rows]

    def markdown(self) -> str:
        """The table in Markdown; the sentence if there is no row."""
        if not self.rows:
            return in_markdown(self.summary)
        head = [column.replace("_", " ") for column in self.columns]
        body = [[_in_a_cell(text) for text in line] for line in self.cells()]
        return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])

    def document(self) -> dict[str, object]:
        """For JSON: the same keys for every operation."""
        return {"summary": self.summary, "failed": self.failed, "rows": self.plain_rows()}

    def plain_rows(self) -> list[Row]:
        """The rows as programs read them: enumerations and times as text."""
        return [{key: _plain(value) for key, value in row.items()} for row in self.rows]

    def with_texts(self, change: Callable[[str], str]) -> Report:
        """The same, every text of it changed: to keep something out of it."""
        rows = [
            {key: change(value) if isinstance(value, str) else value for key, value in row.items()} for row in self.rows
        ]
        return replace(self, summary=change(self.summary), rows=rows)

    def __str__(self) -> str:
        summary = visible_lines(self.summary)
        return f"{summary}\n\n{self.markdown()}" if self.rows else summary


def counted(count: int, noun: str) -> str:
    """Such as `1 table`, `2 tables`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def remark(name: str, text: str) -> str:
    """A text about something by its name, which is not repeated."""
    return text if name in text else f"{name}: {text}"


def as_text(value: object) -> str:
    """A value as people read it; nothing for None."""
    match value:
        case None | "":
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return f"{value:,}"
        case int() | float():
            return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        case _:
            return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: object) -> object:
    """A value as JSON has it: enumerations and times as text."""
    match value:
        case None | bool() | int() | float():
            return value
        case Decimal():
            return float(value)
        case datetime() | time():
            return value.isoformat()
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return str(value)


def _in_a_cell(text: str) -> str:
    # a pipe ends a cell, even in code, unless it has a backslash; after one of the text's own only its number is left
    return re.sub(r"(\\?)\|", lambda found: r"\\x7c" if found[1] else r"\|", in_markdown(text))
