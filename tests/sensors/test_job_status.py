"""What a tick reads, reports and leaves for later."""

from collections import Counter
from datetime import timedelta

import dagster as dg
import pytest
from warehouse_model import WarehouseModel

from dw_orchestration.assets.checks import sync_succeeded
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.errors import CursorError
from dw_orchestration.posthog.limits import LATE_ROWS
from dw_orchestration.resources.failure import PlainError
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.sensors.job_status import RUN_GRACE, Tick, build_job_status_sensor
from dw_orchestration.tables.tables import Tables
from tests.sensors.conftest import snapshot_of, sync_succeeded_check


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


def test_sync_of_a_run_that_reports_it_and_ends_during_the_tick_is_left_to_it(reports_on, monkeypatch) -> None:
    """The tick reads the log, then the run writes its last event and ends, then the tick checks the run."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    job, run_id = model.start("source0", "s0t0"), reports.new_run()
    reports.adopt(job, run_id)
    model.finish(job)
    look = EventLog.is_over

    def ends(log: EventLog, run_id: str) -> bool:
        reports.materialize(job, run_id)
        reports.end_run(run_id, success=True)
        return look(log, run_id)

    monkeypatch.setattr(EventLog, "is_over", ends)
    _, work = reports.tick(cursor)

    assert ([], {job.id: 1}) == (work.events, reports.reported())


def test_sync_of_a_run_that_fell_silent_is_reported(reports_on) -> None:
    """A worker that was lost leaves its run as started: minutes after the sync's end it is taken to be dead."""
    model = WarehouseModel(tables=2)
    reports = reports_on(model)
    cursor = first_tick(reports)
    runs = [reports.new_run(), reports.new_run()]
    jobs = [model.start("source0", table) for table in ("s0t0", "s0t1")]
    for job, run_id in zip(jobs, runs, strict=True):
        reports.adopt(job, run_id)
    model.advance(3 * 3600)
    for job in jobs:
        model.finish(job)
    model.advance(14 * 60)
    cursor, early = reports.tick(cursor)
    # this one is alive, and writes
    reports.plan_checks("s0t1", runs[1])
    model.advance(2 * 60)
    cursor, late = reports.tick(cursor)
    reports.materialize(jobs[0], runs[0])
    reports.materialize(jobs[1], runs[1])
    for run_id in runs:
        reports.end_run(run_id, success=True)
    _, last = reports.tick(cursor)

    assert ([], [jobs[0].id], []) == (
        early.events,
        [event.metadata["posthog/job_id"].value for event in late.events],
        last.events,
    )
    assert {job.id: 1 for job in jobs} == reports.reported()


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
    cursor, counts = first_tick(reports), Counter()
    for source in model.sources.values():
        model.finish(model.start(source.id, source.tables[0]))

    for _ in range(2):
        # two sources take the budget
        began = model.requests["jobs"]
        cursor, work = reports.tick(cursor, budget_s=12, now=lambda began=began: 6 * (model.requests["jobs"] - began))
        counts[len(work.events)] += 1

    assert Counter({2: 2}) == counts


def test_first_tick_needs_no_jobs_to_know_where_quiet_sources_are(reports_on) -> None:
    """The list shows it: what the first tick has no time to read is known by it, and misses no later sync."""
    model = WarehouseModel(sources=12, tables=2)
    before = [model.start(source.id, table) for source in model.sources.values() for table in source.tables]
    for job in before:
        model.finish(job)
    reports = reports_on(model)

    cursor, first = reports.tick(SensorCursor(), max_events=4)
    requests = model.requests["jobs"]
    model.advance(600)
    later = []
    for _ in range(2):
        later.append(model.start("source9", "s9t0"))
        model.finish(later[-1])
        model.advance(20)
    cursor, _ = reports.tick(cursor)
    soon = reports.reported()
    for _ in range(12):
        cursor, _ = reports.tick(cursor)

    assert (12, None, 2) == (len(cursor.sources), cursor.resume_at, requests)
    assert (4, {job.id: 1 for job in later}) == (first.reported, {job.id: soon.get(job.id) for job in later})
    assert {job.id: 1 for job in [*before, *later]} == reports.reported()


def test_a_week_of_syncs_of_one_source_is_worked_through_oldest_first(reports_on) -> None:
    """A tick remembers how far it has come: few requests, and a cursor that does not grow with what is left to do."""
    model = WarehouseModel(tables=5)
    reports = reports_on(model)
    cursor = first_tick(reports)
    size = len(cursor.dump())
    for _ in range(200):
        model.advance(3000)
        for table in model.sources["source0"].tables:
            model.finish(model.start("source0", table))
    told, requests, sizes = [], [], []

    for _ in range(11):
        model.requests["jobs"] = 0
        # nothing is stored here, so the last ones of a tick are reported again
        cursor, work = reports.tick(cursor, stored=0, max_events=100)
        told += [event.metadata["posthog/job_id"].value for event in work.events]
        requests.append(model.requests["jobs"])
        sizes.append(len(cursor.dump()))

    assert [f"job{number:06}" for number in range(1000)] == list(dict.fromkeys(told))
    assert max(requests) <= 20
    assert max(sizes) <= size + 40


def test_tick_ends_in_time_within_a_source(reports_on) -> None:
    """On a slow storage a tick reports a part of a source's syncs, and the next one continues after it."""
    model = WarehouseModel(tables=6)
    reports = reports_on(model)
    cursor = first_tick(reports)
    for table in model.sources["source0"].tables:
        model.advance(1)
        model.finish(model.start("source0", table))
    counts = []
    for _ in range(3):
        tick = Tick(model, reports.assets, EventLog(reports.instance), budget_s=10, run_grace=timedelta())
        # each report takes 5 s
        tick.now = lambda tick=tick: 5.0 * tick.reported
        cursor = tick.run(cursor)
        for event in tick.events:
            reports.instance.report_runless_asset_event(event)
        counts.append(tick.reported)

    assert [2, 2, 2] == counts
    assert {1} == set(reports.reported().values())


def test_cursor_does_not_grow_with_quiet_tables(reports_on) -> None:
    """Every tick keeps the cursor: a source takes as much of it whether one of its tables was synced or all."""
    sizes = []
    for synced in (1, 100):
        model = WarehouseModel(tables=100)
        reports = reports_on(model)
        cursor = first_tick(reports)
        for table in model.sources["source0"].tables[:synced]:
            model.finish(model.start("source0", table))
        for _ in range(2):
            cursor, _ = reports.tick(cursor, stored=0, max_events=1000)
        sizes.append(len(cursor.dump()))

    assert sizes[1] <= sizes[0] + 8


def test_cursor_remembers_a_limited_number_of_open_syncs(reports_on) -> None:
    """Syncs beyond it are read again until they have ended, and reported as the others."""
    model = WarehouseModel(sources=2, tables=20)
    reports = reports_on(model)
    cursor, jobs = first_tick(reports), []
    for source in model.sources.values():
        for table in source.tables:
            model.advance(1)
            jobs.append(model.start(source.id, table))
    for _ in range(2):
        cursor, _ = reports.tick(cursor, most_open_jobs=10)
        model.advance(4000)
    remembered = sum(len(source.open) for source in cursor.sources.values())
    for job in reversed(jobs):
        model.finish(job)
    for _ in range(3):
        cursor, _ = reports.tick(cursor, most_open_jobs=10)

    assert remembered <= 11
    assert {job.id: 1 for job in jobs} == reports.reported()


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
    """Anything but Completed is a failed check with the job's own error, and a note of it: no materialization."""
    model = WarehouseModel()
    reports = reports_on(model)
    cursor = first_tick(reports)
    model.finish(model.start("source0", "s0t0"), status)

    _, work = reports.tick(cursor)

    evaluation, note = work.events
    assert (False, "it broke") == (evaluation.passed, evaluation.metadata["posthog/error"].value)
    assert (dg.AssetObservation, status) == (type(note), note.metadata["posthog/status"].value)


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

    assert (events, []) == (first.reported, second.events)


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
    """The table's events are read once for all of its syncs, in pages; observations once for all tables."""
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

    assert {"fetch_materializations": 2} == reads


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


def test_reports_of_many_tables_cost_no_more_reads_than_that_of_one(reports_on) -> None:
    """Dagster's storage is what limits a tick: the newest events of a source's tables are read at once."""
    model = WarehouseModel(tables=30)
    reports = reports_on(model)
    cursor = first_tick(reports)
    # all were reported before, at the same time
    for table in model.sources["source0"].tables:
        model.finish(model.start("source0", table))
    cursor, _ = reports.tick(cursor)
    model.advance(300)
    reads, instance, storage = Counter(), reports.instance, reports.instance.event_log_storage
    for owner, names in (
        (instance, ("fetch_materializations", "fetch_observations", "get_asset_records")),
        (storage, ("get_event_records", "get_latest_asset_check_execution_by_key")),
        (storage, ("get_asset_check_execution_history", "get_asset_check_summary_records")),
    ):
        for name in names:
            read = getattr(owner, name)
            counted = lambda *args, name=name, read=read, **more: (reads.update([name]), read(*args, **more))[1]  # noqa: E731
            setattr(owner, name, counted)
    for number, table in enumerate(model.sources["source0"].tables):
        model.finish(model.start("source0", table), "Completed" if number % 10 else "Failed")

    _, work = reports.tick(cursor, stored=0)

    assert 30 == work.reported
    assert {"get_asset_records": 1, "get_event_records": 1, "get_latest_asset_check_execution_by_key": 1} == reads


def test_quiet_sources_cost_no_request_of_their_own(reports_on) -> None:
    """A tick asks for the pages of the list of sources, for the jobs of the changed ones, and for one more in turn."""
    model = WarehouseModel(sources=120, tables=2)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
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


@pytest.mark.parametrize(
    ("cursor", "host", "expected"),
    [
        ("{", "http://127.0.0.1:1", "Reset cursor"),
        (
            None,
            "http://127.0.0.1:1",
            "The list of sources cannot be read, so no sync is reported: PostHog could not be",
        ),
        (None, "https://us.i.posthog.com", "us.i.posthog.com"),
    ],
    ids=["cursor", "outage", "set-up"],
)
def test_failed_tick_is_a_sentence_without_frames(cursor, host, expected) -> None:
    """The page of the sensor shows what is wrong and what to do, and no frames of this package."""
    sensor = build_job_status_sensor(Tables(snapshot_of(WarehouseModel()), include_disabled=True))
    resource = PostHogWarehouseResource(host=host, project_id="1", api_key="phx_x", max_attempts=1)

    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, cursor=cursor, resources={"posthog_warehouse": resource}) as context,
        pytest.raises(PlainError, match=expected) as caught,
    ):
        sensor.evaluate_tick(context)

    (shown,) = caught.value.user_code_process_error_infos
    assert [] == shown.stack
