"""The code location of the tests with real processes: the default one, and its tables with a retry policy."""

import os
from datetime import timedelta
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import asset_spec, build_posthog_assets
from dw_orchestration.definitions import definitions_for
from dw_orchestration.sensors import build_terminated_runs_sensor
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables


def retried_spec(table: Table) -> dg.AssetSpec:
    """The same table under another key."""
    return asset_spec(table).replace_attributes(key=dg.AssetKey(["retried", *table.key_path]))


def state() -> WarehouseSnapshot:
    """What the default location has fetched."""
    home, project_id = Path(os.environ["DW_ORCHESTRATION_HOME"]), os.environ["POSTHOG_PROJECT_ID"]
    return WarehouseSnapshot.read(home / f"state_{project_id}.json")


def retried_assets() -> list[dg.AssetsDefinition]:
    """Each table as its own step, which may be tried twice."""
    assets = build_posthog_assets(
        Tables(state(), include_disabled=True, spec_of=retried_spec, step_per="table"),
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    return [asset for asset in assets if isinstance(asset, dg.AssetsDefinition)]


def soon() -> dg.SensorDefinition:
    """The default location's own sensor looks every half a minute."""
    return build_terminated_runs_sensor(
        Tables(state(), include_disabled=True), name="terminated_runs_soon", interval=timedelta(seconds=1)
    )


# the default location comes first: it fetches the state that the others are built from
defs = dg.Definitions.merge(
    definitions_for(os.environ), dg.Definitions(assets=retried_assets()), dg.Definitions(sensors=[soon()])
)
