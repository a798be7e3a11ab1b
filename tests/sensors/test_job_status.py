"""What a tick reads, reports and leaves for later."""

from collections import Counter

import dagster as dg
import pytest
from warehouse_model import WarehouseModel

from dw_orchestration.assets.checks import sync_succeeded
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.errors import CursorError
from dw_orchestration.posthog.limits import LATE_ROWS
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.sensors.job_status import RUN_GRACE
from tests.sensors.conftest import sync_succeeded_check


def first_tick(reports) -> SensorCursor:
    """The cursor after a first tick."""
    cursor, _ = reports.tick(SensorCursor())
    return cursor


def test_first_tick_reports_the_newest_sync_of_each_table_alone(reports_on) -> None:
    """History is not replayed: a table's newest sync shows how it stands, older ones are past."""
    model = WarehouseModel(tables=2)
    for _ in range(3):
        for table in ("s0t0", "s0t1"):
            model.finish(model.start("source0", table))
        model.advance(60)
    reports = reports_on(model)

    first_tick(reports)

    assert {"job000004": 1, "job000005": 1} == reports.reported()


def test_second_tick_reports_nothing(reports_on) -> None:
    """A job is reported once, however often the sensor ticks."""
    model = WarehouseModel()
    model.finish(model.start("source0", "s0t0"))
    reports = reports_on(model)

    _, work = reports.tick(first_tick(reports))

    assert [] == work.events


def test_long_sync_is_reported_when_it_ends(reports_on) -> None:
    """A sync that began before all that the cursor has seen is still reported once it ends."""
    model = WarehouseModel(page=5)
    long_one = model.start("source0", "s0t0")
    reports = reports_on(model)
    cursor = first_tick(reports)
    for _ in range(20):
        model.advance(600)
        model.finish(model.start("source0", "s0t1"))
        cursor, _ = reports.tick(cursor)

    model.finish(long_one)
    reports.tick(cursor)

    assert 1 == reports.reported()[long_one.id]


def test_sync_that_becomes_visible_late_is_reported(reports_on) -> None:
    """Workers commit side by side: a row may show up after one with a later time has been dealt with."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    late = model.start("source0", "s0t0", late_s=LATE_ROWS.total_seconds() - 5)
    model.finish(late)
    model.advance(LATE_ROWS.total_seconds() - 10)
    model.finish(model.start("source0", "s0t1"))
    cursor, _ = reports.tick(cursor)
    model.advance(30)

    reports.tick(cursor)

    assert 1 == reports.reported()[late.id]


def test_sync_of_a_live_run_is_left_to_it(reports_on) -> None:
    """A job that a run waits for is the run's to report, though it has ended already."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job = model.start("source0", "s0t0")
    reports.adopt(job, reports.new_run())
    model.finish(job)

    _, work = reports.tick(cursor)

    assert [] == work.events


def test_job_that_has_just_begun_is_left_to_the_run_that_may_have_started_it(reports_on) -> None:
    """A short sync ends before its run has seen its job: the run reports it, with all that it knows of the table."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job, run_id = model.start("source0", "s0t0"), reports.new_run()
    model.finish(job)

    model.advance(5)
    cursor, early = reports.tick(cursor, run_grace=RUN_GRACE)
    reports.adopt(job, run_id)
    reports.materialize(job, run_id)
    reports.end_run(run_id, success=True)
    model.advance(60)
    _, late = reports.tick(cursor, run_grace=RUN_GRACE)

    assert ([], [], {job.id: 1}) == (early.events, late.events, reports.reported())


def test_short_sync_that_no_run_has_started_is_reported_in_the_next_tick(reports_on) -> None:
    """What PostHog does by itself is only reported a little later."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job = model.start("source0", "s0t0")
    model.finish(job)
    cursor, early = reports.tick(cursor, run_grace=RUN_GRACE)

    model.advance(RUN_GRACE.total_seconds())
    reports.tick(cursor, run_grace=RUN_GRACE)

    assert ([], {job.id: 1}) == (early.events, reports.reported())


def test_columns_last_seen_stay(reports_on) -> None:
    """The list of sources shows no columns; the asset's page shows those of the newest event, with their origin."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    key = reports.assets[0].key
    schema = dg.TableSchema(columns=[dg.TableColumn("id", "integer")])
    lineage = dg.TableColumnLineage({"id": [dg.TableColumnDep(dg.AssetKey("origin"), "id")]})
    shown = {"dagster/column_schema": schema, "dagster/column_lineage": lineage}
    metadata = {**shown, "posthog/job_id": "before"}
    reports.instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"))

    _, work = reports.tick(cursor)

    (event,) = work.events
    assert shown == {name: event.metadata[name].value for name in shown}


@pytest.mark.parametrize("success", [True, False], ids=["run_did_not_wait", "run_died"])
def test_sync_of_a_run_that_said_nothing_is_reported(reports_on, success) -> None:
    """A run that ended without reporting its job (it was killed, or did not wait) leaves that to the sensor."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job, run_id = model.start("source0", "s0t0"), reports.new_run()
    reports.adopt(job, run_id)
    model.finish(job)
    cursor, _ = reports.tick(cursor)
    reports.end_run(run_id, success=success)

    _, work = reports.tick(cursor)

    assert ["dagster"] == [event.metadata["posthog/triggered_by"].value for event in work.events]


def test_more_than_fifty_syncs_between_two_ticks_are_all_reported(reports_on) -> None:
    """The endpoint shows fifty at a time; older ones are paged back to."""
    model = WarehouseModel(tables=60)
    reports = reports_on(model)
    cursor = first_tick(reports)
    for _ in range(2):
        model.advance(400)
        for table in model.sources["source0"].tables:
            model.finish(model.start("source0", table))

    reports.tick(cursor)

    assert (120, {1}) == (len(reports.reported()), set(reports.reported().values()))


def test_event_limit_leaves_the_rest_for_the_next_tick(reports_on) -> None:
    """What does not fit into a tick is reported by the next one."""
    model = WarehouseModel(tables=5)
    reports = reports_on(model)
    cursor = first_tick(reports)
    for table in model.sources["source0"].tables:
        model.finish(model.start("source0", table))

    cursor, first = reports.tick(cursor, max_events=3)
    _, second = reports.tick(cursor, max_events=3)

    assert (3, 2) == (len(first.events), len(second.events))


def test_tick_that_runs_out_of_time_resumes_where_it_stopped(reports_on) -> None:
    """No source starves: the next tick begins with the one that this tick did not reach."""
    model = WarehouseModel(sources=4, tables=1)
    reports = reports_on(model)
    # the clock passes 5 s with each look at it, so that a budget of 12 s is enough for two sources
    seconds = iter(range(0, 10_000, 5))
    cursor, counts = SensorCursor(), Counter()
    for source in model.sources.values():
        model.finish(model.start(source.id, source.tables[0]))

    for _ in range(2):
        cursor, work = reports.tick(cursor, budget_s=12, now=lambda: next(seconds))
        counts[len(work.events)] += 1

    assert Counter({2: 2}) == counts


def test_source_that_fails_does_not_stop_the_others(reports_on) -> None:
    """One bad source only delays its own reports, which follow later."""
    model = WarehouseModel(sources=2, tables=1)
    reports = reports_on(model)
    cursor = first_tick(reports)
    jobs = [model.start(source_id, source.tables[0]) for source_id, source in model.sources.items()]
    for job in jobs:
        model.finish(job)
    model.sources["source0"].is_down = True

    cursor, work = reports.tick(cursor)
    seen_while_down = reports.reported()
    model.sources["source0"].is_down = False
    reports.tick(cursor)

    assert ({jobs[1].id: 1}, {job.id: 1 for job in jobs}) == (seen_while_down, reports.reported())
    assert "source0" in work.summary()


def test_deleted_source_is_forgotten(reports_on) -> None:
    """The cursor does not grow with sources that are gone."""
    model = WarehouseModel(sources=2)
    reports = reports_on(model)
    cursor = first_tick(reports)
    del model.sources["source1"]

    cursor, _ = reports.tick(cursor)

    assert {"source0"} == set(cursor.sources)


@pytest.mark.parametrize("status", ["Failed", "Billing limits", "Billing limit too low", "Cancelled"])
def test_sync_that_did_not_complete_fails_the_check(reports_on, status) -> None:
    """Anything but Completed is a failed check with the job's own error, never a materialization."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"), status)

    _, work = reports.tick(cursor)

    (event,) = work.events
    assert (False, "it broke") == (event.passed, event.metadata["posthog/error"].value)


@pytest.mark.parametrize(
    ("error", "events"),
    [
        ("Sync stopped because syncing was turned off", 0),
        ("Sync stopped because the table was deleted", 0),
        ("Sync stopped because of an error that PostHog does not retry", 1),
        ("Sync cancelled by user", 1),
    ],
)
def test_what_the_user_switched_off_is_silent_and_what_posthog_did_is_not(reports_on, error, events) -> None:
    """A user who disables a table stops its sync and knows; a failure or a cancelled sync is reported, once."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"), "Failed", error=error)

    cursor, first = reports.tick(cursor)
    _, second = reports.tick(cursor)

    assert (events, 0) == (len(first.events), len(second.events))


def test_check_turns_green_again_with_the_next_good_sync(reports_on) -> None:
    """A failed check is not left red after the table has recovered."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"), "Failed")
    cursor, _ = reports.tick(cursor)
    model.advance(300)
    model.finish(model.start("source0", "s0t0"))

    _, work = reports.tick(cursor)

    kinds = [type(event) for event in work.events]
    assert [dg.AssetCheckEvaluation, dg.AssetMaterialization] == kinds
    assert work.events[0].passed


def test_each_check_is_evaluated_with_the_sync_that_it_judges(reports_on) -> None:
    """Dagster shows a table's checks for its last sync alone, so each sync has them; in a rush, only what changes."""
    model = WarehouseModel(tables=3, frequency="1hour")
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.row_count = 5
    for table in model.sources["source0"].tables:
        model.finish(model.start("source0", table))

    _, work = reports.tick(cursor, fully_checked=2)

    checks = Counter(event.asset_key for event in work.events if isinstance(event, dg.AssetCheckEvaluation))
    every_check = {"sync_succeeded", "data_as_usual"}
    assert [len(every_check)] * 2 == list(checks.values())
    assert every_check == {event.check_name for event in work.events if isinstance(event, dg.AssetCheckEvaluation)}


@pytest.mark.parametrize("status", ["Completed", "Failed"])
@pytest.mark.parametrize("later", ["Completed", "Failed"])
def test_sync_that_a_later_one_has_overtaken_says_nothing_of_the_table(reports_on, status, later) -> None:
    """A run reports its sync at once; the one before it, reported afterwards, is neither the last nor turns a check."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor = first_tick(reports)
    older = model.start("source0", "s0t0")
    model.finish(older, status)
    model.advance(60)
    newer, run_id = model.start("source0", "s0t0"), reports.new_run()
    reports.adopt(newer, run_id)
    model.finish(newer, later)
    if later == "Completed":
        reports.materialize(newer, run_id)
    else:
        reports.fail(newer, run_id)
    reports.end_run(run_id, success=later == "Completed")

    cursor, work = reports.tick(cursor)
    _, again = reports.tick(cursor)

    (event,) = work.events
    assert (dg.AssetObservation, older.id, status) == (
        type(event),
        event.metadata["posthog/job_id"].value,
        event.metadata["posthog/status"].value,
    )
    assert ([], {older.id: 1, newer.id: 1}) == (again.events, reports.reported())


def test_tick_that_dies_within_a_report_loses_no_check(reports_on) -> None:
    """A check that turned green, but was not followed by its materialization, is no report; nor is the other half."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"), "Failed")
    cursor, _ = reports.tick(cursor)
    model.advance(300)
    job = model.start("source0", "s0t0")
    model.finish(job)

    reports.tick(cursor, stored=1)
    cut_short = reports.reported().get(job.id)
    reports.tick(cursor)

    is_red = EventLog(reports.instance).is_red(sync_succeeded_check(asset_key(reports.by_table["s0t0"])))
    assert (None, 1, False) == (cut_short, reports.reported()[job.id], is_red)


def test_look_at_a_table_is_no_report_of_its_sync(reports_on) -> None:
    """Who executes the check by itself just before the tick does not lose the table's materialization."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job = model.start("source0", "s0t0")
    model.finish(job)
    asset = reports.by_table["s0t0"]
    seen = sync_succeeded(asset, model._job(job))
    reports.instance.report_runless_asset_event(seen.to_evaluation())

    reports.tick(cursor)

    assert {job.id: 1} == reports.reported()


def test_a_run_that_evaluates_the_checks_later_is_not_hidden(reports_on) -> None:
    """Dagster shows the check's row that was made last, and a run makes its rows as it starts."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    run_id = reports.new_run()
    reports.plan_checks("s0t0", run_id)
    told = []
    for is_over in (False, True):
        if is_over:
            reports.end_run(run_id, success=True)
        model.advance(300)
        model.finish(model.start("source0", "s0t0"))
        cursor, work = reports.tick(cursor, fully_checked=20)
        told.append({type(event).__name__ for event in work.events})

    assert [{"AssetMaterialization"}, {"AssetCheckEvaluation", "AssetMaterialization"}] == told


@pytest.mark.parametrize("status", ["Completed", "Failed"])
def test_no_sync_of_many_is_reported_again_if_the_cursor_was_not_kept(reports_on, status) -> None:
    """A daemon that dies between a tick's events and its cursor, or an older cursor: no sync is doubled."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor = first_tick(reports)
    jobs = []
    for _ in range(60):
        model.advance(300)
        jobs.append(model.start("source0", "s0t0"))
        model.finish(jobs[-1], status)

    _, first = reports.tick(cursor)
    _, again = reports.tick(cursor)

    assert (60, []) == (first.reported, again.events)
    assert {job.id: 1 for job in jobs} == reports.reported()


def test_no_overtaken_sync_is_reported_again_if_the_cursor_was_not_kept(reports_on) -> None:
    """Observations are read back as far, past other observations of the table, such as a user's."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor = first_tick(reports)
    jobs = []
    for _ in range(40):
        model.advance(300)
        jobs.append(model.start("source0", "s0t0"))
        model.finish(jobs[-1])
    run_id = reports.new_run()
    reports.adopt(jobs[-1], run_id)
    reports.materialize(jobs[-1], run_id)
    reports.end_run(run_id, success=True)

    _, first = reports.tick(cursor)
    for number in range(30):
        foreign = dg.AssetObservation(asset_key(reports.assets[0]), metadata={"number": number})
        reports.instance.report_runless_asset_event(foreign)
    _, again = reports.tick(cursor)

    assert ({dg.AssetObservation}, []) == ({type(event) for event in first.events}, again.events)
    assert {job.id: 1 for job in jobs} == reports.reported()


def test_many_syncs_of_a_table_cost_few_reads(reports_on) -> None:
    """The table's events are read once for all of its syncs, in pages."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor = first_tick(reports)
    for _ in range(60):
        model.advance(300)
        model.finish(model.start("source0", "s0t0"))
    reports.tick(cursor)
    reads, instance = Counter(), reports.instance
    for name in ("fetch_materializations", "fetch_observations"):
        fetch = getattr(instance, name)
        counted = lambda *args, name=name, fetch=fetch, **filters: (reads.update([name]), fetch(*args, **filters))[1]  # noqa: E731
        setattr(instance, name, counted)

    reports.tick(cursor)

    assert {"fetch_materializations": 2, "fetch_observations": 1} == reads


def test_sync_is_left_to_the_run_that_is_alive_of_several(reports_on) -> None:
    """Another run that joined the sync has ended without waiting for it: the first one still reports it."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job, alive = model.start("source0", "s0t0"), reports.new_run()
    reports.adopt(job, alive)
    for _ in range(30):
        gone = reports.new_run()
        reports.adopt(job, gone)
        reports.end_run(gone, success=True)
    model.finish(job)

    cursor, left = reports.tick(cursor)
    reports.end_run(alive, success=False)
    reports.tick(cursor)

    assert ([], {job.id: 1}) == (left.events, reports.reported())


def test_failure_and_recovery_within_a_tick_leave_the_check_green(reports_on) -> None:
    """In a rush only changes are evaluated: the tick's own reports count, though they are not stored yet."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor = first_tick(reports)
    for status in ("Failed", "Completed"):
        model.advance(300)
        model.finish(model.start("source0", "s0t0"), status)

    reports.tick(cursor)

    assert not EventLog(reports.instance).is_red(sync_succeeded_check(asset_key(reports.assets[0])))


def test_report_costs_one_read_of_materializations(reports_on) -> None:
    """Dagster's storage is what limits a tick: whether, after what and among what is asked in one."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"))
    reads, fetch = [], reports.instance.fetch_materializations
    reports.instance.fetch_materializations = lambda *args, **filters: (reads.append(args), fetch(*args, **filters))[1]

    reports.tick(cursor, stored=0)

    assert 1 == len(reads)


def test_quiet_sources_cost_no_request_of_their_own(reports_on) -> None:
    """A tick asks for the pages of the list of sources, for the jobs of the changed ones, and for one more in turn."""
    model = WarehouseModel(sources=120, tables=2)
    reports = reports_on(model)
    for source in model.sources.values():
        for table in source.tables:
            model.finish(model.start(source.id, table))
    cursor = SensorCursor()
    while cursor.resume_at is not None or not cursor.sources:
        # nothing is stored here: the event log would take minutes, and is not what is asked
        cursor, _ = reports.tick(cursor, stored=0, budget_s=1e9, max_events=10**9)
    model.advance(600)
    changed = [f"source{number}" for number in range(0, 120, 40)]
    for source_id in changed:
        model.finish(model.start(source_id, model.sources[source_id].tables[0]))
    model.requests.update(sources=0, jobs=0)

    _, work = reports.tick(cursor, stored=0)

    assert (2, len(changed) + 1) == (model.requests["sources"], model.requests["jobs"])
    assert len(changed) == work.reported


def test_every_quiet_source_is_read_in_turn(reports_on) -> None:
    """Nothing is missed permanently: each tick also reads one source that shows no change."""
    model = WarehouseModel(sources=3, tables=1)
    reports = reports_on(model)
    for source in model.sources.values():
        model.finish(model.start(source.id, source.tables[0]))
    cursor = first_tick(reports)
    asked = Counter()
    original = model.list_jobs
    model.list_jobs = lambda source_id, **filters: (asked.update([source_id]), original(source_id, **filters))[1]

    for _ in range(3):
        cursor, _ = reports.tick(cursor)

    assert Counter({"source0": 1, "source1": 1, "source2": 1}) == asked


@pytest.mark.parametrize("text", ["{", '{"version": 2}', '{"sources": 3}', "[]"])
def test_unreadable_cursor_is_an_error_that_names_the_cure(text) -> None:
    """Starting over silently would skip or repeat reports, so the user is asked to reset the cursor."""
    with pytest.raises(CursorError, match="Reset cursor"):
        SensorCursor.parse(text)
