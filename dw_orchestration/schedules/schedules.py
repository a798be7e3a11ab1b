"""Schedules that tick when PostHog does: one for all tables of a source that share an interval."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import dagster as dg

from dw_orchestration.assets.build import steps_of
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.schedules.overrides import Timetable
from dw_orchestration.tables.cadence import HOUR, MINUTE, Cadence
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.names import unique_names
from dw_orchestration.tables.scheduling import SchedulingMode
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables
from dw_orchestration.tables.takeover import is_forgotten
from dw_orchestration.text import visible

# PostHog's clock and ours may differ by seconds: a sync that seems to have begun just before the tick belongs to it
TICK_TOLERANCE = timedelta(seconds=30)
# PostHog begins its own syncs at the tick, but may be busy; what has not appeared after so long is started from here
OWN_SYNC_WITHIN = timedelta(seconds=30)
FIVE_MINUTES = timedelta(minutes=5)
# how many tables a warning names
NAMED_UP_TO = 5
# A schedule's own job shows its tables in the UI. Dagster resolves each such job against all assets, so beyond so many
# schedules times tables they all use Dagster's own job for every asset, which there is anyway.
MOST_FOR_OWN_JOBS = 10_000
JOB_OF_EVERY_ASSET = "__ASSET_JOB"


@dataclass(frozen=True)
class ScheduledTables:
    """Tables of one source that share a schedule, by their interval; a tick takes the ones whose minute it is.

    The times of day stay out of it: PostHog gives each table without one its own minute, and a schedule that was
    turned on in the UI has to stay on when somebody changes the time of a table in PostHog.
    """

    name: str
    tables: tuple[Table, ...]

    @cached_property
    def cadences(self) -> list[Cadence]:
        """The different cadences of the tables, earliest first."""
        return sorted({table.cadence for table in self.tables if table.cadence is not None})

    @property
    def selection(self) -> dg.AssetSelection:
        """All of the tables, due or not."""
        return dg.AssetSelection.assets(*map(asset_key, self.tables))

    @property
    def crons(self) -> list[str]:
        """When to look which of the tables are due, in as few words as Dagster's UI can say it.

        The line of a single cadence reads as its interval, as do the few that there can be of up to 5 minutes: merged,
        these would read "every minute". Of longer intervals there can be as many as tables, so they are merged.
        """
        crons = [cron for cadence in self.cadences for cron in _crons(cadence)]
        is_short = self.cadences[0].every <= FIVE_MINUTES
        return crons if is_short or len(self.cadences) == 1 else _merged(crons)

    @property
    def timezone(self) -> str:
        """The time zone of the crons: PostHog knows only UTC."""
        return "UTC"

    def due(self, moment: datetime) -> list[Table]:
        """The tables that PostHog ticks for at this very moment."""
        return [table for table in self.tables if table.cadence and table.cadence.ticks_at(moment)]

    def trigger_after(self, moment: datetime) -> datetime | None:
        """Until when PostHog's own syncs for a tick are waited for."""
        return moment + OWN_SYNC_WITHIN

    def next_tick(self, after: datetime) -> datetime:
        """When the first of the tables ticks next."""
        return min(cadence.next_tick(after) for cadence in self.cadences)

    def describe(self) -> str:
        """When, and how many tables: lists of schedules cut off the end."""
        first, *others = self.cadences
        when = first.describe() if not others else f"{first.describe_interval()}, at {1 + len(others)} different times"
        return f"{_sentence(when)}, as PostHog does: {_counted(self.tables)}."


@dataclass(frozen=True)
class OverriddenTables(ScheduledTables):
    """Tables that an override gives the same timetable: each tick takes all of them.

    They are of one source, or of any sources if the user has chosen the name of the schedule.
    """

    timetable: Timetable

    @property
    def crons(self) -> list[str]:
        """The override's cron."""
        return [self.timetable.cron]

    @property
    def timezone(self) -> str:
        """The override's time zone."""
        return self.timetable.timezone

    def due(self, moment: datetime) -> list[Table]:  # noqa: ARG002  part of the method that this overrides
        """All of them: Dagster evaluates the schedule at the cron's times alone."""
        return list(self.tables)

    def trigger_after(self, moment: datetime) -> datetime | None:  # noqa: ARG002  part of the method that this overrides
        """PostHog has no sync at these times."""
        return None

    def describe(self) -> str:
        """When, and how many tables."""
        return f"{_sentence(self.timetable.describe())}, in place of PostHog's cadence: {_counted(self.tables)}."


def build_posthog_schedules(
    tables: Tables,
    *,
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
    for_runs: bool = False,
) -> list[dg.ScheduleDefinition]:
    """Schedules for the cadences that PostHog's `sync_frequency` and `sync_time_of_day` make, or for overrides.

    With the mode `ENSURE` a tick takes the sync that PostHog began for it and starts one only if there is none; with
    `DRIVE` each tick starts one; with `OBSERVE` there are no schedules.

    Args:
        tables: The tables of the project, with its mode (`Tables(scheduling=...)`) and its overrides.
        default_status: Whether the schedules run before anybody switches them on.
        for_runs: Leave out the schedules that add no job to the definitions: processes of runs have no use for them.

    Raises:
        SetupError: The name of an override is also that of another schedule.

    Example:
        ```python
        weekdays = ScheduleOverride(tables=["stripe.*"], cron="30 7 * * mon-fri", timezone="Europe/Berlin")
        tables = Tables(snapshot, scheduling=SchedulingMode.DRIVE, overrides=[weekdays])
        defs = dg.Definitions(assets=build_posthog_assets(tables), schedules=build_posthog_schedules(tables))
        ```
    """
    groups = scheduled_tables(tables)
    own_jobs = len(groups) * len(tables) <= MOST_FOR_OWN_JOBS
    if for_runs and not own_jobs:
        return []
    _warn_of_forgotten(tables)
    ops = {table.id: step.name for step in steps_of(tables) for table in step.tables} | dict(tables.own_steps)
    return [
        _schedule(group, own_job=own_jobs, ops=ops, tables=tables, default_status=default_status) for group in groups
    ]


def _warn_of_forgotten(tables: Iterable[Table]) -> None:
    """Name the tables that would tick once a month because a takeover's mark is lost: nothing else would be red."""
    monthly = [table for table in tables if table.schedule is not None and is_forgotten(table.schema)]
    if forgotten := [table.name for table in monthly if table.schedule == table.cadence]:
        more = f" and {len(forgotten) - NAMED_UP_TO} more" if len(forgotten) > NAMED_UP_TO else ""
        dg.get_dagster_logger("dw_orchestration").warning(
            f"PostHog and Dagster's schedules sync {len(forgotten)} tables only every 30 days:"
            f" {', '.join(map(visible, forgotten[:NAMED_UP_TO]))}{more}. That is the frequency of a takeover, and there"
            " is no mark of one. For more frequent syncs, use `dw set --sync-frequency 6hour --apply TABLE`. If 30 days"
            " is right, an override for the table removes this warning."
        )


def scheduled_tables(tables: Tables) -> list[ScheduledTables]:
    """The syncable tables by the user's name for their schedule, or else by source and interval or cron.

    Raises:
        SetupError: A name of the user's is also that of another schedule.
    """
    chosen: dict[str, list[Table]] = {}
    groups: dict[tuple[str, str], list[Table]] = {}
    for table in tables:
        if table.schedule is None:
            continue
        if isinstance(table.schedule, Timetable) and table.schedule.name is not None:
            chosen.setdefault(table.schedule.name, []).append(table)
        else:
            groups.setdefault((table.source.id, table.schedule.slug()), []).append(table)
    # made of source and cadence, never of a table
    names = unique_names(
        [f"{group[0].group}_{when}" for (_, when), group in groups.items()],
        [source_id for source_id, _ in groups],
    )
    if clashes := sorted(chosen.keys() & set(names)):
        raise SetupError(
            f"The name {clashes[0]!r} of an override is also that of the schedule of other tables: choose another."
        )
    named = [*chosen.items(), *zip(names, groups.values(), strict=True)]
    return [_sharing(group, name=name) for name, group in named]


def _sharing(group: Sequence[Table], *, name: str) -> ScheduledTables:
    schedule = group[0].schedule
    if isinstance(schedule, Timetable):
        return OverriddenTables(name=name, tables=tuple(group), timetable=schedule)
    return ScheduledTables(name=name, tables=tuple(group))


def _schedule(
    group: ScheduledTables,
    *,
    ops: Mapping[str, str],
    tables: Tables,
    default_status: dg.DefaultScheduleStatus,
    own_job: bool,
) -> dg.ScheduleDefinition:
    since = tables.taken_at

    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        moment = context.scheduled_execution_time.astimezone(UTC)
        if tables.scheduling is SchedulingMode.ENSURE and moment < since:
            # after a restart Dagster makes up for an hour's ticks of crons that were not there an hour ago
            yield dg.SkipReason(f"The state is newer ({since:%Y-%m-%d %H:%M} UTC): PostHog may not have ticked then.")
            return
        due = group.due(moment)
        if not due:
            yield dg.SkipReason(f"PostHog's next tick is {group.next_tick(moment):%Y-%m-%d %H:%M} UTC.")
            return
        yield dg.RunRequest(
            run_key=f"{group.name}:{moment.isoformat()}",
            asset_selection=[asset_key(table) for table in due],
            run_config={}
            if tables.scheduling is SchedulingMode.DRIVE
            else _ensure(group, moment, ops={ops[table.id] for table in due}),
            tags={**tables.run_tags, "posthog/tick": moment.strftime("%Y-%m-%dT%H.%M")},
        )

    return dg.ScheduleDefinition(
        name=group.name,
        target=group.selection if own_job else None,
        job_name=None if own_job else JOB_OF_EVERY_ASSET,
        cron_schedule=group.crons,
        execution_timezone=group.timezone,
        execution_fn=tick,
        default_status=default_status,
        description=group.describe(),
    )


def _ensure(group: ScheduledTables, moment: datetime, *, ops: Iterable[str]) -> dict[str, object]:
    """The run config that makes a tick have exactly one sync: PostHog's own if it comes, else one of ours."""
    config = {"accept_jobs_since": (moment - TICK_TOLERANCE).isoformat()}
    if (after := group.trigger_after(moment)) is not None:
        config["trigger_after"] = after.isoformat()
    return {"ops": {name: {"config": config} for name in sorted(ops)}}


def _crons(cadence: Cadence) -> list[str]:
    """The cadence itself where cron can say it, else every day at its time: the tick then asks whether it is due.

    Dagster's UI reads `*/30` as "every 30 days", though these are the first and the 31st; the other line has the rest.
    """
    if (exact := cadence.cron()) is not None:
        return exact
    minutes = int(cadence.offset.total_seconds() // 60)
    return [f"{minutes % 60} {minutes // 60 % 24} {days} * *" for days in ("*/30", "2-30")]


def _merged(crons: Iterable[str]) -> list[str]:
    """The same ticks in fewer lines: those that differ in their minutes alone become one."""
    minutes: dict[str, set[int]] = {}
    for cron in crons:
        minute, rest = cron.split(" ", 1)
        minutes.setdefault(rest, set()).update(_minutes(minute))
    return sorted(f"{_listed(each)} {rest}" for rest, each in minutes.items())


def _minutes(field: str) -> Iterable[int]:
    """The minutes of the first field of a cron: `7`, `*/30` or `7-59/30`."""
    first, _, step = field.replace("*", "0").partition("/")
    return range(int(first.split("-")[0]), 60, int(step)) if step else [int(first)]


def _listed(minutes: Collection[int]) -> str:
    return "*" if len(minutes) == HOUR // MINUTE else ",".join(map(str, sorted(minutes)))


def _counted(tables: Sequence[Table]) -> str:
    return f"{len(tables)} tables" if len(tables) != 1 else "one table"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
