"""Tables of the warehouse as Dagster assets."""

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.metadata import SyncMetadata, TableMetadata
from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.assets.step import StepResult, sync_tables

__all__ = [
    "PostHogSyncConfig",
    "StepResult",
    "SyncMetadata",
    "TableMetadata",
    "asset_spec",
    "build_posthog_assets",
    "sync_tables",
]
