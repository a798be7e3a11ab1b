"""How many requests a batch makes, and how soon it sees an end."""

from statistics import median

import pytest
from sync_model import Run, Table, World, lags, one_table, play, problem, world_of

from dw_orchestration.posthog.errors import ServerError
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted, Ended


@pytest.mark.parametrize(
    ("tables", "sources", "duration_s", "others", "lag_s", "in_s"),
    [
        (1, 1, 60, 35, 2, 70),
        (50, 1, 60, 45, 3, 85),
        (100, 1, 60, 60, 3, 100),
        (1000, 1, 60, 300, 3, 400),
        (1, 10, 20, 50, 3, 30),
        (1, 50, 3600, 1300, 10, 3620),
        (5, 60, 600, 850, 3, 680),
        (1, 1, 3600, 140, 10, 3620),
        (200, 1, 3600, 300, 40, 3750),
    ],
)
@pytest.mark.parametrize("past", [True, False])
def test_requests_and_delays_stay_within_their_budget(
    *, tables: int, sources: int, duration_s: float, others: int, lag_s: float, in_s: float, past: bool
) -> None:
    """One trigger for each table, few other requests, and each end is seen soon, with or without a history."""
    world = world_of(tables, sources=sources, duration_s=duration_s, past=past)

    seen = lags(world)

    assert {1} == set(world.triggers.values())
    assert tables * sources == len(world.triggers)
    assert world.others <= others
    assert world.t <= (in_s if past else in_s + 60)
    assert median(seen) <= (lag_s if past else max(lag_s, 60))


@pytest.mark.parametrize(
    ("tables", "shortest_s", "past"),
    [
        (1, 10_800, True),
        (1, 10_800, False),
        (20, 10_800, True),
        (20, 10_800, False),
        (20, 600, True),
        (200, 10_800, False),
    ],
)
def test_an_hour_of_waiting_for_a_source_costs_at_most_140_requests(
    *, tables: int, shortest_s: float, past: bool
) -> None:
    """Syncs of three hours, or of very different durations, with or without a history."""
    world = world_of(tables, duration_s=10_800, past=False)
    for n, table in enumerate(world.sources["source-0"]):
        duration_s = 10_800 - (10_800 - shortest_s) * n / tables
        # a sync takes a little longer than usual
        table.usual_run = Run(duration_s=1.02 * duration_s)
        if past:
            world.past(table, ago_s=20_000, took_s=duration_s)

    lags(world)

    assert world.others <= 140 * world.t / 3600


@pytest.mark.parametrize(("past", "others"), [(True, 400), (False, 650)])
def test_an_hour_of_waiting_for_fifty_sources_costs_few_requests(*, past: bool, others: int) -> None:
    """The list of sources shows the ends, so that their jobs are read seldom."""
    world = world_of(2, sources=50, duration_s=10_800, past=past)

    lags(world)

    assert world.others <= others * world.t / 3600


def test_few_tables_cost_one_request_a_look() -> None:
    """One request polls thirty tables, as it polls one."""
    one, thirty = world_of(1), world_of(30)
    lags(one)
    lags(thirty)

    looks = [len(names) for names in thirty.page_reads]
    assert max(looks) == 30
    assert thirty.others <= one.others + 10


def test_an_old_job_does_not_make_each_look_read_the_past_of_the_others() -> None:
    """A job that runs since yesterday is read apart from the tables that have just been triggered."""
    world = World()
    old, fresh = Table("old", "old", status="Running"), Table("fresh", "fresh", usual_run=Run(queue_s=100))
    world.add("s", old, fresh)
    row = world.past(old, ago_s=50_000, took_s=None)
    for n in range(400):
        world.past(fresh, ago_s=49_000 - n * 120, took_s=1)
    world.at(90, lambda: world._finish(row, "Completed", error=None))

    ended = play(world).until(Ended)

    assert ("old", SyncOutcome.COMPLETED) == (ended.schema_id, ended.outcome)
    assert (0, 1) == (world.triggers["old"], world.triggers["fresh"])
    assert world.t <= 95
    assert 1 == max(world.rows_read[-20:])


def test_a_job_that_no_record_shows_is_found_among_old_ones() -> None:
    """A job that was running before the trigger, which PostHog dropped, though newer jobs fill a page."""
    world = world_of(40, duration_s=60)
    table = world.table("0-0")
    running = world.past(table, ago_s=7100, took_s=None)
    table.run_id = -1
    for other in world.sources["source-0"][1:]:
        world.past(other, ago_s=6000, took_s=60)

    adopted = play(world, start_timeout_s=120).to_end().all(Adopted, "0-0")

    assert [(running.id, False)] == [(event.job.id, event.started) for event in adopted]


def test_results_come_before_adoptions() -> None:
    """Each event takes its time to be stored, and assets downstream wait for the results; checks can wait for both."""
    world = World()
    world.add("s", Table("new", "new", usual_run=Run(queue_s=63)), Table("old", "old", usual_run=Run(queue_s=3)))

    events = play(world).to_end().events

    names = [(type(event).__name__, getattr(event, "schema_id", None)) for event in events]
    first = names.index(("Ended", "old"))
    assert [("Ended", "old"), ("Adopted", "new"), ("CaughtUp", None)] == names[first : first + 3]


def test_a_changed_record_makes_a_table_of_many_be_read() -> None:
    """Of more than fifty tables only those are read that wait for their job or whose record has changed."""
    world = world_of(120, duration_s=1800)

    lags(world)

    assert all(0 < len(names) <= 50 for names in world.page_reads[1:])


def test_a_record_that_lies_is_found_out() -> None:
    """A table whose record still says Running after its job's end is read from time to time."""
    world = world_of(60, duration_s=600)

    def paint() -> None:
        for table in world.sources["source-0"]:
            table.status, table.last_synced_at = "Running", None
        world.at(world.t + 0.5, paint)
        if world.t > 5000:
            raise AssertionError("the batch never ended")

    world.at(0, paint)

    assert max(lags(world)) <= 160


def test_a_table_that_is_deleted_among_many_ends_deleted() -> None:
    """The record of many tables shows at once which are gone."""
    world = world_of(60)
    gone = world.table("0-3")
    world.at(30, lambda: world.delete(gone))

    played = play(world).to_end()

    outcomes = played.outcomes()
    assert outcomes.pop("0-3") is SyncOutcome.DELETED
    assert {SyncOutcome.COMPLETED} == set(outcomes.values())


def test_a_foreign_run_is_seen_while_a_table_waits_for_its_turn() -> None:
    """PostHog's own schedule starts a queued table of many: it is attached to, not triggered."""
    world = world_of(60)
    last = world.table("0-59")
    world.at(1, lambda: world.start(last, Run(duration_s=600)))

    play(world, triggers_per_min=30).to_end()

    assert 0 == world.triggers["0-59"]


def test_triggers_do_not_starve_polls() -> None:
    """Ends are seen soon although hundreds of tables are still to be triggered."""
    world = world_of(300, duration_s=10)

    seen = lags(world)

    assert world.t > 70
    assert max(seen) <= 10


def test_the_time_that_events_take_is_a_part_of_the_pause() -> None:
    """While the result of one table is stored, others end: they are seen right afterwards."""
    world = World()
    world.add("s", *(Table(f"t{n}", f"t{n}", usual_run=Run(duration_s=10.0 + 4 * n)) for n in range(2)))
    seen = []
    for event in play(world).engine.events():
        if isinstance(event, Ended):
            seen.append(world.t)
            world.sleep(8)

    assert seen[1] - seen[0] < 9


def test_an_outage_of_one_source_does_not_hold_up_another() -> None:
    """Each source is polled separately, and triggered when it is reachable."""
    world, _ = one_table()
    world.add("u", Table("u", "u"))
    world.faults["get_source s"].extend(ServerError(problem(502)) for _ in range(5))

    ends = {end.schema_id: end for end in play(world).to_end().all(Ended)}

    assert ["u", "t"] == list(ends)
    assert {SyncOutcome.COMPLETED} == {end.outcome for end in ends.values()}


def test_batches_that_began_together_drift_apart() -> None:
    """Runs that one schedule's tick started drift apart in their polls, and do not poll much less often."""
    least, middle, most = [polls_of_five_minutes(chance) for chance in (1.0, 0.5, 0.0)]

    assert 0.85 * most < least < middle < most


def polls_of_five_minutes(chance: float) -> int:
    """How often a batch reads the jobs of a sync of five minutes."""
    world, _ = one_table(Run(duration_s=300), world=World(chance=chance))
    assert [SyncOutcome.COMPLETED] == list(play(world).to_end().outcomes().values())
    return world.calls["list_jobs"]
