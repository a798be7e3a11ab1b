"""The code location of the test with Dagster's scheduler: a warehouse's tables, and their schedules."""

import os
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.schedules import build_posthog_schedules
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

snapshot = WarehouseSnapshot.read(Path(os.environ["SNAPSHOT"]))
defs = dg.Definitions(
    assets=build_posthog_assets(Tables(snapshot, include_disabled=True)),
    schedules=build_posthog_schedules(Tables(snapshot, include_disabled=True)),
    resources={DEFAULT_RESOURCE_KEY: LocalWarehouse(home=os.environ["WAREHOUSE"])},
)
