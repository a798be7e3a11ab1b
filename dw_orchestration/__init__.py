"""PostHog data warehouse tables as Dagster assets: synced, scheduled and watched.

The names are imported when they are first asked for: the embedded warehouse is a part of this package that runs without
Dagster, in a process that has to start fast and stay small.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dw_orchestration.version import __version__

if TYPE_CHECKING:
    from dw_orchestration import errors
    from dw_orchestration.assets import (
        PostHogSyncConfig,
        SyncMetadata,
        Table,
        TableMetadata,
        TableSelection,
        asset_spec,
        build_posthog_assets,
    )
    from dw_orchestration.component import PostHogWarehouseComponent
    from dw_orchestration.operations.jobs import build_maintenance_jobs
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.resources.local import LocalWarehouse
    from dw_orchestration.resources.warehouse import PostHogWarehouseResource
    from dw_orchestration.schedules import ScheduleOverride, SchedulingMode, build_posthog_schedules
    from dw_orchestration.sensors import (
        build_drift_sensor,
        build_job_status_sensor,
        build_terminated_runs_sensor,
    )
    from dw_orchestration.tables.snapshot import WarehouseSnapshot

_MODULES = {
    "LocalWarehouse": "dw_orchestration.resources.local",
    "PostHogSyncConfig": "dw_orchestration.assets",
    "PostHogWarehouseClient": "dw_orchestration.posthog.client",
    "PostHogWarehouseComponent": "dw_orchestration.component",
    "PostHogWarehouseResource": "dw_orchestration.resources.warehouse",
    "ScheduleOverride": "dw_orchestration.schedules",
    "SchedulingMode": "dw_orchestration.schedules",
    "SyncMetadata": "dw_orchestration.assets",
    "Table": "dw_orchestration.assets",
    "TableMetadata": "dw_orchestration.assets",
    "TableSelection": "dw_orchestration.assets",
    "WarehouseSnapshot": "dw_orchestration.tables.snapshot",
    "asset_spec": "dw_orchestration.assets",
    "build_drift_sensor": "dw_orchestration.sensors",
    "build_job_status_sensor": "dw_orchestration.sensors",
    "build_terminated_runs_sensor": "dw_orchestration.sensors",
    "build_maintenance_jobs": "dw_orchestration.operations.jobs",
    "build_posthog_assets": "dw_orchestration.assets",
    "build_posthog_schedules": "dw_orchestration.schedules",
}

__all__ = [
    "LocalWarehouse",
    "PostHogSyncConfig",
    "PostHogWarehouseClient",
    "PostHogWarehouseComponent",
    "PostHogWarehouseResource",
    "ScheduleOverride",
    "SchedulingMode",
    "SyncMetadata",
    "Table",
    "TableMetadata",
    "TableSelection",
    "WarehouseSnapshot",
    "__version__",
    "asset_spec",
    "build_drift_sensor",
    "build_job_status_sensor",
    "build_maintenance_jobs",
    "build_posthog_assets",
    "build_posthog_schedules",
    "build_terminated_runs_sensor",
    "errors",
]


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("dw_orchestration.errors")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
