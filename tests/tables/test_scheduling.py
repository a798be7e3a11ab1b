"""What a table's rows can be expected by: PostHog's own syncs, or Dagster's schedule."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from component_snapshots import OFF, TAKEN_AT, project, source, table

from dw_orchestration.assets.checks import overdue
from dw_orchestration.assets.metadata import TableMetadata
from dw_orchestration.assets.spec import asset_spec, table_spec
from dw_orchestration.posthog.enums import SyncFrequency, SyncStatus, SyncType
from dw_orchestration.schedules import ScheduleOverride, SchedulingMode
from dw_orchestration.tables.drift import ChangeKind, drift_between
from dw_orchestration.tables.tables import Tables
from dw_orchestration.tables.takeover import out_of_the_way

if TYPE_CHECKING:
    from dw_orchestration.tables.snapshot import WarehouseSnapshot
    from dw_orchestration.tables.table import Table

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEKDAYS = ScheduleOverride(tables=["*"], cron="30 7 * * mon-fri", timezone="Europe/Berlin")
QUARTERS = ScheduleOverride(tables=["*"], cron="*/15 * * * *")
OBSERVE, ENSURE, DRIVE = SchedulingMode
ON_WEEKDAYS = "at 30 7 * * mon-fri (Europe/Berlin), by Dagster"


def state(sync_frequency: SyncFrequency | None = SyncFrequency.SIX_HOURS, **settings: Any) -> WarehouseSnapshot:
    """A project with one table."""
    return project(source("Stripe", [table("orders", sync_frequency=sync_frequency, **settings)]))


def taken_over(**settings: Any) -> WarehouseSnapshot:
    """The same after a takeover: before, PostHog synced the table every six hours."""
    (orders,) = Tables(state())
    return state(**vars(out_of_the_way(orders.schema)), **settings)


def only(tables: Tables) -> Table:
    """The only table."""
    (orders,) = tables
    return orders


@pytest.mark.parametrize(
    ("mode", "overrides", "expected", "told"),
    [
        pytest.param(DRIVE, [WEEKDAYS], 4 * DAY, ON_WEEKDAYS, id="override"),
        pytest.param(ENSURE, [WEEKDAYS], 4 * DAY, ON_WEEKDAYS, id="ensured"),
        pytest.param(DRIVE, [], 12 * HOUR, "every 6 hours from 05:08 UTC, by Dagster", id="at_the_cadence_before"),
        pytest.param(OBSERVE, [WEEKDAYS], 60 * DAY, "every 30 days at 00:00 UTC", id="no_schedules"),
    ],
)
def test_a_table_that_was_taken_over_is_expected_by_dagsters_schedule(
    mode: SchedulingMode, overrides: list[ScheduleOverride], expected: timedelta, told: str
) -> None:
    """Dagster's schedule drives the table; without schedules, PostHog's one sync a month is what remains."""
    tables = Tables(taken_over(), scheduling=mode, overrides=overrides)
    spec = asset_spec(only(tables))
    assert dg.FreshnessPolicy.time_window(fail_window=expected) == spec.freshness_policy
    assert told == TableMetadata.of(spec.metadata).cadence


@pytest.mark.parametrize(
    ("frequency", "override", "expected", "told"),
    [
        pytest.param(SyncFrequency.SIX_HOURS, WEEKDAYS, 12 * HOUR, "every 6 hours from 05:08 UTC", id="rarer"),
        pytest.param(SyncFrequency.SIX_HOURS, QUARTERS, HOUR / 2, "at */15 * * * * (UTC), by Dagster", id="more_often"),
        pytest.param(SyncFrequency.THIRTY_DAYS, WEEKDAYS, 4 * DAY, ON_WEEKDAYS, id="30_days"),
        pytest.param(None, WEEKDAYS, 4 * DAY, ON_WEEKDAYS, id="not_by_posthog"),
    ],
)
def test_without_a_takeover_the_more_frequent_syncs_count(
    frequency: SyncFrequency | None, override: ScheduleOverride, expected: timedelta, told: str
) -> None:
    """PostHog and an override both sync the table: its rows are as new as the more frequent syncs make them."""
    spec = asset_spec(only(Tables(state(frequency), overrides=[override])))
    assert dg.FreshnessPolicy.time_window(fail_window=expected) == spec.freshness_policy
    assert told == TableMetadata.of(spec.metadata).cadence


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(OFF, None, id="disabled"),
        pytest.param({"sync_type": SyncType.CDC}, 12 * HOUR, id="not_for_dagster"),
    ],
)
def test_an_override_promises_nothing_of_tables_that_it_cannot_sync(
    settings: dict[str, Any], expected: timedelta | None
) -> None:
    """A table without a schedule is not expected by one."""
    policy = asset_spec(only(Tables(state(**settings), overrides=[QUARTERS], include_disabled=True))).freshness_policy
    assert (expected and dg.FreshnessPolicy.time_window(fail_window=expected)) == policy


@pytest.mark.parametrize(("scheduling", "expected"), [(DRIVE, False), (OBSERVE, True)])
def test_posthog_has_not_stopped_a_table_of_dagsters_schedule(
    scheduling: SchedulingMode,
    expected: bool,  # noqa: FBT001  one of the cases
) -> None:
    """A schedule may be stopped on purpose, and the freshness policy reports it; PostHog does not stop on purpose."""
    shown = taken_over(status=SyncStatus.COMPLETED, last_synced_at=TAKEN_AT)
    orders = only(Tables(shown, scheduling=scheduling, overrides=[WEEKDAYS]))
    assert expected == (overdue(orders, orders.schema, now=TAKEN_AT + 61 * DAY) is not None)
    assert overdue(orders, orders.schema, now=TAKEN_AT + 59 * DAY) is None


def test_a_table_is_translated_once_unless_an_override_retimes_it() -> None:
    """Specs are what takes time to build; those that no override changes are not built again."""
    translated = []
    override = ScheduleOverride(tables=["*.orders"], cron="30 7 * * *")

    def spec_of(each: Table) -> dg.AssetSpec:
        translated.append(each.schema.name)
        return asset_spec(each)

    Tables(project(source("Stripe", [table("orders"), table("customers")])), spec_of=spec_of, overrides=[override])

    assert ["customers", "orders", "orders"] == sorted(translated)


def test_a_translation_sees_what_an_override_changes() -> None:
    """An override may name a table by its translated key, and the translation gets the table with the override."""

    def spec_of(each: Table) -> dg.AssetSpec:
        return asset_spec(each).replace_attributes(key=["raw", *each.key_path])

    override = ScheduleOverride(tables=["raw/posthog/stripe/orders"], cron="*/15 * * * *")
    tables = Tables(state(), spec_of=spec_of, overrides=[override])
    spec = table_spec(tables, only(tables))
    assert ["raw", "posthog", "stripe", "orders"] == spec.key.path
    assert dg.FreshnessPolicy.time_window(fail_window=HOUR / 2) == spec.freshness_policy
    assert tables.table("raw/posthog/stripe/orders") == only(tables)


def test_a_takeover_is_drift_until_the_state_is_refreshed() -> None:
    """A state from before the takeover promises PostHog's own cadence, so the check `state_is_current` reports it."""
    before = Tables(state(), overrides=[WEEKDAYS])
    (change,) = drift_between(before, before.of(taken_over())).changes
    assert (ChangeKind.CADENCE, "every 30 days at 00:00 UTC") == (change.kind, change.after)
