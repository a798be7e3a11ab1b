"""When PostHog syncs a schema by itself: the very moments, computed.

PostHog counts intervals from the Unix epoch, in UTC, and adds an offset: the time of day modulo the interval.
So a 7-day schema syncs on Thursdays, and a time of day shifts an hourly one too. Without a time of day, the
schema's id decides the offset.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Protocol

from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import Schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # a Thursday
NONE = timedelta(0)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
CRON_WEEKDAYS = 7

# The interval, and the span over which PostHog spreads the schemas that have no time of day.
FREQUENCIES: Mapping[SyncFrequency, tuple[timedelta, timedelta]] = {
    SyncFrequency.ONE_MINUTE: (MINUTE, 5 * MINUTE),
    SyncFrequency.FIVE_MINUTES: (5 * MINUTE, 5 * MINUTE),
    SyncFrequency.FIFTEEN_MINUTES: (15 * MINUTE, 30 * MINUTE),
    SyncFrequency.THIRTY_MINUTES: (30 * MINUTE, 30 * MINUTE),
    SyncFrequency.ONE_HOUR: (HOUR, HOUR),
    SyncFrequency.SIX_HOURS: (6 * HOUR, 6 * HOUR),
    SyncFrequency.TWELVE_HOURS: (12 * HOUR, 12 * HOUR),
    SyncFrequency.ONE_DAY: (DAY, DAY),
    SyncFrequency.SEVEN_DAYS: (WEEK, NONE),
    SyncFrequency.THIRTY_DAYS: (30 * DAY, NONE),
}
UNITS = ((DAY, "day", "d"), (HOUR, "hour", "h"), (MINUTE, "minute", "min"))
WEEKDAYS = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
THURSDAY = WEEKDAYS.index("Thursdays")


class Rhythm(Protocol):
    """When a table is synced, again and again: PostHog's cadence, or the times of an override."""

    @property
    def stale_after(self) -> timedelta:
        """The age from which the rows are late: they have missed two syncs in a row."""

    def slug(self) -> str:
        """For names; different rhythms have different ones."""

    def describe(self) -> str:
        """In words."""


@dataclass(frozen=True, order=True)
class Cadence:
    """A tick every `every`, counted from the Unix epoch and shifted by `offset`.

    Raises:
        ValueError: Not whole minutes, or the offset is not within the interval.

    Example:
        >>> Cadence(timedelta(hours=6), timedelta(hours=1, minutes=11)).describe()
        'every 6 hours from 01:11 UTC'
    """

    every: timedelta
    offset: timedelta = NONE

    def __post_init__(self) -> None:
        if self.every % MINUTE or self.offset % MINUTE or not NONE <= self.offset < self.every:
            raise ValueError(f"{self!r} needs whole minutes and an offset from 0 up to the interval.")

    @property
    def stale_after(self) -> timedelta:
        """The age from which PostHog calls the rows stale: twice the interval."""
        return 2 * self.every

    def previous_tick(self, at_or_before: datetime) -> datetime:
        """The last tick at or before a moment."""
        since = at_or_before.astimezone(UTC) - EPOCH - self.offset
        return EPOCH + self.offset + (since // self.every) * self.every

    def next_tick(self, after: datetime) -> datetime:
        """The first tick after a moment."""
        return self.previous_tick(after) + self.every

    def ticks_at(self, moment: datetime) -> bool:
        """Whether this very moment is a tick."""
        return self.previous_tick(moment) == moment

    def ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The ticks from `start` on, and before `end`."""
        tick = self.previous_tick(start)
        tick = tick if tick == start else tick + self.every
        while tick < end:
            yield tick
            tick += self.every

    def cron(self) -> list[str] | None:
        """The cron strings, in UTC, with exactly these ticks; None if cron can't say it, as for 30 days."""
        hour, minute = divmod(self.offset // MINUTE, 60)
        if self.every == WEEK:
            weekday = (THURSDAY + self.offset.days) % CRON_WEEKDAYS
            return [f"{minute} {hour % 24} * * {weekday}"]
        if self.every % HOUR == NONE and DAY % self.every == NONE:
            return [f"{minute} {_hours(hour, every=self.every // HOUR)} * * *"]
        if self.every == MINUTE:
            return ["* * * * *"]
        if HOUR % self.every == NONE:
            start = f"{minute}-59" if minute else "*"
            return [f"{start}/{self.every // MINUTE} * * * *"]
        return None

    def describe(self) -> str:
        """In words.

        A tick of every 30 days has no fixed day of the month: ask `next_tick`.
        """
        clock = f"{self._first_time():%H:%M} UTC"
        if self.every == WEEK:
            return f"{WEEKDAYS[(THURSDAY + self.offset.days) % CRON_WEEKDAYS]} at {clock}"
        if self.every == MINUTE:
            return "every minute"
        return f"{self.describe_interval()} {'at' if self.every % DAY == NONE else 'from'} {clock}"

    def describe_interval(self) -> str:
        """The interval alone in words, such as `every 6 hours`."""
        count, unit, _ = _in_units(self.every)
        return f"every {unit}" if count == 1 else f"every {count} {unit}s"

    def slug(self) -> str:
        """The interval for names, such as `every_6h`."""
        count, _, short = _in_units(self.every)
        return f"every_{count}{short}"

    def _first_time(self) -> time:
        return (EPOCH + self.offset).time()


@cache
def _in_units(interval: timedelta) -> tuple[int, str, str]:
    """Cached, because thousands of tables share a handful of intervals."""
    size, unit, short = next(each for each in UNITS if interval % each[0] == NONE)
    return interval // size, unit, short


def _hours(first: int, *, every: int) -> str:
    """The hours of a cron, as Dagster's pages can say them in a few words."""
    if every == DAY // HOUR:
        return str(first)
    step = "" if every == 1 else f"/{every}"
    return f"{first}-23{step}" if first else f"*{step}"


def cadence(schema: Schema) -> Cadence | None:
    """When PostHog syncs the schema by itself, if it is enabled.

    There are no ticks on the day of a change before the time of day; that is not modelled.

    Returns:
        None if the schema has no frequency, or one that this version does not know.
    """
    if schema.sync_frequency is None or schema.sync_frequency not in FREQUENCIES:
        return None
    every, spread = FREQUENCIES[schema.sync_frequency]
    if schema.sync_time_of_day is None:
        anchor = _spread_by_id(schema.id, spread)
    else:
        # PostHog ignores the seconds. Midnight is a time like any other, not the absence of one.
        anchor = timedelta(hours=schema.sync_time_of_day.hour, minutes=schema.sync_time_of_day.minute)
    return Cadence(every, anchor % every)


def _spread_by_id(schema_id: str, spread: timedelta) -> timedelta:
    """PostHog's own draw, which never changes: seeded by the id, floored to the minute."""
    drawn_s = random.Random(schema_id).uniform(0, spread.total_seconds())  # noqa: S311  # no secret is drawn
    return int(drawn_s // 60) * MINUTE
