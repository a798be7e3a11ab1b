"""A second try of the same run, and full resyncs."""

from datetime import timedelta

import pytest
from sync_model import START, Run, Table, World, one_table, play, requests_for

from dw_orchestration.sync import errors
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted
from dw_orchestration.sync.settings import IfRunning, SyncMode, SyncSettings


@pytest.mark.parametrize("started", [True, False])
def test_a_running_job_of_an_earlier_try_is_resumed(*, started: bool) -> None:
    """A retried step follows the recorded job, and remembers whether it was its own."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)
    requests = requests_for(world, resume_job_id=world.rows_of(table)[-1].id, resume_started=started)

    played = play(world, requests=requests).to_end()

    assert [started] == [event.started for event in played.all(Adopted)]
    assert (0, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


def test_a_completed_job_of_an_earlier_try_is_the_result() -> None:
    """The sync has completed meanwhile: it is reported, and nothing is triggered, even if the table is now off."""
    world, table = one_table(should_sync=False)
    row = world.past(table, ago_s=60, took_s=30)

    played = play(world, requests=requests_for(world, resume_job_id=row.id)).to_end()

    ended = played.ended()
    assert (SyncOutcome.COMPLETED, row.id) == (ended.outcome, ended.job and ended.job.id)
    assert world.triggers["t"] == 0


@pytest.mark.parametrize("job_id", ["of-the-failed-one", "never-heard-of"])
def test_a_failed_job_of_an_earlier_try_asks_for_another(job_id: str) -> None:
    """Only Running and Completed jobs are resumed: after a failure, the retry is there to try again."""
    world, table = one_table()
    row = world.past(table, ago_s=60, took_s=30, status="Failed", error="broken")
    wanted = row.id if job_id == "of-the-failed-one" else job_id

    played = play(world, requests=requests_for(world, resume_job_id=wanted)).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


def test_a_job_to_resume_is_found_behind_the_first_page() -> None:
    """The recorded job may be older than 50 jobs of the same source: it is searched by its table's name."""
    world, table = one_table()
    row = world.past(table, ago_s=4000, took_s=3000)
    busy = Table("busy", "busy")
    world.add("s", busy)
    for n in range(60):
        world.past(busy, ago_s=3000 + n, took_s=1)
        world.past(table, ago_s=3500 + n, took_s=1)

    played = play(world, requests=requests_for(world, resume_job_id=row.id)).to_end()

    ended = played.ended()
    assert (SyncOutcome.COMPLETED, row.id) == (ended.outcome, ended.job and ended.job.id)


def test_the_search_for_a_job_has_an_end() -> None:
    """A recorded job that PostHog no longer has does not make the engine read a table's whole history."""
    world, table = one_table()
    for n in range(3000):
        world.past(table, ago_s=100 + n * 60, took_s=10)

    play(world, requests=requests_for(world, resume_job_id="gone")).until(Adopted)

    assert world.others < 30


def test_the_look_back_to_a_tick_has_an_end() -> None:
    """A tick of long ago does not make the engine read everything since."""
    world, table = one_table()
    for n in range(3000):
        world.past(table, ago_s=100 + n * 60, took_s=10, status="Cancelled")

    play(world, accept_jobs_since=START - timedelta(days=30)).until(Adopted)

    assert world.others < 30


# --- resync ---


def test_a_resync_follows_the_job_that_starts_from_scratch() -> None:
    """A running reload is no resync: PostHog cancels it, and the next job is the one."""
    world, table = one_table(Run(duration_s=1000))
    world.start(table)
    world.sleep(10)

    played = play(world, sync_mode=SyncMode.RESYNC).to_end()

    old, new = world.rows_of(table)
    assert ("Failed", [new.id]) == (old.status, [event.job.id for event in played.all(Adopted)])
    assert played.ended().outcome is SyncOutcome.COMPLETED
    assert f"cancels the running sync {old.id}" in played.notices()


def test_a_resync_does_not_take_a_job_that_began_before_it() -> None:
    """A reload that appeared between the initial read and the resync is cancelled by it, and is not its job."""
    world = World()
    first, table = Table("a", "a"), Table("t", "users", usual_run=Run(queue_s=1, duration_s=500))
    world.add("s", first, table)
    world.at(4, lambda: world.start(table))

    played = play(world, sync_mode=SyncMode.RESYNC, triggers_per_min=6, poll_min_s=30).to_end()

    assert 2 == len(world.rows_of(table))
    assert [world.rows_of(table)[-1].id] == [event.job.id for event in played.all(Adopted, "t")]


def test_a_resync_can_wait_for_the_running_sync() -> None:
    """`wait_then_reload` lets the running sync end before the table is dropped."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)

    played = play(world, sync_mode=SyncMode.RESYNC, if_running=IfRunning.WAIT_THEN_RELOAD).to_end()

    assert ["Completed", "Completed"] == [row.status for row in world.rows_of(table)]
    assert played.ended().outcome is SyncOutcome.COMPLETED


def test_a_resync_beside_a_running_sync_can_be_refused() -> None:
    """`fail` holds for a resync too."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)

    played = play(world, sync_mode=SyncMode.RESYNC, if_running=IfRunning.FAIL).to_end()

    assert isinstance(played.error(), errors.AlreadyRunningError)
    assert not played.error().allow_retries


def test_a_resync_clears_a_failure_streak() -> None:
    """A streak defers reloads; a resync starts at once."""
    world, table = one_table()
    for n in range(6):
        world.past(table, ago_s=100 + n * 100, took_s=10, status="Failed", error="broken")

    assert play(world, sync_mode=SyncMode.RESYNC).to_end().ended().outcome is SyncOutcome.COMPLETED


def test_no_retry_drops_a_table_a_second_time() -> None:
    """Every error of a resync forbids a retry; a resumed failure is taken as the result."""
    world, table = one_table(Run(status="Failed", error="broken"))
    first = play(world, sync_mode=SyncMode.RESYNC).to_end()
    (row,) = world.rows_of(table)

    second = play(world, sync_mode=SyncMode.RESYNC, requests=requests_for(world, resume_job_id=row.id)).to_end()

    for played in (first, second):
        assert isinstance(played.error(), errors.SyncFailedError)
        assert not played.error().allow_retries
    assert world.triggers["t"] == 1


def test_no_retry_drops_a_table_whose_resync_is_not_found() -> None:
    """A resync of long ago, or one that PostHog has no longer, does not let its re-execution begin another one."""
    world, table = one_table()
    for n in range(60):
        world.past(table, ago_s=100 + n * 60, took_s=10)

    played = play(world, sync_mode=SyncMode.RESYNC, requests=requests_for(world, resume_job_id="gone")).to_end()

    assert isinstance(played.error(), errors.TriggerRefusedError)
    assert "resync gone" in str(played.error())
    assert (False, 0) == (played.error().allow_retries, world.triggers["t"])


def test_a_resync_cannot_be_stood_in_for() -> None:
    """`accept_jobs_since` would let any sync pass for a resync."""
    with pytest.raises(ValueError, match="no other sync can replace a resync"):
        SyncSettings(sync_mode=SyncMode.RESYNC, accept_jobs_since=START)
