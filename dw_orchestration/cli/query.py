"""`dw query`: read the synced tables with SQL."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from dw_orchestration.cli.output import Exit, Session, session_of
from dw_orchestration.cli.printing import Form, Jq, Json, Wide, fits, print_in_blocks
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.report import Report, counted
from dw_orchestration.posthog.errors import TooManyRowsError
from dw_orchestration.posthog.limits import ROWS_PER_QUERY
from dw_orchestration.posthog.queries import Queries, QueryResult
from dw_orchestration.tables.errors import UsageError

EXAMPLES = (
    'query "select count() from {table}" --table stripe.Customer',
    'query "select * from {table} where id = {id}" --table stripe.Customer --value id=5 --csv',
)
DEFAULT_PLACEHOLDER = "table"


def query(
    ctx: typer.Context,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="HogQL, with names in braces as placeholders.")],
    *,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TABLE", help="What {table} is: a table by name or asset key. NAME=TABLE fills another placeholder."
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What a placeholder is, as NAME=VALUE: a number, true, false, null or text."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="A unique column, by which to read on where there are more than 50,000 rows."
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a line of names.")] = False,
    as_json: Json = False,
    jq: Jq = None,
    wide: Wide = False,
) -> int:
    """Read synced tables with SQL: HogQL in PostHog, DuckDB's in an embedded warehouse."""
    session = session_of(ctx, Form(as_json=as_json, jq=jq, wide=wide))
    if as_csv and (as_json or wide):
        raise UsageError("--csv, --json and --wide are three forms of the output: give one of them.")
    values = dict(_value(given) for given in value or ())
    with session.connection.project() as project:
        tables = _names_in_queries(project, table or ())
        queries = project.client.queries
        if key is None:
            results = iter([_all_rows(queries, sql, tables=tables, values=values)])
        else:
            results = queries.in_batches(sql, key=key, tables=tables, values=values)
        return _print_csv(results) if as_csv else _print(session, list(results))


def _all_rows(queries: Queries, sql: str, *, tables: dict[str, str], values: dict[str, Any]) -> QueryResult:
    try:
        return queries.run(sql, tables=tables, values=values)
    except TooManyRowsError:
        raise UsageError(
            f"The query has more than {ROWS_PER_QUERY:,} rows, the most that PostHog returns at once. Name a unique"
            f" column with --key to read all of them, or end the query with `limit {ROWS_PER_QUERY}`."
        ) from None


def _print_csv(results: Iterator[QueryResult]) -> int:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, result in enumerate(results):
        if number == 0:
            writer.writerow(result.columns)
        writer.writerows([_cell(value) for value in row] for row in result.rows)
    return Exit.DONE


def _print(session: Session, results: Sequence[QueryResult]) -> int:
    """Print the rows as a table, or as one document."""
    columns = results[0].columns
    rows = [dict(zip(columns, row, strict=True)) for result in results for row in result.rows]
    report = Report(summary=f"{counted(len(rows), 'row')}.", rows=rows, columns=columns, is_exact=True)
    if rows and session.form == Form() and sys.stdout.isatty() and not fits(report):
        print_in_blocks(report)
        return Exit.DONE
    return session.show(report)


def _cell(value: Any) -> str:
    """A value as text; nothing for null."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return json.dumps(value)


def _names_in_queries(project: Project, given: Sequence[str]) -> dict[str, str]:
    """The names that queries use, by placeholder.

    Raises:
        UsageError: A table is unknown, or was never synced.
    """
    found: dict[str, str] = {}
    tables = project.tables() if given else None
    for each in given:
        placeholder, is_named, name = each.partition("=")
        if not is_named:
            placeholder, name = DEFAULT_PLACEHOLDER, each
        if tables is not None:
            found[placeholder] = tables.name_in_queries(name)
    return found


def _value(given: str) -> tuple[str, Any]:
    name, is_named, text = given.partition("=")
    if not is_named or not name.isidentifier():
        raise UsageError(f"Invalid value {given!r}: write NAME=VALUE, such as least=100.")
    try:
        value = json.loads(text)
    except ValueError:
        return name, text
    return name, text if isinstance(value, dict) else value
