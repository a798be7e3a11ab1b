"""How a followed job's end becomes the table's."""

import pickle
from typing import Any

import pytest
from sync_model import CANCELLED, RESTARTED, Run, Table, World, one_table, play

from dw_orchestration.posthog.enums import AccessMethod, SyncType
from dw_orchestration.posthog.errors import UnreachableError
from dw_orchestration.sync import errors
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted, Progress
from dw_orchestration.sync.settings import OnStall
from dw_orchestration.tables.classify import SchemaClass

GIVEN_UP = "Sync stopped because of an error that retrying would not fix"


@pytest.mark.parametrize(
    ("run", "error", "allow_retries"),
    [
        (Run(status="Failed", error="no route to host"), errors.SyncFailedError, True),
        (Run(status="Failed", error=None), errors.SyncFailedError, True),
        (Run(status="Failed", error="Cancelled"), errors.SyncCancelledError, False),
        (Run(status="Failed", error=CANCELLED), errors.SyncCancelledError, False),
        (
            Run(status="Failed", error="This sync run was cancelled before it finished. It will run again."),
            errors.SyncCancelledError,
            False,
        ),
        (Run(status="Cancelled"), errors.SyncCancelledError, False),
        (
            Run(status="Failed", error="Sync stopped because syncing was turned off", turns_off=True),
            errors.SyncCancelledError,
            False,
        ),
        (
            Run(status="Failed", error="Sync stopped because the table was deleted"),
            errors.SchemaDeletedError,
            False,
        ),
        (Run(status="Failed", error="bad password", turns_off=True), errors.DisabledByPostHogError, False),
        (Run(status="Failed", error=GIVEN_UP, turns_off=True), errors.DisabledByPostHogError, False),
        (Run(status="Billing limits", duration_s=0.1), errors.BillingLimitReachedError, False),
        (Run(status="Billing limit too low", error="5 rows too many"), errors.BillingLimitTooLowError, False),
        (Run(status="Hibernated"), errors.UnknownStatusError, False),
    ],
)
def test_each_end_has_its_own_error(*, run: Run, error: type[errors.SyncError], allow_retries: bool) -> None:
    """The job's status and error text decide; the error names the table and the job, and survives a process border."""
    world, table = one_table(run)

    played = play(world).to_end()

    raised = played.error()
    assert type(raised) is error
    assert (allow_retries, "t", world.rows_of(table)[-1].id) == (
        raised.allow_retries,
        raised.schema_id,
        raised.job_id,
    )
    assert "'users' (t)" in str(raised)
    assert raised.cure in str(raised)
    assert played.ended().outcome is raised.outcome
    copy = pickle.loads(pickle.dumps(raised))  # noqa: S301  what was just written
    assert (str(raised), raised.allow_retries, raised.job_id) == (str(copy), copy.allow_retries, copy.job_id)


def test_a_failure_carries_the_jobs_own_error() -> None:
    """What the source said is in the text and apart from it."""
    world, _ = one_table(Run(status="Failed", error="relation users does not exist"))

    error = play(world).to_end().error()

    assert isinstance(error, errors.SyncFailedError)
    assert error.job_error == "relation users does not exist"
    assert "failed: relation users does not exist." in str(error)
    assert error.retry_after_s is None


def test_the_failure_that_makes_a_streak_says_when_a_retry_can_run() -> None:
    """From the fifth failure in a row on, PostHog requires a gap: a retry has to wait for it."""
    world, table = one_table(Run(status="Failed", error="broken"))
    for n in range(4):
        world.past(table, ago_s=9000 - n * 1000, status="Failed", error="broken")

    assert play(world).to_end().error().retry_after_s == 600


def test_an_interrupted_sync_is_followed_through_its_successor() -> None:
    """PostHog restarts a sync by itself: the successor is adopted, ours as the first one was, and decides the end."""
    world, table = one_table(Run(status="Failed", error=RESTARTED, restarts=True, queue_s=15))

    played = play(world).to_end()

    first, second = world.rows_of(table)
    assert [(first.id, True), (second.id, True)] == [(a.job.id, a.started) for a in played.all(Adopted)]
    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert "starts another one by itself" in played.notices()


def test_a_successor_that_has_itself_ended_counts() -> None:
    """Between two polls the sync can be interrupted, restarted and completed."""
    world, table = one_table(Run(status="Failed", error=RESTARTED, restarts=True, queue_s=0.5))
    table.usual_run = Run(duration_s=1)

    played = play(world, poll_min_s=30).to_end()

    assert [row.id for row in world.rows_of(table)] == [event.job.id for event in played.all(Adopted)]
    assert played.ended().outcome is SyncOutcome.COMPLETED


def test_an_interrupted_sync_without_a_successor_failed() -> None:
    """If no successor appears within the start timeout, the interrupted job's own error is the end."""
    world, _ = one_table(Run(status="Failed", error=RESTARTED))

    error = play(world).to_end().error()

    assert isinstance(error, errors.SyncFailedError)
    assert "interrupted too many times" in str(error)
    assert 363 <= world.t <= 425


def test_a_failed_job_with_a_newer_running_one_is_not_the_end() -> None:
    """A run that took the place of ours is followed, as somebody else's."""
    world, table = one_table(Run(duration_s=30, status="Failed", error=CANCELLED))
    world.at(33.5, lambda: world.start(table, Run(queue_s=0)))

    played = play(world, poll_min_s=8).to_end()

    assert [True, False] == [event.started for event in played.all(Adopted)]
    assert played.ended().outcome is SyncOutcome.COMPLETED
    assert "replaced by" in played.notices()


def test_a_completed_job_is_the_end_even_if_another_one_runs() -> None:
    """Completed is success; a run that has just begun is only mentioned, since it may be the table's own schedule."""
    world, table = one_table(Run(duration_s=30))
    world.at(33.5, lambda: world.start(table, Run(queue_s=0)))

    played = play(world, poll_min_s=8).to_end()

    first, second = world.rows_of(table)
    ended = played.ended()
    assert (SyncOutcome.COMPLETED, first.id) == (ended.outcome, ended.job and ended.job.id)
    assert f"another one, {second.id}, is running" in played.notices()


def test_an_unknown_status_is_waited_on_and_fails_at_the_deadline() -> None:
    """A status without an end is neither success nor failure until the time is up; then its text is shown."""
    world, table = one_table(Run(never_ends=True))
    world.at(30, lambda: setattr(world.rows_of(table)[-1], "status", "Hibernating"))

    error = play(world, stall_timeout_s=600).to_end().error()

    assert isinstance(error, errors.UnknownStatusError)
    assert "'Hibernating'" in str(error)
    assert 600 <= world.t <= 700


@pytest.mark.parametrize(("cancel", "cancels"), [(False, 0), (True, 1)])
def test_a_stalled_job_is_cancelled_on_request_alone(*, cancel: bool, cancels: int) -> None:
    """The error is the same; the next sync can begin only if PostHog stops this one."""
    world, table = one_table(Run(never_ends=True))

    played = play(world, stall_timeout_s=600, on_stall=OnStall.CANCEL if cancel else OnStall.LEAVE).to_end()
    world.sleep(5)

    assert (SyncOutcome.STALLED, cancels) == (played.ended().outcome, world.cancels["t"])
    assert cancel == (world.rows_of(table)[0].error == CANCELLED)


def test_a_stalled_job_that_cannot_be_cancelled_ends_all_the_same() -> None:
    """The cancelling is an attempt; a failure of it is reported."""
    world, _ = one_table(Run(never_ends=True))
    world.faults["cancel_schema"].append(UnreachableError("no route"))

    played = play(world, stall_timeout_s=600, on_stall=OnStall.CANCEL).to_end()

    assert played.ended().outcome is SyncOutcome.STALLED
    assert "could not be cancelled: no route" in played.notices()


def test_a_job_without_progress_stalls() -> None:
    """Neither rows nor status changed for the stall timeout, counted from the last change."""
    world, _ = one_table(Run(never_ends=True, duration_s=300))

    error = play(world, stall_timeout_s=600).to_end().error()

    assert isinstance(error, errors.SyncStalledError)
    assert "no progress for 0:10:00, at 67 rows" in str(error)
    assert 803 <= world.t <= 850


def test_a_job_that_goes_on_and_on_is_too_long() -> None:
    """The total timeout ends the wait even while rows arrive."""
    world, _ = one_table(Run(duration_s=100_000, steps=10_000, rows=10_000))

    played = play(world, stall_timeout_s=600, total_timeout_s=1800).to_end()

    assert isinstance(played.error(), errors.SyncTooLongError)
    assert 1800 <= world.t <= 1865
    assert len(played.all(Progress)) > 20


def test_waiting_for_another_job_has_its_limits_too() -> None:
    """`wait_then_reload` behind a sync that never ends does not wait permanently."""
    world, table = one_table(Run(never_ends=True))
    world.start(table)
    world.sleep(10)

    played = play(world, if_running="wait_then_reload", stall_timeout_s=600).to_end()

    assert (SyncOutcome.STALLED, 0) == (played.ended().outcome, world.triggers["t"])


def test_a_table_that_is_switched_off_during_its_sync_is_mentioned() -> None:
    """PostHog may stop the run of a disabled table; a notice names it, the job decides."""
    world, table = one_table()
    world.at(20, lambda: setattr(table, "should_sync", False))

    played = play(world).to_end()

    assert 1 == played.notices().count("was disabled in PostHog during its sync")
    assert played.ended().outcome is SyncOutcome.COMPLETED


def test_a_table_that_is_deleted_during_its_sync_ends_deleted() -> None:
    """Its jobs vanish with it: the source's record shows why."""
    world, table = one_table()
    world.add("s", Table("other", "other"))
    world.at(20, lambda: world.delete(table))

    played = play(world).to_end()

    assert {"t": SyncOutcome.DELETED, "other": SyncOutcome.COMPLETED} == played.outcomes()
    assert world.t < 80


def test_a_table_that_is_deleted_before_its_job_appears_ends_deleted() -> None:
    """No job in time and no table either: deleted, not never started."""
    world, table = one_table(Run(queue_s=1000))
    world.at(20, lambda: world.delete(table))

    assert play(world).to_end().ended().outcome is SyncOutcome.DELETED


def test_a_table_that_is_deleted_before_its_trigger_ends_deleted() -> None:
    """A trigger answered with 404."""
    world, table = one_table()
    world.at(0.12, lambda: world.delete(table))

    assert play(world).to_end().ended().outcome is SyncOutcome.DELETED


def test_a_table_that_its_source_does_not_have_ends_deleted() -> None:
    """Nothing is triggered for a table that is not in the record."""
    world, table = one_table()
    played = play(world)
    world.delete(table)

    assert (SyncOutcome.DELETED, 0) == (played.to_end().ended().outcome, world.triggers["t"])


def test_a_source_that_is_deleted_ends_all_its_tables() -> None:
    """A 404 for the source, at first or later, is the end of its tables and of no others."""
    world, _ = one_table()
    world.add("gone", Table("g", "g"))
    world.at(20, lambda: world.sources.pop("gone"))

    assert {"t": SyncOutcome.COMPLETED, "g": SyncOutcome.DELETED} == play(world).to_end().outcomes()


@pytest.mark.parametrize(
    ("traits", "past", "found"),
    [
        ({"sync_type": SyncType.CDC}, {}, SchemaClass.OBSERVE_ONLY),
        ({"sync_type": SyncType.WEBHOOK}, {}, SchemaClass.OBSERVE_ONLY),
        ({"sync_type": None}, {}, SchemaClass.DISABLED),
        ({"should_sync": False}, {}, SchemaClass.DISABLED),
        ({"should_sync": False}, {"status": "Failed", "error": CANCELLED}, SchemaClass.DISABLED),
        ({"should_sync": False}, {"status": "Failed", "error": "no"}, SchemaClass.DISABLED_BY_POSTHOG),
    ],
)
def test_what_a_reload_does_not_sync_is_refused_at_once(
    traits: dict[str, Any], past: dict[str, Any], found: SchemaClass
) -> None:
    """CDC, webhook and switched-off tables end with the reason, untriggered, in no time."""
    world, table = one_table(**traits)
    world.past(table, ago_s=600, **past)

    error = play(world).to_end().error()

    assert isinstance(error, errors.NotSyncableError)
    assert found is error.schema_class
    assert found.reason in str(error)
    assert (0, True, False) == (world.triggers["t"], world.t < 1, error.allow_retries)


def test_direct_queries_are_not_synced() -> None:
    """The tables of a direct source are queried in place."""
    world, _ = one_table(world=World())
    world.access = AccessMethod.DIRECT

    error = play(world).to_end().error()

    assert isinstance(error, errors.NotSyncableError)
    assert error.schema_class is SchemaClass.EXTERNAL
