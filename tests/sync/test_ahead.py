"""Syncs that the engine starts for others: it reports their jobs and does not follow them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_model import Run, Table, World, play, problem, requests_for, world_of

from dw_orchestration.posthog.enums import JobStatus, SyncType
from dw_orchestration.posthog.errors import BadRequestError, BillingLimitError
from dw_orchestration.sync.errors import NotTriggeredError, SyncOutcome
from dw_orchestration.sync.events import Adopted, Ended
from dw_orchestration.sync.settings import IfRunning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dw_orchestration.sync.settings import TableRequest


def ahead_but(world: World, *own: str) -> list[TableRequest]:
    """A request for each table; those that are not named are started ahead."""
    return [replace(request, ahead=request.schema_id not in own) for request in requests_for(world)]


def two_tables(*, own: Sequence[Run] = (), other: Sequence[Run] = (), **traits: object) -> World:
    """A source with the table `own`, and one with the table `other`."""
    world = World()
    world.add("s", Table("own", "own", runs=deque(own)))
    world.add("u", Table("other", "other", runs=deque(other), **traits))
    return world


def test_it_ends_with_its_own_tables_and_polls_no_other() -> None:
    """Once the job of a table is known, nothing more is asked for it, however long it runs."""
    world, alone = two_tables(other=[Run(duration_s=5000)]), World()
    alone.add("s", Table("own", "own"))
    play(alone).to_end()

    played = play(world, requests=ahead_but(world, "own")).to_end()

    assert {"own": SyncOutcome.COMPLETED, "other": SyncOutcome.SUBMITTED} == played.outcomes()
    assert [True, True] == [event.started for event in played.all(Adopted)]
    assert world.t < 70
    assert world.others <= alone.others + 5


def test_it_stays_until_each_job_is_known() -> None:
    """A table whose own sync is short waits for the jobs of the others: they are written down before it ends."""
    world = world_of(1, sources=50, duration_s=1)

    played = play(world, requests=ahead_but(world, "0-0"), triggers_per_min=60).to_end()

    assert {1} == set(world.triggers.values())
    assert set(played.outcomes()) == {event.schema_id for event in played.all(Adopted)}


def test_what_cannot_start_is_no_error_of_the_others() -> None:
    """A table that may not be synced, or is refused, is handed back; the own tables are synced."""
    world = two_tables(sync_type=SyncType.CDC)
    world.add("v", Table("refused", "refused"))
    world.faults["trigger"].extend([None, BadRequestError(problem(400))])

    played = play(world, requests=ahead_but(world, "own")).to_end()

    assert SyncOutcome.COMPLETED is played.outcomes()["own"]
    assert {"own"} == {event.schema_id for event in played.all(Adopted)}


@pytest.mark.parametrize("is_refused", [True, False])
def test_the_billing_limit_of_another_table_stops_only_what_is_started_ahead(*, is_refused: bool) -> None:
    """The step of another source cannot take the own tables' try away: they are triggered."""
    stopped = Run(status=JobStatus.BILLING_LIMIT.value, duration_s=0, queue_s=0)
    world = two_tables(other=[stopped])
    world.add("v", *(Table(f"v{n}", f"v{n}") for n in range(3)))
    world.add("s", Table("second", "second"))
    requests = sorted(ahead_but(world, "own", "second"), key=lambda request: not request.ahead)
    if is_refused:
        world.faults["trigger"].append(BillingLimitError(problem(400)))

    played = play(world, requests=requests, triggers_per_min=4).to_end()

    assert SyncOutcome.COMPLETED is played.outcomes()["own"]
    assert SyncOutcome.COMPLETED is played.outcomes()["second"]
    assert {SyncOutcome.NOT_TRIGGERED} <= set(played.outcomes().values())
    assert not any(isinstance(event.error, NotTriggeredError) for event in played.all(Ended))


def test_a_running_sync_is_joined_or_left_to_its_step() -> None:
    """With `attach` the running job is reported; with `wait_then_reload` the table is handed back at once."""
    for if_running, outcome in ((IfRunning.ATTACH, "submitted"), (IfRunning.WAIT_THEN_RELOAD, "not_triggered")):
        world = two_tables(own=[Run(duration_s=5)])
        world.start(world.table("other"), Run(duration_s=900, queue_s=0))
        world.sleep(5)

        played = play(world, requests=ahead_but(world, "own"), if_running=if_running).to_end()

        assert outcome == played.outcomes()["other"]
        assert {"own": 1} == world.triggers
        assert world.t < 60


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("skew_s", [0.0, 300.0, -300.0])
def test_a_job_since_another_process_set_out_to_start_it_is_taken_up(*, ended: bool, skew_s: float) -> None:
    """A process that died has written no job down; the next one finds it by the time, and starts no second one."""
    world = World(skew_s=skew_s)
    world.add("s", Table("t", "users"))
    world.past(world.table("t"), ago_s=60, took_s=30)
    world.sleep(10)
    claimed_at = world.now()
    world.start(world.table("t"), Run(duration_s=5 if ended else 500, queue_s=2))
    world.sleep(20)
    (request,) = requests_for(world)

    played = play(world, requests=[replace(request, claimed_at=claimed_at)]).to_end()

    assert not world.triggers
    assert world.rows_of(world.table("t"))[-1].id == getattr(played.ended().job, "id", None)
    assert SyncOutcome.COMPLETED is played.ended().outcome


def test_without_a_job_since_then_it_is_started() -> None:
    """The other process died before its trigger: a sync from before does not count."""
    world = World()
    world.add("s", Table("t", "users"))
    world.past(world.table("t"), ago_s=60, took_s=30)
    (request,) = requests_for(world)

    played = play(world, requests=[replace(request, claimed_at=world.now() - timedelta(seconds=5))]).to_end()

    assert {"t": 1} == world.triggers
    assert SyncOutcome.COMPLETED is played.ended().outcome


def test_a_job_that_was_started_for_a_table_and_is_gone_costs_no_second_sync() -> None:
    """It has been started, so that another one would be the second; a person may ask for that."""
    world = World()
    world.add("s", Table("t", "users"))
    (request,) = requests_for(world)

    played = play(world, requests=[replace(request, resume_job_id="gone", resume_failed=True)]).to_end()

    ended = played.ended()
    assert (SyncOutcome.REFUSED, {}) == (ended.outcome, world.triggers)
    assert "gone" in str(ended.error)


@pytest.mark.parametrize("resume_failed", [True, False])
def test_a_failed_job_is_the_result_of_the_step_that_it_was_started_for(*, resume_failed: bool) -> None:
    """Its first try gives it as the result; a retry is there to try again."""
    world = World()
    world.add("s", Table("t", "users"))
    row = world.past(world.table("t"), ago_s=60, took_s=30, status="Failed", error="no")
    (request,) = requests_for(world)

    played = play(world, requests=[replace(request, resume_job_id=row.id, resume_failed=resume_failed)]).to_end()

    assert (SyncOutcome.FAILED if resume_failed else SyncOutcome.COMPLETED) is played.ended().outcome
    assert ({} if resume_failed else {"t": 1}) == world.triggers


@settings(max_examples=25)
@given(
    runs=st.lists(
        st.builds(
            Run,
            queue_s=st.floats(0, 200),
            duration_s=st.floats(0, 600),
            status=st.sampled_from(["Completed", "Failed", "Billing limits"]),
            leaves_row=st.booleans(),
        ),
        min_size=2,
        max_size=6,
    ),
    own=st.integers(1, 3),
)
def test_each_table_ends_once_and_is_triggered_at_most_once(runs: list[Run], own: int) -> None:
    """However syncs go: no table is triggered twice, each ends once, and no own table ends because of another's."""
    world = World()
    for n, run in enumerate(runs):
        world.add(f"s{n}", Table(f"t{n}", f"t{n}", runs=deque([run])))
    names = [f"t{n}" for n in range(min(own, len(runs)))]

    played = play(world, requests=ahead_but(world, *names)).to_end()

    assert {f"t{n}" for n in range(len(runs))} == set(played.outcomes())
    assert len(runs) == len(played.all(Ended))
    assert all(count == 1 for count in world.triggers.values())
    assert all(world.triggers[name] or played.error(name).outcome is SyncOutcome.NOT_TRIGGERED for name in names)
