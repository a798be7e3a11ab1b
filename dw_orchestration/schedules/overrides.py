"""Schedules of the user's own in place of PostHog's cadence: any cron, in any time zone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from pydantic import ConfigDict, Field

from dw_orchestration.tables.errors import SetupError, UnknownNameError
from dw_orchestration.tables.names import snake
from dw_orchestration.tables.tables import Tables

# Each mark has its own word: different crons never get the same name.
_CRON_WORDS = {"*": "any", ",": "and", "-": "to", "/": "by", "#": "nth", "?": "q", "@": "at", " ": "_"}
# `Etc/GMT+3` and `Etc/GMT-3` are two zones; the other hyphens stand between words
_SIGNED = re.compile(r"([+-])(?=\d)")
_SIGN_WORDS = {"+": "plus_", "-": "minus_"}
_ANY_CRON = "0 0 * * *"


@dataclass(frozen=True)
class Timetable:
    """A cron and the time zone that it is meant in."""

    cron: str
    timezone: str

    def slug(self) -> str:
        """For names, such as `cron_30_7_any_any_1to5_europe_berlin`; different timetables have different ones."""
        marks = "".join(_CRON_WORDS.get(mark, mark) for mark in self.cron.lower())
        zone = snake(_SIGNED.sub(lambda sign: f"_{_SIGN_WORDS[sign[1]]}", self.timezone).lower())
        return f"cron_{marks}_{zone}"

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
        ]
        return [problem for problem, is_right in checks if not is_right]


class ScheduleOverride(dg.Model, dg.Resolvable):
    """When Dagster syncs some tables, in place of PostHog's cadence: on weekdays for example, which PostHog can't.

    With `ensure`, PostHog keeps syncing these tables by itself, too.

    Example:
        ```yaml
        overrides:
          - tables: ["stripe.*", "postgres_shop.orders"]
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

    @property
    def timetable(self) -> Timetable:
        """The cron in its zone, with normalized spaces."""
        return Timetable(cron=" ".join(self.cron.split()), timezone=self.timezone)


def overridden(tables: Tables, overrides: Sequence[ScheduleOverride]) -> dict[str, Timetable]:
    """The tables that have their own timetable, by schema id. Of several overrides, the last one counts.

    Raises:
        SetupError: An override has an invalid cron or time zone, or names no table; the text lists all problems.
    """
    timetables: dict[str, Timetable] = {}
    problems: list[str] = []
    for override in overrides:
        problems += override.timetable.problems()
        try:
            timetables |= {table.id: override.timetable for table in tables.matching(override.tables)}
        except UnknownNameError as error:
            problems.append(str(error))
    if problems:
        raise SetupError(f"Invalid schedule overrides. {' '.join(problems)}")
    return timetables


def _is_taken(cron: str, timezone: str) -> bool:
    """Dagster's own word, from a schedule that is thrown away."""
    try:
        dg.ScheduleDefinition(name="probe", job_name="probe", cron_schedule=cron, execution_timezone=timezone)
    except dg.DagsterInvalidDefinitionError:
        return False
    return True
