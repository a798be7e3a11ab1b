"""How the command ends, for scripts."""

from enum import IntEnum

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

# What the command has something to say about; anything else is a fault of its own.
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
