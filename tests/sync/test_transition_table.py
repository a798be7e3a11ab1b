"""The transition table of a table's state machine: as it is documented, as it is declared, and as the engine runs."""

import inspect
import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sync_model import (
    CANCELLED,
    RESTARTED,
    START,
    Run,
    Table,
    World,
    one_table,
    play,
    problem,
    requests_for,
    too_many_requests,
)

from dw_orchestration.posthog.enums import SyncType
from dw_orchestration.posthog.errors import AuthenticationError, BadRequestError, ServerError
from dw_orchestration.sync import table_sync
from dw_orchestration.sync.clock import Now
from dw_orchestration.sync.settings import IfRunning, SyncSettings, TableRequest
from dw_orchestration.sync.table_sync import TRANSITIONS, Cause, State, TableSync, UndeclaredTransitionError

Transition = tuple[str, str, str]
DECLARED = {
    (state.name, cause.name, after.name) for state, causes in TRANSITIONS.items() for cause, after in causes.items()
}


# --- stories that take each transition ---


def running(*runs: Run) -> tuple[World, Table]:
    """A table whose sync has been running for ten seconds."""
    world, table = one_table(*runs)
    world.start(table)
    world.sleep(10)
    return world, table


def completes() -> None:
    """A trigger, a job, its end."""
    play(one_table()[0]).to_end()


def is_attached_to() -> None:
    """A running sync is adopted."""
    play(running()[0]).to_end()


def waits_for_another() -> None:
    """A running sync ends first."""
    play(running()[0], if_running=IfRunning.WAIT_THEN_RELOAD).to_end()


def waits_in_vain() -> None:
    """The sync that must end first never does."""
    world, _ = running(Run(never_ends=True))
    play(world, if_running=IfRunning.WAIT_THEN_RELOAD, stall_timeout_s=60).to_end()


def loses_its_source_while_waiting() -> None:
    """The source is deleted while another sync must end first."""
    world, _ = running()
    world.at(20, lambda: world.sources.pop("s"))
    play(world, if_running=IfRunning.WAIT_THEN_RELOAD).to_end()


def holds() -> None:
    """PostHog's own sync is due, and does not appear."""
    play(one_table()[0], trigger_after=START + timedelta(seconds=30)).to_end()


def loses_its_source_while_holding() -> None:
    """The source is deleted while PostHog's own sync may still appear."""
    world, _ = one_table()
    world.at(10, lambda: world.sources.pop("s"))
    play(world, trigger_after=START + timedelta(seconds=30)).to_end()


def may_not_be_read() -> None:
    """The API key is wrong."""
    world, _ = one_table()
    world.faults["get_source"].append(AuthenticationError(problem(401)))
    play(world).to_end()


def is_not_syncable() -> None:
    """A table of change data capture."""
    play(one_table(sync_type=SyncType.CDC)[0]).to_end()


def loses_its_source_in_the_queue() -> None:
    """The source is deleted before the second table's trigger."""
    world, _ = one_table()
    world.add("s", Table("u", "u"))
    world.at(5, lambda: world.sources.pop("s"))
    play(world, triggers_per_min=1).to_end()


def is_triggered_again() -> None:
    """The trigger is answered with 429."""
    world, _ = one_table()
    world.faults["trigger"].append(too_many_requests())
    play(world).to_end()


def is_refused_by_posthog() -> None:
    """The trigger is answered with 400."""
    world, _ = one_table()
    world.faults["trigger"].append(BadRequestError(problem(400)))
    play(world).to_end()


def never_starts() -> None:
    """No job appears."""
    play(one_table(Run(leaves_row=False))[0]).to_end()


def loses_its_source_while_starting() -> None:
    """The source is deleted before the job appears."""
    world, _ = one_table(Run(queue_s=100))
    world.at(20, lambda: world.sources.pop("s"))
    play(world).to_end()


def is_replaced() -> None:
    """A newer sync replaces ours."""
    world, table = one_table(Run(duration_s=30, status="Failed", error=CANCELLED))
    world.at(33.5, lambda: world.start(table, Run(queue_s=0)))
    play(world, poll_min_s=8).to_end()


def is_restarted() -> None:
    """A restart of PostHog interrupts the sync."""
    play(one_table(Run(status="Failed", error=RESTARTED, restarts=True, queue_s=15))[0]).to_end()


def is_submitted_and_cancelled() -> None:
    """Nobody waits for the job, and the user stops the run."""
    played = play(one_table()[0], wait=False).to_end()
    played.engine.cancel_started()


def stalls() -> None:
    """The job shows no progress."""
    play(one_table(Run(never_ends=True))[0], stall_timeout_s=60).to_end()


def loses_its_source_while_following() -> None:
    """The source is deleted while the job runs."""
    world, _ = one_table()
    world.at(20, lambda: world.sources.pop("s"))
    play(world).to_end()


def is_handed_back_by_an_unreachable_source() -> None:
    """The source of a table that is started ahead is unreachable when the others have ended, before its first read."""
    ahead(lambda world: is_down(world, "u"))


def is_handed_back_while_starting() -> None:
    """The same, after its trigger."""
    ahead(lambda world: world.at(3, lambda: is_down(world, "u")), Run(queue_s=100))


def is_handed_back_to_its_step() -> None:
    """Another sync of a table that is started ahead must end first."""
    ahead(lambda world: world.past(world.table("u"), ago_s=5, took_s=None), if_running=IfRunning.WAIT_THEN_RELOAD)


def is_handed_back_while_holding() -> None:
    """The time of a table that is started ahead comes long after the others, which another sync serves, have ended."""
    ahead(lambda world: world.start(world.table("t")), trigger_after=START + timedelta(minutes=10))


def is_down(world: World, source_id: str) -> None:
    """A source cannot be read from now on."""
    for operation in ("get_source", "list_jobs"):
        world.faults[f"{operation} {source_id}"].extend(ServerError(problem(500)) for _ in range(1000))


def ahead(prepare: Callable[[World], object], *runs: Run, **settings: object) -> None:
    """A table, and one of another source that is started ahead."""
    world, _ = one_table()
    world.add("u", Table("u", "orders", runs=deque(runs)))
    prepare(world)
    both = [replace(request, ahead=request.schema_id == "u") for request in requests_for(world)]
    play(world, requests=both, **settings).to_end()


STORIES: list[Callable[[], None]] = [
    completes,
    is_attached_to,
    waits_for_another,
    waits_in_vain,
    loses_its_source_while_waiting,
    holds,
    loses_its_source_while_holding,
    may_not_be_read,
    is_not_syncable,
    loses_its_source_in_the_queue,
    is_triggered_again,
    is_refused_by_posthog,
    never_starts,
    loses_its_source_while_starting,
    is_replaced,
    is_restarted,
    is_submitted_and_cancelled,
    stalls,
    loses_its_source_while_following,
    is_handed_back_by_an_unreachable_source,
    is_handed_back_while_starting,
    is_handed_back_to_its_step,
    is_handed_back_while_holding,
]


# --- the table ---


def test_the_documented_table_is_the_declared_one() -> None:
    """Each row of the table at the top of the module is a transition of the code, in both directions, and says why."""
    rows = re.findall(r"^\| ([A-Z]+) \| ([A-Z_]+) \| ([A-Z]+) \| .+ \|$", table_sync.__doc__ or "", flags=re.MULTILINE)

    assert len(rows) == len(set(rows))
    assert DECLARED == set(rows)


def test_the_engine_takes_each_declared_transition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of the table happens, in a story that a user can meet; no other transition does."""
    taken: set[Transition] = set()
    enter = TableSync._enter

    def recording(self: TableSync, cause: Cause, *args: object, **kwargs: object) -> None:
        before = self.state
        enter(self, cause, *args, **kwargs)  # type: ignore[arg-type]  as given
        taken.add((before.name, cause.name, self.state.name))

    monkeypatch.setattr(TableSync, "_enter", recording)
    for story in STORIES:
        story()

    assert DECLARED == taken


def test_an_undeclared_transition_is_an_error() -> None:
    """A change of state that the table does not have is a bug, and does not happen."""
    table = TableSync(TableRequest(source_id="s", schema_id="t", name="users"), settings=SyncSettings())

    with pytest.raises(UndeclaredTransitionError, match=r"'users' \(t\): NEW has no transition for TRIGGERED"):
        table.begin_trigger(Now(0.0, START))
    assert State.NEW is table.state


def test_each_state_can_be_reached_and_left_for_the_end() -> None:
    """No state is without a way from NEW, and none but ENDED is without a direct way to ENDED."""
    reached = {State.NEW}
    for _ in State:
        reached |= {after for state in reached for after in TRANSITIONS[state].values()}

    assert set(State) == reached == set(TRANSITIONS)
    assert {State.ENDED} == {state for state in State if State.ENDED not in TRANSITIONS[state].values()}


def test_the_state_is_changed_in_one_place() -> None:
    """Only `_enter` assigns the state, after the constructor."""
    source = inspect.getsource(table_sync)

    assert ["self.state = State.NEW", "self.state = TRANSITIONS[self.state][cause]"] == [
        line.strip() for line in source.splitlines() if re.search(r"\.state = ", line)
    ]
