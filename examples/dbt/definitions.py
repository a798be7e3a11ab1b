"""Tables synced by PostHog, and the dbt models on them, in one graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

from dw_orchestration import LocalWarehouse, Tables, WarehouseSnapshot, build_posthog_assets

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
    """The definitions; the state is fetched once, and read from its file by every other process."""
    if not STATE.exists():
        WAREHOUSE.take_snapshot().write(STATE)
    return dg.Definitions(
        assets=[*build_posthog_assets(Tables(WarehouseSnapshot.read(STATE))), models],
        resources={"posthog_warehouse": WAREHOUSE, "dbt": DbtCliResource(project_dir=PROJECT)},
    )
