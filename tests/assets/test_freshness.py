"""When Dagster takes a table's rows for late, and what a refresh asks for that."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import dagster as dg
import pytest
from builders import snapshot_of, source_of

from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.posthog.enums import AccessMethod, SyncFrequency, SyncType
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.tables import Tables

AT = time(7, 11)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def schema(name: str = "orders", **settings: Any) -> Schema:
    """A table that a user has set to be synced daily at 07:11, but for the settings that are given."""
    as_usual: dict[str, Any] = {
        "id": f"id-of-{name}",
        "name": name,
        "should_sync": True,
        "sync_type": SyncType.FULL_REFRESH,
        "sync_frequency": SyncFrequency.ONE_DAY,
        "sync_time_of_day": AT,
    }
    return Schema(**as_usual | settings)


def policy(table: Schema, **source: Any) -> dg.FreshnessPolicy | None:
    """The freshness policy of the only table of a source."""
    held = source_of(table).model_copy(update=source)
    (only,) = Tables(snapshot_of(held), include_disabled=True)
    return asset_spec(only).freshness_policy


@pytest.mark.parametrize(
    ("settings", "source", "interval"),
    [
        pytest.param({}, {}, DAY, id="daily_at_a_time"),
        pytest.param({"sync_time_of_day": None}, {}, DAY, id="time_drawn_by_posthog"),
        pytest.param({"sync_frequency": SyncFrequency.SEVEN_DAYS}, {}, 7 * DAY, id="weekly"),
        pytest.param({"sync_frequency": SyncFrequency.SIX_HOURS}, {}, DAY / 4, id="several_times_a_day"),
        pytest.param({"sync_frequency": SyncFrequency.THIRTY_DAYS}, {}, 30 * DAY, id="no_cron_says_it"),
        pytest.param({"sync_type": SyncType.WEBHOOK}, {}, DAY, id="rows_come_by_webhook"),
        pytest.param({}, {"access_method": AccessMethod.DIRECT}, DAY, id="queried_in_place"),
    ],
)
def test_rows_are_late_at_twice_the_interval(
    settings: dict[str, Any], source: dict[str, Any], interval: timedelta
) -> None:
    """Dagster calls a table late when PostHog calls it stale: when its rows are older than twice its interval."""
    assert dg.FreshnessPolicy.time_window(fail_window=2 * interval) == policy(schema(**settings), **source)
