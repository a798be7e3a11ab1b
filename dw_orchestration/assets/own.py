"""Steps of a user's own: a function that syncs tables, and may do other things before and after."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from dw_orchestration.assets.build import NOT_FOR_STEPS, Step, config_type_of, op_settings, run_step, step_decorator
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.loading import load_tables
from dw_orchestration.assets.metadata import TableMetadata
from dw_orchestration.assets.spec import PostHogTranslator
from dw_orchestration.assets.step import sync_tables
from dw_orchestration.resources.syncing import SYNCS_OF_OPS
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.selection import Selector
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY


def posthog_assets(
    warehouse: WarehouseResource,
    *,
    select: Sequence[Selector] = (),
    exclude: Sequence[Selector] = (),
    translator: PostHogTranslator | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op: Mapping[str, Any] | None = None,
    sync: PostHogSyncConfig | None = None,
    name: str = DEFAULT_RESOURCE_KEY,
    state: str | Path | WarehouseSnapshot | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make a function the step of some tables, with `yield from posthog_warehouse.sync(context)` in its body.

    Give the result to `build_posthog_definitions(assets=...)`, so that schedules and sensors are there for these tables
    too. The step has the function's name, the config of `PostHogSyncConfig`, and starts its syncs itself, when its turn
    comes: what the function does before them is unknown to other steps.

    Args:
        warehouse: As for `build_posthog_definitions`.
        select: As for `build_posthog_definitions`.
        exclude: As for `build_posthog_definitions`.
        translator: As for `build_posthog_definitions`.
        retry_policy: Dagster's retry policy. A retry takes up the syncs that are still running.
        op: `tags`, `pool` and `description` of the step.
        sync: Defaults of the runs' config. Only the fields that are given count.
        name: As for `build_posthog_definitions`; the function's parameter for the warehouse has this name.
        state: As for `build_posthog_definitions`.

    Raises:
        SetupError: No table is selected, a name fits several tables, or a setting is not possible.
        SnapshotError: The state cannot be read, or a process of a run does not find it.
        StateNotRefreshedError: The warehouse is unreachable or its answer was refused, and no last good state serves.

    Example:
        ```python
        @posthog_assets(WAREHOUSE, select=["stripe_acme.*"])
        def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
            context.log.info("before")
            yield from posthog_warehouse.sync(context)
            context.log.info("after: every selected table is synced")
        ```
    """
    config_type = config_type_of(sync)
    settings = {"retry_policy": retry_policy, "config_schema": config_type.to_fields_dict(), **op_settings(op or {})}

    def decorated(function: Callable[..., Any]) -> dg.AssetsDefinition:
        tables = load_tables(warehouse, select=select, exclude=exclude, translator=translator, name=name, state=state)
        step = Step(function.__name__, tuple(table for table in tables if table.schema_class not in NOT_FOR_STEPS))
        if not step.tables:
            raise SetupError(f"`{step.name}` has no table that Dagster can sync. {tables.why_empty()}")
        assets = step_decorator(step, tables, **settings)(function)
        SYNCS_OF_OPS[assets.op] = partial(run_step, step=step, config_type=config_type, execute=sync_tables)
        return assets

    return decorated


def specs_of_own_steps(assets: Sequence[object]) -> dict[str, tuple[str, dg.AssetSpec]]:
    """The step and the spec of each table that functions under `posthog_assets` sync, by schema id."""
    steps = [
        each
        for each in assets
        if isinstance(each, dg.AssetsDefinition) and each.is_executable and each.node_def in SYNCS_OF_OPS
    ]
    return {TableMetadata.of(spec.metadata).schema_id: (step.op.name, spec) for step in steps for spec in step.specs}
