"""The code location of the tests with real processes: the default one, and the same tables with a retry policy."""

import os
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import Table, asset_spec, build_posthog_assets
from dw_orchestration.definitions import definitions_for
from dw_orchestration.resources import WarehouseSnapshot


def retried_spec(table: Table) -> dg.AssetSpec:
    """The same table under another key."""
    return asset_spec(table).replace_attributes(key=dg.AssetKey(["retried", *table.key.path]))


def retried_assets() -> list[dg.AssetsDefinition]:
    """Each table as a step of its own, which may be tried twice."""
    home, project_id = Path(os.environ["DW_ORCHESTRATION_HOME"]), os.environ["POSTHOG_PROJECT_ID"]
    assets = build_posthog_assets(
        WarehouseSnapshot.read(home / f"state_{project_id}.json"),
        spec_of=retried_spec,
        step_per="table",
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    return [asset for asset in assets if isinstance(asset, dg.AssetsDefinition)]


# the default location comes first: it fetches the state that the others are built from
defs = dg.Definitions.merge(definitions_for(os.environ), dg.Definitions(assets=retried_assets()))
