"""What the command prints, as a table for people or one JSON document for programs, and its exit status."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from dw_orchestration.cli.connection import Connection, variable
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.secrets import Secrets
from dw_orchestration.posthog.errors import (
    AuthenticationError,
    PermissionDeniedError,
    PostHogError,
    ProjectNotFoundError,
    RateLimitedError,
    ReadOnlyError,
    RedirectRefusedError,
    ServerError,
    TransportError,
    UnexpectedAnswerError,
)
from dw_orchestration.tables.errors import SetupError, SnapshotError, UsageError
from dw_orchestration.text import VisibleError, visible_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer


# a pipe has no width: nothing is cut or wrapped there
WIDE = 100_000

# Errors that the command reports in one sentence; any other error is a bug.
KNOWN = (PostHogError, SetupError, SnapshotError)


class Exit(IntEnum):
    """The exit status."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SET_UP = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "a sync, or a part of what was asked for, failed or was refused by PostHog",
    Exit.USAGE: "it cannot be done as it was asked for: a name, a value, a missing confirmation",
    Exit.SET_UP: "the connection is set up wrongly, or the key may not do this",
    Exit.UNREACHABLE: "PostHog could not be reached, failed or is busy: try again later",
    Exit.INTERRUPTED: "interrupted; the syncs that the command had started are cancelled",
}

_SET_UP = (AuthenticationError, PermissionDeniedError, ProjectNotFoundError, ReadOnlyError, RedirectRefusedError)
_UNREACHABLE = (TransportError, RateLimitedError, ServerError, UnexpectedAnswerError)


def exit_for(error: Exception) -> Exit:
    """The exit status that an error means."""
    match error:
        case UsageError():
            return Exit.USAGE
        case SetupError() | SnapshotError():
            return Exit.SET_UP
        case _ if isinstance(error, _SET_UP):
            return Exit.SET_UP
        case _ if isinstance(error, _UNREACHABLE):
            return Exit.UNREACHABLE
        case _:
            return Exit.FAILED


@dataclass
class Session:
    """One call of the command.

    Attributes:
        connection: To which warehouse.
        as_json: Whether programs read the output.
        secrets: Those that it has looked up.
    """

    connection: Connection
    as_json: bool = False
    secrets: Secrets = field(default_factory=Secrets)

    def values(self, named: Mapping[str, object]) -> dict[str, object]:
        """The values of the variables that a payload names."""
        return self.secrets.values(named, lookup=variable, allow_written_out=True)

    def show(self, report: Report, *, code: Exit | None = None) -> int:
        """Print the report, without the secrets; the exit status."""
        report = report.with_texts(self.secrets.hidden)
        if self.as_json:
            self._print_document(report, error=None)
        else:
            _print_table(report)
        return code if code is not None else Exit.FAILED if report.failed else Exit.DONE

    def fail(self, error: VisibleError) -> int:
        """Print what went wrong, without the secrets; the exit status."""
        text = self.secrets.hidden(error.text)
        if self.as_json:
            self._print_document(Report(summary=text, failed=True), error=type(error).__name__)
        sys.stderr.write(f"{visible_lines(text)}\n")
        return exit_for(error)

    def _print_document(self, report: Report, *, error: str | None) -> None:
        document = report.document() | {"error": error}
        sys.stdout.write(json.dumps(document) + "\n")


def session_of(ctx: typer.Context, *, as_json: bool) -> Session:
    """The session that the options before the command's name have made."""
    session = cast("Session", ctx.obj)
    session.as_json = as_json
    return session


def _print_table(report: Report) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE, file=sys.stdout)
    if report.rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in report.columns:
            table.add_column(column.replace("_", " "), overflow="fold")
        for cells in report.cells():
            table.add_row(*map(Text, cells))
        console.print(table)
    console.print(Text(visible_lines(report.summary)))
