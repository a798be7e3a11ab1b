"""The component: every table of a PostHog project's data warehouse as an asset, from YAML or from Python."""

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.project_paths import get_local_state_path
from pydantic import BaseModel

from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.spec import PostHogTranslator
from dw_orchestration.assets.step import StepResult, sync_tables
from dw_orchestration.build import build_posthog_definitions, check_settings, not_connected, resources_of
from dw_orchestration.component import attributes
from dw_orchestration.component.scaffolder import WarehouseScaffolder
from dw_orchestration.component.schema import strict_model
from dw_orchestration.component.templates import where
from dw_orchestration.component.warehouses import Warehouse
from dw_orchestration.resources.state import (
    fetch_stored,
    has_tables,
    how_to_get,
    is_reconstruction,
    is_to_be_fetched,
    note_load,
    refresh_state,
    store,
)
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError, SnapshotError, StateNotRefreshedError
from dw_orchestration.tables.scheduling import SchedulingMode
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY

_IN_A_SHARED_PLACE = DefsStateConfigArgs.versioned_state_storage().management_type
_NO_STATE = "There is no state yet. Fetch it with `dg utils refresh-defs-state`."
_IN_CODE_SERVER = DefsStateConfigArgs.legacy_code_server_snapshots().management_type


@dg.scaffold_with(WarehouseScaffolder)
@dataclass
class PostHogWarehouseComponent(PostHogTranslator, dg.StateBackedComponent, dg.Resolvable):
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
        note_load()
        # in Python it may be a text
        self.state_file = Path(self.state_file) if self.state_file else None
        check_settings(self.name, self.history_database)

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
        spec = super().get_asset_spec(table)
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
            SetupError: An attribute cannot be used, or another component of this project has the same name.
        """
        try:
            if self.has_neighbours:
                everyone = context.component_tree.get_all_components(of_type=PostHogWarehouseComponent)
                _refuse_namesakes(self.name, [each.name for each in everyone])
            return self._defs_of_state(context)
        except SetupError as error:
            # the page of the code location shows frames, and the way through this package explains nothing
            raise error.with_traceback(None) from None
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
        return build_posthog_definitions(
            self.warehouse,
            state=snapshot,
            name=self.name,
            select=self.select,
            exclude=self.exclude,
            include_disabled=self.include_disabled,
            translator=self,
            scheduling=self.scheduling,
            schedules_running=self.schedules_running,
            overrides=self.overrides,
            step_per=self.step_per,
            sync=PostHogSyncConfig(**self.sync),
            retry_policy=self.retry_policy,
            op=self.op,
            run_tags=self.run_tags,
            auto_heal=self.auto_heal,
            job_status_sensor=self.job_status_sensor,
            job_status_interval_s=self.job_status_interval_s,
            history_database=self.history_database,
            max_state_age_days=self.max_state_age_days,
            execute=self.execute if self.is_execute_overridden else sync_tables,
        )

    def not_connected(self, problem: str) -> dg.Definitions:
        """The problem in place of the tables, and the resources: sensors and assets of the user's own may need them.

        Raises:
            SetupError: This is a run of a code server that has the tables. Dagster would only report that they do not
                exist.
        """
        return not_connected(problem, name=self.name, resources=self.resources())

    def resources(self) -> dict[str, dg.ConfigurableResource[Any]]:
        """What the definitions of this component, and the user's own, are run with."""
        return resources_of(self.warehouse, name=self.name, history_database=self.history_database)

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
        if is_reconstruction() or not is_to_be_fetched(state_file):
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
