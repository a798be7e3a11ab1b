"""Tables synced by PostHog, and the dbt models on them, in one graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

from dw_orchestration import LocalWarehouse, build_posthog_definitions

HERE = Path(__file__).parent
HOME = HERE / ".dw_orchestration"
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
    """The tables and the models; each load of the code server fetches the state, which runs read from its file."""
    models_and_dbt = dg.Definitions(assets=[models], resources={"dbt": DbtCliResource(project_dir=PROJECT)})
    return dg.Definitions.merge(build_posthog_definitions(WAREHOUSE), models_and_dbt)
