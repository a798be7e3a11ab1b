"""The errors of setup, state and names. `dw_orchestration.errors` shows the whole tree."""

from collections.abc import Sequence

from dw_orchestration.posthog.errors import SetupError, UsageError
from dw_orchestration.text import VisibleError

__all__ = [
    "AmbiguousNameError",
    "CursorError",
    "LocalWarehouseError",
    "NotConfirmedError",
    "SetupError",
    "SnapshotError",
    "StateNotRefreshedError",
    "UnknownNameError",
    "UsageError",
]


class LocalWarehouseError(SetupError):
    """The embedded warehouse could not be started or reached."""


class SnapshotError(VisibleError):
    """A state file cannot be read or written, or must not be replaced by what was fetched."""


class StateNotRefreshedError(SnapshotError):
    """The state could not be refreshed, and the last one stays; the text says why, and what serves."""


class CursorError(VisibleError):
    """A sensor's cursor cannot be read; the text says how to start over."""


class UnknownNameError(UsageError):
    """No source or table has a name."""


class AmbiguousNameError(UnknownNameError):
    """Several sources or tables have a name; the text lists them."""


class NotConfirmedError(UsageError):
    """It deletes something, and the names were not repeated.

    Attributes:
        missing: The names that were not.
    """

    def __init__(self, text: str, *, missing: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.missing = missing
