"""Assets from tables: one step per source (or project, or table), one asset per table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import islice
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from dw_orchestration.assets.checks import (
    DATA_AS_USUAL,
    CheckOutcome,
    check_specs,
    data_as_usual,
    last_sync_succeeded,
    no_new_sync,
    overdue,
)
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.spec import asset_key, table_spec, upstream_specs
from dw_orchestration.assets.step import Execute, StepResult, sync_tables
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER
from dw_orchestration.resources.failure import errors_as_failure
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.names import identifier, unique_names
from dw_orchestration.tables.table import Table, by_source
from dw_orchestration.tables.tables import Tables

# PostHog keeps these tables up to date by itself: in a step, each of them would fail every "Materialize all"
NOT_FOR_STEPS = frozenset({SchemaClass.EXTERNAL, SchemaClass.OBSERVE_ONLY})
# fields of a run's config whose default would sync, drop or skip tables that nobody asked for
SET_BY_THE_RUN = frozenset({"sync_mode", "confirm_resync", "accept_jobs_since", "trigger_after"})
# Dagster and its launchers read these of a run alone; ECS starts a task for a run and never for a step
_TAGS_OF_RUNS = (
    "dagster/max_runtime",
    "dagster/max_retries",
    "dagster/retry_strategy",
    "dagster/retry_on_asset_or_op_failure",
    "dagster/isolation",
    "dagster-celery/run_priority",
    "ecs/",
)
# and these of a step alone
_TAGS_OF_STEPS = ("dagster/concurrency_key", "dagster-celery/priority")
# the settings of `op`, by Dagster's own names, and what its decorators call them
_OP_SETTINGS = {"tags": "op_tags", "pool": "pool", "description": "description"}


StepResults = Iterator[StepResult | dg.AssetCheckResult]


@dataclass(frozen=True)
class Step:
    """The tables that one op syncs together."""

    name: str
    tables: tuple[Table, ...]


def build_posthog_assets(
    tables: Tables,
    *,
    retry_policy: dg.RetryPolicy | None = None,
    op: Mapping[str, Any] | None = None,
    sync_defaults: PostHogSyncConfig | None = None,
    execute: Execute = sync_tables,
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition | dg.AssetSpec]:
    """The assets of a project's tables, and the external assets that their rows come from.

    Tables that a step of the user's syncs (`Tables(own_steps=...)`) are left out.

    Tables that Dagster cannot sync are external assets as well: tables that PostHog queries in place, and tables whose
    changes arrive as a stream or by webhook. The latter still have their checks.

    Args:
        tables: The tables of the project.
        retry_policy: Dagster's retry policy, for every step. A retry takes up the syncs that are still running.
        op: For every step, as in the `op` of Dagster's own components: `tags` (such as resources on Kubernetes),
            `pool` (Dagster's concurrency pool), `description`.
        sync_defaults: Defaults of the runs' config. Only the fields that are given count. A resync cannot be a
            default: only a run can ask for it.
        execute: What a step does with its tables; wrap `sync_tables` to do something before or after. Each step then
            starts its syncs itself, because what is to be done before them is unknown to other steps.

    Raises:
        SetupError: `sync_defaults` has a field that only a run can set, or `op` a setting that there is not.
    """
    config_type = config_type_of(sync_defaults)
    steps = steps_of(tables)
    if execute is sync_tables:
        by_name = {step.name: step.tables for step in steps}
        execute = partial(sync_tables, steps=by_name, project_tables=len(tables.all))
    settings = {"retry_policy": retry_policy, **op_settings(op or {})}
    # made once: Dagster would make it again for each step that has the type as an annotation
    with_config = {**settings, "config_schema": config_type.to_fields_dict()}
    step_assets = [
        _step_assets(step, tables, config_type=config_type, execute=execute, settings=with_config) for step in steps
    ]
    observed = [table for table in tables if table.schema_class is SchemaClass.OBSERVE_ONLY]
    check_only = [_step_checks(step, tables, settings=settings) for step in _grouped(observed, tables, verb="check")]
    external = [table_spec(tables, table) for table in tables if table.schema_class in NOT_FOR_STEPS]
    return [*step_assets, *check_only, *external, *upstream_specs(tables)]


def steps_of(tables: Tables) -> list[Step]:
    """Which tables share a step, and the name of each step. Schedules address their run config to it."""
    own = tables.own_steps
    chosen = [table for table in tables if table.schema_class not in NOT_FOR_STEPS and table.id not in own]
    return _grouped(chosen, tables, verb="sync")


def _grouped(chosen: Sequence[Table], tables: Tables, *, verb: str) -> list[Step]:
    match tables.step_per:
        case "project":
            return [Step(f"{verb}_{tables.resource_key}", tuple(chosen))] if chosen else []
        case "table":
            return [Step(f"{verb}_{identifier(table.key_path)}", (table,)) for table in chosen]
        case "source":
            groups = by_source(chosen)
            slugs = unique_names([group[0].group for group in groups.values()], list(groups))
            return [Step(f"{verb}_{slug}", tuple(group)) for slug, group in zip(slugs, groups.values(), strict=True)]


def _check_specs(step: Step) -> list[dg.AssetCheckSpec]:
    return [spec for table in step.tables for spec in check_specs(table)]


def _step_checks(step: Step, tables: Tables, *, settings: Mapping[str, Any]) -> dg.AssetChecksDefinition:
    """The checks of tables that have no step: the sensor evaluates them, and users may execute them."""

    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        checked = {check.asset_key for check in context.selected_asset_check_keys}
        wanted = [table for table in step.tables if asset_key(table) in checked]
        yield from check_tables(context, wanted, warehouse=getattr(context.resources, tables.resource_key))

    as_checks = dg.multi_asset_check(
        name=step.name,
        specs=_check_specs(step),
        can_subset=True,
        required_resource_keys={tables.resource_key},
        **settings,
    )
    return as_checks(check)


def _step_assets(
    step: Step,
    tables: Tables,
    *,
    config_type: type[PostHogSyncConfig],
    execute: Execute,
    settings: Mapping[str, Any],
) -> dg.AssetsDefinition:
    run = partial(run_step, step=step, config_type=config_type, execute=execute)

    def sync(context: dg.AssetExecutionContext) -> StepResults:
        yield from run(context, getattr(context.resources, tables.resource_key))

    as_assets = step_decorator(step, tables, required_resource_keys={tables.resource_key}, **settings)
    return as_assets(sync)


def step_decorator(step: Step, tables: Tables, **settings: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Dagster's decorator for the assets of a step."""
    return dg.multi_asset(
        name=step.name,
        specs=[table_spec(tables, table) for table in step.tables],
        check_specs=_check_specs(step),
        can_subset=True,
        # a sync imports the whole table, however many partitions a user has given it
        backfill_policy=dg.BackfillPolicy.single_run(),
        **settings,
    )


def run_step(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    *,
    step: Step,
    config_type: type[PostHogSyncConfig],
    execute: Execute,
) -> StepResults:
    """Sync what the run has selected of a step, and evaluate the checks that it has selected without their assets."""
    config = config_type(**context.op_execution_context.op_config)
    _keep_keys_of_nodes(context)
    selected = context.selected_asset_keys
    synced = [table for table in step.tables if asset_key(table) in selected]
    if len(synced) < len(selected):
        raise dg.Failure(
            f"The keys of the step {step.name} were changed after it was built, so its tables cannot be recognized."
            " Change keys in a translator or in `translation`.",
            allow_retries=False,
        )
    # the UI lets users execute a check without its asset
    checked = {check.asset_key for check in context.selected_asset_check_keys} - selected
    yield from execute(context, config, synced, warehouse=warehouse) if synced else ()
    only_checked = [table for table in step.tables if asset_key(table) in checked]
    yield from check_tables(context, only_checked, warehouse=warehouse) if only_checked else ()


def _keep_keys_of_nodes(context: dg.AssetExecutionContext) -> None:
    """Let Dagster collect the keys of each node once.

    For each output of a step, Dagster 1.13 collects all keys of its node once for each of its assets. With a thousand
    tables that is a fifth of a second for each table. The steps of one process share the job, and may be many.
    """
    layer = context.job_def.asset_layer
    if "get_selected_entity_keys_for_node" not in vars(layer):
        object.__setattr__(layer, "get_selected_entity_keys_for_node", cache(layer.get_selected_entity_keys_for_node))


def check_tables(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    tables: Sequence[Table],
    *,
    warehouse: WarehouseResource,
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the selected checks of tables by what PostHog shows now, without a sync.

    Raises:
        dagster.Failure: PostHog is unreachable, or no longer has a table.
    """
    log = EventLog(context.instance, project=next((table.project for table in tables), None))
    with errors_as_failure(context), warehouse.connect() as client:
        for table in tables:
            for outcome in _outcomes_now(client, table, log=log):
                if outcome.check_key in context.selected_asset_check_keys:
                    yield outcome.to_result()


def _outcomes_now(client: PostHogWarehouseClient, table: Table, *, log: EventLog) -> Iterator[CheckOutcome]:
    record = client.get_schema(table.id)
    jobs = list(islice(client.list_jobs(table.source.id, schemas=[record.name]), JOBS_PER_ANSWER))
    job = next((job for job in jobs if is_over(job)), None)
    # the table is as the last completed sync left it, which has been reported too and is not compared with itself
    completed = next((job for job in jobs if job.status is JobStatus.COMPLETED), None)
    syncs = log.syncs_of(asset_key(table), since=completed.created_at if completed is not None else None)
    yield overdue(table, record, now=client.server_time or datetime.now(UTC)) or last_sync_succeeded(table, job)
    if completed is None:
        check = dg.AssetCheckKey(asset_key(table), DATA_AS_USUAL)
        yield no_new_sync(check, last=log.last_evaluation(check), why="No sync has completed yet.")
    else:
        is_full_refresh = syncs.is_full_refresh(completed.id)
        yield data_as_usual(table, completed, record=record, syncs=syncs, full_refresh=is_full_refresh)


def op_settings(op: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a step with the names of Dagster's decorators.

    Raises:
        SetupError: There is no such setting, since names and backfill policies are not the user's choice. Or a tag has
            no effect on a step.
    """
    if unknown := sorted(op.keys() - _OP_SETTINGS.keys()):
        raise SetupError(f"`op` has no setting {', '.join(unknown)}. There are {', '.join(_OP_SETTINGS)}.")
    try:
        check_op_tags(op.get("tags") or {})
    except ValueError as error:
        raise SetupError(str(error)) from None
    return {_OP_SETTINGS[name]: value for name, value in op.items()}


def check_op_tags(tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of steps.

    Raises:
        ValueError: A tag has no effect on a step, which would be noticed on the day it is needed.
    """
    if of_runs := [tag for tag in tags if tag.startswith(_TAGS_OF_RUNS)]:
        raise ValueError(f"{', '.join(of_runs)} has no effect on a step, only on a run: put it into `run_tags`")
    return tags


def check_run_tags(tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of runs.

    Raises:
        ValueError: A tag has no effect on a run.
    """
    if of_steps := [tag for tag in tags if tag.startswith(_TAGS_OF_STEPS)]:
        raise ValueError(f"{', '.join(of_steps)} has no effect on a run, only on a step: put it into `op: tags`")
    return tags


def config_type_of(defaults: PostHogSyncConfig | None) -> type[PostHogSyncConfig]:
    """The run config's type with other defaults.

    Raises:
        SetupError: Only a run can set one of the fields.
    """
    given = defaults.model_dump(exclude_unset=True) if defaults else {}
    if of_the_run := sorted(SET_BY_THE_RUN & given.keys()):
        raise SetupError(f"Invalid default: {', '.join(of_the_run)} can only be set in the config of a run.")
    known = PostHogSyncConfig.model_fields
    fields: dict[str, Any] = {
        name: (known[name].rebuild_annotation(), Field(default=value, description=known[name].description))
        for name, value in given.items()
    }
    return (
        create_model(PostHogSyncConfig.__name__, __base__=PostHogSyncConfig, **fields) if fields else PostHogSyncConfig
    )
