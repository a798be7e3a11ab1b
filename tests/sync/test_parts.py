"""The parts of the engine that answer a question by themselves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dw_orchestration.sync.jobs import JobHistory
from dw_orchestration.sync.polling import (
    JITTER, AT_ONCE, NEVER, PollSchedule, TriggerGate, Wait, floor_s, interval_s, pause_s, search_s, sweep_s)
from hypothesis import given
from hypothesis import strategies as st
from sync_model import START, World

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.sync import errors
from dw_orchestration.sync.clock import EngineClock, SystemClock
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.settings import SyncSettings
from dw_orchestration.tables.classify import SchemaClass, classify


def job(**traits: Any) -> Job:
    """A completed job of the table `t`."""
    row: dict[str, Any] = {
        "id": "j",
        "created_at": START,
        "finished_at": START + timedelta(minutes=1),
        "status": "Completed",
        "schema": {"id": "t", "name": "users", "should_sync": True},
    }
    return Job.model_validate(row | traits)


def test_the_usual_duration_is_the_median_of_the_completed_jobs():
    """Failed and unfinished jobs say nothing about what a sync takes."""
    history = JobHistory()
    assert history.usual_s() is None
    for n, took in enumerate([10, 20, 90]):
        history.add([job(id=f"{n}", finished_at=START + timedelta(seconds=took))])
    history.add([job(id="f", status="Failed"), job(id="r", status="Running", finished_at=None)])
    history.add([job(id="old", finished_at=None)])

    assert 20 == history.usual_s()
    assert 50 == history.usual_s(excluding=job(id="1"))
    assert history.get(None) is None


# --- classes ---


@pytest.mark.parametrize(
    ("traits", "access", "expected"),
    [
        ({}, AccessMethod.WAREHOUSE, SchemaClass.SYNCABLE),
        ({"sync_type": "a_new_one"}, AccessMethod.WAREHOUSE, SchemaClass.SYNCABLE),
        ({}, AccessMethod.DIRECT, SchemaClass.EXTERNAL),
        ({"sync_type": "cdc"}, AccessMethod.WAREHOUSE, SchemaClass.OBSERVE_ONLY),
        ({"sync_type": "cdc", "should_sync": False}, AccessMethod.WAREHOUSE, SchemaClass.OBSERVE_ONLY),
        ({"sync_type": None, "should_sync": False}, AccessMethod.WAREHOUSE, SchemaClass.DISABLED),
        ({"should_sync": False}, AccessMethod.WAREHOUSE, SchemaClass.DISABLED),
        (
            {"should_sync": False, "status": "Failed", "latest_error": "no such host"},
            AccessMethod.WAREHOUSE,
            SchemaClass.DISABLED_BY_POSTHOG,
        ),
        (
            {"should_sync": False, "status": "Failed", "latest_error": "Sync cancelled by user"},
            AccessMethod.WAREHOUSE,
            SchemaClass.DISABLED,
        ),
    ],
)
def test_a_table_is_classified_from_its_record_alone(
    traits: dict[str, Any], access: AccessMethod, expected: SchemaClass
):
    """Where no job is known, the table's own status and error say who switched it off."""
    schema = Schema.model_validate(
        {"id": "t", "name": "users", "should_sync": True, "sync_type": "incremental"} | traits
    )

    assert expected is classify(schema, access_method=access)
    assert (expected is SchemaClass.SYNCABLE) is (expected.reason == "")


# --- errors ---


def every_error() -> list[type[errors.SyncError]]:
    """All error classes below the base."""
    return [getattr(errors, name) for name in errors.__all__ if name != "SyncError"]


def test_each_error_has_an_outcome_of_its_own_and_a_place_in_the_tree():
    """What ends a table is told apart by class and by outcome alike; the drawing at the top is complete."""
    outcomes = [error.outcome for error in every_error()]

    assert len(outcomes) == len(set(outcomes))
    assert set(outcomes) == set(SyncOutcome) - {SyncOutcome.COMPLETED, SyncOutcome.SUBMITTED}
    assert [] == [error.__name__ for error in every_error() if f"─ {error.__name__}" not in (errors.__doc__ or "")]


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"start_timeout_s": 0}, "start_timeout_s\n  Input should be greater than 0"),
        ({"poll_min_s": -1.0}, "poll_min_s\n  Input should be greater than 0"),
        ({"poll_min_s": 60.0}, "is above poll_max_s"),
        ({"accept_jobs_since": datetime(2026, 1, 1)}, "accept_jobs_since\n  Input should have timezone"),  # noqa: DTZ001  what is refused
        ({"trigger_after": datetime(2026, 1, 1)}, "trigger_after\n  Input should have timezone"),  # noqa: DTZ001  what is refused
    ],
)
def test_nonsense_is_refused_early(settings: dict[str, Any], complaint: str):
    """A setting that cannot work is refused when it is made, by its name."""
    with pytest.raises(ValueError, match=complaint):
        SyncSettings(**settings)


# --- clocks ---


def test_the_machines_clock_is_aware_and_goes_forward():
    """The production clock: UTC, monotonic, and it sleeps."""
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0)

    assert before <= clock.monotonic()
    assert clock.now().tzinfo is UTC


def slow_and_bad(world: World) -> None:
    """A request that takes its time and fails."""
    world.sleep(100)
    raise KeyError


def test_the_stopwatch_stands_still_where_it_is_stopped():
    """Deadlines do not run during requests, even those that fail."""
    world = World()
    stopwatch = Stopwatch(world)
    began = stopwatch.now()
    world.sleep(3)
    with pytest.raises(KeyError), stopwatch.stopped():
        slow_and_bad(world)
    world.sleep(4)

    assert stopwatch.now() - began == pytest.approx(7)


def test_the_servers_clock_goes_on_from_what_the_server_told():
    """Between answers its time is estimated; an answer that repeats an older time does not set it back."""
    world = World(skew_s=-1000)
    clock = ServerClock(world)
    assert world.now() == clock.now()

    clock.learn(START)
    world.sleep(10)
    clock.learn(START)
    clock.learn(None)

    assert START + timedelta(seconds=10) == clock.now()


# --- pace ---

waits = st.builds(
    Wait,
    waited_s=st.floats(0, 1e6),
    job_age_s=st.floats(0, 1e6),
    usual_s=st.none() | st.floats(0, 1e6),
)


@given(waits)
def test_an_interval_is_within_its_bounds(wait: Wait):
    """Never more often than the shortest, never more seldom than the longest interval."""
    settings = SyncSettings()

    assert settings.poll_min_s <= interval_s(wait, settings=settings) <= settings.poll_max_s


@given(st.lists(waits), st.integers(1, 20))
def test_a_pause_pays_for_what_a_look_costs(some: list[Wait], cost: int):
    """A look of many requests comes less often, and no pause is beyond the longest."""
    settings = SyncSettings()
    pause = pause_s(some, cost=cost, settings=settings)

    assert floor_s(cost=cost, settings=settings) <= pause <= settings.poll_max_s
    assert settings.poll_min_s <= floor_s(cost=cost, settings=settings) < floor_s(cost=100, settings=settings)


@pytest.mark.parametrize(
    ("waited_s", "usual_s", "search", "sweep"),
    [
        (0, None, 6, 60),
        (20, None, 20, 60),
        (900, None, 30, 90),
        (9000, None, 30, 300),
        (0, 20, 6, 60),
        (0, 200, 6, 200),
        (100, 200, 30, 100),
        (190, 200, 30, 60),
        (0, 3600, 6, 300),
    ],
)
def test_beside_the_list_a_table_is_looked_at_seldom(
    *, waited_s: float, usual_s: float | None, search: float, sweep: float
):
    """A new job is searched for ever more seldom; a record that says Running is doubted every few minutes."""
    settings, wait = SyncSettings(), Wait(waited_s=waited_s, job_age_s=waited_s, usual_s=usual_s)

    assert (search, sweep) == (search_s(wait, settings=settings), sweep_s(wait, settings=settings))


def test_deadlines_are_kept_beside_the_list():
    """A running table is looked at ten times as often as its shortest deadline comes."""
    wait = Wait(waited_s=100)

    assert 20 == sweep_s(wait, settings=SyncSettings(stall_timeout_s=200))
    assert 30 == sweep_s(wait, settings=SyncSettings(total_timeout_s=300))
    assert 2 == sweep_s(wait, settings=SyncSettings(total_timeout_s=1))


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_chance_makes_a_pause_longer_and_never_by_more_than_a_tenth(now: float, pause: float, chance: float):
    """What PostHog asked for, and the budgets of requests, are kept whatever the dice say."""
    planned = now + pause

    assert planned <= put_off(planned, now=now, chance=chance) <= planned + pause / 10 + 1e-6


@pytest.mark.parametrize("at", [float("inf"), float("-inf")])
def test_never_and_at_once_stay_what_they_are(at: float):
    """What has no pause has none to make longer."""
    assert at == put_off(at, now=5.0, chance=1.0)


# --- gate ---


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=60), st.floats(1, 600))
def test_a_bucket_keeps_its_pace_after_the_burst(takes: list[tuple[float, int]], per_min: float):
    """Whoever waits for `at` takes no more than the burst, the pace, and what the last one took."""
    bucket, now, taken = Bucket(per_min=per_min, burst_s=15, at=0.0), 0.0, 0
    for pause, cost in takes:
        now = max(now + pause, bucket.at)
        assert taken <= (now + 15) * per_min / 60 + 1e-6
        bucket.take(now, cost=cost)
        taken += cost
        assert now <= bucket.at


@pytest.mark.parametrize(("sources", "at_once"), [(1, 1), (2, 2), (60, 60), (100, 61)])
def test_each_source_may_begin_at_once(sources, at_once):
    """As many triggers as there are sources, up to some sixty, go as fast as they are answered; then the pace holds."""
    gate = Gate(settings=SyncSettings(), sources=sources, at=0.0)
    times = []
    for _ in range(70):
        times.append(gate.at)
        gate.passed(gate.at)

    assert [0.0] * at_once == times[:at_once]
    assert [0.25 * n for n in range(1, 71 - at_once)] == pytest.approx(times[at_once:])


@pytest.mark.parametrize(
    ("waited_s", "usual_s", "expected"),
    [
        (0, None, 2),
        (40, None, 2),
        (200, None, 10),
        (10_000, None, 30),
        (600, 3600, 30),
        (3410, 3600, 10),
        (3430, 3600, 2),
        (3770, 3600, 2),
        (3790, 3600, 30),
    ],
)
def test_looks_are_frequent_at_first_and_around_the_usual_end(waited_s: float, usual_s: float | None, expected: float):
    """2 s at first, up to 30 s with the age, never past the time when the end is due, and 2 s around it."""
    wait = Wait(waited_s=waited_s, job_age_s=waited_s, usual_s=usual_s)

    assert expected == interval_s(wait, settings=SyncSettings())


# --- the client ---


def test_the_client_is_what_the_engine_needs():
    """The names that the engine calls are the client's; the types are checked by mypy here."""

    def as_api(client: PostHogWarehouseClient) -> WarehouseApi:
        return client

    assert as_api.__annotations__["client"] is PostHogWarehouseClient
    assert [] == [name for name in vars(WarehouseApi) if name[0] != "_" and not hasattr(PostHogWarehouseClient, name)]
