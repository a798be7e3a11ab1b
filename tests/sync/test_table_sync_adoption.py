"""Which job a table follows."""

from datetime import timedelta
from functools import partial

import pytest
from sync_model import START, Run, Table, World, one_table, play, requests_for

from dw_orchestration.sync.errors import AlreadyRunningError, SyncNeverStartedError, SyncOutcome
from dw_orchestration.sync.events import Adopted, Ended, Progress
from dw_orchestration.sync.settings import IfRunning, SyncSettings, TableRequest

DAY_S = 86_400.0


def test_the_new_job_is_adopted_before_the_wait_and_followed_to_its_end() -> None:
    """After the trigger, the first job that was not there before is the one; its Adopted comes before its end."""
    world, table = one_table()
    world.past(table, ago_s=3600)

    played = play(world).to_end()

    (adopted,) = played.all(Adopted)
    assert adopted.job.id == world.rows_of(table)[-1].id
    assert adopted.started
    assert adopted.job.finished_at is None
    kinds = [type(event) for event in played.events]
    assert kinds.index(Adopted) < kinds.index(Progress) < kinds.index(Ended)
    ended = played.ended()
    assert (SyncOutcome.COMPLETED, adopted.job.id) == (ended.outcome, ended.job.id if ended.job else None)
    assert (60.0, 60.0) == (ended.duration_s, ended.usual_s)
    assert ended.queue_s is not None
    assert 0 <= ended.queue_s <= 4


@pytest.mark.parametrize("skew_s", [-600.0, 600.0])
@pytest.mark.parametrize("tells_time", [True, False])
def test_a_clock_that_is_minutes_off_changes_nothing(*, skew_s: float, tells_time: bool) -> None:
    """Jobs are identified by their ids and PostHog's own times, never by ours."""
    world, table = one_table(world=World(skew_s=skew_s))
    world.tells_time = tells_time
    world.past(table, ago_s=30, took_s=20)

    played = play(world).to_end()

    assert played.ended().outcome is SyncOutcome.COMPLETED
    assert played.all(Adopted)[0].job.id == world.rows_of(table)[-1].id
    assert world.triggers["t"] == 1


@pytest.mark.parametrize("lost", [0, 60])
def test_an_old_job_behind_the_first_page_is_not_taken_for_a_new_one(lost: int) -> None:
    """What is older than the first page of jobs was there before, seen or not, even if the trigger's answer is lost."""
    world = World()
    world.lost = lost
    for n in range(60):
        table = Table(f"t{n}", f"table_{n}")
        world.add("s", table)
        world.past(table, ago_s=600 + n)

    played = play(world).to_end()

    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())
    assert all(event.job.created_at > START for event in played.all(Adopted))


def test_a_running_job_is_attached_to() -> None:
    """PostHog drops a trigger while a run is on, so the running job is the one, and it was not started here."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)

    played = play(world).to_end()

    (adopted,) = played.all(Adopted)
    assert not adopted.started
    assert (0, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert played.ended().queue_s is None


def test_a_running_job_behind_the_first_page_is_found() -> None:
    """A record that says Running and a page without the table's jobs: its jobs are read by name."""
    world, table = one_table(Run(duration_s=1200))
    world.start(table)
    busy = Table("busy", "busy")
    world.add("s", busy)
    world.sleep(10)
    for n in range(60):
        world.past(busy, ago_s=5 - n / 100, took_s=1)

    played = play(world).to_end()

    assert {"busy": SyncOutcome.COMPLETED, "t": SyncOutcome.COMPLETED} == played.outcomes()
    assert (0, 1) == (world.triggers["t"], world.triggers["busy"])


def test_a_record_that_says_running_without_any_job_is_triggered() -> None:
    """Older servers show a table as Running permanently when a trigger led nowhere: the search finds no job."""
    world, table = one_table(status="Running")
    busy = Table("busy", "busy")
    world.add("s", busy)
    for n in range(60):
        world.past(busy, ago_s=100 + n, took_s=1)

    played = play(world).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert 1 == len(world.rows_of(table))


def test_a_job_that_starts_before_the_trigger_and_makes_posthog_drop_it_is_adopted_as_not_ours() -> None:
    """The row may appear after the trigger although the run began before: it is followed, no matter who started it."""
    world, table = one_table(Run(queue_s=20))
    world.start(table)

    played = play(world).to_end()

    assert (1, 1) == (world.triggers["t"], len(world.rows_of(table)))
    assert played.ended().outcome is SyncOutcome.COMPLETED


def test_a_job_that_began_between_the_first_look_and_the_trigger_is_not_ours() -> None:
    """It made PostHog drop the trigger: it is followed, and a stop of the batch must not cancel it."""
    world = World()
    first, table = Table("a", "a"), Table("t", "users")
    world.add("s", first, table)
    world.at(2, lambda: world.start(table))

    played = play(world, triggers_per_min=6, poll_min_s=30).to_end()

    assert (1, 1) == (world.triggers["t"], len(world.rows_of(table)))
    assert [False] == [event.started for event in played.all(Adopted, "t")]
    assert played.ended("t").queue_s is None


def test_a_sync_that_ran_in_between_is_not_taken_for_the_one_asked_for() -> None:
    """A job that appeared after the initial read and ended before the trigger cannot be what the trigger caused."""
    world = World()
    first, table = Table("a", "a"), Table("t", "users", usual_run=Run(queue_s=1, duration_s=1))
    world.add("s", first, table)
    world.at(0.5, lambda: world.start(table))

    played = play(world, triggers_per_min=6).to_end()

    assert 2 == len(world.rows_of(table))
    assert played.all(Adopted, "t")[0].job.id == world.rows_of(table)[-1].id


def test_wait_then_reload_waits_and_then_triggers() -> None:
    """Data as new as the request: the running job ends first, then another one is started and followed."""
    world, table = one_table(Run(duration_s=100))
    world.start(table)
    world.sleep(10)

    played = play(world, if_running=IfRunning.WAIT_THEN_RELOAD).to_end()

    old, new = world.rows_of(table)
    assert [new.id] == [event.job.id for event in played.all(Adopted)]
    assert old.finished_at is not None
    assert old.finished_at < new.created_at
    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


def test_after_the_wait_a_run_that_began_since_is_good_enough() -> None:
    """A job that starts after the awaited job began later than the request: no further trigger is needed."""
    world, table = one_table(Run(duration_s=101), Run(duration_s=300))
    world.start(table)
    world.sleep(10)
    world.at(104.5, lambda: world.start(table, Run(queue_s=0, duration_s=300)))

    played = play(world, if_running=IfRunning.WAIT_THEN_RELOAD, poll_min_s=20, poll_max_s=20).to_end()

    assert (0, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert [world.rows_of(table)[-1].id] == [event.job.id for event in played.all(Adopted)]


def test_after_the_wait_an_older_leftover_is_no_reason_to_attach() -> None:
    """Of several running jobs the newest was waited for; one that began before it has older data."""
    world, table = one_table()
    leftover = world.past(table, ago_s=500, took_s=None)
    world.start(table)
    world.sleep(10)

    played = play(world, if_running=IfRunning.WAIT_THEN_RELOAD).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert leftover.id not in [event.job.id for event in played.all(Adopted)]


def test_fail_refuses_beside_a_running_job() -> None:
    """`fail` ends at once, names the job, and triggers nothing."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)

    played = play(world, if_running=IfRunning.FAIL).to_end()

    assert isinstance(played.error(), AlreadyRunningError)
    assert world.rows_of(table)[-1].id == played.error().job_id
    assert world.triggers["t"] == 0


def test_of_several_running_jobs_the_newest_counts() -> None:
    """Several running rows: the newest is attached to, and the others are named."""
    world, table = one_table()
    old = world.past(table, ago_s=500, took_s=None)
    world.start(table)
    world.sleep(10)

    played = play(world).to_end()

    assert [world.rows_of(table)[-1].id] == [event.job.id for event in played.all(Adopted)]
    assert f"not {old.id}" in played.notices()


def test_a_corpse_is_named_and_left_alone() -> None:
    """A Running row of a week ago is one that PostHog never finished: it does not keep the table from its sync."""
    world, table = one_table()
    corpse = world.past(table, ago_s=8 * DAY_S, took_s=None)

    played = play(world).to_end()

    assert corpse.id in played.notices()
    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert corpse.id not in [event.job.id for event in played.all(Adopted)]


def test_a_run_that_leaves_no_job_is_never_started() -> None:
    """No job within the start timeout has its own error, with what PostHog shows; another try can help."""
    world, table = one_table(Run(leaves_row=False))
    old = world.past(table, ago_s=3600)

    played = play(world, start_timeout_s=120).to_end()

    error = played.error()
    assert isinstance(error, SyncNeverStartedError)
    assert error.allow_retries
    assert 120 <= world.t <= 160
    assert "PostHog accepted the trigger" in str(error)
    assert "no job appeared within 0:02:00" in str(error)
    assert f"shows the table as Running, and its newest job is {old.id} (Completed" in str(error)


def test_a_table_without_any_job_says_so() -> None:
    """The text of a sync that never started is true also for a table that never had a job."""
    world, _ = one_table(Run(leaves_row=False), status=None)
    world.tells_time = False

    text = str(play(world).to_end().error())

    assert "PostHog accepted the trigger" in text
    assert "it has no job" in text


@pytest.mark.parametrize(
    ("ago_s", "took_s", "status", "outcome"),
    [
        (100, 50, "Completed", SyncOutcome.COMPLETED),
        (100, None, "Running", SyncOutcome.COMPLETED),
        (100, 50, "Failed", SyncOutcome.FAILED),
        (100, 50, "Billing limits", SyncOutcome.BILLING_LIMIT),
    ],
)
def test_a_sync_since_the_tick_stands_in_for_one_of_ours(
    ago_s: float, took_s: float | None, status: str, outcome: SyncOutcome
) -> None:
    """With `accept_jobs_since`, the job since then is the one, however it ended: a tick has one sync."""
    world, table = one_table()
    row = world.past(table, ago_s=ago_s, took_s=took_s, status=status)
    world.at(30, lambda: world._finish(row, "Completed", error=None))

    played = play(world, accept_jobs_since=START - timedelta(seconds=300)).to_end()

    assert (0, outcome) == (world.triggers["t"], played.ended().outcome)
    assert [row.id] == [adopted.job.id for adopted in played.all(Adopted)]


def test_a_sync_from_before_the_tick_does_not_stand_in_for_one_of_ours() -> None:
    """With `accept_jobs_since`, an older job is not the tick's: one is started."""
    world, table = one_table()
    world.past(table, ago_s=400, took_s=50)

    played = play(world, accept_jobs_since=START - timedelta(seconds=300)).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


def test_of_several_syncs_since_the_tick_a_good_one_counts() -> None:
    """A job that completed is taken before a later one that failed."""
    world, table = one_table()
    good = world.past(table, ago_s=200, took_s=50)
    world.past(table, ago_s=100, took_s=50, status="Failed")

    played = play(world, accept_jobs_since=START - timedelta(seconds=300)).to_end()

    assert [good.id] == [adopted.job.id for adopted in played.all(Adopted)]


def test_a_retry_of_a_tick_starts_a_sync_of_its_own() -> None:
    """The job that failed was the tick's; the try after it has to start another, or take one that came since."""
    world, table = one_table()
    failed = world.past(table, ago_s=100, took_s=50, status="Failed")
    requests = requests_for(world, resume_job_id=failed.id)

    played = play(world, requests=requests, accept_jobs_since=START - timedelta(seconds=300)).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


@pytest.mark.parametrize("tables", [1, 60])
@pytest.mark.parametrize("sources", [1, 5])
@pytest.mark.parametrize("late_s", [2.0, 25.0])
def test_posthogs_own_sync_comes_first_if_it_comes_in_time(tables: int, sources: int, late_s: float) -> None:
    """Until `trigger_after` nothing is triggered, and a sync that PostHog begins meanwhile is the one."""
    world = World()
    for source in range(sources):
        for n in range(tables):
            world.add(f"s{source}", Table(f"{source}-{n}", f"table_{n}", last_synced_at=-3600.0))
    everyone = [table for group in world.sources.values() for table in group]
    for table in everyone:
        world.at(late_s, partial(world.start, table, Run(queue_s=0.5, duration_s=3.0)))

    played = play(world, accept_jobs_since=START, trigger_after=START + timedelta(seconds=30)).to_end()

    assert (0, {SyncOutcome.COMPLETED}) == (sum(world.triggers.values()), set(played.outcomes().values()))
    assert {False} == {adopted.started for adopted in played.all(Adopted)}
    assert 1 == played.notices().count("may still start")


@pytest.mark.parametrize("skew_s", [-300.0, 0.0, 300.0])
@pytest.mark.parametrize("sources", [1, 5])
def test_what_posthog_does_not_begin_in_time_is_started(skew_s: float, sources: int) -> None:
    """From `trigger_after` on, by PostHog's clock, a table without a job since the tick is triggered, once."""
    world = World(skew_s=skew_s)
    for source in range(sources):
        world.add(f"s{source}", Table(f"t{source}", "users", last_synced_at=-3600.0))

    played = play(world, accept_jobs_since=START, trigger_after=START + timedelta(seconds=30)).to_end()

    assert {f"t{source}": 1 for source in range(sources)} == dict(world.triggers)
    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())
    assert min(row.created_at for row in world.rows) >= 30
    assert max(row.created_at for row in world.rows) <= 45


def test_jobs_since_the_tick_are_found_on_later_pages() -> None:
    """A tick's jobs can be more than a page: the initial read goes back to the tick."""
    world = World()
    for n in range(130):
        table = Table(f"t{n}", f"table_{n}")
        world.add("s", table)
        world.past(table, ago_s=200 - n, took_s=10)

    played = play(world, accept_jobs_since=START - timedelta(seconds=300)).to_end()

    assert ({}, {SyncOutcome.COMPLETED}) == (dict(world.triggers), set(played.outcomes().values()))


def test_two_batches_on_one_table_share_one_job() -> None:
    """Two batches at once: PostHog drops the second trigger, and both follow the one job."""
    world, table = one_table(Run(queue_s=10))
    first, second = play(world).engine.events(), play(world).engine.events()
    ends: list[Ended] = []
    open_ = [first, second]
    while open_:
        for events in list(open_):
            event = next(events, None)
            if event is None:
                open_.remove(events)
            elif isinstance(event, Ended):
                ends.append(event)

    (row,) = world.rows_of(table)
    assert [(SyncOutcome.COMPLETED, row.id)] * 2 == [(end.outcome, end.job and end.job.id) for end in ends]


def test_a_table_can_be_asked_for_once() -> None:
    """Two requests for one table in one batch are a mistake."""
    world, _ = one_table()

    with pytest.raises(ValueError, match="twice"):
        play(world, requests=requests_for(world) * 2)


def test_without_waiting_a_table_ends_submitted() -> None:
    """`wait=False` records the job and claims no success."""
    world, table = one_table()

    played = play(world, wait=False).to_end()

    (adopted,) = played.all(Adopted)
    assert (adopted.job.id, SyncOutcome.SUBMITTED) == (world.rows_of(table)[-1].id, played.ended().outcome)
    assert played.ended().error is None
    assert world.t < 10


def test_without_waiting_a_job_that_has_already_ended_is_reported_as_it_ended() -> None:
    """`wait=False` does not hide an end that is there to be seen."""
    world, _ = one_table(Run(queue_s=1, duration_s=0.1, status="Billing limits"))

    assert play(world, wait=False).to_end().ended().outcome is SyncOutcome.BILLING_LIMIT


def test_a_renamed_table_is_found_under_its_new_name() -> None:
    """The source's record has the current name; the request's may be old."""
    world, table = one_table()
    request = TableRequest(source_id="s", schema_id="t", name="old_name")
    world.at(20, lambda: setattr(table, "name", "newest_name"))

    played = play(world, requests=[request]).to_end()

    assert played.ended().outcome is SyncOutcome.COMPLETED


def test_the_defaults_need_nothing_but_an_api() -> None:
    """A batch works on the machine's clock and default settings when given none."""
    from dw_orchestration.sync.engine import SyncEngine

    assert [] == list(SyncEngine(World(), []).events())
    assert SyncSettings().wait
