"""What a process defines depends on what it is for."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from component_snapshots import project, source, table

if TYPE_CHECKING:
    from pathlib import Path

LOCATION = """
from pathlib import Path
import dagster as dg
from dw_orchestration import PostHogWarehouseComponent, PostHogWarehouseResource

@dg.definitions
def defs():
    warehouse = PostHogWarehouseResource(project_id="1", api_key=dg.EnvVar("POSTHOG_KEY"))
    state = Path(__file__).with_name("state.json")
    return PostHogWarehouseComponent(warehouse=warehouse, state_file=state).build_defs_from_file(state)
"""
# a run or a step reconstructs definitions; a code server first loads them in another way, and then serves those
LOAD = """
import json, sys
from dagster._core.definitions.reconstruct import ReconstructableRepository, initialize_repository_def_from_pointer

repository = ReconstructableRepository.for_file(sys.argv[1], "defs")

def names():
    found = repository.get_definition()
    return {"sensors": [each.name for each in found.sensor_defs], "jobs": list(found.job_names)}

of_run = names()
initialize_repository_def_from_pointer(repository.pointer)
print(json.dumps([of_run, names()]))
"""


def test_only_processes_that_serve_definitions_have_sensors(tmp_path: Path) -> None:
    """A run's process builds no sensors, but every job; a code server has both, although Dagster loads it twice."""
    project(source("Stripe", [table("orders")])).write(tmp_path / "state.json")
    location = tmp_path / "location.py"
    location.write_text(LOCATION)

    ended = subprocess.run(
        [sys.executable, "-c", LOAD, str(location)], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    of_run, served = json.loads(ended.stdout.splitlines()[-1])

    assert ([], sorted(served["jobs"])) == (of_run["sensors"], sorted(of_run["jobs"]))
    assert ["posthog_warehouse_job_status", "posthog_warehouse_terminated_runs"] == sorted(served["sensors"])
