"""Working on a project with nothing but what is committed in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

ROOT = Path(__file__).parents[2]
FILES = {
    "pyproject.toml": """
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "project"
""",
    "src/project/__init__.py": "",
    "src/project/definitions.py": """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
    "src/project/defs/warehouse/defs.yaml": """
type: dw_orchestration.PostHogWarehouseComponent
attributes:
  warehouse:
    project_id: "{{ env.POSTHOG_PROJECT_ID }}"
    api_key: "{{ env.POSTHOG_PERSONAL_API_KEY }}"
  state_file: state.json
""",
    "home/dagster.yaml": "telemetry: {enabled: false}\n",
}


@pytest.fixture
def without_network() -> list[str]:
    """What runs a command where there is a loopback device and nothing else."""
    apart = ["unshare", "--map-root-user", "--net"]
    loopback = 'ip link set lo up && exec "$@"'
    command = [*apart, "sh", "-c", loopback, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("on this machine a process cannot be taken off the network (unshare, ip)")
    return command


def test_scenario_10_without_network_and_without_a_key(
    embedded_warehouse: EmbeddedWarehouse, without_network: list[str], tmp_path: Path
) -> None:
    """Dagster's UI shows the tables of a committed state, and a user's tests sync into their own warehouse."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1}]})
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    embedded_warehouse.snapshot().write(tmp_path / "state.json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
    environment["DAGSTER_HOME"] = str(tmp_path / "home")

    def run(*arguments: str) -> str:
        command = [*without_network, sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    keys = json.loads(run(str(Path(__file__).with_name("offline_ui.py"))).splitlines()[-1])
    assert ["posthog/stripe/acme/customer", "stripe/acme/customer"] == keys
    tests = ROOT / "docs" / "snippets" / "test_stripe.py"
    # with a user's settings, which are none, and a folder of its own: this suite's turn warnings into errors
    apart = ["-c", os.devnull, "--basetemp", str(tmp_path / "tests"), "-p", "no:cacheprovider", "-p", "no:xdist"]
    assert "1 passed" in run("-m", "pytest", "-q", *apart, str(tests))
