"""All operations, in the order in which people read them."""

from dw_orchestration.operations.cancelling import CANCEL_SYNCS
from dw_orchestration.operations.deletion import DELETE_DATA, DELETE_TABLES
from dw_orchestration.operations.fields import SHOW_FIELDS
from dw_orchestration.operations.listing import LIST_JOBS, LIST_SOURCES, LIST_TABLES
from dw_orchestration.operations.operation import Operation
from dw_orchestration.operations.settings import CHANGE_SETTINGS, DISABLE_TABLES, ENABLE_TABLES
from dw_orchestration.operations.showing import SHOW_TABLE
from dw_orchestration.operations.sources import CREATE_SOURCE, DELETE_SOURCE, REFRESH_SCHEMAS, UPDATE_SOURCE
from dw_orchestration.operations.takeover import TAKEOVER
from dw_orchestration.operations.webhooks import CREATE_WEBHOOK, DELETE_WEBHOOK, SHOW_WEBHOOK

OPERATIONS: tuple[Operation, ...] = (
    LIST_SOURCES,
    LIST_TABLES,
    SHOW_TABLE,
    LIST_JOBS,
    SHOW_FIELDS,
    CANCEL_SYNCS,
    ENABLE_TABLES,
    DISABLE_TABLES,
    CHANGE_SETTINGS,
    TAKEOVER,
    REFRESH_SCHEMAS,
    DELETE_DATA,
    DELETE_TABLES,
    CREATE_SOURCE,
    UPDATE_SOURCE,
    DELETE_SOURCE,
    SHOW_WEBHOOK,
    CREATE_WEBHOOK,
    DELETE_WEBHOOK,
)
