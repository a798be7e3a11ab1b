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


def checks(work, name="sync_succeeded") -> list[bool]:
    """A check, as a tick evaluated it."""
    return [event.passed for event in work.events if getattr(event, "check_name", None) == name]


@pytest.mark.parametrize(("hours", "expected"), [(1.9, []), (2.1, [False])])
def test_a_table_is_overdue_after_twice_its_interval(forgotten, hours, expected) -> None:
    """PostHog shows such a table as healthy: it is on, and its last sync was good."""
    model, reports, cursor = forgotten
    model.advance(hours * HOUR_S)

    _, work = reports.tick(cursor)

    assert expected == checks(work)


def test_an_overdue_table_says_what_to_do(forgotten) -> None:
    """The check is an error, and its text has the cadence, the last sync's age and the cure."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)

    _, work = reports.tick(cursor)

    (event,) = work.events
    assert ("sync_succeeded", dg.AssetCheckSeverity.ERROR) == (event.check_name, event.severity)
    assert event.description.startswith("PostHog syncs the table every hour")
    assert "and has stopped: the last sync completed, and began 3 hours ago. Materialize the table" in event.description


def test_an_overdue_table_is_reported_once(forgotten) -> None:
    """A red check stays red without being evaluated at each tick."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    cursor, _ = reports.tick(cursor)
    model.advance(HOUR_S)

    _, work = reports.tick(cursor)

    assert [] == checks(work)


@pytest.mark.parametrize("status", ["Completed", "Failed"])
def test_the_next_sync_of_an_overdue_table_is_reported_once(forgotten, status) -> None:
    """That no sync has come is no report of one: the next one is reported, and the check is as that one ended."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    cursor, _ = reports.tick(cursor)
    job = model.start("source0", "s0t0")
    cursor, running = reports.tick(cursor)
    model.finish(job, status)

    cursor, work = reports.tick(cursor)
    cursor, after = reports.tick(cursor)

    assert ([], [status == "Completed"], []) == (running.events, checks(work), after.events)
    assert 1 == reports.reported()[job.id]
    assert (status == "Failed") == bool(cursor.stale)


def test_a_table_can_be_overdue_again(forgotten) -> None:
    """What has been reported of a table is forgotten with its next good sync."""
    model, reports, cursor = forgotten
    found = []
    for _ in range(2):
        model.advance(3 * HOUR_S)
        cursor, late = reports.tick(cursor)
        model.finish(model.start("source0", "s0t0"))
        cursor, work = reports.tick(cursor)
        found += [checks(late), checks(work)]

    assert [[False], [True]] * 2 == found


def test_a_table_that_is_not_expected_any_more_is_not_overdue(forgotten) -> None:
    """A user who disables the table has no red check left, which no sync would turn; a schedule is still missed."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    cursor, _ = reports.tick(cursor)
    reports.assets = Tables(snapshot_of(model), overrides=[ScheduleOverride(tables=["*"], cron="*/15 * * * *")])
    cursor, scheduled = reports.tick(cursor)
    model.should_sync = False

    cursor, disabled = reports.tick(cursor)

    assert ([], [True], ()) == (checks(scheduled), checks(disabled), cursor.stale)


def test_a_run_that_is_about_to_sync_a_table_is_waited_for(forgotten) -> None:
    """Dagster shows the row that was made last: an overdue table's would hide what the run finds."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    run_id = reports.new_run()
    reports.plan_checks("s0t0", run_id)
    cursor, during = reports.tick(cursor)
    reports.end_run(run_id, success=False)

    _, after = reports.tick(cursor)

    assert ([], [False]) == (checks(during), checks(after))


def test_a_failing_table_is_red_for_its_failure(forgotten) -> None:
    """A table whose syncs fail is not overdue in addition: it is red once, with PostHog's reason."""
    model, reports, cursor = forgotten
    model.advance(3 * HOUR_S)
    model.finish(model.start("source0", "s0t0"), "Failed")

    _, work = reports.tick(cursor)

    evaluation, note = work.events
    assert ["Failed"] * 2 == [event.metadata["posthog/status"].value for event in (evaluation, note)]


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (5, 2)])
def test_auto_heal_syncs_forgotten_tables_up_to_its_limit(reports_on, limit, expected) -> None:
    """Syncs are billed, so there are none unless asked for, and never more at once than allowed."""
    model = WarehouseModel(tables=2, frequency="1hour")
    for table in ("s0t0", "s0t1"):
        model.finish(model.start("source0", table))
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    model.advance(3 * HOUR_S)

    cursor, work = reports.tick(cursor, auto_heal=limit)
    _, later = reports.tick(cursor, auto_heal=limit)

    assert expected == len(work.run_requests())
    # each table in turn, with its red check
    requested = [request.run_key for tick in (work, later) for request in tick.run_requests()]
    assert min(2, 2 * limit) == len(set(requested)) == len(requested)
    assert 2 == len(checks(work) + checks(later))


def test_auto_heal_leaves_tables_of_a_schedule_alone(forgotten) -> None:
    """PostHog has not forgotten a table that Dagster syncs more often: a schedule may be stopped on purpose."""
    model, reports, cursor = forgotten
    override = ScheduleOverride(tables=["*"], cron="*/15 * * * *")
    reports.assets = Tables(snapshot_of(model), overrides=[override])
    model.advance(3 * HOUR_S)

    _, work = reports.tick(cursor, auto_heal=5)

    assert ([], []) == (checks(work), work.run_requests())


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
    assert ("data_as_usual", False, dg.AssetCheckSeverity.WARN) == (check.check_name, check.passed, check.severity)
    assert "20 rows, 100 after the sync before" == check.metadata["posthog/rows_dropped"].value
