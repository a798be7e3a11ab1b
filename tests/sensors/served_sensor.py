"""The code location of the test with a real daemon: a warehouse's tables, and the sensor that reports their syncs."""

import os
from datetime import timedelta
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

snapshot = WarehouseSnapshot.read(Path(os.environ["SNAPSHOT"]))
defs = dg.Definitions(
    assets=build_posthog_assets(Tables(snapshot, include_disabled=True)),
    sensors=[
        build_job_status_sensor(
            Tables(snapshot, include_disabled=True), interval=timedelta(seconds=1), run_grace=timedelta()
        )
    ],
    resources={DEFAULT_RESOURCE_KEY: LocalWarehouse(home=os.environ["WAREHOUSE"])},
)
