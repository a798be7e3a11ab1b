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
    from dw_orchestration.assets import PostHogTranslator as PostHogTranslator
    from dw_orchestration.assets import SyncMetadata as SyncMetadata
    from dw_orchestration.assets import TableMetadata as TableMetadata
    from dw_orchestration.assets import asset_key_for as asset_key_for
    from dw_orchestration.assets import load_posthog_asset_specs as load_posthog_asset_specs
    from dw_orchestration.assets import posthog_assets as posthog_assets
    from dw_orchestration.build import build_posthog_definitions as build_posthog_definitions
    from dw_orchestration.component import PostHogWarehouseComponent as PostHogWarehouseComponent
    from dw_orchestration.posthog.client import PostHogWarehouseClient as PostHogWarehouseClient
    from dw_orchestration.resources.local import LocalWarehouse as LocalWarehouse
    from dw_orchestration.resources.warehouse import PostHogWarehouseResource as PostHogWarehouseResource
    from dw_orchestration.resources.warehouse import WarehouseResource as WarehouseResource
    from dw_orchestration.schedules import ScheduleOverride as ScheduleOverride
    from dw_orchestration.schedules import SchedulingMode as SchedulingMode
    from dw_orchestration.tables.snapshot import WarehouseSnapshot as WarehouseSnapshot
    from dw_orchestration.tables.table import Table as Table

_MODULES = {
    "LocalWarehouse": "resources.local",
    "PostHogSyncConfig": "assets",
    "PostHogTranslator": "assets",
    "PostHogWarehouseClient": "posthog.client",
    "PostHogWarehouseComponent": "component",
    "PostHogWarehouseResource": "resources.warehouse",
    "ScheduleOverride": "schedules",
    "SchedulingMode": "schedules",
    "SyncMetadata": "assets",
    "Table": "tables.table",
    "TableMetadata": "assets",
    "WarehouseResource": "resources.warehouse",
    "WarehouseSnapshot": "tables.snapshot",
    "asset_key_for": "assets",
    "build_posthog_definitions": "build",
    "load_posthog_asset_specs": "assets",
    "posthog_assets": "assets",
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
