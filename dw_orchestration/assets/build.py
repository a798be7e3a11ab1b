"""Assets from a snapshot: one step per source (or table, or project), one asset per table."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import dagster as dg
from pydantic import Field, create_model

from dw_orchestration.assets.checks import check_specs
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.keys import identifier, source_slug, unique_names
from dw_orchestration.assets.looks import check_tables
from dw_orchestration.assets.spec import SpecOf, TableAsset, asset_spec, table_assets, upstream_specs
from dw_orchestration.assets.step import Execute, StepResult, sync_tables
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

DEFAULT_RESOURCE_KEY = "posthog_warehouse"
StepPer = Literal["source", "project", "table"]
CheckName = Literal["sync_succeeded", "not_stale", "rows_dropped", "rows_usual", "columns_unchanged"]
EVERY_CHECK: tuple[CheckName, ...] = get_args(CheckName)
# PostHog keeps them up to date by itself: in a step, each of them would fail every "Materialize all"
_NOT_FOR_STEPS = frozenset({SchemaClass.EXTERNAL, SchemaClass.OBSERVE_ONLY})
# fields of a run's config of which a default would sync, drop or skip what nobody asked for
SET_BY_THE_RUN = frozenset({"sync_mode", "confirm_resync", "accept_jobs_since", "trigger_after"})


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
    sync_defaults: PostHogSyncConfig | None = None,
    checks: Collection[CheckName] = EVERY_CHECK,
    execute: Execute = sync_tables,
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of a project's tables, and the external assets that their rows come from.

    Tables that no sync from here brings up to date are external assets as well: those that PostHog queries in place,
    and those whose changes arrive as a stream or by webhook. The latter have their checks all the same.

    Args:
        snapshot: What the warehouse holds.
        spec_of: Gives the spec of a table; take `asset_spec`'s and replace what should differ.
        resource_key: The key of the `PostHogWarehouseResource` among the resources.
        step_per: What makes a step. `source` is right for most; `project` watches every source from one process, for
            executors with few slots; `table` lets downstream assets start without waiting for a table's neighbours.
        retry_policy: Dagster's, for every step. A retry takes up the syncs that are still going on.
        pool: Dagster's concurrency pool, for every step.
        op_tags: Tags for every step, such as resources on Kubernetes.
        sync_defaults: What a run's config has where the run does not set it; the fields that are given count. Whether
            to resync is not among them: that is asked for by a run or not at all.
        checks: Which checks each table has. The job-status sensor should be given the same.
        execute: What a step does with its tables; wrap `sync_tables` to do something before or after it.

    Raises:
        SetupError: `spec_of` gives two tables the same key or an impossible one, or `sync_defaults` has a field that
            only a run can set.

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
    observed = [asset for asset in assets if asset.table.schema_class is SchemaClass.OBSERVE_ONLY]
    config_type = _config_type(sync_defaults)
    settings = {"retry_policy": retry_policy, "pool": pool, "op_tags": op_tags}
    steps = [
        _step_assets(
            step, resource_key=resource_key, config_type=config_type, checks=checks, execute=execute, settings=settings
        )
        for step in steps_of(assets, step_per=step_per, resource_key=resource_key)
    ]
    looks = [
        _step_checks(step, specs, resource_key=resource_key, settings=settings)
        for step in _grouped(observed, verb="check", step_per=step_per, resource_key=resource_key)
        if (specs := _check_specs(step, checks))
    ]
    external = [asset.spec for asset in assets if _is_external(asset)]
    return [*steps, *looks, *external, *upstream_specs(assets)]


def steps_of(assets: Iterable[TableAsset], *, step_per: StepPer, resource_key: str) -> list[Step]:
    """Which tables share a step, and the step's name; schedules address their run config by it."""
    synced = [asset for asset in assets if not _is_external(asset)]
    return _grouped(synced, verb="sync", step_per=step_per, resource_key=resource_key)


def _grouped(assets: Sequence[TableAsset], *, verb: str, step_per: StepPer, resource_key: str) -> list[Step]:
    if step_per == "project":
        return [Step(name=f"{verb}_{resource_key}", assets=tuple(assets))] if assets else []
    if step_per == "table":
        return [Step(name=f"{verb}_{identifier(asset.key)}", assets=(asset,)) for asset in assets]
    grouped: dict[str, list[TableAsset]] = {}
    for asset in assets:
        grouped.setdefault(asset.table.source.id, []).append(asset)
    slugs = unique_names([source_slug(group[0].table.source) for group in grouped.values()], list(grouped))
    return [
        Step(name=f"{verb}_{slug}", assets=tuple(group)) for slug, group in zip(slugs, grouped.values(), strict=True)
    ]


def _is_external(asset: TableAsset) -> bool:
    return asset.table.schema_class in _NOT_FOR_STEPS


def _check_specs(step: Step, checks: Collection[CheckName]) -> list[dg.AssetCheckSpec]:
    return [spec for asset in step.assets for spec in check_specs(asset.table, asset.key) if spec.name in checks]


def _step_checks(
    step: Step, specs: Sequence[dg.AssetCheckSpec], *, resource_key: str, settings: Mapping[str, Any]
) -> dg.AssetChecksDefinition:
    """The checks of tables that have no step: the sensor evaluates them, and this is for who executes them."""
    tables = {asset.key: asset.table for asset in step.assets}

    def look(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        checked = {check.asset_key for check in context.selected_asset_check_keys}
        looked_at = {key: tables[key] for key in tables if key in checked}
        yield from check_tables(context, looked_at, warehouse=getattr(context.resources, resource_key))

    as_checks = dg.multi_asset_check(
        name=step.name, specs=specs, can_subset=True, required_resource_keys={resource_key}, **settings
    )
    return as_checks(look)


def _step_assets(
    step: Step,
    *,
    resource_key: str,
    config_type: type[PostHogSyncConfig],
    checks: Collection[CheckName],
    execute: Execute,
    settings: Mapping[str, Any],
) -> dg.AssetsDefinition:
    tables = {asset.key: asset.table for asset in step.assets}

    def sync(context: dg.AssetExecutionContext, config: PostHogSyncConfig) -> Iterator[StepResult]:
        warehouse = getattr(context.resources, resource_key)
        synced = {key: tables[key] for key in tables if key in context.selected_asset_keys}
        # the UI lets users execute a check by itself
        checked = {check.asset_key for check in context.selected_asset_check_keys} - synced.keys()
        yield from execute(context, config, synced, warehouse=warehouse) if synced else ()
        looked_at = {key: tables[key] for key in tables if key in checked}
        yield from check_tables(context, looked_at, warehouse=warehouse) if looked_at else ()

    # Dagster takes the fields that the launchpad offers, and their defaults, from the annotation
    sync.__annotations__["config"] = config_type
    as_assets = dg.multi_asset(
        name=step.name,
        # a table that is not syncable, or that the user did not select, gives no output
        specs=[asset.spec.replace_attributes(skippable=True) for asset in step.assets],
        check_specs=_check_specs(step, checks),
        can_subset=True,
        # a sync brings the whole table, however many partitions a user has given it
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={resource_key},
        **settings,
    )
    return as_assets(sync)


def _config_type(defaults: PostHogSyncConfig | None) -> type[PostHogSyncConfig]:
    """The run config's type with other defaults.

    Raises:
        SetupError: One of them is for a run to set.
    """
    given = defaults.model_dump(exclude_unset=True) if defaults else {}
    if of_the_run := sorted(SET_BY_THE_RUN & given.keys()):
        raise SetupError(f"There is no default for {', '.join(of_the_run)}: set it in the run's config.")
    known = PostHogSyncConfig.model_fields
    fields: dict[str, Any] = {
        name: (known[name].rebuild_annotation(), Field(default=value, description=known[name].description))
        for name, value in given.items()
    }
    return (
        create_model(PostHogSyncConfig.__name__, __base__=PostHogSyncConfig, **fields) if fields else PostHogSyncConfig
    )
