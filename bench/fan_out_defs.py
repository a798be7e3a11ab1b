"""The code location that the measurements run: every table of the stand-in.

BENCH_HOST is the stand-in, BENCH_STEP_PER what makes a step, BENCH_WHOLE whether sensors and schedules are there too:
they make their own requests. BENCH_WAIT is whether runs wait for their syncs.
"""

import os
from pathlib import Path

import dagster as dg

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.resources.warehouse import PostHogWarehouseResource


@dg.definitions
def defs() -> dg.Definitions:
    """Built from state that the code server fetches once and that its runs read."""
    component = PostHogWarehouseComponent(
        warehouse=PostHogWarehouseResource(host=os.environ["BENCH_HOST"], project_id="1", api_key="phx_bench"),
        step_per=os.environ["BENCH_STEP_PER"],
        sync={"wait": os.environ.get("BENCH_WAIT", "yes") == "yes"},
        state_file=Path(os.environ["DAGSTER_HOME"]) / "state.json",
    )
    whole = dg.build_defs_for_component(component)
    if os.environ["BENCH_WHOLE"] == "yes":
        return whole
    return dg.Definitions(assets=whole.assets, resources=whole.resources)
