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
from dw_orchestration.tables.errors import *  # noqa: F403  as above
