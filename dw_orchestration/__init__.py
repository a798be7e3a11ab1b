"""PostHog data warehouse tables as Dagster assets: synced, scheduled and watched.

The names are imported when they are first asked for: the embedded warehouse is a part of this package that runs without
Dagster, in a process that has to start fast and stay small.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dw_orchestration.version import __version__

if TYPE_CHECKING:
    from dw_orchestration import errors
    from dw_orchestration.assets import PostHogSyncConfig, build_posthog_assets
    from dw_orchestration.component import PostHogWarehouseComponent
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.resources import LocalWarehouse, PostHogWarehouseResource
    from dw_orchestration.schedules import ScheduleOverride, SchedulingMode, build_posthog_schedules
    from dw_orchestration.sensors import build_drift_sensor, build_job_status_sensor

_MODULES = {
    "LocalWarehouse": "dw_orchestration.resources",
    "PostHogSyncConfig": "dw_orchestration.assets",
    "PostHogWarehouseClient": "dw_orchestration.posthog.client",
    "PostHogWarehouseComponent": "dw_orchestration.component",
    "PostHogWarehouseResource": "dw_orchestration.resources",
    "ScheduleOverride": "dw_orchestration.schedules",
    "SchedulingMode": "dw_orchestration.schedules",
    "build_drift_sensor": "dw_orchestration.sensors",
    "build_job_status_sensor": "dw_orchestration.sensors",
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
    "__version__",
    "build_drift_sensor",
    "build_job_status_sensor",
    "build_posthog_assets",
    "build_posthog_schedules",
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
