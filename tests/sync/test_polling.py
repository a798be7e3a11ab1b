"""When the next request is sent."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_model import problem, too_many_requests

from dw_orchestration.posthog.errors import ServerError
from dw_orchestration.sync.polling import (
    AT_ONCE,
    NEVER,
    PollSchedule,
    TriggerGate,
    Wait,
    floor_s,
    interval_s,
    listed_pause_s,
    pause_s,
    search_s,
    sweep_s,
)
from dw_orchestration.sync.settings import SyncSettings

waits = st.builds(
    Wait,
    waited_s=st.floats(0, 1e6),
    job_age_s=st.floats(0, 1e6),
    usual_s=st.none() | st.floats(0, 1e6),
)


def schedule(*, at: float = 0.0, chance: Callable[[], float] = lambda: 0.0) -> PollSchedule:
    """A schedule with the default settings."""
    return PollSchedule(at=at, settings=SyncSettings(), chance=chance)


# --- intervals ---


@given(waits)
def test_an_interval_is_within_its_bounds(wait: Wait) -> None:
    """Never shorter than the shortest, never longer than the longest interval."""
    settings = SyncSettings()

    assert settings.poll_min_s <= interval_s(wait, settings=settings) <= settings.poll_max_s


@pytest.mark.parametrize(
    ("waited_s", "usual_s", "expected"),
    [
        (0, None, 2),
        (40, None, 2),
        (200, None, 10),
        (10_000, None, 60),
        (200, 3600, 40),
        (3410, 3600, 10),
        (3430, 3600, 9),
        (3770, 3600, 9),
        (3790, 3600, 60),
        (10_700, 10_800, 27),
        (595, 600, 2),
    ],
)
def test_polls_are_frequent_at_first_and_around_the_usual_end(
    waited_s: float, usual_s: float | None, expected: float
) -> None:
    """2 s at first, up to a minute with the age; never past the time when the end is due, and often around it."""
    wait = Wait(waited_s=waited_s, job_age_s=waited_s, usual_s=usual_s)

    assert expected == interval_s(wait, settings=SyncSettings())


@given(st.lists(waits), st.integers(1, 20))
def test_a_poll_of_many_requests_comes_less_often(some: list[Wait], cost: int) -> None:
    """A pause pays for the requests of its poll, and no pause is longer than the longest."""
    settings = SyncSettings()
    planned = schedule()
    planned.cost = cost
    planned.plan(pause_s(some, settings=settings), now=100.0)

    assert floor_s(cost=cost, settings=settings) <= planned.next_at - 100.0 <= settings.poll_max_s
    assert settings.poll_min_s <= floor_s(cost=cost, settings=settings) < floor_s(cost=100, settings=settings)


@pytest.mark.parametrize(
    ("waited_s", "usual_s", "search", "sweep"),
    [
        (0, None, 6, 60),
        (20, None, 20, 60),
        (900, None, 60, 180),
        (9000, None, 60, 900),
        (0, 20, 6, 60),
        (0, 200, 6, 200),
        (100, 200, 60, 100),
        (190, 200, 60, 60),
        (0, 3600, 6, 900),
    ],
)
def test_a_listed_table_is_read_seldom(*, waited_s: float, usual_s: float | None, search: float, sweep: float) -> None:
    """A new job is searched for less and less often; a job whose record says Running is read every few minutes."""
    settings, wait = SyncSettings(), Wait(waited_s=waited_s, job_age_s=waited_s, usual_s=usual_s)

    assert (search, sweep) == (search_s(wait, settings=settings), sweep_s(wait, settings=settings))


def test_the_deadlines_of_a_listed_table_are_kept() -> None:
    """A running job is read ten times before its shortest deadline."""
    wait = Wait(waited_s=100)

    assert 20 == sweep_s(wait, settings=SyncSettings(stall_timeout_s=200))
    assert 30 == sweep_s(wait, settings=SyncSettings(total_timeout_s=300))
    assert 2 == sweep_s(wait, settings=SyncSettings(total_timeout_s=1))


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (Wait(waited_s=10, is_for_job=True, seems_running=True), 10),
        (Wait(waited_s=10, is_for_s=25.0), 25),
        (Wait(waited_s=10, is_for_s=0.5), 2),
        (Wait(waited_s=10, seems_running=True), 60),
        (Wait(waited_s=10), 2),
    ],
)
def test_what_a_listed_table_waits_for_decides_its_interval(wait: Wait, expected: float) -> None:
    """A search, a time, a job that seems to run, or one that the record shows as ended."""
    settings = SyncSettings()

    assert expected == listed_pause_s([wait], settings=settings)
    assert expected == listed_pause_s([wait, Wait(waited_s=10_000, seems_running=True)], settings=settings)
    assert 120 == listed_pause_s([], settings=settings)


# --- schedules ---


@given(st.floats(0, 1e6), st.floats(2, 1e6), st.floats(0, 1))
def test_chance_makes_a_pause_longer_by_at_most_a_tenth(now: float, pause: float, chance: float) -> None:
    """The pauses that PostHog asked for, and the budgets of requests, are kept for every random number."""
    planned = schedule(chance=lambda: chance)
    planned.plan(pause, now=now)

    assert now + pause - 1e-6 <= planned.next_at <= now + pause * 1.1 + 1e-6


def test_a_schedule_that_rests_for_ever_stays_so() -> None:
    """`NEVER` has no pause that could be made longer, and nothing makes the next poll come sooner."""
    planned = schedule(at=AT_ONCE, chance=lambda: 1.0)
    planned.rest(NEVER, now=5.0)
    planned.plan(2.0, now=5.0)
    planned.poll_soon(2.0, now=6.0)

    assert NEVER == planned.next_at


def test_a_trigger_makes_the_next_poll_come_soon() -> None:
    """Sooner than planned, but not sooner than the cost of the last poll and its rest allow, and never later."""
    planned = schedule()
    planned.plan(30.0, now=100.0)
    planned.poll_soon(2.0, now=110.0)
    assert 112 == planned.next_at
    planned.poll_soon(2.0, now=111.0)
    assert 112 == planned.next_at

    planned.cost = 9
    planned.plan(30.0, now=200.0)
    planned.poll_soon(2.0, now=201.0)
    assert 206 == planned.next_at

    planned.rest(25.0, now=200.0)
    planned.plan(30.0, now=200.0)
    planned.poll_soon(2.0, now=201.0)
    assert 225 == planned.next_at


def test_an_outage_decides_alone_when_to_poll() -> None:
    """Twice as long each time, or as long as PostHog asked for; a success ends it."""
    planned = schedule()
    pauses = []
    for exc in [ServerError(problem(502))] * 6 + [too_many_requests(70), too_many_requests(None)]:
        outage = planned.failed(exc, now=10.0, watched_s=3.0)
        planned.plan(1.0, now=10.0)
        planned.poll_soon(1.0, now=10.0)
        planned.poll_at_once()
        pauses.append(planned.next_at - 10.0)

    assert [2, 4, 8, 16, 32, 60, 70, 60] == pauses
    assert (3.0, outage) == (outage.watched_s, planned.succeeded())
    assert planned.succeeded() is None
    planned.poll_at_once()
    assert AT_ONCE == planned.next_at


@given(st.lists(st.floats(0, 120), min_size=140, max_size=140))
def test_a_long_wait_has_a_pace(wanted: list[float]) -> None:
    """No matter what its tables want, a poller sends at most 131 requests in an hour in which nothing happens."""
    planned, now, sent = schedule(), 0.0, []
    for pause in wanted:
        now = max(now, planned.next_at)
        sent.append(now)
        planned.plan(pause, now=now, live=3)

    assert all(late - early > 3600 for early, late in zip(sent, sent[131:], strict=False))


def test_what_happens_allows_more_requests() -> None:
    """A table that was triggered, and one that has ended, are worth a poll each after the pace holds."""
    planned, now = schedule(), 0.0
    for _ in range(100):
        planned.plan(2.0, now=now, live=3)
        now = planned.next_at
    held = planned.next_at

    planned.plan(2.0, now=held, live=3)
    assert 60 == planned.next_at - held
    planned.poll_soon(2.0, now=held)
    assert 2 == planned.next_at - held
    planned.plan(2.0, now=held, live=2)
    assert 2 == planned.next_at - held
    planned.plan(2.0, now=held, live=2)
    assert 60 == planned.next_at - held


# --- the gate ---


@given(st.lists(st.floats(0, 30), max_size=60), st.floats(1, 600), st.integers(1, 100))
def test_triggers_keep_their_pace_after_the_burst(pauses: list[float], per_min: float, sources: int) -> None:
    """No more triggers go than one per source and then the pace; and never two without a poll's turn between."""
    gate = TriggerGate(sources=sources, settings=SyncSettings(), now=0.0, per_min=per_min)
    now = 0.0
    for sent, pause in enumerate(pauses):
        now = max(now + pause, gate.at)
        assert sent <= sources + now * per_min / 60 + 1e-6
        gate.passed(now)
        assert now <= gate.at


@pytest.mark.parametrize(("sources", "at_once"), [(1, 1), (2, 2), (60, 60), (100, 61)])
def test_each_source_may_begin_at_once(sources: int, at_once: int) -> None:
    """As many triggers as there are sources, up to some sixty, go as fast as they are answered; then the pace holds."""
    gate = TriggerGate(sources=sources, settings=SyncSettings(), now=0.0)
    times = []
    for _ in range(70):
        times.append(gate.at)
        gate.passed(gate.at)

    assert [0.0] * at_once == pytest.approx(times[:at_once])
    assert [0.3 * n for n in range(1, 71 - at_once)] == pytest.approx(times[at_once:])


def test_late_triggers_are_made_up_for() -> None:
    """While results of other tables are stored, no trigger goes; then they go faster, up to sixty at once."""
    gate = TriggerGate(sources=1, settings=SyncSettings(), now=0.0)
    now, sent = 0.0, 0
    while now < 100.0:
        now = max(now, gate.at)
        gate.passed(now)
        sent += 1
        now += 3.0 if sent % 20 == 0 else 0.01
    assert 330 <= sent

    now += 1000.0
    times = [now]
    while times[-1] == now:
        gate.passed(now)
        times.append(max(now, gate.at))
    assert 62 == len(times)


def test_nothing_is_made_up_for_after_a_refusal() -> None:
    """PostHog has asked for fewer requests: the pace begins again."""
    gate = TriggerGate(sources=1, settings=SyncSettings(), now=0.0)
    gate.close(0.0, pause_s=30.0)
    assert 30.0 == gate.at
    gate.passed(30.0)
    assert 30.3 == gate.at
