"""Who syncs the tables, and when: PostHog by itself, and Dagster's schedules at PostHog's cadence or at other times."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from dw_orchestration.tables.cadence import Rhythm
from dw_orchestration.tables.errors import SetupError, UnknownNameError
from dw_orchestration.tables.table import Table


class SchedulingMode(StrEnum):
    """How Dagster's schedules work together with PostHog's own.

    In all three, PostHog keeps syncing every enabled table by itself, unless a takeover has moved it out of the way.
    """

    OBSERVE = "observe"
    """PostHog alone: no schedules here; the job-status sensor reports what PostHog did."""

    ENSURE = "ensure"
    """Both: each tick has exactly one sync, PostHog's own if it has begun one, else one that Dagster starts."""

    DRIVE = "drive"
    """Dagster alone: each tick starts a sync."""


class Timetable(Rhythm, Protocol):
    """Times that a user has chosen, which may be impossible."""

    @property
    def name(self) -> str | None:
        """The name of their schedule, if the user has chosen one."""

    def problems(self) -> list[str]:
        """Why Dagster could not run by it."""


class Override(Protocol):
    """Other times for some tables than PostHog's; `ScheduleOverride` is one."""

    @property
    def tables(self) -> Sequence[str]:
        """Names and patterns of tables."""

    @property
    def timetable(self) -> Timetable:
        """When they are synced."""


def overridden(
    matching: Callable[[Iterable[str]], Iterable[Table]], overrides: Sequence[Override]
) -> dict[str, Timetable]:
    """The tables that have their own timetable, by schema id. Of several overrides, the last one counts.

    Args:
        matching: The tables that names and patterns name.
        overrides: The overrides of a user.

    Raises:
        SetupError: An override has an invalid cron, time zone or name, or the name of another one, or names no table;
            the text lists all problems.
    """
    timetables: dict[str, Timetable] = {}
    names = Counter(override.timetable.name for override in overrides)
    problems = [
        f"{count} overrides have the name {name!r}: give each its own."
        for name, count in names.items()
        if name is not None and count > 1
    ]
    for override in overrides:
        problems += override.timetable.problems()
        try:
            timetables |= {table.id: override.timetable for table in matching(override.tables)}
        except UnknownNameError as error:
            problems.append(str(error))
    if problems:
        raise SetupError(f"Invalid schedule overrides. {' '.join(problems)}")
    return timetables
