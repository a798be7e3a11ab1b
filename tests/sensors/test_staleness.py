"""A table that is older than it should be is noticed, for any reason."""

import dagster as dg
import pytest
from warehouse_model import WarehouseModel

from dw_orchestration.schedules import ScheduleOverride
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.tables.tables import Tables
from tests.sensors.conftest import Reports, snapshot_of

HOUR_S = 3600


@pytest.fixture
def forgotten(reports_on) -> tuple[WarehouseModel, Reports, SensorCursor]:
    """A table that is synced every hour, was synced once, and then never again; the reports and the cursor so far."""
    model = WarehouseModel(tables=1, frequency="1hour")
    model.finish(model.start("source0", "s0t0"))
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    return model, reports, cursor


def checks(work, name="not_stale") -> list[bool]:
    """A check, as a tick evaluated it."""
    return [event.passed for event in work.events if getattr(event, "check_name", None) == name]


@pytest.mark.parametrize(("hours", "expected"), [(1.9, []), (2.1, [False])])
def test_table_is_stale_after_twice_its_interval(forgotten, hours, expected) -> None:
    """PostHog shows such a table as healthy: it is on, and its last sync was good."""
    model, reports, cursor = forgotten
    model.advance(hours * HOUR_S)

    _, work = reports.tick(cursor)

    assert expected == checks(work)


def test_staleness_is_told_once(forgotten) -> None:
    """A red check stays red without being evaluated at each tick."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    cursor, _ = reports.tick(cursor)
    model.advance(HOUR_S)

    _, work = reports.tick(cursor)

    assert [] == checks(work)


def test_check_is_green_again_after_the_next_sync(forgotten) -> None:
    """New rows end the staleness."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    cursor, _ = reports.tick(cursor)
    model.finish(model.start("source0", "s0t0"))

    _, work = reports.tick(cursor)

    assert [True] == checks(work)


def test_table_that_fails_is_stale_too(forgotten) -> None:
    """Syncs without rows make no rows newer."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    model.finish(model.start("source0", "s0t0"), "Failed")

    _, work = reports.tick(cursor)

    assert ([False], [False]) == (checks(work), checks(work, "sync_succeeded"))


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (5, 2)])
def test_auto_heal_syncs_forgotten_tables_up_to_its_limit(reports_on, limit, expected) -> None:
    """Syncs are billed, so there are none unless asked for, and never more at once than allowed."""
    model = WarehouseModel(tables=2, frequency="1hour")
    for table in ("s0t0", "s0t1"):
        model.finish(model.start("source0", table))
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    model.advance(3 * HOUR_S)

    _, work = reports.tick(cursor, auto_heal=limit)

    assert expected == len(work.run_requests())


def test_auto_heal_leaves_tables_of_a_schedule_alone(forgotten) -> None:
    """PostHog has not forgotten a table that Dagster syncs more often: a schedule may be stopped on purpose."""
    model, reports, cursor = forgotten
    override = ScheduleOverride(tables=["*"], cron="*/15 * * * *")
    reports.assets = Tables(snapshot_of(model), overrides=[override])
    model.advance(3 * HOUR_S)

    _, work = reports.tick(cursor, auto_heal=5)

    assert ([False], []) == (checks(work), work.run_requests())


def test_auto_heal_leaves_failing_tables_alone(forgotten) -> None:
    """A table whose syncs fail is not forgotten, and another sync would not fix it."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    model.finish(model.start("source0", "s0t0"), "Failed")

    _, work = reports.tick(cursor, auto_heal=5)

    assert [] == work.run_requests()


def test_table_that_was_never_synced_has_promised_nothing(reports_on) -> None:
    """A table that is new is not stale."""
    model = WarehouseModel(tables=1, frequency="1hour")
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    model.advance(10 * HOUR_S)

    _, work = reports.tick(cursor)

    assert [] == work.events


def test_lost_rows_are_warned_of(reports_on) -> None:
    """A table that lost more than half of its rows with a sync gets a warning, not a failure."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    for rows in (100, 20):
        model.advance(300)
        model.row_count = rows
        model.finish(model.start("source0", "s0t0"))
        cursor, work = reports.tick(cursor)

    (check,) = [event for event in work.events if isinstance(event, dg.AssetCheckEvaluation)]
    assert ("rows_dropped", False, dg.AssetCheckSeverity.WARN) == (check.check_name, check.passed, check.severity)
