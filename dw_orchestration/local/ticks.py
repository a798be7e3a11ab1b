"""When a schema is synced by itself: PostHog's intervals, counted from the Unix epoch in UTC."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

FULL_REFRESH_SLACK = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EVERY = {
    "5min": timedelta(minutes=5),
    "15min": timedelta(minutes=15),
    "30min": timedelta(minutes=30),
    "1hour": timedelta(hours=1),
    "6hour": timedelta(hours=6),
    "12hour": timedelta(hours=12),
    "24hour": timedelta(days=1),
    "7day": timedelta(days=7),
    "30day": timedelta(days=30),
}

# Schemas without a time of day are spread over this window; weekly and monthly ones are not spread at all.
_SPREAD = EVERY | {"15min": timedelta(minutes=30), "7day": timedelta(0), "30day": timedelta(0)}


@dataclass(frozen=True, slots=True)
class Ticks:
    """Ticks at epoch + n x `every` + `offset`, none before `start_at`."""

    every: timedelta
    offset: timedelta
    start_at: datetime

    def next_after(self, moment: datetime) -> datetime:
        """The first tick strictly after `moment`."""
        tick = EPOCH + self.offset + ((moment - EPOCH - self.offset) // self.every + 1) * self.every
        missing = -(-(self.start_at - tick) // self.every)  # rounded up
        return tick + max(missing, 0) * self.every


def next_full_refresh(now: datetime, *, interval_days: int | None, time_of_day: time | None) -> datetime | None:
    """When the full refresh after one at `now` is due; None without an interval.

    A refresh may run up to the slack early, and late: it serves the time of day before it, so that the time stays.
    """
    if interval_days is None:
        return None
    if time_of_day is None:
        return now + timedelta(days=interval_days)
    served = now + FULL_REFRESH_SLACK
    anchor = datetime.combine(served.date(), time_of_day, tzinfo=UTC)
    return anchor + timedelta(days=interval_days - (anchor > served))


def minute_of_day(schema_id: UUID, *, frequency: str, time_of_day: time | None) -> int:
    """The minute that anchors a schema's ticks; without a set time it comes from the id alone."""
    if time_of_day is not None:
        return time_of_day.hour * 60 + time_of_day.minute
    spread_s = _SPREAD[frequency].total_seconds()
    return int(random.Random(str(schema_id)).uniform(0, spread_s) // 60)  # noqa: S311 - a spread, not a secret


def ticks_for(schema_id: UUID, *, frequency: str, time_of_day: time | None, now: datetime) -> Ticks:
    """The ticks of a schema whose schedule is saved at `now`."""
    minute = timedelta(minutes=minute_of_day(schema_id, frequency=frequency, time_of_day=time_of_day))
    every = EVERY[frequency]
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Ticks(every=every, offset=minute % every, start_at=midnight + minute)
