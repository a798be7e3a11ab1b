"""How a report is printed: a table for a terminal, tab-separated lines for a pipe, names alone, or JSON.

On a terminal nothing is cut and no name is folded: the table leaves out columns until it fits, texts stand below it,
and times are relative. `--wide` shows everything, however wide.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dw_orchestration.cli.streams import write_lines
from dw_orchestration.operations.report import as_text, remark
from dw_orchestration.tables.errors import SetupError, UsageError
from dw_orchestration.text import visible, visible_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from dw_orchestration.operations.report import Report

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document: summary, failed, error, rows.")]
Jq = Annotated[
    str | None,
    typer.Option(
        "--jq",
        metavar="EXPR",
        help="Filter the document of --json by a jq expression, such as '.rows[].table'.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print names alone, one a line.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print all columns and exact times, however wide.")]
Fields = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Only these fields, such as table,id. An unknown name lists all of them.",
        show_default=False,
    ),
]

# texts, which a terminal shows below the table, each with the name of its row
REMARKS = frozenset({"error", "note", "why"})
# a column of other texts is wrapped where it is wider than this
WIDEST_TEXT = 40
# between two columns
GAP = 2
UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))
# a pipe has no width, and neither has a wide table
NO_LIMIT = 100_000


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form that a user has asked for, the jq expression for JSON, and the fields, separated by commas."""

    as_json: bool = False
    jq: str | None = None
    quiet: bool = False
    wide: bool = False
    fields: str | None = None

    def check(self) -> None:
        """Refuse what cannot be printed, before anything is done.

        Raises:
            UsageError: More than one form was asked for, or the jq expression is invalid.
        """
        if self.jq is not None and not self.as_json:
            raise UsageError("--jq filters what --json prints: give both.")
        if self.jq is not None:
            _program(self.jq)
        if sum((self.as_json, self.quiet, self.wide)) > 1:
            raise UsageError("--json, --quiet and --wide are three forms of the output: give one of them.")


DEFAULT_FORM = Form()


def print_report(report: Report, *, form: Form) -> None:
    """Print a report on the standard output; where a program reads lines there, the summary is on the other one.

    Raises:
        UsageError: The report has no such field.
    """
    if form.fields is not None:
        report = _with_fields(report, [name.strip() for name in form.fields.split(",")])
    if form.as_json:
        _print_json(report.document() | {"error": None, "error_type": None}, jq=form.jq)
    elif form.quiet:
        _print_lines(dict.fromkeys(visible(as_text(row.get(report.columns[0]))) for row in report.rows))
    elif report.is_record:
        _print_record(report)
    elif sys.stdout.isatty() or form.wide:
        _print_table(report, wide=form.wide)
    else:
        rows = report.plain_rows()
        _print_lines("\t".join(_plain_cell(row.get(column)) for column in report.columns) for row in rows)
        write_lines(visible_lines(report.summary), sys.stderr)


def print_error(error: Exception, text: str, *, form: Form) -> None:
    """Print what went wrong; as a document too, for a program that expects one."""
    if form.as_json and form.jq is None:
        _print_json({"summary": text, "failed": True, "rows": [], "error": text, "error_type": type(error).__name__})
    write_lines(visible_lines(text), sys.stderr)


def fits(report: Report) -> bool:
    """Whether the terminal is wide enough for all columns."""
    from rich.console import Console

    return _fitting(report, Console(file=sys.stdout).width) == list(report.columns)


def print_in_blocks(report: Report) -> None:
    """Print a block for each row with a line for each value: for rows of which no column may be left out."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    width = max(len(visible(column)) for column in report.columns)
    for number, row in enumerate(report.rows, 1):
        console.print(Text(f"row {number}", style="bold"))
        for column in report.columns:
            line = f"  {visible(column):{width}}  {_cell(row[column], report, now=None)}"
            console.print(Text(line), soft_wrap=True)
    console.print(Text(report.summary))


def _with_fields(report: Report, names: Sequence[str]) -> Report:
    """The report with these fields of its rows alone; where there are no rows, any name is right."""
    known = list(report.rows[0]) if report.rows else names
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"There is no field {unknown[0]!r}. There are {', '.join(known)}.")
    rows = [{name: row[name] for name in names} for row in report.rows]
    return replace(report, rows=rows, columns=names, dispensable=())


def _print_json(document: dict[str, object], *, jq: str | None = None) -> None:
    text = json.dumps(document)
    if jq is None:
        sys.stdout.write(text + "\n")
        return
    try:
        results = _program(jq).input_text(text).all()
    except ValueError as error:
        raise UsageError(f"--jq {jq!r} does not fit the document: {error}.") from None
    # as gh prints them
    _print_lines(
        "" if each is None else visible(each) if isinstance(each, str) else json.dumps(each) for each in results
    )


def _program(expression: str) -> Any:
    try:
        import jq
    except ImportError:
        raise SetupError(
            "--jq needs the package `jq`, which cannot be imported: install it, or leave out --jq."
        ) from None
    try:
        return jq.compile(expression)
    except ValueError as error:
        raise UsageError(
            f"Invalid --jq {expression!r}: {str(error).removeprefix('jq: error: ').splitlines()[0].rstrip(':')}."
        ) from None


def _print_lines(lines: Sequence[str] | Iterator[str] | dict[str, None]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _print_table(report: Report, *, wide: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, width=NO_LIMIT if wide else None)
    columns = list(report.columns) if wide else _fitting(report, console.width)
    if report.rows:
        # a name that is wider than the terminal runs over its edge: a folded one cannot be copied
        console.width = max(console.width, _width(report, columns[0]))
        _print_rows(console, report, columns, wide=wide)
    if not wide:
        for remark in _remarks(report):
            console.print(Text(remark))
    hidden = [column for column in report.columns if column not in columns and column not in REMARKS]
    more = f" Not shown: {', '.join(hidden)} (--wide)." if hidden and report.rows else ""
    console.print(Text(visible_lines(report.summary) + more))


def _print_record(report: Report) -> None:
    """Print the properties that have a value, one a line; of a list, one a line as well.

    On a terminal, long texts continue below themselves, and no name, id or address is folded.
    """
    width = max(map(len, report.columns)) + GAP
    for column in report.columns:
        value = report.rows[0].get(column)
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            text = visible(as_text(each))
            if sys.stdout.isatty() and isinstance(each, datetime):
                text += f" ({ago(each, now=datetime.now(UTC))})"
            if text:
                write_lines(f"{'' if number else column:{width}}{text}", sys.stdout, indent=width)
    write_lines(visible_lines(report.summary), sys.stdout)


def _print_rows(console: Console, report: Report, columns: Sequence[str], *, wide: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    now = None if wide else datetime.now(UTC)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column in columns:
        is_number = all(isinstance(row.get(column), int | float | Decimal | None) for row in report.rows)
        table.add_column(
            Text(visible(column)),
            justify="right" if is_number else "left",
            no_wrap=wide or not _is_text(column, columns),
            overflow="fold",
        )
    for row in report.rows:
        table.add_row(*(Text(_cell(row.get(column), report, now=now)) for column in columns))
    console.print(table)


def _fitting(report: Report, width: int) -> list[str]:
    """The columns that fit into a width, the most important ones first. The name, the first one, always stays."""
    name, *others = [column for column in report.columns if column not in REMARKS]
    by_importance = [column for column in others if column not in report.dispensable]
    by_importance += [column for column in reversed(report.dispensable) if column in others]
    fitting, left = {name}, width - _width(report, name)
    for column in by_importance:
        if (needed := GAP + _width(report, column)) <= left:
            fitting.add(column)
            left -= needed
    return [column for column in (name, *others) if column in fitting]


def _width(report: Report, column: str) -> int:
    now = datetime.now(UTC)
    widest = max((len(_cell(row.get(column), report, now=now)) for row in report.rows), default=0)
    limit = WIDEST_TEXT if _is_text(column, report.columns) else NO_LIMIT
    return max(len(column), min(widest, limit))


def _remarks(report: Report) -> Iterator[str]:
    """The texts of the rows, one a line, each once."""
    found = (
        remark(visible(as_text(row.get(report.columns[0]))), visible(text))
        for row in report.rows
        for column in report.columns
        if column in REMARKS and (text := as_text(row.get(column)))
    )
    yield from dict.fromkeys(found)


def _is_text(column: str, columns: Sequence[str]) -> bool:
    """Whether a column may be wrapped: names, ids and results may not."""
    return column != columns[0] and column in {"before", "after", "message", "description", "webhook_url", "synced"}


def _cell(value: object, report: Report, *, now: datetime | None) -> str:
    """A value as people read it; a time as of now, if that is given."""
    if report.is_exact and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, datetime) and now is not None:
        return ago(value, now=now)
    return visible(as_text(value))


def _plain_cell(value: object) -> str:
    """A value for a program: numbers without separators, times in ISO 8601, and never a tab or a new line."""
    if isinstance(value, list):
        return ",".join(map(_plain_cell, value))
    return "" if value is None else visible(str(value).lower() if isinstance(value, bool) else str(value))


def ago(moment: datetime, *, now: datetime) -> str:
    """Such as `just now`, `2 min ago`, `3 h ago`, `5 d ago`, `in 3 h`."""
    span = abs(now - moment)
    if span < timedelta(minutes=1):
        return "just now"
    unit, length = next(each for each in UNITS if span >= each[1])
    text = f"{span // length} {unit}"
    return f"{text} ago" if moment <= now else f"in {text}"
