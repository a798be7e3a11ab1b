"""`dw logs`: what PostHog logged during a sync."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from dw_orchestration.cli.commands import plain
from dw_orchestration.cli.completion import COMPLETIONS
from dw_orchestration.cli.output import Exit, session_of
from dw_orchestration.cli.printing import Form, Jq, Json
from dw_orchestration.cli.streams import write_lines
from dw_orchestration.operations.logs import find_job, followed_lines, log_lines, report_of_lines
from dw_orchestration.operations.operation import TableParams
from dw_orchestration.posthog.enums import LogLevel
from dw_orchestration.posthog.logs import as_text
from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dw_orchestration.posthog.models import LogLine

EXAMPLES = ("logs stripe.Charge", "logs stripe.Charge --level error", "logs stripe.Charge --follow")
LEVELS = ", ".join(level.lower() for level in LogLevel)
_TABLE = plain(TableParams.model_fields["table"].description or "")


def logs(
    ctx: typer.Context,
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help=_TABLE, show_default=False, autocompletion=COMPLETIONS["TABLE"])
    ],
    *,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of a sync, from dw jobs; the newest one if it is left out.")
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVEL", help=f"Only lines of this level; repeat it for several: {LEVELS}."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, metavar="NUMBER", help="How many lines at most.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until the sync has ended.")] = False,
    as_json: Json = False,
    jq: Jq = None,
) -> int:
    """Show what PostHog logged during a sync: what it read, how many rows, and why it failed."""
    session = session_of(ctx, Form(as_json=as_json, jq=jq))
    levels = [_level(each) for each in level or ()]
    if follow and as_json:
        raise UsageError("--follow prints lines as they come, and --json one document at the end: choose one.")
    with session.connection.project() as project:
        found = project.tables().table(table)
        sync = find_job(project, found, job)
        if follow:
            lines: Iterable[LogLine] = followed_lines(
                project, found, sync, levels=levels, limit=limit, sleep=time.sleep
            )
        else:
            lines = log_lines(project, found, sync, levels=levels, limit=limit)
        if as_json:
            return session.show(report_of_lines(found, sync, list(lines)))
        for line in lines:
            write_lines(as_text(line), sys.stdout)
            sys.stdout.flush()
    return Exit.DONE


def _level(text: str) -> LogLevel:
    level = LogLevel(text.upper())
    if not level.is_known:
        raise UsageError(f"Invalid level {text!r}: choose {LEVELS}.")
    return level
