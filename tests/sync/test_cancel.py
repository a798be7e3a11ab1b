"""A user stops the batch."""

import pytest
from sync_model import CANCELLED, RESTARTED, Run, Table, World, one_table, play, problem, requests_for

from dw_orchestration.posthog.errors import BadRequestError, ServerError
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted, CancelResult, Ended, Notice
from dw_orchestration.sync.settings import IfRunning


def test_a_started_job_is_cancelled_and_its_end_awaited() -> None:
    """The batch's own job is cancelled once, and the report comes when it has ended."""
    world, table = one_table()
    played = play(world)
    played.until(Adopted)
    world.cancel_takes_s = 7

    (report,) = played.engine.cancel_started()

    (row,) = world.rows_of(table)
    assert ("t", row.id, CancelResult.CANCELLED, True) == (
        report.schema_id,
        report.job_id,
        report.result,
        report.is_stopped,
    )
    assert ("Failed", CANCELLED, 1) == (row.status, row.error, world.cancels["t"])


def test_an_adopted_job_is_left_alone() -> None:
    """What the batch only found belongs to somebody else."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)
    played = play(world)
    played.until(Adopted)

    assert ([], {}) == (played.engine.cancel_started(), dict(world.cancels))


def test_a_table_that_waits_for_another_sync_has_nothing_to_cancel() -> None:
    """`wait_then_reload` has started nothing yet."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)
    played = play(world, if_running=IfRunning.WAIT_THEN_RELOAD)
    played.until(Notice)

    assert [] == played.engine.cancel_started()


@pytest.mark.parametrize(("started", "cancels"), [(True, 1), (False, 0)])
def test_a_resumed_job_is_cancelled_if_the_earlier_try_started_it(*, started: bool, cancels: int) -> None:
    """The request says whose job it is."""
    world, table = one_table()
    world.start(table)
    world.sleep(10)
    job_id = world.rows_of(table)[-1].id
    played = play(world, requests=requests_for(world, resume_job_id=job_id, resume_started=started))
    played.until(Adopted)

    assert cancels == len(played.engine.cancel_started()) == world.cancels["t"]


def test_a_job_that_ended_by_itself_is_no_error() -> None:
    """Cancelling too late is success."""
    world, _ = one_table()
    played = play(world)
    played.until(Adopted)
    world.sleep(100)

    (report,) = played.engine.cancel_started()

    assert (CancelResult.ALREADY_FINISHED, True) == (report.result, report.is_stopped)
    assert world.cancels["t"] == 0


def test_a_job_that_appears_only_after_the_stop_is_cancelled() -> None:
    """The trigger was sent, and its job had not appeared when the user stopped: it is caught when it does."""
    world, table = one_table(Run(queue_s=20))
    other = Table("other", "other")
    world.add("s", other)
    played = play(world)
    played.until(Adopted)

    reports = played.engine.cancel_started()

    assert {"t": CancelResult.CANCELLED, "other": CancelResult.CANCELLED} == {
        report.schema_id: report.result for report in reports
    }
    assert "Failed" == world.rows_of(table)[-1].status


def test_a_stop_within_the_trigger_counts_the_table_as_triggered() -> None:
    """Interrupted inside the request, the batch cannot know its effect: it looks for the job."""
    world, table = one_table()

    def interrupted(schema_id: str) -> None:
        world.start(table)
        raise KeyboardInterrupt(schema_id)

    world.reload_schema = interrupted  # type: ignore[method-assign]  # a signal within the call
    played = play(world)
    with pytest.raises(KeyboardInterrupt):
        played.to_end()

    (report,) = played.engine.cancel_started()

    assert (CancelResult.CANCELLED, "Failed") == (report.result, world.rows_of(table)[-1].status)


def test_a_trigger_without_a_job_is_reported_as_such() -> None:
    """Nothing to cancel, and no promise that nothing will start."""
    world, _ = one_table(Run(leaves_row=False))
    world.add("s", Table("u", "u"))
    played = play(world)
    played.until(Adopted)

    reports = {report.schema_id: report for report in played.engine.cancel_started()}

    assert (CancelResult.NO_JOB, False) == (reports["t"].result, reports["t"].is_stopped)
    assert reports["u"].result is CancelResult.CANCELLED


def test_a_job_that_does_not_end_is_not_confirmed() -> None:
    """PostHog accepts the request and the job continues: the report names it after the timeout."""
    world, _ = one_table(Run(duration_s=1000))
    played = play(world)
    played.until(Adopted)
    world.cancel_takes_s = 100
    began = world.t

    (report,) = played.engine.cancel_started(timeout_s=30)

    assert (CancelResult.NOT_CONFIRMED, False, 1) == (report.result, report.is_stopped, world.cancels["t"])
    assert 30 <= world.t - began <= 35
    assert "its sync is still shown as running" in report.text


def test_a_request_that_is_not_taken_is_repeated() -> None:
    """`Could not cancel the running sync. Please try again.` is repeated as PostHog asks; the poll may fail as well."""
    world, _ = one_table()
    played = play(world)
    played.until(Adopted)
    world.faults["cancel_schema"].append(BadRequestError(problem(400, detail="Please try again.")))
    world.faults["list_jobs"].append(ServerError(problem(502)))

    (report,) = played.engine.cancel_started()

    assert report.result is CancelResult.CANCELLED


def test_trouble_to_the_end_is_in_the_report() -> None:
    """Why a cancellation could not be confirmed."""
    world, _ = one_table(Run(duration_s=1000))
    played = play(world)
    played.until(Adopted)
    world.outages.append((0, 1e9, lambda: ServerError(problem(502))))

    (report,) = played.engine.cancel_started()

    assert report.result is CancelResult.NOT_CONFIRMED
    assert "PostHog is unreachable" in report.text


def test_a_newer_run_of_somebody_else_is_not_hit() -> None:
    """PostHog cancels the newest job; if that is not ours, it is not asked."""
    world, table = one_table(Run(duration_s=1000))
    played = play(world)
    played.until(Adopted)
    newer = world.past(table, ago_s=0, took_s=None)

    (report,) = played.engine.cancel_started()

    assert (CancelResult.NOT_CONFIRMED, 0) == (report.result, world.cancels["t"])
    assert newer.id in report.text


def test_a_run_that_took_the_place_of_ours_is_left_alone() -> None:
    """Ours was cancelled by somebody, who started another one."""
    world, table = one_table(Run(duration_s=20, status="Failed", error=CANCELLED))
    played = play(world)
    played.until(Adopted)
    world.at(world.t + 30, lambda: world.start(table))
    world.sleep(40)

    (report,) = played.engine.cancel_started()

    assert (CancelResult.REPLACED, True, 0) == (report.result, report.is_stopped, world.cancels["t"])


def test_the_successor_of_an_interrupted_sync_is_cancelled() -> None:
    """PostHog restarts our sync by itself: that one is ours too."""
    world, table = one_table(Run(duration_s=20, status="Failed", error=RESTARTED, restarts=True, queue_s=15))
    played = play(world)
    played.until(Adopted)
    world.sleep(22)

    (report,) = played.engine.cancel_started()

    assert (CancelResult.CANCELLED, CANCELLED) == (report.result, world.rows_of(table)[-1].error)


def test_submitted_jobs_are_cancelled_too() -> None:
    """Without waiting, a stop still means the jobs that this batch has started."""
    world = World()
    world.add("s", *(Table(f"t{n}", f"table_{n}") for n in range(3)))
    played = play(world, wait=False)
    assert played.until(Ended).outcome is SyncOutcome.SUBMITTED

    reports = played.engine.cancel_started()

    assert [CancelResult.CANCELLED] * 3 == [report.result for report in reports]
