"""What always holds, for any behavior of PostHog."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from sync_model import (
    CANCELLED,
    RESTARTED,
    START,
    Play,
    Run,
    Table,
    World,
    play,
    problem,
    too_many_requests,
)

from dw_orchestration.posthog.errors import AnswerTimeoutError, ServerError, UnreachableError
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted, BillingStopped, Ended, Progress
from dw_orchestration.sync.settings import IfRunning, SyncMode

if TYPE_CHECKING:
    from sync_model import Row

START_TIMEOUT_S, STALL_S, TOTAL_S = 120.0, 900.0, 3600.0
HOPS = 4
ENDS_OF_JOBS = {
    "Completed": {SyncOutcome.COMPLETED},
    "Failed": {SyncOutcome.FAILED, SyncOutcome.CANCELLED, SyncOutcome.DISABLED_BY_POSTHOG},
    "Billing limits": {SyncOutcome.BILLING_LIMIT},
    "Billing limit too low": {SyncOutcome.BILLING_LIMIT_TOO_LOW},
    "Hibernated": {SyncOutcome.UNKNOWN_STATUS},
}
NO_JOB_NEEDED = {
    SyncOutcome.NEVER_STARTED,
    SyncOutcome.ALREADY_RUNNING,
    SyncOutcome.FAILURE_STREAK,
    SyncOutcome.REFUSED,
    SyncOutcome.NOT_TRIGGERED,
    SyncOutcome.NOT_SYNCABLE,
    SyncOutcome.DELETED,
    SyncOutcome.UNREACHABLE,
    SyncOutcome.BILLING_LIMIT,
    SyncOutcome.STALLED,
    SyncOutcome.TOO_LONG,
}

seconds = st.integers(0, 600).map(float)
runs = st.builds(
    Run,
    queue_s=st.sampled_from([0.0, 1.0, 5.0, 60.0, 300.0]),
    duration_s=st.sampled_from([0.1, 5.0, 60.0, 700.0, 5000.0]),
    status=st.sampled_from(["Completed"] * 4 + ["Failed"] * 2 + list(ENDS_OF_JOBS)),
    error=st.sampled_from(["no route", CANCELLED]),
    leaves_row=st.sampled_from([True] * 6 + [False]),
    never_ends=st.sampled_from([False] * 8 + [True]),
    turns_off=st.sampled_from([False] * 8 + [True]),
) | st.builds(Run, status=st.just("Failed"), error=st.just(RESTARTED), restarts=st.booleans(), queue_s=st.just(10.0))


@dataclass(frozen=True)
class Past:
    """A row from before the batch."""

    ago_s: float
    took_s: float | None
    status: str | None = None


over = st.builds(Past, st.integers(700, 100_000).map(float), st.just(60.0), st.sampled_from(["Completed", "Failed"]))
unfinished = st.sampled_from([[]] * 5 + [[Past(50.0, None)], [Past(900_000.0, None)]])
pasts = st.builds(lambda some, one: [*some, *one], st.lists(over, max_size=7), unfinished)


@dataclass(frozen=True)
class Story:
    """Everything that happens around a batch."""

    tables: list[tuple[int, list[Run], list[Past]]]
    own_starts: list[tuple[int, float]]
    cancels: list[tuple[int, float]]
    outages: list[tuple[float, float, str]]
    lost: int
    skew_s: float
    latency_s: float
    chance: float
    settings: dict[str, Any] = field(default_factory=dict)


FAULTS = {
    "502": lambda: ServerError(problem(502)),
    "429": lambda: too_many_requests(20),
    "time-out": lambda: AnswerTimeoutError("late"),
    "unreachable": lambda: UnreachableError("no route"),
}
modes = st.fixed_dictionaries(
    {
        "if_running": st.sampled_from([IfRunning.ATTACH] * 3 + [IfRunning.WAIT_THEN_RELOAD] * 2 + [IfRunning.FAIL]),
        "wait": st.sampled_from([True] * 5 + [False]),
        "triggers_per_min": st.sampled_from([240.0, 30.0]),
    }
)
what: st.SearchStrategy[dict[str, Any]] = (
    st.just({})
    | st.just({"sync_mode": SyncMode.RESYNC})
    | st.just({"accept_jobs_since": START - timedelta(minutes=20)})
    | st.just({"accept_jobs_since": START, "trigger_after": START + timedelta(seconds=30)})
)
stories = st.builds(
    Story,
    tables=st.lists(
        st.tuples(st.integers(0, 5), st.lists(runs, min_size=1, max_size=3), pasts), min_size=1, max_size=8
    ),
    own_starts=st.lists(st.tuples(st.integers(0, 7), seconds), max_size=4),
    cancels=st.lists(st.tuples(st.integers(0, 7), seconds), max_size=2),
    outages=st.lists(st.tuples(seconds, st.integers(1, 400).map(float), st.sampled_from(sorted(FAULTS))), max_size=3),
    lost=st.integers(0, 2),
    skew_s=st.sampled_from([0.0, -300.0, 300.0]),
    latency_s=st.sampled_from([0.01, 0.3]),
    chance=st.sampled_from([0.0, 0.5, 1.0]),
    settings=st.builds(lambda first, second: first | second, modes, what),
)


def told(story: Story) -> Play:
    """The batch of a story, from its beginning to its end."""
    world = World(skew_s=story.skew_s, latency_s=story.latency_s, chance=story.chance)
    tables = []
    for n, (source, its_runs, its_past) in enumerate(story.tables):
        table = Table(f"t{n}", f"table_{n}")
        table.runs.extend(its_runs)
        tables.append(table)
        world.add(f"s{source}", table)
        for past in its_past:
            world.past(table, ago_s=past.ago_s, took_s=past.took_s, status=past.status, error="broken")
    for n, at in story.own_starts:
        world.at(at, partial(world.start, tables[n % len(tables)]))
    for n, at in story.cancels:
        world.at(at, partial(cancelled_by_a_user, world, tables[n % len(tables)]))
    world.outages = [(at, at + length, FAULTS[kind]) for at, length, kind in story.outages]
    world.lost = story.lost
    timeouts: dict[str, Any] = {
        "start_timeout_s": START_TIMEOUT_S,
        "stall_timeout_s": STALL_S,
        "total_timeout_s": TOTAL_S,
    }
    return play(world, **timeouts, **story.settings).to_end()


def cancelled_by_a_user(world: World, table: Table) -> None:
    """Somebody cancels the table's sync in PostHog's own pages."""
    for row in world.rows_of(table)[-1:]:
        world._finish(row, "Failed", error=CANCELLED)


def row_of(played: Play, end: Ended) -> Row | None:
    """The row of the job that a table ended with."""
    return next((row for row in played.world.rows if end.job is not None and row.id == end.job.id), None)


@given(stories)
def test_laws_of_a_batch(story: Story) -> None:
    """Each table ends once, is triggered at most once, follows what it adopted, and ends as that ended, in time."""
    played = told(story)
    world = played.world

    ends = played.all(Ended)
    assert sorted(end.schema_id for end in ends) == [f"t{n}" for n in range(len(story.tables))]
    assert max(world.triggers.values(), default=0) <= 1
    for end in ends:
        event(str(end.outcome))
        adopted = played.all(Adopted, end.schema_id)
        assert {p.job.id for p in played.all(Progress, end.schema_id)} <= {a.job.id for a in adopted}
        assert (end.job and end.job.id) == (adopted[-1].job.id if adopted else None)
        assert (end.error is None) is (end.outcome in {SyncOutcome.COMPLETED, SyncOutcome.SUBMITTED})
        assert adopted or end.outcome in NO_JOB_NEEDED
        ended_as_its_job(played, end)
    in_time_and_within_budget(played, story)


def ended_as_its_job(played: Play, end: Ended) -> None:
    """The outcome of a job is the job's own."""
    row = row_of(played, end)
    if row is None or end.outcome in NO_JOB_NEEDED - {SyncOutcome.BILLING_LIMIT, SyncOutcome.STALLED}:
        return
    if end.outcome in {SyncOutcome.SUBMITTED, SyncOutcome.STALLED}:
        assert end.job is not None
        assert end.job.finished_at is None
    else:
        assert end.outcome in ENDS_OF_JOBS[row.status]
        assert row.finished_at is not None
        # Never a success of before: unless it was asked for, it ended after the batch began.
        is_asked_for = played.engine._settings.accept_jobs_since is not None
        assert row.finished_at >= 0 or is_asked_for


def in_time_and_within_budget(played: Play, story: Story) -> None:
    """The deadlines hold, give or take what PostHog did not answer, and the requests stay few."""
    unanswered = sum(length + 60 for _, length, _ in story.outages)
    pauses = 60 * len(story.outages) + 30 * 3
    turns = len(story.tables) * (2 + 4 * story.latency_s)
    world = played.world
    slow = world.others * story.latency_s
    assert world.t <= TOTAL_S + (HOPS + 1) * START_TIMEOUT_S + 900 + unanswered + pauses + turns + slow
    sources = len(world.sources)
    assert world.others <= sources * (12 + 0.55 * world.t)


@settings(max_examples=30)
@given(stories)
def test_a_batch_is_a_function_of_what_it_sees(story: Story) -> None:
    """The same story played twice gives the same events, in the same order."""
    assert [repr(event) for event in told(story).events] == [repr(event) for event in told(story).events]


@given(stories)
def test_billing_is_told_once_and_last(story: Story) -> None:
    """The summary is the last event, and names just the tables that were spared the trigger."""
    played = told(story)
    summaries = played.all(BillingStopped)
    spared = [end.schema_id for end in played.all(Ended) if end.outcome is SyncOutcome.NOT_TRIGGERED]
    is_met = SyncOutcome.BILLING_LIMIT in played.outcomes().values()

    assert [played.events[-1]] * is_met == summaries
    assert spared == [schema_id for summary in summaries for schema_id in summary.not_triggered]
