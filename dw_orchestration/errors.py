"""Every error that this package raises.

PostHogError and the errors below it (`dw_orchestration.posthog.errors`) tell what went wrong between this package
and the API; SyncError and those below it (`dw_orchestration.sync.errors`) tell how a sync ended other than
completed. The rest is about set-up and state:

    SetupError            the settings contradict each other or lack something
      LocalWarehouseError   the embedded warehouse could not be started
    SnapshotError         a state file cannot be read or must not be replaced
      StateNotRefreshedError  the state could not be refreshed, and the last one stays
    CursorError           a sensor's cursor cannot be read
"""

from dw_orchestration.posthog.errors import *  # noqa: F403  every name of that module's `__all__` is an error
from dw_orchestration.sync.errors import *  # noqa: F403  as above


class SetupError(Exception):
    """The settings contradict each other or lack something; the text says what to set."""


class LocalWarehouseError(SetupError):
    """The embedded warehouse could not be started or reached."""


class SnapshotError(Exception):
    """A state file cannot be read, or must not be replaced by what was fetched."""


class StateNotRefreshedError(SnapshotError):
    """The state could not be refreshed, and the last one stays; the text says why, and what serves."""


class CursorError(Exception):
    """A sensor's cursor cannot be read; the text says how to start over."""
