"""Schedules of the user's own in place of PostHog's cadence: any cron, in any time zone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import dagster as dg
from pydantic import ConfigDict, Field

from dw_orchestration.tables.names import snake

# Each mark has its own word: different crons never get the same name.
_CRON_WORDS = {"*": "any", ",": "and", "-": "to", "/": "by", "#": "nth", "?": "q", "@": "at", " ": "_"}
# `Etc/GMT+3` and `Etc/GMT-3` are two zones; the other hyphens stand between words
_SIGNED = re.compile(r"([+-])(?=\d)")
_SIGN_WORDS = {"+": "plus_", "-": "minus_"}
_ANY_CRON = "0 0 * * *"
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# the rarest cron that anybody has ticks once a year
_READ = timedelta(days=3 * 366)
_MIDNIGHT = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Timetable:
    """A cron and the time zone that it is meant in."""

    cron: str
    timezone: str
    name: str | None = None

    def slug(self) -> str:
        """The user's name, or one such as `cron_30_7_any_any_1to5_europe_berlin`; different timetables have others."""
        if self.name is not None:
            return self.name
        marks = "".join(_CRON_WORDS.get(mark, mark) for mark in self.cron.lower())
        zone = snake(_SIGNED.sub(lambda sign: f"_{_SIGN_WORDS[sign[1]]}", self.timezone).lower())
        return f"cron_{marks}_{zone}"

    def describe(self) -> str:
        """In words."""
        return f"at {self.cron} ({self.timezone})"

    @property
    def stale_after(self) -> timedelta:
        """The longest time between a tick and the tick after the next: rows that are older have missed two syncs."""
        return _longest_time_of_two_ticks(self.cron)

    def problems(self) -> list[str]:
        """Why Dagster could not run by it."""
        checks = [
            (
                f"Invalid cron {self.cron!r}: use minute, hour, day, month and weekday.",
                _is_taken(self.cron, "UTC"),
            ),
            (
                f"Invalid time zone {self.timezone!r}: use a name such as UTC or Europe/Berlin.",
                bool(self.timezone) and _is_taken(_ANY_CRON, self.timezone),
            ),
            (
                f"Invalid name {self.name!r}: use letters, digits and `_`.",
                self.name is None or _is_taken(_ANY_CRON, "UTC", name=self.name),
            ),
        ]
        return [problem for problem, is_right in checks if not is_right]


class ScheduleOverride(dg.Model, dg.Resolvable):
    """When Dagster syncs some tables, in place of PostHog's cadence: on weekdays for example, which PostHog can't.

    With `ensure`, PostHog keeps syncing these tables by itself, too.

    Example:
        ```yaml
        overrides:
          - name: weekday_mornings
            tables: ["stripe.*", "postgres_shop.orders"]
            cron: "30 7 * * mon-fri"
            timezone: Europe/Berlin
        ```
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    tables: Sequence[str] = Field(
        min_length=1,
        description="The tables, by names, asset keys, ids or patterns: `stripe.*`, `postgres_shop.public.orders`,"
        " `*.customers`. If several overrides name a table, the last one counts.",
    )
    cron: str = Field(description="Minute, hour, day of the month, month, weekday: `30 7 * * mon-fri`.")
    timezone: str = Field(default="UTC", description="The time zone that the cron is meant in: `Europe/Berlin`.")
    name: str | None = Field(
        default=None,
        description="The name of the schedule, which then syncs all tables of the override. Without a name, each source"
        " has its own schedule, whose name is made of the source and the cron.",
    )

    @property
    def timetable(self) -> Timetable:
        """The cron in its zone, with normalized spaces."""
        return Timetable(cron=" ".join(self.cron.split()), timezone=self.timezone, name=self.name)


def _is_taken(cron: str, timezone: str, *, name: str = "probe") -> bool:
    """Dagster's own word, from a schedule that is thrown away, and from partitions, which need a cron that ticks."""
    try:
        dg.ScheduleDefinition(name=name, job_name="probe", cron_schedule=cron, execution_timezone=timezone)
        _windows(cron)
    except dg.DagsterInvalidDefinitionError:
        return False
    return True


@cache
def _longest_time_of_two_ticks(cron: str) -> timedelta:
    """The longest time that two ticks in a row take, in a zone without summer time.

    The days, hours and minutes of a cron do not depend on each other, and are much fewer than its ticks.
    """
    minute, hour, *days_of = _MACROS.get(cron.lower(), cron).split()
    days = _ticks(" ".join(["0", "0", *days_of]), within=_READ)
    hours = _ticks(f"0 {hour} * * *", within=timedelta(days=1))
    minutes = _ticks(f"{minute} * * * *", within=timedelta(hours=1))
    times = sorted(one + other for one in hours for other in minutes)
    if len(times) == 1:
        return max((end - start for start, end in zip(days, days[2:], strict=False)), default=_READ)
    overnight = max((end - start for start, end in pairwise(days)), default=_READ)
    within_a_day = [end - start for start, end in zip(times, times[2:], strict=False)]
    return max([overnight + times[0] - times[-2], overnight + times[1] - times[-1], *within_a_day])


def _ticks(cron: str, *, within: timedelta) -> list[timedelta]:
    """The ticks from a certain midnight on, in UTC; Dagster names those that have another one within twice the time."""
    keys = _windows(cron).get_partition_keys(current_time=_MIDNIGHT + 2 * within)
    ticks = [datetime.fromisoformat(key) - _MIDNIGHT for key in keys]
    return [tick for tick in ticks if tick < within]


def _windows(cron: str) -> dg.TimeWindowPartitionsDefinition:
    """The times between ticks: the one public way to Dagster's own reading of crons.

    Raises:
        dagster.DagsterInvalidDefinitionError: The cron never ticks.
    """
    return dg.TimeWindowPartitionsDefinition(start=_MIDNIGHT, cron_schedule=cron, fmt="%Y-%m-%dT%H:%M%z")
