"""The clocks of the engine."""

from datetime import UTC, timedelta

import pytest
from sync_model import START, World

from dw_orchestration.sync.clock import EngineClock, SystemClock


def test_the_machines_clock_is_aware_and_goes_forward() -> None:
    """The production clock: UTC, monotonic, and it sleeps."""
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0)

    assert before <= clock.monotonic()
    assert UTC is clock.now().tzinfo


def slow_and_bad(world: World) -> None:
    """A request that takes its time and fails."""
    world.sleep(100)
    raise KeyError


def test_watched_time_does_not_pass_during_requests() -> None:
    """Deadlines do not count the time of a request, even of one that fails."""
    world = World()
    clock = EngineClock(world)
    began = clock.watched_s()
    world.sleep(3)
    with pytest.raises(KeyError), clock.paused():
        slow_and_bad(world)
    world.sleep(4)

    assert pytest.approx(7) == clock.watched_s() - began


def test_the_servers_time_goes_on_from_its_last_answer() -> None:
    """Between answers PostHog's time is estimated; an answer that repeats an older time does not set it back."""
    world = World(skew_s=-1000)
    clock = EngineClock(world)
    assert world.now() == clock.server()

    clock.learn(START)
    world.sleep(10)
    clock.learn(START)
    clock.learn(None)

    assert START + timedelta(seconds=10) == clock.server()


def test_sleeping_until_a_time_that_has_passed_returns_at_once() -> None:
    """The engine may be late for what is due."""
    world = World()
    clock = EngineClock(world)

    clock.sleep_until(clock.monotonic() - 5)
    assert world.t == 0
    clock.sleep_until(clock.monotonic() + 5)
    assert world.t == 5
