"""The component: every table of a PostHog project's data warehouse as an asset, from YAML or from Python."""

import logging
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.project_paths import get_local_state_path
from pydantic import BaseModel

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.assets.step import StepResult, sync_tables
from dw_orchestration.component import attributes
from dw_orchestration.component.scaffolder import WarehouseScaffolder
from dw_orchestration.component.schema import strict_model
from dw_orchestration.component.templates import where
from dw_orchestration.component.warehouses import Warehouse
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.resources.state import (
    code_server_has_tables,
    fetch_stored,
    has_tables,
    how_to_get,
    is_reconstruction,
    note_tables,
    refresh_state,
    store,
)
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.schedules.schedules import build_posthog_schedules
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.sensors.terminated_runs import build_terminated_runs_sensor
from dw_orchestration.tables.errors import SetupError, SnapshotError, StateNotRefreshedError
from dw_orchestration.tables.scheduling import SchedulingMode
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.text import in_markdown

_IN_A_SHARED_PLACE = DefsStateConfigArgs.versioned_state_storage().management_type
_NO_STATE = "There is no state yet. Fetch it with `dg utils refresh-defs-state`."
_IN_CODE_SERVER = DefsStateConfigArgs.legacy_code_server_snapshots().management_type
# set by `dagster dev` and `dg` for all of their processes
_IN_DEVELOPMENT = dg.EnvVar("DAGSTER_IS_DEV_CLI")
# whether definitions were loaded in this process as a run loads them, once for each way
_LOADS: set[bool] = set()
_LEGAL_NAME = re.compile(r"[A-Za-z0-9_]+")


@dg.scaffold_with(WarehouseScaffolder)
@dataclass
class PostHogWarehouseComponent(dg.StateBackedComponent, dg.Resolvable):
    """Every table of a PostHog project's data warehouse as an asset, with its schedules and sensors.

    Example:
        ```yaml
        type: dw_orchestration.PostHogWarehouseComponent
        attributes:
          warehouse:
            project_id: "{{ env.POSTHOG_PROJECT_ID }}"
            api_key: "{{ env.POSTHOG_PERSONAL_API_KEY }}"
        ```
    """

    warehouse: Warehouse
    name: attributes.Name = DEFAULT_RESOURCE_KEY
    select: attributes.Select = ()
    exclude: attributes.Exclude = ()
    include_disabled: attributes.IncludeDisabled = False
    translation: attributes.Translation = None
    scheduling: attributes.Scheduling = SchedulingMode.ENSURE
    schedules_running: attributes.SchedulesRunning = False
    overrides: attributes.Overrides = ()
    step_per: attributes.StepSize = "source"
    sync: attributes.Sync = field(default_factory=dict)
    retry_policy: attributes.Retry = None
    op: attributes.Op = field(default_factory=dict)
    run_tags: attributes.RunTags = field(default_factory=dict)
    freshness: attributes.Freshness = True
    auto_heal: attributes.AutoHeal = 0
    job_status_sensor: attributes.JobStatusSensor = True
    job_status_interval_s: attributes.JobStatusInterval = 30
    history_database: attributes.HistoryDatabase = None
    max_state_age_days: attributes.MaxStateAge = 1.0
    allow_shrinking: attributes.AllowShrinking = False
    state_file: attributes.StateFile = None
    defs_state: ResolvedDefsStateConfig = field(default_factory=DefsStateConfigArgs.local_filesystem)

    # not annotated, so that it is no attribute that a user could set
    has_neighbours = False

    @classmethod
    @cache
    def model(cls) -> type[BaseModel]:
        """The model of `defs.yaml`; its JSON schema is what editors and `dg check yaml` use."""
        return strict_model(super().model(), required="warehouse")

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """The component that the attributes make.

        Raises:
            ResolutionException: An attribute is unknown or has no possible value.
        """
        if unknown := sorted(model.model_extra or ()):
            place, known = where(context.at_path(unknown[0])), ", ".join(cls.model().model_fields)
            raise ResolutionException(f"{place}: there is no such attribute. There are {known}.")
        component: Self = super().resolve_from_model(context, model)
        return component

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """The component of a project's folder of definitions, where there may be others."""
        component = super().load(attributes, context)
        component.has_neighbours = True
        return component

    def __post_init__(self) -> None:
        """Reject what could not be loaded, before anything is asked for.

        Raises:
            SetupError: The name cannot be a part of names in Dagster, or the history's address contains a secret.
        """
        _LOADS.add(is_reconstruction())
        if not _LEGAL_NAME.fullmatch(self.name):
            raise SetupError(f"`name: {self.name}` cannot be part of names in Dagster: use letters, digits and `_`.")
        if self.history_database is not None:
            # these import DuckDB, which takes each process of a step a tenth of a second
            from dw_orchestration.history.store import refuse_secrets

            refuse_secrets(str(self.history_database))

    @property
    def is_execute_overridden(self) -> bool:
        """Whether the steps do something of the user's own before or after their syncs."""
        return type(self).execute is not PostHogWarehouseComponent.execute

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the state is kept: by name, and by project where several code locations keep theirs side by side.

        In its own folder a state has to be found without any settings, as in an image that was built with them.
        """
        project = self.warehouse.project if self.defs_state.management_type is _IN_A_SHARED_PLACE else None
        own = f"{self.name}-{project}" if project else self.name
        return DefsStateConfig.from_args(self.defs_state, default_key=f"{type(self).__name__}[{own}]")

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset, translated. Override this to do what templates can't.

        Example:
            ```python
            class OurWarehouse(PostHogWarehouseComponent):
                def get_asset_spec(self, table: Table) -> dg.AssetSpec:
                    return super().get_asset_spec(table).merge_attributes(owners=["team:data"])
            ```
        """
        spec = asset_spec(table)
        if not self.freshness:
            spec = spec.replace_attributes(freshness_policy=None)
        return self.translation(spec, table) if self.translation else spec

    def execute(
        self,
        context: dg.AssetExecutionContext,
        config: PostHogSyncConfig,
        tables: Sequence[Table],
        *,
        warehouse: WarehouseResource,
    ) -> Iterator[StepResult]:
        """What a step does with the selected tables. Override this to do something before or after their syncs.

        Each step then starts its syncs itself, when its turn comes, and not the first step those of all.

        Example:
            ```python
            class OurWarehouse(PostHogWarehouseComponent):
                def execute(self, context, config, tables, *, warehouse):
                    for result in super().execute(context, config, tables, warehouse=warehouse):
                        context.log.info(f"{len(tables)} tables, and here is one of them: {result}")
                        yield result
            ```
        """
        yield from sync_tables(context, config, tables, warehouse=warehouse)

    def write_state_to_path(self, state_path: Path) -> None:
        """Fetch the state.

        Raises:
            StateNotRefreshedError: PostHog is unreachable, or has lost most of its tables. The last state stays.
        """
        path = self.state_file or state_path
        if stored := self._stored_key():
            fetch_stored(stored, path)
        try:
            refresh_state(self.warehouse, path, allow_shrinking=self.allow_shrinking)
        except StateNotRefreshedError as error:
            if not self._is_in_code_server or not has_tables(path):
                raise
            # it has no other state than what is written here: the last good one, with the reason why it is not new
            _log().warning(str(error))
            return
        if stored and self._is_in_code_server:
            store(stored, path)
        if path != state_path:
            # where Dagster looks for what it has asked for
            WarehouseSnapshot.read(path).write(state_path)

    @property
    def _is_in_code_server(self) -> bool:
        return self.state_file is None and self.defs_state.management_type is _IN_CODE_SERVER

    def _stored_key(self) -> str | None:
        """Under which Dagster's state storage has the last state; None where it is a file that stays."""
        if self.state_file is not None:
            return None
        config = self.defs_state_config
        if config.management_type is _IN_CODE_SERVER:
            # Dagster keeps this state in the memory of the code server: a copy of our own outlives it
            return f"{config.key}[{self.warehouse.project or 'last'}]"
        return config.key if config.management_type is _IN_A_SHARED_PLACE else None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions, from the state where it is kept; a refresh that fails here leaves the last one serving.

        A file that cannot be read or written takes away this component's tables, not the rest of the code location.

        Raises:
            SetupError: Another component of this project has the same name.
        """
        if self.has_neighbours:
            everyone = context.component_tree.get_all_components(of_type=PostHogWarehouseComponent)
            _refuse_namesakes(self.name, [each.name for each in everyone])
        try:
            return self._defs_of_state(context)
        except SnapshotError as error:
            return self.not_connected(str(error))
        except OSError as error:
            # Dagster makes the folder for its states in the package of the project, which an image may lock
            if error.filename is None:
                raise
            return self.not_connected(
                f"{error.filename} cannot be used ({error.strerror}). Make its folder writable, or fetch the state with"
                " `dg utils refresh-defs-state` as the image is built."
            )

    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        """The definitions; a pure function of the state file."""
        if state_path is not None:
            return self.build_defs_from_file(state_path)
        if not is_reconstruction():
            return self.not_connected(_NO_STATE)
        config = self.defs_state_config
        if config.management_type is _IN_A_SHARED_PLACE:
            place = f"in Dagster's state storage, under {config.key}"
        else:
            place = f"at {get_local_state_path(config.key, context.project_root)}"
        return self.not_connected(how_to_get(place))

    def build_defs_from_file(self, path: Path, *, if_missing: str | None = None) -> dg.Definitions:
        """The definitions for a state file; without a file that can be read, they state what is wrong with it.

        Args:
            path: The state file.
            if_missing: What to state if there is none; by default, how to get one.
        """
        try:
            snapshot = WarehouseSnapshot.read(path)
        except FileNotFoundError:
            return self.not_connected(if_missing or how_to_get(f"at {path.absolute()}"))
        except SnapshotError as error:
            return self.not_connected(str(error))
        # a file of the user's own is used as it stands
        if self.state_file is None and not snapshot.has_no_tables and not self.warehouse.is_origin_of(snapshot):
            problem = f"The state is of project {snapshot.project_id} at {snapshot.host}, and not of this one."
            return self.not_connected(f"{problem} Fetch it with `dg utils refresh-defs-state`.")
        return self.build_defs_from_snapshot(snapshot)

    def build_defs_from_snapshot(self, snapshot: WarehouseSnapshot) -> dg.Definitions:
        """The definitions for a snapshot that is already at hand."""
        if snapshot.problem is not None and snapshot.has_no_tables:
            return self.not_connected(snapshot.problem)
        tables = self.tables(snapshot)
        for problem in tables.problems:
            # tables come and go in PostHog, which must not take the code location down
            _log().warning(f"`{self.name}` selects or excludes tables that do not exist. {problem}")
        if tables.all and not tables:
            return self.not_connected(tables.why_empty())
        note_tables(self.name)
        definitions = _table_definitions(self, tables)
        if self.history_database is None:
            return definitions
        ever_enabled = self.tables(snapshot, include_disabled=True)
        return dg.Definitions.merge(definitions, _history_definitions(self, tables, ever_enabled))

    def tables(self, snapshot: WarehouseSnapshot, *, include_disabled: bool | None = None) -> Tables:
        """The selected tables of a snapshot, named and translated as the attributes say.

        Raises:
            SetupError: A selected name fits several tables, two keys are equal, or an override cannot be used.
        """
        return Tables(
            snapshot,
            select=self.select,
            exclude=self.exclude,
            include_disabled=self.include_disabled if include_disabled is None else include_disabled,
            spec_of=self.get_asset_spec,
            resource_key=self.name,
            step_per=self.step_per,
            namespace=None if self.name == DEFAULT_RESOURCE_KEY else self.name,
            scheduling=self.scheduling,
            # a name that fits one of the selected tables may fit several once the disabled ones are among them
            overrides=self.overrides if include_disabled is None else (),
            run_tags=self.run_tags,
        )

    def not_connected(self, problem: str) -> dg.Definitions:
        """The problem in place of the tables, and the resources: sensors and assets of the user's own may need them.

        Raises:
            SetupError: This is a run of a code server that has the tables. Dagster would only report that they do not
                exist.
        """
        if code_server_has_tables(self.name):
            raise SetupError(f"This run cannot load the tables of `{self.name}`, which its code server has. {problem}")
        return dg.Definitions.merge(not_connected(problem, name=self.name), dg.Definitions(resources=self.resources()))

    def resources(self) -> dict[str, dg.ConfigurableResource[Any]]:
        """What the definitions of this component, and the user's own, are run with."""
        resources: dict[str, dg.ConfigurableResource[Any]] = {self.name: self.warehouse}
        if self.history_database is not None:
            from dagster_duckdb import DuckDBResource

            resources[f"{self.name}_sync_history"] = DuckDBResource(database=str(self.history_database))
        return resources

    def _defs_of_state(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if self.state_file is not None:
            return self._defs_of_file(context, self.state_file)
        try:
            return super().build_defs(context)
        except StateNotRefreshedError as error:
            _log().warning(str(error))
            return self._without_refresh(context, problem=str(error))
        except dg.DagsterInvalidInvocationError:
            # dagster-celery loads definitions without the state storage of its instance
            with dg.DagsterInstance.get():
                return super().build_defs(context)

    def _defs_of_file(self, context: dg.ComponentLoadContext, state_file: Path) -> dg.Definitions:
        if is_reconstruction() or not _is_to_be_fetched(state_file):
            return self.build_defs_from_state(context, state_file)
        try:
            self.write_state_to_path(state_file)
        except StateNotRefreshedError as error:
            _log().error(str(error))
            return self.build_defs_from_file(state_file, if_missing=str(error))
        return self.build_defs_from_state(context, state_file)

    def _without_refresh(self, context: dg.ComponentLoadContext, *, problem: str) -> dg.Definitions:
        """The definitions from the state that is there, if there is one."""
        as_it_is = copy(self)
        as_it_is.defs_state = self.defs_state.model_copy(update={"refresh_if_dev": False})
        try:
            return dg.StateBackedComponent.build_defs(as_it_is, context)
        except StateNotRefreshedError:
            # state that lives only in the code server is always fetched again
            return self.not_connected(problem)


def _is_to_be_fetched(state_file: Path) -> bool:
    """Whether a load fetches the state: there is none, or it is damaged and this is a developer's machine."""
    try:
        # what kept the last process from asking may have been set right since
        return WarehouseSnapshot.read(state_file).has_no_tables
    except FileNotFoundError:
        return True
    except SnapshotError:
        return bool(_IN_DEVELOPMENT.get_value())


def _table_definitions(component: "PostHogWarehouseComponent", tables: Tables) -> dg.Definitions:
    """The tables, and what starts, follows and reports their syncs."""
    defaults = PostHogSyncConfig(**component.sync)
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    sensors = [*_job_status_sensors(component, tables), build_terminated_runs_sensor(tables)]
    return dg.Definitions(
        assets=build_posthog_assets(
            tables,
            retry_policy=component.retry_policy,
            op=component.op,
            sync_defaults=defaults,
            execute=component.execute if component.is_execute_overridden else sync_tables,
        ),
        schedules=build_posthog_schedules(
            tables,
            default_status=running if component.schedules_running else stopped,
            for_runs=_serves_runs_alone(),
        ),
        jobs=build_maintenance_jobs(tables, sync_defaults=defaults),
        sensors=[] if _serves_runs_alone() else sensors,
        resources=component.resources(),
    )


def _job_status_sensors(component: "PostHogWarehouseComponent", tables: Tables) -> list[dg.SensorDefinition]:
    if not component.job_status_sensor:
        return []
    interval = timedelta(seconds=component.job_status_interval_s)
    return [build_job_status_sensor(tables, auto_heal=component.auto_heal, interval=interval)]


def _history_definitions(
    component: "PostHogWarehouseComponent", tables: Tables, ever_enabled: Tables
) -> dg.Definitions:
    """The sync history, and what reports that the state is out of date.

    Args:
        component: The component, with its `history_database`.
        tables: The tables that the definitions are built from.
        ever_enabled: The same with the disabled ones: a disabled table may have been synced, and billed, before.
    """
    from dw_orchestration.history.asset import build_sync_history, build_sync_history_schedule
    from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor, build_state_age_check

    history_key = f"{tables.resource_key}_sync_history"
    max_age = timedelta(days=component.max_state_age_days)
    return dg.Definitions(
        assets=[build_sync_history(ever_enabled, history_resource_key=history_key)],
        asset_checks=[build_drift_check(tables), build_state_age_check(tables, max_age=max_age)],
        schedules=[build_sync_history_schedule(resource_key=tables.resource_key, run_tags=tables.run_tags)],
        sensors=[] if _serves_runs_alone() else [build_drift_sensor(tables, max_age=max_age)],
    )


def not_connected(problem: str, *, name: str = DEFAULT_RESOURCE_KEY) -> dg.Definitions:
    """One asset in place of the tables, with the problem as its description: an empty page would explain nothing."""
    spec = dg.AssetSpec(
        key=[name, "not_connected"],
        group_name=name,
        kinds={"posthog"},
        description=f"No tables: {in_markdown(problem)}",
    )
    return dg.Definitions(assets=[spec])


def _serves_runs_alone() -> bool:
    """Whether this process runs jobs and steps, and has no use for schedules and sensors.

    Dagster reconstructs definitions there. A code server and a command do so too, but load them in another way first.
    """
    return {True} == _LOADS


def _refuse_namesakes(name: str, everyone: Sequence[str]) -> None:
    """Report two components with the same name: Dagster would only report a duplicate resource.

    Raises:
        SetupError: More than one component of the project has the name.
    """
    if (count := everyone.count(name)) > 1:
        raise SetupError(
            f"{count} components have the name {name!r}. Give each PostHog project its own, with `name: ...` among its"
            " attributes: it keeps their assets, schedules and states apart."
        )


def _log() -> logging.Logger:
    """The component's logger."""
    return dg.get_dagster_logger("dw_orchestration")
