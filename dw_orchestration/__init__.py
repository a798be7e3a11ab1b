"""PostHog data warehouse tables as Dagster assets: synced, scheduled and watched.

The names are imported when they are first asked for: the embedded warehouse is a part of this package that runs without
Dagster, in a process that has to start fast and stay small.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dw_orchestration.version import __version__

if TYPE_CHECKING:
    # with an alias each, which says to type checkers that the name is public
    from dw_orchestration import errors as errors
    from dw_orchestration.assets import PostHogSyncConfig as PostHogSyncConfig
    from dw_orchestration.assets import SyncMetadata as SyncMetadata
    from dw_orchestration.assets import TableMetadata as TableMetadata
    from dw_orchestration.assets import asset_spec as asset_spec
    from dw_orchestration.assets import build_posthog_assets as build_posthog_assets
    from dw_orchestration.component import PostHogWarehouseComponent as PostHogWarehouseComponent
    from dw_orchestration.operations.jobs import build_maintenance_jobs as build_maintenance_jobs
    from dw_orchestration.posthog.client import PostHogWarehouseClient as PostHogWarehouseClient
    from dw_orchestration.resources.local import LocalWarehouse as LocalWarehouse
    from dw_orchestration.resources.state import load_state as load_state
    from dw_orchestration.resources.warehouse import PostHogWarehouseResource as PostHogWarehouseResource
    from dw_orchestration.resources.warehouse import WarehouseResource as WarehouseResource
    from dw_orchestration.schedules import ScheduleOverride as ScheduleOverride
    from dw_orchestration.schedules import SchedulingMode as SchedulingMode
    from dw_orchestration.schedules import build_posthog_schedules as build_posthog_schedules
    from dw_orchestration.sensors import build_drift_sensor as build_drift_sensor
    from dw_orchestration.sensors import build_job_status_sensor as build_job_status_sensor
    from dw_orchestration.sensors import build_terminated_runs_sensor as build_terminated_runs_sensor
    from dw_orchestration.tables.snapshot import WarehouseSnapshot as WarehouseSnapshot
    from dw_orchestration.tables.table import Table as Table
    from dw_orchestration.tables.tables import Tables as Tables

_MODULES = {
    "LocalWarehouse": "resources.local",
    "PostHogSyncConfig": "assets",
    "PostHogWarehouseClient": "posthog.client",
    "PostHogWarehouseComponent": "component",
    "PostHogWarehouseResource": "resources.warehouse",
    "ScheduleOverride": "schedules",
    "SchedulingMode": "schedules",
    "SyncMetadata": "assets",
    "Table": "tables.table",
    "TableMetadata": "assets",
    "Tables": "tables.tables",
    "WarehouseResource": "resources.warehouse",
    "WarehouseSnapshot": "tables.snapshot",
    "asset_spec": "assets",
    "build_drift_sensor": "sensors",
    "build_job_status_sensor": "sensors",
    "build_maintenance_jobs": "operations.jobs",
    "build_posthog_assets": "assets",
    "build_posthog_schedules": "schedules",
    "build_terminated_runs_sensor": "sensors",
    "load_state": "resources.state",
}

__all__ = ["__version__", "errors", *_MODULES]  # noqa: PLE0604  these are texts


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("dw_orchestration.errors")
    if name in _MODULES:
        return getattr(import_module(f"dw_orchestration.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
