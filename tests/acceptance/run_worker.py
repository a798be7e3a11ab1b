"""A run in a separate process, as in a run worker's pod: `python run_worker.py [id of the run to take up]`."""

import os
import sys
from pathlib import Path

import dagster as dg

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables


def sync_job() -> dg.JobDefinition:
    """The job that syncs all tables of the state that the environment names."""
    defs = dg.Definitions(
        assets=build_posthog_assets(
            Tables(WarehouseSnapshot.read(Path(os.environ["SNAPSHOT"])), include_disabled=True)
        ),
        jobs=[dg.define_asset_job("sync", executor_def=dg.in_process_executor)],
        resources={"posthog_warehouse": LocalWarehouse(home=os.environ["WAREHOUSE"], shop=False)},
    )
    return defs.resolve_job_def("sync")


def main(parent_run_id: str | None) -> None:
    """Execute the job, or take up what a run of it has left."""
    again = dg.ReexecutionOptions(parent_run_id=parent_run_id) if parent_run_id else None
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(dg.reconstructable(sync_job), instance=instance, reexecution_options=again)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
