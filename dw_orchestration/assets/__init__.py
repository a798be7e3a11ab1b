"""Tables of the warehouse as Dagster assets."""

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.loading import asset_key_for, load_posthog_asset_specs
from dw_orchestration.assets.metadata import SyncMetadata, TableMetadata
from dw_orchestration.assets.own import posthog_assets
from dw_orchestration.assets.spec import PostHogTranslator, asset_spec
from dw_orchestration.assets.step import StepResult, sync_tables

__all__ = [
    "PostHogSyncConfig",
    "PostHogTranslator",
    "StepResult",
    "SyncMetadata",
    "TableMetadata",
    "asset_key_for",
    "asset_spec",
    "build_posthog_assets",
    "load_posthog_asset_specs",
    "posthog_assets",
    "sync_tables",
]
