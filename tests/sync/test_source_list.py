"""Many sources: one list shows which of them have changed."""

from functools import partial
from itertools import count
from statistics import median
from typing import Any

import pytest
from sync_model import START, Run, Table, World, lags, play, problem, too_many_requests, world_of

from dw_orchestration.posthog.errors import PostHogError, ServerError
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Ended
from dw_orchestration.sync.settings import IfRunning


def bad_gateway() -> PostHogError:
    """A 502."""
    return ServerError(problem(502))


def completed(world: World, **settings: float) -> World:
    """Play to the end, and expect nothing but success from one trigger each."""
    outcomes = play(world, **settings).to_end().outcomes()
    assert {SyncOutcome.COMPLETED} == set(outcomes.values())
    assert {1} == set(world.triggers.values())
    return world


def test_fifty_sources_of_one_table_each_take_hardly_longer_than_one() -> None:
    """A sync of 20 s in each of 50 sources: a trigger, two reads of jobs each and a few lists; ends seen at once."""
    world = world_of(1, sources=50, duration_s=20)

    seen = lags(world)

    assert (50, 50) == (len(seen), sum(world.triggers.values()))
    assert world.others <= 120
    assert world.calls["list_sources"] <= 15
    assert world.calls["get_source"] == 0
    assert world.t <= 30
    assert median(seen) <= 3


def test_the_list_is_read_before_any_source_also_by_a_clock_that_moves() -> None:
    """Real clocks move while a batch is made: the list must not come second for that."""
    world = world_of(1, sources=50, duration_s=20)
    still, reads = world.monotonic, count()
    world.monotonic = lambda: still() + 1e-6 * next(reads)

    completed(world)

    assert 0 == world.calls["get_source"]


def test_a_long_wait_for_many_sources_costs_a_list_a_look() -> None:
    """While all run, their jobs are read only from time to time."""
    world = world_of(1, sources=50, duration_s=600)

    completed(world)

    assert world.calls["list_jobs"] <= 50 * (3 + 3)


def test_few_sources_are_read_one_by_one() -> None:
    """The list of all sources can be longer than the batch."""
    assert 0 == completed(world_of(1, sources=3)).calls["list_sources"]


def test_a_list_of_more_pages_than_the_batch_has_sources_is_not_read_again() -> None:
    """A project of a thousand sources, four of which are synced."""
    world = world_of(1, sources=4)
    wanted = play(world)
    for n in range(600):
        world.add(f"other-{n}")

    outcomes = wanted.to_end().outcomes()

    assert {SyncOutcome.COMPLETED} == set(outcomes.values())
    assert 7 == world.calls["list_sources"]


def test_the_list_is_read_no_further_than_needed() -> None:
    """The newest sources come first."""
    world = World()
    for n in range(600):
        world.add(f"other-{n}")
    for n in range(5):
        world.add(f"source-{n}", Table(f"t{n}", "t"))

    completed(world)

    assert 5 * 3 == world.calls["list_jobs"]
    assert 10 < world.calls["list_sources"] <= 40


@pytest.mark.parametrize("fails", [1, 1000])
def test_a_list_that_cannot_be_read_at_first_is_done_without(fails: int) -> None:
    """Each source is read by itself, until the list can be had."""
    world = world_of(1, sources=5)
    world.faults["list_sources"].extend(bad_gateway() for _ in range(fails))

    played = play(world).to_end()

    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())
    assert 5 == world.calls["get_source"]
    assert 1 == played.notices().count("The list of sources cannot be read")


def test_a_list_that_fails_for_long_is_replaced_by_looks_at_each_source() -> None:
    """The ends are seen as soon as in a batch of few sources."""
    world = world_of(1, sources=6, duration_s=100, past=False)
    world.at(20, lambda: world.faults["list_sources"].extend(bad_gateway() for _ in range(50)))

    assert max(lags(world)) <= 10
    assert world.calls["get_source"] == 0


def test_a_list_that_can_be_read_again_is_used_again() -> None:
    """After minutes without it, the jobs are again read only from time to time."""
    world = world_of(1, sources=6, duration_s=1200)
    world.at(20, lambda: world.faults["list_sources"].extend(bad_gateway() for _ in range(7)))

    played = play(world).to_end()

    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())
    assert 1 == played.notices().count("The list of sources cannot be read")
    assert world.calls["list_jobs"] <= 6 * 40


def test_a_short_failure_of_the_list_changes_nothing() -> None:
    """For half a minute the last records are good enough."""
    world = world_of(1, sources=6, duration_s=300)
    world.at(20, lambda: world.faults["list_sources"].extend([bad_gateway(), too_many_requests(5)]))

    played = play(world).to_end()

    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())
    assert "" == played.notices()


def test_a_slow_list_is_left_time_to_rest() -> None:
    """A list that takes 3 s is asked for a fifth of the time at most."""
    world = world_of(1, sources=10)
    world.slow_s["list_sources"] = 3.0

    completed(world)

    assert world.calls["list_sources"] <= world.t / 15 + 2


def test_a_trigger_does_not_make_a_failing_list_be_read_sooner() -> None:
    """It is waited for as long as PostHog says."""
    world = world_of(1, sources=5)
    world.faults["list_sources"].append(too_many_requests(50))

    completed(world)

    assert world.calls["list_sources"] <= 12


def test_a_record_that_goes_on_saying_running_is_doubted() -> None:
    """The jobs of a table that seems to run are read at least once a minute at first."""
    world = world_of(1, sources=10, duration_s=100)

    def paint() -> None:
        for tables in world.sources.values():
            tables[0].status, tables[0].last_synced_at = "Running", None
        if world.t < 1000:
            world.at(world.t + 0.5, paint)

    paint()

    assert max(lags(world)) <= 65


def test_a_record_is_not_believed_about_an_end() -> None:
    """A record that shows an end too early makes the job be read, and the job continues."""
    world = world_of(1, sources=10, duration_s=100)

    def paint(n: int) -> None:
        for tables in world.sources.values():
            tables[0].status, tables[0].last_synced_at = "Completed", float(n)

    for n in range(20, 90, 10):
        world.at(n, partial(paint, n))

    completed(world)

    assert {100.0} == {row.finished_at - row.created_at for row in world.rows[-10:] if row.finished_at is not None}


@pytest.mark.parametrize("whole_source", [False, True])
def test_a_deleted_one_of_many_ends_deleted(*, whole_source: bool) -> None:
    """A source that the list does not show is polled separately, and only that poll decides."""
    world = world_of(2, sources=6)

    def delete() -> None:
        world.delete(world.table("3-0"))
        if whole_source:
            del world.sources["source-3"]

    world.at(30, delete)
    outcomes = play(world).to_end().outcomes()

    gone = {name for name, outcome in outcomes.items() if outcome is SyncOutcome.DELETED}
    assert ({"3-0", "3-1"} if whole_source else {"3-0"}) == gone
    assert 12 == len(outcomes)


@pytest.mark.parametrize("left_out", ["source-2", "2-0"])
def test_what_the_list_leaves_out_is_looked_at_by_itself(left_out: str) -> None:
    """A source or a table that exists nevertheless is synced."""
    world = world_of(1, sources=6)
    world.unlisted.add(left_out)

    assert 1 == completed(world).calls["get_source"]


def test_a_table_that_is_expected_to_run_is_no_news() -> None:
    """Its record says Running from the trigger on; each table's jobs are read at the start and at the end."""
    world = world_of(1, sources=10)
    for tables in world.sources.values():
        tables[0].usual_run = Run(queue_s=5)

    assert 10 * 2 == completed(world).calls["list_jobs"]


def test_a_foreign_run_in_one_of_many_sources_is_attached_to() -> None:
    """PostHog's own schedule starts a queued table: its record shows it, and it is not triggered."""
    world = world_of(1, sources=30)
    world.at(5, lambda: world.start(world.table("29-0"), Run(duration_s=600, queue_s=0)))

    outcomes = play(world, triggers_per_min=20).to_end().outcomes()

    assert 0 == world.triggers["29-0"]
    assert {SyncOutcome.COMPLETED} == set(outcomes.values())


def test_many_tables_of_many_sources_are_read_by_what_the_list_tells() -> None:
    """Of a source with more than fifty tables, those that changed are read, without another poll of the source."""
    world = world_of(60, sources=4, duration_s=300)

    completed(world)

    assert 0 == world.calls["get_source"]
    assert world.others <= 250


@pytest.mark.parametrize("lost", [0, 10])
@pytest.mark.parametrize("running_s", [None, 30])
@pytest.mark.parametrize("failed_s", [None, 300])
def test_a_list_that_is_wrong_costs_no_sync(*, lost: int, running_s: int | None, failed_s: int | None) -> None:
    """Records say Completed after a sync has begun or failed: the running one is joined, an old one is no result."""
    world = world_of(1, sources=5)
    world.lost = lost
    for tables in world.sources.values():
        if failed_s is not None:
            world.past(tables[0], ago_s=failed_s, took_s=10, status="Failed", error="no")
        if running_s is not None:
            world.start(tables[0], Run(queue_s=0, duration_s=running_s))
            tables[0].status = "Completed"
    world.sleep(5)

    played = play(world).to_end()

    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())
    for event in played.all(Ended):
        assert event.job is not None
        assert event.job.id == world.rows_of(world.table(event.schema_id))[-1].id
        assert len(world.rows_of(world.table(event.schema_id))) == 2 + (failed_s is not None)


@pytest.mark.parametrize("settings", [{"if_running": IfRunning.FAIL}, {"accept_jobs_since": START}])
def test_jobs_are_read_first_where_something_else_depends_on_them(settings: dict[str, Any]) -> None:
    """A sync that a wrong record hides must not be overlooked: it would be a second one for a tick, or no error."""
    world = world_of(1, sources=5)
    for tables in world.sources.values():
        world.start(tables[0], Run(queue_s=0, duration_s=30))
        tables[0].status = "Completed"
    world.sleep(5)

    play(world, **settings).to_end()

    assert not world.triggers
