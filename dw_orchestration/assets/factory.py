"""Assets from a snapshot: one step per source (or table, or project), one asset per table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from dw_orchestration.assets.checks import check_specs
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.keys import identifier, source_slug, unique_names
from dw_orchestration.assets.specs import SpecOf, TableAsset, asset_spec, table_assets, upstream_specs
from dw_orchestration.assets.step import StepResult, sync_tables
from dw_orchestration.resources.snapshot import WarehouseSnapshot

DEFAULT_RESOURCE_KEY = "posthog_warehouse"
StepPer = Literal["source", "project", "table"]


@dataclass(frozen=True)
class Step:
    """The tables that one op syncs together."""

    name: str
    assets: tuple[TableAsset, ...]


def build_posthog_assets(
    snapshot: WarehouseSnapshot,
    *,
    spec_of: SpecOf = asset_spec,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    step_per: StepPer = "source",
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
    op_tags: Mapping[str, Any] | None = None,
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of a project's tables, and the external assets that their rows come from.

    Args:
        snapshot: What the warehouse holds.
        spec_of: Gives the spec of a table; take `asset_spec`'s and replace what should differ.
        resource_key: The key of the `PostHogWarehouseResource` among the resources.
        step_per: What makes a step. `source` is right for most; `project` watches every source from one process, for
            executors with few slots; `table` lets downstream assets start without waiting for a table's neighbours.
        retry_policy: Dagster's, for every step. A retry takes up the syncs that are still going on.
        pool: Dagster's concurrency pool, for every step.
        op_tags: Tags for every step, such as resources on Kubernetes.

    Raises:
        SetupError: `spec_of` gives two tables the same key.

    Example:
        ```python
        snapshot = WarehouseSnapshot.read(Path("posthog_state.json"))
        defs = dg.Definitions(
            assets=build_posthog_assets(snapshot),
            resources={"posthog_warehouse": PostHogWarehouseResource(project_id="1", api_key=dg.EnvVar("POSTHOG_KEY"))},
        )
        ```
    """
    assets = table_assets(snapshot, spec_of=spec_of)
    steps = [
        _step_assets(step, resource_key=resource_key, retry_policy=retry_policy, pool=pool, op_tags=op_tags)
        for step in steps_of(assets, step_per=step_per, resource_key=resource_key)
    ]
    return [*steps, *upstream_specs(assets)]


def steps_of(assets: Sequence[TableAsset], *, step_per: StepPer, resource_key: str) -> list[Step]:
    """Which tables share a step, and the step's name; schedules address their run config by it."""
    if step_per == "project":
        return [Step(name=f"sync_{resource_key}", assets=tuple(assets))] if assets else []
    if step_per == "table":
        return [Step(name=f"sync_{identifier(asset.key)}", assets=(asset,)) for asset in assets]
    grouped: dict[str, list[TableAsset]] = {}
    for asset in assets:
        grouped.setdefault(asset.table.source.id, []).append(asset)
    slugs = unique_names([source_slug(group[0].table.source) for group in grouped.values()], list(grouped))
    return [Step(name=f"sync_{slug}", assets=tuple(group)) for slug, group in zip(slugs, grouped.values(), strict=True)]


def _step_assets(
    step: Step,
    *,
    resource_key: str,
    retry_policy: dg.RetryPolicy | None,
    pool: str | None,
    op_tags: Mapping[str, Any] | None,
) -> dg.AssetsDefinition:
    tables = {asset.key: asset.table for asset in step.assets}

    @dg.multi_asset(
        name=step.name,
        # a table that is not syncable, or that the user did not select, gives no output
        specs=[asset.spec.replace_attributes(skippable=True) for asset in step.assets],
        check_specs=[spec for asset in step.assets for spec in check_specs(asset.table, asset.key)],
        can_subset=True,
        required_resource_keys={resource_key},
        retry_policy=retry_policy,
        pool=pool,
        op_tags=op_tags,
    )
    def sync(context: dg.AssetExecutionContext, config: PostHogSyncConfig) -> Iterator[StepResult]:
        selected = {key: tables[key] for key in tables if key in context.selected_asset_keys}
        yield from sync_tables(context, config, selected, warehouse=getattr(context.resources, resource_key))

    return sync
