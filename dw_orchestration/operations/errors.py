"""What keeps an operation from being done as it was asked for."""

from dw_orchestration.errors import SetupError


class UsageError(SetupError):
    """It cannot be done as it was asked for; the text says how to ask. Nothing was changed."""


class UnknownNameError(UsageError):
    """A name is that of no source or table, or of several."""


class NotConfirmedError(UsageError):
    """It deletes something, and the names were not repeated."""
