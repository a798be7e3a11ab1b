"""Every error that this package raises.

`PostHogError` and its subclasses (`dw_orchestration.posthog.errors`) are problems between this package and the API.
`SyncError` and its subclasses (`dw_orchestration.sync.errors`) are the ends of a sync other than completed. The others
(`dw_orchestration.tables.errors`) are about setup, names and state:

    SetupError                  the settings contradict each other or are incomplete
      LocalWarehouseError       the embedded warehouse could not be started
      UsageError                something was requested in a way that cannot work; nothing was changed
        UnknownNameError        no source or table has this name
          AmbiguousNameError    several sources or tables have this name
        NotConfirmedError       data would be deleted, and the names were not repeated
    SnapshotError               a state file cannot be read or written, or must not be replaced
      StateNotRefreshedError    the state could not be refreshed, and the last one stays in use
    CursorError                 a sensor's cursor cannot be read
"""

from dw_orchestration.posthog.errors import *  # noqa: F403  every name of that module's `__all__` is an error
from dw_orchestration.sync.errors import *  # noqa: F403  as above
from dw_orchestration.tables.errors import *  # noqa: F403  as above
