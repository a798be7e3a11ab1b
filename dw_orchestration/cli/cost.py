"""`dw cost`: the rows that PostHog bills, by table, day or source."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from dw_orchestration.cli.connection import Connection
from dw_orchestration.cli.history import history_of_project
from dw_orchestration.cli.output import session_of
from dw_orchestration.cli.printing import Fields, Form, Jq, Json, Quiet, Wide
from dw_orchestration.history.costs import By, Costs
from dw_orchestration.history.database import is_address, refuse_secrets
from dw_orchestration.tables.errors import SetupError, UsageError

EXAMPLES = ("cost --price-per-million 15", "cost --since 12w --by day")
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}


def cost(
    ctx: typer.Context,
    *,
    since: Annotated[
        str,
        typer.Option(
            metavar="SPAN", help="How far back, from the last reading of the history: 30d, 4w, 3m (of 30 days), 1y."
        ),
    ] = "30d",
    by: Annotated[By, typer.Option(help="What each line is about.")] = "table",
    price_per_million: Annotated[
        float | None,
        typer.Option(min=0, metavar="PRICE", help="What PostHog charges you for a million rows.", show_default=False),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="DATABASE",
            help="The sync history, as in history_database of the component. By default the one that a defs.yaml of the"
            " project here names, or that of the default code location.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    jq: Jq = None,
    quiet: Quiet = False,
    wide: Wide = False,
    fields: Fields = None,
) -> int:
    """Show the rows that PostHog bills, from the history of all syncs, and what they cost."""
    session = session_of(ctx, Form(as_json=as_json, jq=jq, quiet=quiet, wide=wide, fields=fields))
    span = _span(since)
    database = history or _found(session.connection)
    report = Costs(database, span, by=by, price_per_million=price_per_million).report()
    # what was typed is known, and may have a password in it
    return session.show(report if history else replace(report, summary=f"{report.summary} Read from {database}."))


def _found(connection: Connection) -> str:
    """The history of the project here, or that of the default code location.

    Raises:
        SetupError: There is none.
    """
    if not connection.home_is_asked_for and (database := history_of_project()):
        refuse_secrets(database)
        if not is_address(database) and not Path(database).exists():
            raise SetupError(
                f"There is no sync history yet: {database} does not exist. The asset `sync_history` writes it:"
                " materialize the asset, or name another database with --history."
            )
        return database
    file = connection.home / "sync_history.duckdb"
    if not file.exists():
        raise SetupError(
            f"There is no sync history: {file.absolute()} does not exist, and no defs.yaml of a project here names one."
            " The asset `sync_history` writes it: set `history_database` on your component (the default code location"
            " has it), and materialize the asset. Or name a database with --history."
        )
    return str(file)


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,4})([dwmy])", text.strip().lower())
    if found is None:
        raise UsageError(f"Invalid time {text!r}: write a number of days, weeks, months or years, such as 30d or 4w.")
    return timedelta(days=int(found[1]) * _DAYS[found[2]])
