"""The code location of the test with a real daemon: a warehouse's tables, and the sensor that reports their syncs."""

import os
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.factory import DEFAULT_RESOURCE_KEY
from dw_orchestration.resources import LocalWarehouse, WarehouseSnapshot
from dw_orchestration.sensors import build_job_status_sensor

hasty = partial(build_job_status_sensor, interval=timedelta(seconds=1), run_grace=timedelta())
snapshot = WarehouseSnapshot.read(Path(os.environ["SNAPSHOT"]))
defs = dg.Definitions(
    assets=build_posthog_assets(snapshot),
    sensors=[hasty(snapshot, date_events_back=os.environ["DATE_EVENTS_BACK"] == "yes")],
    resources={DEFAULT_RESOURCE_KEY: LocalWarehouse(home=os.environ["WAREHOUSE"])},
)
