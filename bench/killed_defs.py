"""The code location of `kill_campaign.py`; as a script, one run of its job, or of what another run left."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

HOME = Path(os.environ["CAMPAIGN"])

tables = Tables(WarehouseSnapshot.read(HOME / "state.json"), step_per="project")
defs = dg.Definitions(
    assets=build_posthog_assets(tables, sync_defaults=PostHogSyncConfig(poll_min_s=0.2)),
    jobs=[dg.define_asset_job("sync", executor_def=dg.in_process_executor)],
    sensors=[
        build_job_status_sensor(tables, interval=timedelta(seconds=1), run_grace=timedelta(seconds=5)),
    ],
    resources={
        DEFAULT_RESOURCE_KEY: LocalWarehouse(home=str(HOME / "warehouse"), shop=False, fixtures=str(HOME / "fixtures"))
    },
)


def sync_job() -> dg.JobDefinition:
    """The job that syncs all tables."""
    return defs.resolve_job_def("sync")


if __name__ == "__main__":
    again = dg.ReexecutionOptions(parent_run_id=sys.argv[1]) if len(sys.argv) > 1 else None
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(dg.reconstructable(sync_job), instance=instance, reexecution_options=again)
    sys.exit(0 if result.success else 1)
