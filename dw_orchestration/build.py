"""All definitions of one project: what the component combines, and what definitions in Python are made with."""

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.own import specs_of_own_steps
from dw_orchestration.assets.spec import PostHogTranslator
from dw_orchestration.assets.step import Execute, sync_tables
from dw_orchestration.history.database import refuse_secrets
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.resources.state import (
    code_server_has_tables,
    load_state,
    note_load,
    note_tables,
    serves_runs_alone,
)
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.schedules.schedules import build_posthog_schedules
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.sensors.terminated_runs import build_terminated_runs_sensor
from dw_orchestration.tables.errors import SetupError, SnapshotError
from dw_orchestration.tables.scheduling import Override, SchedulingMode
from dw_orchestration.tables.selection import Selector
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, StepPer, Tables
from dw_orchestration.text import in_markdown

_LEGAL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Asset = dg.AssetsDefinition | dg.AssetSpec


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python from looking for garbage while definitions are made: it finds none.

    It goes through all objects each time that there are many more. That was 5 to 7 % of the time to load.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_garbage_collection()
def build_posthog_definitions(
    warehouse: WarehouseResource,
    *,
    state: str | Path | WarehouseSnapshot | None = None,
    name: str = DEFAULT_RESOURCE_KEY,
    select: Sequence[Selector] = (),
    exclude: Sequence[Selector] = (),
    include_disabled: bool = False,
    translator: PostHogTranslator | None = None,
    assets: Sequence[Asset] = (),
    scheduling: SchedulingMode = SchedulingMode.ENSURE,
    schedules_running: bool = False,
    overrides: Sequence[Override] = (),
    step_per: StepPer = "source",
    sync: PostHogSyncConfig | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op: Mapping[str, Any] | None = None,
    run_tags: Mapping[str, Any] | None = None,
    auto_heal: int = 0,
    job_status_sensor: bool = True,
    job_status_interval_s: int = 30,
    history_database: str | Path | None = None,
    max_state_age_days: float = 1.0,
    allow_shrinking: bool = False,
    execute: Execute = sync_tables,
) -> dg.Definitions:
    """Every table of a project as an asset, with its schedules, sensors, jobs and resources, as of the component.

    If the state cannot be had, there is one asset whose description says why: the rest of the code location loads.

    Args:
        warehouse: A `PostHogWarehouseResource`, or a `LocalWarehouse`.
        state: By default, each load of a code server fetches the state, and "Reload" in the UI fetches it again. It is
            kept in the folder `DW_ORCHESTRATION_HOME` (by default `.dw_orchestration`) or in that of the embedded
            warehouse, where runs and steps read it. If PostHog is unreachable, the last good one serves. A path is a
            file that is used as it stands and fetched only if it is absent. A snapshot is used itself.
        name: The key of the resource, and the start of the names of sensors and jobs. Any but the default one is also a
            prefix of asset keys, groups and schedules, so that several projects can be loaded side by side.
        select: Names, patterns, `Table` -> `bool` functions. Empty takes every table that is enabled in PostHog.
        exclude: What not to take of these.
        include_disabled: Whether disabled tables are assets too.
        translator: Decides how tables are shown as assets, and what is upstream of them.
        assets: Assets of your own. The tables of those that `posthog_assets` has made are in no other step.
        scheduling: How Dagster's schedules work together with PostHog's own.
        schedules_running: Whether the schedules run before somebody enables them in the UI.
        overrides: Other times for some tables than PostHog's.
        step_per: What one step syncs: the tables of a `source`, of the `project`, or each `table` by itself.
        sync: Defaults of the runs' config. Only the fields that are given count.
        retry_policy: Dagster's retry policy for the steps. A retry takes up the syncs that are still running.
        op: `tags`, `pool` and `description` of the steps.
        run_tags: Tags of the runs that schedules and sensors request, and of the maintenance jobs.
        auto_heal: How many tables a tick may sync that PostHog has silently stopped scheduling.
        job_status_sensor: Whether there is a sensor that reports what PostHog syncs by itself.
        job_status_interval_s: Seconds between two of its ticks.
        history_database: Where every sync is kept.
        max_state_age_days: From which age on the check `state_is_fresh` fails.
        allow_shrinking: Whether to accept a state with less than half of the tables of the last one.
        execute: What each step does, as the component's method; `posthog_assets` is for the steps of some tables.

    Raises:
        SetupError: An argument is not possible, a selected name fits several tables, or two tables have the same key.

    Example:
        ```python
        WAREHOUSE = PostHogWarehouseResource(project_id="1", api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"))
        defs = build_posthog_definitions(WAREHOUSE, select=["stripe_acme.*"])
        ```
    """
    note_load()
    check_settings(name, history_database)
    resources = resources_of(warehouse, name=name, history_database=history_database)
    try:
        snapshot = load_state(warehouse, state, name=name, allow_shrinking=allow_shrinking)
    except SnapshotError as error:
        return dg.Definitions.merge(not_connected(str(error), name=name, resources=resources), _given(assets))
    own, translator = specs_of_own_steps(assets), translator or PostHogTranslator()
    chosen = partial(
        Tables,
        snapshot,
        select=[*select, lambda table: table.id in own] if select and own else select,
        exclude=exclude,
        spec_of=_translation(translator, own),
        resource_key=name,
        step_per=step_per,
        namespace=None if name == DEFAULT_RESOURCE_KEY else name,
        scheduling=scheduling,
        run_tags=run_tags,
    )
    tables = chosen(
        include_disabled=include_disabled,
        overrides=overrides,
        upstream_of=translator.get_upstream_spec,
        own_steps={schema_id: step for schema_id, (step, _) in own.items()},
    )
    _warn_of_problems(tables)
    if tables.all and not tables:
        return dg.Definitions.merge(not_connected(tables.why_empty(), name=name, resources=resources), _given(assets))
    note_tables(name)
    defaults, serves_runs = sync or PostHogSyncConfig(), serves_runs_alone()
    ours = build_posthog_assets(tables, retry_policy=retry_policy, op=op, sync_defaults=defaults, execute=execute)
    sensors = [build_terminated_runs_sensor(tables)]
    if job_status_sensor:
        interval = timedelta(seconds=job_status_interval_s)
        sensors = [build_job_status_sensor(tables, auto_heal=auto_heal, interval=interval), *sensors]
    status = dg.DefaultScheduleStatus.RUNNING if schedules_running else dg.DefaultScheduleStatus.STOPPED
    definitions = dg.Definitions(
        assets=[*ours, *assets],
        schedules=build_posthog_schedules(tables, default_status=status, for_runs=serves_runs),
        jobs=build_maintenance_jobs(tables, sync_defaults=defaults),
        sensors=[] if serves_runs else sensors,
        resources=resources,
    )
    if history_database is None:
        return definitions
    # with the disabled ones: they may have been synced, and billed, before; an override's name may then fit several
    ever_enabled = chosen(include_disabled=True)
    max_age = timedelta(days=max_state_age_days)
    return dg.Definitions.merge(definitions, _history_definitions(tables, ever_enabled, max_age=max_age))


def check_settings(name: str, history_database: str | Path | None) -> None:
    """Reject what could not be loaded, before anything is asked for.

    Raises:
        SetupError: The name cannot be a part of names in Dagster, or the history's address contains a secret.
    """
    if not _LEGAL_NAME.fullmatch(name):
        raise SetupError(
            f"`name: {name}` cannot be part of names in Dagster: use letters, digits and `_`, and no digit first."
        )
    if history_database is not None:
        refuse_secrets(str(history_database))


def resources_of(
    warehouse: WarehouseResource, *, name: str, history_database: str | Path | None
) -> dict[str, dg.ConfigurableResource[Any]]:
    """What the definitions of a project, and the user's own, are run with."""
    resources: dict[str, dg.ConfigurableResource[Any]] = {name: warehouse}
    if history_database is not None:
        from dagster_duckdb import DuckDBResource

        resources[f"{name}_sync_history"] = DuckDBResource(database=str(history_database))
    return resources


def not_connected(
    problem: str, *, name: str, resources: Mapping[str, dg.ConfigurableResource[Any]] | None = None
) -> dg.Definitions:
    """One asset in place of the tables, with the problem as its description: an empty page would explain nothing.

    The resources are there, because sensors and assets of the user's own may need them.

    Raises:
        SetupError: This is a run of a code server that has the tables. Dagster would only report that they do not
            exist.
    """
    if code_server_has_tables(name):
        raise SetupError(f"This run cannot load the tables of `{name}`, which its code server has. {problem}")
    spec = dg.AssetSpec(
        key=[name, "not_connected"],
        group_name=name,
        kinds={"posthog"},
        description=f"No tables: {in_markdown(problem)}",
    )
    return dg.Definitions(assets=[spec], resources=resources)


def _given(assets: Sequence[Asset]) -> dg.Definitions:
    return dg.Definitions(assets=assets)


def _translation(
    translator: PostHogTranslator, own: Mapping[str, tuple[str, dg.AssetSpec]]
) -> Callable[[Table], dg.AssetSpec]:
    """The spec of each table: that of the step of the user's own, or the translator's."""
    return lambda table: own[table.id][1] if table.id in own else translator.get_asset_spec(table)


def _warn_of_problems(tables: Tables) -> None:
    """Name what selects no table: tables come and go in PostHog, which must not take the code location down."""
    for problem in tables.problems:
        dg.get_dagster_logger("dw_orchestration").warning(
            f"`{tables.resource_key}` selects or excludes tables that do not exist. {problem}"
        )


def _history_definitions(tables: Tables, ever_enabled: Tables, *, max_age: timedelta) -> dg.Definitions:
    """The sync history, and what reports that the state is out of date.

    Args:
        tables: The tables that the definitions are built from.
        ever_enabled: The same with the disabled ones.
        max_age: From which age of the state on the check `state_is_fresh` fails.
    """
    from dw_orchestration.history.asset import build_sync_history, build_sync_history_schedule
    from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor, build_state_age_check

    history_key = f"{tables.resource_key}_sync_history"
    return dg.Definitions(
        assets=[build_sync_history(ever_enabled, history_resource_key=history_key)],
        asset_checks=[build_drift_check(tables), build_state_age_check(tables, max_age=max_age)],
        schedules=[build_sync_history_schedule(resource_key=tables.resource_key, run_tags=tables.run_tags)],
        sensors=[] if serves_runs_alone() else [build_drift_sensor(tables, max_age=max_age)],
    )
