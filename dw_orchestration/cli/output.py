"""One call of the command: what it connects to, what it prints, and its exit status."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from dw_orchestration.cli.connection import Connection, variable
from dw_orchestration.cli.printing import DEFAULT_FORM, Form, print_error, print_report
from dw_orchestration.operations.secrets import Secrets
from dw_orchestration.posthog.errors import (
    AuthenticationError,
    BudgetSpentError,
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
from dw_orchestration.tables.errors import NotConfirmedError, SetupError, SnapshotError, UsageError
from dw_orchestration.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer

    from dw_orchestration.operations.report import Report
    from dw_orchestration.text import VisibleError


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
_UNREACHABLE = (TransportError, BudgetSpentError, RateLimitedError, ServerError, UnexpectedAnswerError)


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
        form: How its output is printed.
        secrets: Those that it has looked up.
    """

    connection: Connection
    form: Form = DEFAULT_FORM
    secrets: Secrets = field(default_factory=Secrets)

    def values(self, named: Mapping[str, object]) -> dict[str, object]:
        """The values of the variables that a payload names."""
        return self.secrets.values(named, lookup=variable, allow_written_out=True)

    def show(self, report: Report, *, code: Exit | None = None) -> int:
        """Print the report, without the secrets; the exit status."""
        print_report(report.with_texts(self.secrets.hidden), form=self.form)
        return code if code is not None else Exit.FAILED if report.failed else Exit.DONE

    def fail(self, error: VisibleError) -> int:
        """Print what went wrong, without the secrets; the exit status."""
        text = error.text
        if isinstance(error, NotConfirmedError) and error.missing:
            text += f" Add: {' '.join(f'--confirm {shlex.quote(visible(name))}' for name in error.missing)}"
        print_error(error, self.secrets.hidden(text), form=self.form)
        return exit_for(error)


def session_of(ctx: typer.Context, form: Form) -> Session:
    """The session that the options before the command's name have made, with the form of its output.

    Raises:
        UsageError: Two forms were asked for.
    """
    session = cast("Session", ctx.obj)
    session.form = form
    form.check()
    return session
