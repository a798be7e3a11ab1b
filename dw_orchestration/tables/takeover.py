"""What a takeover changes of a table, and how PostHog itself remembers what was there before.

A table that was taken over has PostHog's longest frequency, and the frequency from before in the seconds of its time
of day. PostHog stores the seconds, shows them to everybody and ignores them when it schedules. So each process that
sees the table knows the way back: code servers, runs on any machine, and the `dw` command, which knows no Dagster.
Both are saved by one request, so a table is never out of the way without its way back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from typing import Any

from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import Schema

# the longest that PostHog has; there is no "by hand only"
OUT_OF_THE_WAY = SyncFrequency.THIRTY_DAYS

# Never to be changed: PostHog has them. No seconds that people type, such as 15, 30, 45 and 59.
_SECOND = {
    SyncFrequency.ONE_MINUTE: 21,
    SyncFrequency.FIVE_MINUTES: 22,
    SyncFrequency.FIFTEEN_MINUTES: 23,
    SyncFrequency.THIRTY_MINUTES: 24,
    SyncFrequency.ONE_HOUR: 25,
    SyncFrequency.SIX_HOURS: 26,
    SyncFrequency.TWELVE_HOURS: 27,
    SyncFrequency.ONE_DAY: 28,
    SyncFrequency.SEVEN_DAYS: 29,
}
# Without a time of day, PostHog syncs such a table at midnight: then this mark is in the seconds after midnight.
_HAD_NO_TIME = 10
_MARKS = {second + more: (frequency, more) for frequency, second in _SECOND.items() for more in (0, _HAD_NO_TIME)}


@dataclass(frozen=True)
class Settings:
    """When PostHog syncs a table by itself."""

    sync_frequency: SyncFrequency
    sync_time_of_day: time | None

    def are_of(self, schema: Schema) -> bool:
        """Whether a table has these."""
        return (self.sync_frequency, self.sync_time_of_day) == (schema.sync_frequency, schema.sync_time_of_day)


def settings_before(schema: Schema) -> Settings | None:
    """What a takeover found; None if there is no mark of one. The frequency may be another since: see `is_taken`."""
    at = schema.sync_time_of_day
    if at is None or at.second not in _MARKS:
        return None
    frequency, more = _MARKS[at.second]
    if not more:
        return Settings(frequency, at.replace(second=0))
    return Settings(frequency, None) if (at.hour, at.minute) == (0, 0) else None


def is_taken(schema: Schema) -> bool:
    """Whether a table is out of the way. One that somebody set to another frequency since is not."""
    return schema.sync_frequency is OUT_OF_THE_WAY and settings_before(schema) is not None


def is_forgotten(schema: Schema) -> bool:
    """Whether PostHog syncs a table as seldom as one that was taken over, and has no mark: why is unknown."""
    return schema.should_sync and schema.sync_frequency is OUT_OF_THE_WAY and settings_before(schema) is None


def as_before(schema: Schema) -> Schema:
    """A table as it was before it was taken over; any other as it is."""
    before = settings_before(schema)
    return schema.model_copy(update=vars(before)) if before is not None and is_taken(schema) else schema


def out_of_the_way(schema: Schema) -> Settings | None:
    """What moves a table out of the way; None if it cannot be moved, or is there already."""
    if schema.sync_frequency not in _SECOND:
        return None
    return Settings(OUT_OF_THE_WAY, _marked(schema.sync_frequency, schema.sync_time_of_day))


def with_mark(schema: Schema, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of a table's settings, such that the mark stays while it is out of the way, and goes with it."""
    before = settings_before(schema)
    if before is None or not is_taken(schema):
        return dict(changes)
    if changes.get("sync_frequency", OUT_OF_THE_WAY) is not OUT_OF_THE_WAY:
        return {"sync_time_of_day": before.sync_time_of_day, **changes}
    if "sync_time_of_day" in changes:
        return {**changes, "sync_time_of_day": _marked(before.sync_frequency, changes["sync_time_of_day"])}
    return dict(changes)


def _marked(frequency: SyncFrequency, at: time | None) -> time:
    second = _SECOND[frequency]
    return time(0, 0, second + _HAD_NO_TIME) if at is None else at.replace(second=second, microsecond=0)
