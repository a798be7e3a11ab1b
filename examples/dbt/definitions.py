"""Tables synced by PostHog, and the dbt models on them, in one graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

from dw_orchestration import LocalWarehouse, Tables, build_posthog_assets, load_state

HERE = Path(__file__).parent
HOME = HERE / ".dw_orchestration"
STATE = HOME / "state_of_the_dbt_example.json"
WAREHOUSE = LocalWarehouse(home=str(HOME))
# `dagster dev` parses the project by itself; a deployment ships the manifest
PROJECT = DbtProject(project_dir=HERE / "transform")
PROJECT.prepare_if_dev()


@dbt_assets(manifest=PROJECT.manifest_path)
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """The models of `transform/`; their sources are the synced tables, by the keys in `sources.yml`."""
    yield from dbt.cli(["build"], context=context).stream()


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions; the code server fetches the state once, and every other process reads it from its file."""
    return dg.Definitions(
        assets=[*build_posthog_assets(Tables(load_state(WAREHOUSE, STATE))), models],
        resources={"posthog_warehouse": WAREHOUSE, "dbt": DbtCliResource(project_dir=PROJECT)},
    )
