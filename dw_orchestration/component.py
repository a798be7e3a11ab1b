"""The one place that puts resources, assets, schedules and sensors together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster_duckdb import DuckDBResource
from pydantic import Field

from dw_orchestration.assets.factory import DEFAULT_RESOURCE_KEY, StepPer, build_posthog_assets
from dw_orchestration.assets.history import build_sync_history, build_sync_history_schedule
from dw_orchestration.assets.specs import asset_spec
from dw_orchestration.assets.tables import Table
from dw_orchestration.errors import SnapshotError
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.snapshot import WarehouseSnapshot
from dw_orchestration.resources.state import refreshed
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource
from dw_orchestration.schedules.cadences import build_posthog_schedules
from dw_orchestration.schedules.mode import SchedulingMode
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.schedules.takeover_file import TakeoverStore
from dw_orchestration.schedules.takeover_job import build_takeover_job
from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor
from dw_orchestration.sensors.job_status import build_job_status_sensor


class EmbeddedArgs(dg.Model, dg.Resolvable):
    """The embedded warehouse, as `defs.yaml` names it."""

    home: str = Field(description="The folder that holds everything of it.")
    shop: bool = Field(default=True, description="Whether it runs a Postgres with a small shop as its first source.")
    fixtures: str | None = Field(default=None, description="A folder with files that stand in for vendors.")


class ProjectArgs(dg.Model, dg.Resolvable):
    """A PostHog project, as `defs.yaml` names it."""

    project_id: str = Field(description="The number in the address of the project's pages.")
    api_key: str = Field(description='A personal API key; best as `"{{ env.POSTHOG_PERSONAL_API_KEY }}"`.', repr=False)
    host: str = Field(default="https://us.posthog.com", description="Where the PostHog app runs.")
    read_only: bool = Field(default=False, description="Refuse everything that would change anything in PostHog.")


def _resolve_warehouse(context: dg.ResolutionContext, args: ProjectArgs | EmbeddedArgs) -> WarehouseResource:
    # a template that holds digits alone resolves to a number, and a project's id is text
    given: dict[str, Any] = {
        name: str(context.resolve_value(value)) if isinstance(value, str) else value
        for name, value in args.model_dump().items()
    }
    return LocalWarehouse(**given) if isinstance(args, EmbeddedArgs) else PostHogWarehouseResource(**given)


def _resolve_path(context: dg.ResolutionContext, path: str | None) -> Path | None:
    return Path(str(context.resolve_value(path))).absolute() if path else None


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

    warehouse: Annotated[
        WarehouseResource,
        dg.Resolver(
            _resolve_warehouse,
            model_field_type=ProjectArgs | EmbeddedArgs,
            description="The PostHog project to connect to, or the embedded warehouse in a folder (`home`).",
        ),
    ]
    name: Annotated[
        str,
        dg.Resolver.default(
            description="The key of the resource, and the start of the sensors' names. Give each project its own."
        ),
    ] = DEFAULT_RESOURCE_KEY
    scheduling: Annotated[
        SchedulingMode,
        dg.Resolver.default(
            description="`ensure`: one sync for each tick, PostHog's own or Dagster's. `observe`: no schedules."
            " `drive`: Dagster alone."
        ),
    ] = SchedulingMode.ENSURE
    schedules_running: Annotated[
        bool,
        dg.Resolver.default(description="Whether the schedules run before anybody switches them on in the UI."),
    ] = False
    overrides: Annotated[
        Sequence[ScheduleOverride],
        dg.Resolver.default(
            description="Other times for some tables, as cron in a time zone: PostHog itself has no weekdays."
        ),
    ] = ()
    takeover_file: Annotated[
        Path | None,
        dg.Resolver(
            _resolve_path,
            model_field_type=str | None,
            description="A file that keeps what a takeover changed in PostHog; with it there is a job to take schedules"
            " over and to give them back. Keep it where every process of the code location finds it.",
        ),
    ] = None
    step_per: Annotated[
        StepPer,
        dg.Resolver.default(
            description="What one process syncs together: the selected tables of a `source`, of the whole `project`,"
            " or each `table` by itself."
        ),
    ] = "source"
    history_file: Annotated[
        Path | None,
        dg.Resolver(
            _resolve_path,
            model_field_type=str | None,
            description="A DuckDB file that keeps every sync; with it there are the asset `sync_history`, its daily"
            " schedule, and the check and the sensor that tell when the state is out of date.",
        ),
    ] = None
    state_file: Annotated[
        Path | None,
        dg.Resolver(
            _resolve_path,
            model_field_type=str | None,
            description="Keep the state in this file instead of where `defs_state` says, in a repository for example."
            " It is fetched if it is absent, and used as it stands otherwise.",
        ),
    ] = None
    defs_state: ResolvedDefsStateConfig = field(default_factory=DefsStateConfigArgs.local_filesystem)

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the state is kept: by project, so that two projects never share one."""
        return DefsStateConfig.from_args(self.defs_state, default_key=f"{type(self).__name__}[{self.name}]")

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset. Override this to give tables other keys, groups, owners or descriptions.

        Example:
            ```python
            class OurWarehouse(PostHogWarehouseComponent):
                def get_asset_spec(self, table: Table) -> dg.AssetSpec:
                    return super().get_asset_spec(table).merge_attributes(owners=["team:data"])
            ```
        """
        return asset_spec(table)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions, from the state where it is kept."""
        if self.state_file is None:
            return super().build_defs(context)
        # what kept the last process from asking may have been set right since
        if not self.state_file.exists() or WarehouseSnapshot.read(self.state_file).is_empty_handed:
            self.write_state_to_path(self.state_file)
        return self.build_defs_from_state(context, self.state_file)

    def write_state_to_path(self, state_path: Path) -> None:
        """Fetch the state; if PostHog cannot be asked, the last good one stays."""
        refreshed(self.warehouse, previous=_last_good(state_path)).write(state_path)

    def build_defs_from_state(
        self,
        context: dg.ComponentLoadContext,  # noqa: ARG002  part of the method that this overrides
        state_path: Path | None,
    ) -> dg.Definitions:
        """The definitions; a pure function of the state file."""
        if state_path is None:
            return not_connected("There is no state yet. Fetch it with `dg utils refresh-defs-state`.", name=self.name)
        return self.build_defs_from_snapshot(WarehouseSnapshot.read(state_path))

    def build_defs_from_snapshot(self, snapshot: WarehouseSnapshot) -> dg.Definitions:
        """The definitions for a snapshot that is already at hand."""
        if snapshot.problem is not None and snapshot.is_empty_handed:
            return not_connected(snapshot.problem, name=self.name)
        schedule_status = (
            dg.DefaultScheduleStatus.RUNNING if self.schedules_running else dg.DefaultScheduleStatus.STOPPED
        )
        jobs: list[dg.JobDefinition] = []
        if self.takeover_file is not None:
            taken_over = TakeoverStore.of(snapshot, self.takeover_file).read()
            # a table that Dagster drives keeps its own cadence, though PostHog shows thirty days
            snapshot = taken_over.as_before(snapshot)
            jobs.append(self._takeover_job(snapshot, self.takeover_file))
        tables = dg.Definitions(
            assets=build_posthog_assets(
                snapshot, spec_of=self.get_asset_spec, resource_key=self.name, step_per=self.step_per
            ),
            schedules=build_posthog_schedules(
                snapshot,
                mode=self.scheduling,
                spec_of=self.get_asset_spec,
                resource_key=self.name,
                step_per=self.step_per,
                overrides=self.overrides,
                default_status=schedule_status,
            ),
            jobs=jobs,
            sensors=[build_job_status_sensor(snapshot, spec_of=self.get_asset_spec, resource_key=self.name)],
            resources={self.name: self.warehouse},
        )
        return tables if self.history_file is None else dg.Definitions.merge(tables, self._history(snapshot))

    def _history(self, snapshot: WarehouseSnapshot) -> dg.Definitions:
        """Every sync kept, and what tells when the state is out of date."""
        return dg.Definitions(
            assets=[build_sync_history(snapshot, resource_key=self.name, history_resource_key=self._history_key)],
            asset_checks=[build_drift_check(snapshot, resource_key=self.name)],
            schedules=[build_sync_history_schedule(resource_key=self.name)],
            sensors=[build_drift_sensor(snapshot, resource_key=self.name)],
            resources={self._history_key: DuckDBResource(database=str(self.history_file))},
        )

    @property
    def _history_key(self) -> str:
        return f"{self.name}_sync_history"

    def _takeover_job(self, snapshot: WarehouseSnapshot, takeover_file: Path) -> dg.JobDefinition:
        return build_takeover_job(
            snapshot, takeover_path=takeover_file, resource_key=self.name, spec_of=self.get_asset_spec
        )


def not_connected(problem: str, *, name: str = DEFAULT_RESOURCE_KEY) -> dg.Definitions:
    """One asset that says what is wrong, where the tables would be: an empty page would tell nobody anything."""
    spec = dg.AssetSpec(
        key=[name, "not_connected"], group_name=name, kinds={"posthog"}, description=f"No tables: {problem}"
    )
    return dg.Definitions(assets=[spec])


def _last_good(state_path: Path) -> WarehouseSnapshot | None:
    """The state to fall back on. One that cannot be read is none: replacing it is its cure."""
    try:
        state = WarehouseSnapshot.read(state_path)
    except (FileNotFoundError, SnapshotError):
        return None
    return None if state.is_empty_handed else state


__all__ = ["LocalWarehouse", "PostHogWarehouseComponent"]
