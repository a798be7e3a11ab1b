"""What a user may set on the component: the type of each attribute, how it is read from YAML, and its description."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslationFn
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, create_model

from dw_orchestration.assets.build import SET_BY_THE_RUN, check_op_tags, check_run_tags
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.component.schema import schema_of, written_as
from dw_orchestration.component.templates import checked, filled_in
from dw_orchestration.component.translations import TableAttributes, resolve_translation
from dw_orchestration.component.warehouses import project_path
from dw_orchestration.history.database import is_address
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.tables.scheduling import SchedulingMode
from dw_orchestration.tables.selection import Selector, TableName, TableSelector
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import StepPer

_AS_IN_YAML = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


def _value(
    kind: Any, description: str, *, written: Any = None, made: Callable[[Any], Any] = lambda value: value, **more: Any
) -> dg.Resolver:
    """A value or a template of one.

    Args:
        kind: Its type, in which it is checked once templates are filled in.
        description: For editors and `dg`.
        written: Its type in YAML, where that is another.
        made: Makes the attribute of the checked value.
        **more: For Dagster's resolver.
    """
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    adapter = TypeAdapter(kind, config=None if is_model else ConfigDict(coerce_numbers_to_str=True))

    def resolve(context: dg.ResolutionContext, given: Any) -> Any:
        return made(checked(context, adapter, filled_in(context, given)))

    return dg.Resolver(
        resolve,
        model_field_type=written_as(schema_of(written or kind)),
        description=description,
        inject_before_resolve=False,
        **more,
    )


def _path(description: str, *, or_address: bool = False) -> dg.Resolver:
    def resolve(context: dg.ResolutionContext, given: Any) -> Path | str | None:
        path = checked(context, TypeAdapter(str | None), filled_in(context, given))
        if or_address and path and is_address(path):
            return path
        return project_path(context, path) if path else None

    return dg.Resolver(
        resolve,
        model_field_type=written_as(schema_of(str | None)),
        description=description,
        inject_before_resolve=False,
    )


def _selector_kind(value: object) -> str:
    return "conditions" if isinstance(value, Mapping | TableSelector) else "function" if callable(value) else "name"


# by what was meant, so that an error is about that alone
_SELECTOR = Annotated[
    Annotated[TableName, Tag("name")]
    | Annotated[TableSelector, Tag("conditions")]
    | Annotated[Callable, Tag("function")],  # type: ignore[type-arg]  # pydantic checks no arguments
    Discriminator(_selector_kind),
]


def _selectors(description: str) -> dg.Resolver:
    return _value(
        Sequence[_SELECTOR],
        f"{description} Each is a table's name, asset key or id, a pattern such as `stripe.*`, a mapping of conditions"
        " that all hold, or a template variable that is a function from a `Table` to whether to take it.",
        written=Sequence[TableName | TableSelector],
        examples=[["stripe.*", {"source_type": "Postgres", "prefix": "shop", "table": "public.*"}]],
    )


Name = Annotated[
    str,
    _value(
        Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")],
        "The key of the resource, and the start of the names of sensors, jobs and the history. Give each project its"
        " own: any but the default one is also a prefix of asset keys, groups and schedules, so that several projects"
        " can be loaded side by side. Letters, digits and `_`, and no"
        " digit first.",
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


Translation = Annotated[
    TranslationFn[Table] | None,
    dg.Resolver(
        resolve_translation,
        model_field_type=written_as(schema_of(TableAttributes | None)),
        inject_before_resolve=False,
        description="What is different about the tables' assets, as templates. They know `spec` (the asset as it would"
        " be), `table` (`table.schema`, `table.source`, `table.cadence`), `name` (the table's, in PostHog), `path`"
        " (the same as a part of an asset key), `source_type` and `prefix`.",
        examples=[{"group_name": "ingest_{{ source_type | lower }}", "owners": ["team:data"]}],
    ),
]
Freshness = Annotated[
    bool,
    _value(
        bool,
        "Whether tables have a freshness policy, which follows from how often they are synced.",
    ),
]

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
JobStatusSensor = Annotated[
    bool,
    _value(
        bool,
        "Whether there is a sensor that reports the syncs that PostHog ran by itself. Of several code locations over"
        " one project, one that has all tables is enough. Without it, a sync whose run was killed is not reported.",
    ),
]
JobStatusInterval = Annotated[
    int,
    _value(
        Annotated[int, Field(ge=1)],
        "Seconds between two ticks of the job-status sensor, at least. A tick with nothing new reads the list of"
        " sources, a hundred of them with each request, and the jobs of one source.",
    ),
]

# --- how they are synced ---


class RetryArgs(BaseModel):
    """Dagster's retry policy, as `defs.yaml` gives it: with the names that it has in Python."""

    model_config = _AS_IN_YAML

    max_retries: int = Field(default=1, ge=1, description="How often a step is tried again at most.")
    delay: float = Field(default=60.0, ge=0, description="Seconds before the first of them.")
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
            delay=self.delay,
            backoff=dg.Backoff[self.backoff.upper()] if self.backoff else None,
            jitter=dg.Jitter[self.jitter.upper()] if self.jitter else None,
        )


class OpArgs(BaseModel):
    """What can be set of the steps, with the names of the `op` of Dagster's own components."""

    model_config = _AS_IN_YAML

    tags: Annotated[Mapping[str, Any], AfterValidator(check_op_tags)] | None = Field(
        default=None,
        description="Tags of the steps, such as `dagster-k8s/config` for their pods. What is for a run, such as"
        " `dagster/max_runtime`, goes into `run_tags`: on a step it does nothing.",
    )
    pool: str | None = Field(
        default=None,
        description="Dagster's concurrency pool for the steps, to limit how many sync at a time. Each step then starts"
        " its own syncs.",
    )
    description: str | None = Field(default=None, description="The description of the steps in the UI.")


def _sync_defaults() -> type[BaseModel]:
    """The fields of a run's config that have a sensible value for every run, with the descriptions they have there."""
    fields: dict[str, Any] = {
        name: (field.rebuild_annotation(), copy(field))
        for name, field in PostHogSyncConfig.model_fields.items()
        if name not in SET_BY_THE_RUN
    }
    return create_model("SyncDefaults", __config__=_AS_IN_YAML, __doc__="Defaults of a run's config.", **fields)


def _given(model: BaseModel | None) -> Mapping[str, Any]:
    return model.model_dump(exclude_unset=True) if model else {}


StepSize = Annotated[
    StepPer,
    _value(
        StepPer,
        "What one step syncs: the selected tables of a `source`, of the whole `project`, or each `table` by itself. In"
        " Dagster, nothing downstream of a failed step runs: one bad table keeps the assets after its `source` from"
        " running, after any table of the `project`, or after that `table` alone. With `source` and `table`, the first"
        " step of a run starts the syncs of all steps, unless a pool or a concurrency limit is there to spare the"
        " sources.",
    ),
]
Sync = Annotated[
    Mapping[str, Any],
    _value(
        _sync_defaults() | None,
        "Defaults of the runs' config. What a run or a schedule sets itself counts, field by field.",
        made=_given,
    ),
]
Retry = Annotated[
    dg.RetryPolicy | None,
    _value(
        RetryArgs | None,
        "When Dagster tries a failed step again. It then continues with the syncs that are still running.",
        made=lambda args: args and args.policy(),
    ),
]
Op = Annotated[
    Mapping[str, Any],
    _value(OpArgs | None, "Tags, concurrency pool and description of the steps.", made=_given),
]
RunTags = Annotated[
    Mapping[str, Any],
    _value(
        Annotated[Mapping[str, Any], AfterValidator(check_run_tags)] | None,
        "Tags of the runs that schedules and sensors request, and of the maintenance jobs: `dagster/max_runtime`,"
        " `dagster/priority`, or `dagster-k8s/config` for their pods. Dagster has no such tags for runs that are"
        " launched by hand.",
        made=lambda tags: tags or {},
    ),
]

# --- files and state ---

HistoryDatabase = Annotated[
    str | Path | None,
    _path(
        "A DuckDB database that keeps every sync: the path of a file, or an address that DuckDB opens or attaches, such"
        " as `md:warehouse`, `postgres:host=db dbname=dagster` or `ducklake:...`. Secrets belong into the environment."
        " With it there are the asset `sync_history`, its daily schedule, and the checks and the sensor that report"
        " when the state is out of date.",
        or_address=True,
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
        "From which age in days on the check `state_is_fresh` fails; it comes with `history_database`.",
    ),
]
