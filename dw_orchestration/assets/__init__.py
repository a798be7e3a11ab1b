"""Tables of the warehouse as Dagster assets."""

from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.factory import build_posthog_assets
from dw_orchestration.assets.specs import asset_spec
from dw_orchestration.assets.tables import Table

__all__ = ["PostHogSyncConfig", "Table", "asset_spec", "build_posthog_assets"]
