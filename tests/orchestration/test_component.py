"""The component in `defs.yaml`, as `dg` loads it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dw_orchestration import PostHogWarehouseComponent

PROJECT = """
[project]
name = "proj"
version = "0"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "proj"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
BY_ENVIRONMENT = """
type: dw_orchestration.PostHogWarehouseComponent
attributes:
  warehouse:
    host: "{{ env.POSTHOG_HOST }}"
    project_id: "{{ env.POSTHOG_PROJECT_ID }}"
    api_key: "{{ env.POSTHOG_PERSONAL_API_KEY }}"
"""


@pytest.fixture
def project(tmp_path, warehouse, quiet_shelf):
    """A `dg` project without components, and the environment that names the embedded warehouse."""
    folder = tmp_path / "proj"
    (folder / "defs" / "posthog").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (folder / "__init__.py").touch()
    (folder / "defs" / "__init__.py").touch()
    (folder / "definitions.py").write_text(DEFINITIONS)
    endpoint = warehouse.endpoint
    environment = os.environ | {
        "POSTHOG_HOST": endpoint["host"],
        "POSTHOG_PROJECT_ID": endpoint["project_id"],
        "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
        "PYTHONPATH": str(tmp_path),
    }

    def dg(*arguments: str, yaml: str) -> subprocess.CompletedProcess[str]:
        (folder / "defs" / "posthog" / "defs.yaml").write_text(yaml)
        command = [Path(sys.executable).with_name("dg"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return dg


def keys(listed: subprocess.CompletedProcess[str]) -> set[str]:
    """The asset keys that `dg list defs --json` shows."""
    return set(re.findall(r"\"(posthog/[a-z0-9_/]+)\"", listed.stdout))


def test_project_named_by_the_environment_loads(project, tmp_path, warehouse):
    """Three variables and five lines make assets of the project's tables, and the key is in no file."""
    listed = project("list", "defs", "--json", yaml=BY_ENVIRONMENT)

    assert listed.returncode == 0, listed.stderr
    assert any(key.endswith("/orders") for key in keys(listed))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(warehouse.endpoint["api_key"].encode() in path.read_bytes() for path in written)


def test_embedded_warehouse_named_by_its_folder_loads(project, warehouse, tmp_path):
    """`home` instead of a project is the embedded warehouse, and the state may be a file of one's own."""
    yaml = f"""
type: dw_orchestration.PostHogWarehouseComponent
attributes:
  warehouse: {{home: {warehouse.home}}}
  step_per: table
  scheduling: drive
  state_file: {tmp_path / "state.json"}
"""
    listed = project("list", "defs", "--json", yaml=yaml)

    assert listed.returncode == 0, listed.stderr
    assert (tmp_path / "state.json").exists()


def test_wrong_attribute_is_told_by_its_line(project):
    """`dg check yaml` points at what it does not understand."""
    checked = project("check", "yaml", yaml=BY_ENVIRONMENT + "  schedulling: drive\n")

    assert checked.returncode != 0
    assert "defs.yaml:8" in checked.stdout + checked.stderr
    assert "schedulling" in checked.stdout + checked.stderr


def test_everything_that_the_component_offers_fits_together(warehouse, quiet_shelf, tmp_path):
    """Assets, checks, schedules, sensors, jobs and resources make one code location without clashing names."""
    component = PostHogWarehouseComponent(
        warehouse=warehouse.resource,
        takeover_file=tmp_path / "takeover.json",
        history_file=tmp_path / "history.duckdb",
    )

    repository = component.build_defs_from_snapshot(warehouse.resource.take_snapshot()).get_repository_def()
    repository.load_all_definitions()

    assert repository.has_job("posthog_warehouse_takeover")
    assert {"posthog_warehouse_job_status", "posthog_warehouse_drift"} == {each.name for each in repository.sensor_defs}
    assert repository.has_schedule_def("posthog_warehouse_sync_history")
