"""When Dagster takes a table's rows for late."""

from datetime import timedelta
from functools import cache

import dagster as dg

from dw_orchestration.assets.checks import STALE_AFTER_INTERVALS
from dw_orchestration.assets.tables import Table
from dw_orchestration.resources.durations import is_due_at_a_time
from dw_orchestration.tables.cadence import Cadence

# how long after its tick a sync may end: so many times as long as usual, and at least this
ALLOWED_DURATIONS = 2
LEAST_ALLOWANCE = timedelta(minutes=30)


def freshness_policy(table: Table) -> dg.FreshnessPolicy | None:
    """When rows count as late; tables that PostHog does not sync by itself have promised nothing.

    Where a user has chosen the time of day of a daily or weekly sync, each tick must have brought rows some time after
    it. Elsewhere rows are late at twice the interval.
    """
    if table.cadence is None:
        return None
    if is_due_at_a_time(table.schema, access_method=table.source.access_method):
        usual_minutes = table.source.usual_minutes.get(table.schema.name, 0)
        return _due_after_tick(table.cadence, allowance(table.cadence, usual=timedelta(minutes=usual_minutes)))
    return dg.FreshnessPolicy.time_window(fail_window=STALE_AFTER_INTERVALS * table.cadence.every)


def allowance(ticks: Cadence, *, usual: timedelta) -> timedelta:
    """How long after its tick a sync may end: twice as long as usual, within limits."""
    return max(LEAST_ALLOWANCE, min(ALLOWED_DURATIONS * usual, ticks.every / 2))


@cache
def _due_after_tick(ticks: Cadence, allowed: timedelta) -> dg.FreshnessPolicy:
    """Remembered, because Dagster takes some ten milliseconds to look at a cron, and many tables share a time.

    Raises:
        ValueError: Cron cannot say these ticks.
    """
    deadlines = Cadence(ticks.every, (ticks.offset + allowed) % ticks.every).cron()
    if deadlines is None:
        raise ValueError(f"There is no cron for {ticks.describe()}.")
    return dg.FreshnessPolicy.cron(deadline_cron=deadlines[0], lower_bound_delta=allowed, timezone="UTC")
