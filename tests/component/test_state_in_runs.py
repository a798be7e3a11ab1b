"""Runs and steps read the state that their code server has fetched; they never fetch one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_projects import as_project
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.definitions.reconstruct import (
    initialize_repository_def_from_pointer,
    reconstruct_repository_def_from_pointer,
)

from dw_orchestration.errors import SetupError, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dw_orchestration.resources.warehouse import PostHogWarehouseResource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

COMPONENT = """
import dagster as dg
from dw_orchestration import PostHogWarehouseComponent, PostHogWarehouseResource
from pathlib import Path

warehouse = PostHogWarehouseResource(host="{host}", project_id="{project_id}", api_key=dg.EnvVar("OUR_KEY"))
component = PostHogWarehouseComponent(warehouse=warehouse, state_file=Path("{folder}/state_{project_id}.json"))
defs = dg.definitions(lambda: dg.build_defs_for_component(component))
"""
PYTHON = """
import dagster as dg
from dw_orchestration import PostHogWarehouseResource, build_posthog_definitions
from pathlib import Path

warehouse = PostHogWarehouseResource(host="{host}", project_id="{project_id}", api_key=dg.EnvVar("OUR_KEY"))
defs = dg.definitions(lambda: build_posthog_definitions(warehouse, state=Path("{folder}/state_{project_id}.json")))
"""
PYTHON_ALONE = """
import dagster as dg
from dw_orchestration import PostHogWarehouseResource, build_posthog_definitions

warehouse = PostHogWarehouseResource(host="{host}", project_id="{project_id}", api_key=dg.EnvVar("OUR_KEY"))
defs = dg.definitions(lambda: build_posthog_definitions(warehouse))
"""
OWN_STEP = """
import dagster as dg
from dw_orchestration import PostHogWarehouseResource, posthog_assets

warehouse = PostHogWarehouseResource(host="{host}", project_id="{project_id}", api_key=dg.EnvVar("OUR_KEY"))

@dg.definitions
def defs():
    @posthog_assets(warehouse)
    def stripe(context: dg.AssetExecutionContext, posthog_warehouse: PostHogWarehouseResource):
        yield from posthog_warehouse.sync(context)

    return dg.Definitions(assets=[stripe], resources={{"posthog_warehouse": warehouse}})
"""
DEFAULT_LOCATION = "from dw_orchestration.definitions import defs"


@pytest.fixture(autouse=True)
def _own_load_context() -> Iterator[None]:
    """Dagster keeps one for the process."""
    before = DefinitionsLoadContext._instance
    yield
    DefinitionsLoadContext._instance = before


@pytest.fixture
def resource(
    embedded_warehouse: EmbeddedWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PostHogWarehouseResource:
    """A project with a table, in the environment of the default code location too."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    project = as_project(embedded_warehouse)
    for name, value in {
        "OUR_KEY": project.api_key,
        "POSTHOG_HOST": project.host,
        "POSTHOG_PROJECT_ID": project.project_id,
        "POSTHOG_PERSONAL_API_KEY": project.api_key,
        "DW_ORCHESTRATION_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    return project


def location(folder: Path, code: str, resource: PostHogWarehouseResource) -> CodePointer:
    """A file with definitions."""
    path = folder / "location.py"
    path.write_text(code.format(host=resource.host, project_id=resource.project_id, folder=folder))
    return CodePointer.from_python_file(str(path), "defs", None)


@pytest.mark.parametrize(
    "code",
    [COMPONENT, PYTHON, PYTHON_ALONE, OWN_STEP, DEFAULT_LOCATION],
    ids=["component", "python", "python_alone", "own_step", "default"],
)
@pytest.mark.parametrize("in_development", [False, True], ids=["deployed", "dev"])
def test_a_run_without_the_state_fails_with_the_cure(
    resource: PostHogWarehouseResource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    *,
    in_development: bool,
) -> None:
    """A run on a machine without the state names the missing file and the ways to have it there; it fetches nothing."""
    if in_development:
        monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    pointer = location(tmp_path, code, resource)
    served = initialize_repository_def_from_pointer(pointer)
    (state,) = tmp_path.glob("state_*.json")
    state.unlink()

    with pytest.raises((SetupError, SnapshotError)) as error:
        reconstruct_repository_def_from_pointer(pointer, served.repository_load_data)

    told = str(error.value)
    assert [] == [each for each in (str(state), "never fetch", "image", "volume", "VERSIONED") if each not in told]
    assert not state.exists()


def test_a_run_of_a_code_server_without_tables_loads(
    resource: PostHogWarehouseResource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the code server has no tables either, its other assets run."""
    monkeypatch.setenv("OUR_KEY", "phx_of_nobody")
    pointer = location(tmp_path, COMPONENT, resource)
    served = initialize_repository_def_from_pointer(pointer)
    (tmp_path / f"state_{resource.project_id}.json").unlink()

    again = reconstruct_repository_def_from_pointer(pointer, served.repository_load_data)

    assert served.asset_graph.get_all_asset_keys() == again.asset_graph.get_all_asset_keys()
    assert not (tmp_path / f"state_{resource.project_id}.json").exists()


LEGACY = """
import dagster as dg
from dagster.components import DefsStateConfigArgs
from dw_orchestration import PostHogWarehouseComponent, PostHogWarehouseResource

warehouse = PostHogWarehouseResource(host="{host}", project_id="{project_id}", api_key=dg.EnvVar("OUR_KEY"))
component = PostHogWarehouseComponent(
    warehouse=warehouse, defs_state=DefsStateConfigArgs.legacy_code_server_snapshots()
)
defs = dg.definitions(lambda: dg.build_defs_for_component(component))
"""


def test_a_run_has_the_state_that_its_code_server_keeps_in_memory(
    resource: PostHogWarehouseResource, tmp_path: Path
) -> None:
    """A code server serves its second load, whose notes replace those of the first: the state has to be in both."""
    pointer = location(tmp_path, LEGACY, resource)
    with dg.instance_for_test():
        initialize_repository_def_from_pointer(pointer)
        served = reconstruct_repository_def_from_pointer(pointer)
        DefinitionsLoadContext._instance = None
        of_run = reconstruct_repository_def_from_pointer(pointer, served.repository_load_data)

    assert dg.AssetKey(["posthog", "stripe", "customer"]) in of_run.asset_graph.get_all_asset_keys()
