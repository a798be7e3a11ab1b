"""What a user may set on the component: the type of each attribute, how it is read from YAML, and its description."""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, Field, TypeAdapter, create_model

from dw_orchestration.assets.build import SET_BY_THE_RUN, CheckName
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.component.warehouses import project_path
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.schedules.schedules import SchedulingMode
from dw_orchestration.tables.names import table_path
from dw_orchestration.tables.selection import Selector, TableName, TableSelector
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import StepPer


def _value(kind: Any, description: str, *, written: Any = None, **more: Any) -> dg.Resolver:
    """A value or a template of one; `written` is its type in YAML, where that is another.

    Dagster accepts any text for any value, because it may be a template, so the result is checked here: a typo in
    `scheduling` would otherwise be an unknown mode.
    """
    adapter = TypeAdapter(kind)

    def resolve(context: dg.ResolutionContext, given: Any) -> Any:
        return adapter.validate_python(context.resolve_value(_plain(given)))

    return dg.Resolver(
        resolve, model_field_type=written or kind, description=description, inject_before_resolve=False, **more
    )


def _plain(given: Any) -> Any:
    """Models as mappings of what a user has given, so that templates in them can be filled in."""
    if isinstance(given, BaseModel):
        return given.model_dump(exclude_unset=True)
    return [_plain(each) for each in given] if isinstance(given, list | tuple) else given


def _path(description: str) -> dg.Resolver:
    def resolve(context: dg.ResolutionContext, path: str | None) -> Path | None:
        return project_path(context, path) if path else None

    return dg.Resolver(resolve, model_field_type=str | None, description=description)


def _selectors(description: str) -> dg.Resolver:
    return _value(
        Sequence[Selector],
        f"{description} Each is a table's name, asset key or id, a pattern such as `stripe.*`, a mapping of conditions"
        " that all hold, or a template variable that is a function from a `Table` to whether to take it.",
        written=Sequence[TableName | TableSelector],
        examples=[["stripe.*", {"source_type": "Postgres", "prefix": "shop", "table": "public.*"}]],
    )


Name = Annotated[
    str,
    _value(
        Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")],
        "The key of the resource, and the start of the names of sensors, jobs and the history. Give each project its"
        " own: any but the default one is also a prefix of asset keys, groups and schedules, so that several projects"
        " can be loaded side by side. Letters, digits and `_`.",
    ),
]

# --- which tables ---

Select = Annotated[
    Sequence[Selector], _selectors("Which tables become assets. By default, every table enabled in PostHog does.")
]
Exclude = Annotated[Sequence[Selector], _selectors("Which of the selected tables do not become assets.")]
IncludeDisabled = Annotated[
    bool,
    _value(
        bool,
        "Whether tables that a user disabled in PostHog, or never set up there, become assets too. Materializing such a"
        " table fails with the reason. Tables that PostHog disabled after a failure always are assets.",
    ),
]

# --- how their assets look ---


class TableAttributes(dg.Model):
    """What can be set of a table's asset, as values or templates; the rest stays as it is."""

    key: str | None = Field(default=None, description="The whole asset key, with slashes: `raw/{{ path }}`.")
    key_prefix: str | Sequence[str] | None = Field(default=None, description="The prefix of the asset key.")
    group_name: str | None = Field(default=None, description="The group in the UI.")
    description: str | None = Field(default=None, description="The description in the UI.")
    owners: Sequence[str] | str | None = Field(
        default=None, description="E-mail addresses or teams (`team:data`), to whom alerts can be sent."
    )
    tags: Mapping[str, str | int | float | bool] | str | None = Field(
        default=None, description="Tags in addition to the table's own ones."
    )
    metadata: Mapping[str, Any] | str | None = Field(
        default=None, description="Metadata in addition to the table's own."
    )
    kinds: Sequence[str] | str | None = Field(default=None, description="The kinds in the UI, in place of PostHog's.")
    deps: Sequence[str] | str | None = Field(
        default=None, description="The keys of the assets upstream, in place of the table that the rows come from."
    )
    automation_condition: str | None = Field(
        default=None,
        description="When Dagster's automation syncs it: `{{ dg.AutomationCondition.on_cron('@daily') }}`. The"
        " condition ignores the table that the rows come from.",
    )
    partitions_def: str | None = Field(
        default=None,
        description="Its partitions, from a template variable: `{{ days }}`. One sync serves all that a run selects.",
    )
    freshness_policy: str | None = Field(
        default=None, description="What Dagster takes for fresh, in place of what follows from PostHog's cadence."
    )


def _template_variables(table: Table) -> Mapping[str, Any]:
    return {
        "table": table,
        "name": table.schema.name,
        "path": "/".join(table_path(table.schema.name)),
        "source_type": table.source.source_type,
        "prefix": table.source.prefix or "",
    }


Translation = Annotated[
    Annotated[TranslationFn[Table], TranslationFnResolver[Table](_template_variables, model_field_type=TableAttributes)]
    | None,
    dg.Resolver.default(
        description="What is different about the tables' assets, as templates. They know `spec` (the asset as it would"
        " be), `table` (`table.schema`, `table.source`, `table.cadence`), `name` (the table's, in PostHog), `path`"
        " (the same as a part of an asset key), `source_type` and `prefix`.",
        examples=[{"group_name": "ingest_{{ source_type | lower }}", "owners": ["team:data"]}],
    ),
]
Freshness = Annotated[
    bool, _value(bool, "Whether tables have a freshness policy, which follows from the cadence of PostHog's syncs.")
]
Checks = Annotated[Sequence[CheckName], _value(Sequence[CheckName], "Which checks each table has; `[]` for none.")]

# --- when they are synced ---

Scheduling = Annotated[
    SchedulingMode,
    _value(
        SchedulingMode,
        "`ensure`: one sync for each tick, PostHog's own or Dagster's. `observe`: no schedules. `drive`: Dagster"
        " alone.",
    ),
]
SchedulesRunning = Annotated[bool, _value(bool, "Whether the schedules run before anybody switches them on in the UI.")]
Overrides = Annotated[
    Sequence[ScheduleOverride],
    _value(
        Sequence[ScheduleOverride],
        "Other times for some tables, as cron in a time zone: PostHog itself has no weekdays.",
    ),
]
AutoHeal = Annotated[
    int,
    _value(
        Annotated[int, Field(ge=0)],
        "How many tables a tick of the job-status sensor may sync that PostHog has silently stopped scheduling. Such"
        " syncs are billed, so there are none by default.",
    ),
]

# --- how they are synced ---


class RetryArgs(dg.Model):
    """Dagster's retry policy, as `defs.yaml` gives it."""

    max_retries: int = Field(default=1, ge=1, description="How often a step is tried again at most.")
    delay_s: float = Field(default=60.0, ge=0, description="Seconds before the first of them.")
    backoff: Literal["linear", "exponential"] | None = Field(
        default=None, description="How the delay grows from one to the next; without it, not at all."
    )
    jitter: Literal["full", "plus_minus"] | None = Field(
        default=None, description="How chance changes the delay, so that steps do not come back all at once."
    )

    def policy(self) -> dg.RetryPolicy:
        """The same for Dagster."""
        return dg.RetryPolicy(
            max_retries=self.max_retries,
            delay=self.delay_s,
            backoff=dg.Backoff[self.backoff.upper()] if self.backoff else None,
            jitter=dg.Jitter[self.jitter.upper()] if self.jitter else None,
        )


def _resolve_retry_policy(context: dg.ResolutionContext, args: RetryArgs) -> dg.RetryPolicy:
    return RetryArgs.model_validate(context.resolve_value(_plain(args))).policy()


def _sync_defaults() -> type[dg.Model]:
    """The fields of a run's config that have a sensible value for every run, with the descriptions they have there."""
    fields: dict[str, Any] = {
        name: (field.rebuild_annotation(), copy(field))
        for name, field in PostHogSyncConfig.model_fields.items()
        if name not in SET_BY_THE_RUN
    }
    return create_model("SyncDefaults", __base__=dg.Model, __doc__="Defaults of a run's config.", **fields)


def _resolve_sync(context: dg.ResolutionContext, given: BaseModel) -> Mapping[str, Any]:
    return context.resolve_value(given.model_dump(exclude_unset=True))


StepSize = Annotated[
    StepPer,
    _value(
        StepPer,
        "What one process syncs together: the selected tables of a `source`, of the whole `project`, or each `table`"
        " by itself.",
    ),
]
Sync = Annotated[
    Mapping[str, Any],
    dg.Resolver(
        _resolve_sync,
        model_field_type=_sync_defaults(),
        description="Defaults of the runs' config. What a run or a schedule sets itself counts, field by field.",
    ),
]
Retry = Annotated[
    dg.RetryPolicy | None,
    dg.Resolver(
        _resolve_retry_policy,
        model_field_type=RetryArgs,
        description="When Dagster tries a failed step again. It then continues with the syncs that are still running.",
    ),
]
Pool = Annotated[
    str | None, _value(str | None, "Dagster's concurrency pool for the steps, to limit how many sync at a time.")
]
OpTags = Annotated[
    Mapping[str, Any],
    _value(Mapping[str, Any], "Tags of the steps, such as resources on Kubernetes or `dagster/max_runtime`."),
]

# --- files and state ---

TakeoverFile = Annotated[
    Path | None,
    _path(
        "A file that keeps what a takeover changed in PostHog; with it there is a job to take schedules over and to"
        " give them back. Keep it where every process of the code location finds it."
    ),
]
HistoryFile = Annotated[
    Path | None,
    _path(
        "A DuckDB file that keeps every sync; with it there are the asset `sync_history`, its daily schedule, and the"
        " checks and the sensor that report when the state is out of date."
    ),
]
StateFile = Annotated[
    Path | None,
    _path(
        "Keep the state in this file instead of where `defs_state` says, in a repository for example. It is fetched if"
        " it is absent, and otherwise used as it stands until `dg utils refresh-defs-state` replaces it."
    ),
]
AllowShrinking = Annotated[
    bool,
    _value(
        bool,
        "Accept a refreshed state that has less than half of the tables of the last one, or none at all. Otherwise it"
        " is refused, and the last one stays: most likely the project or the key is the wrong one.",
    ),
]
MaxStateAge = Annotated[
    float,
    _value(
        Annotated[float, Field(gt=0)],
        "From which age in days on the check `state_is_fresh` fails; it comes with `history_file`.",
    ),
]
