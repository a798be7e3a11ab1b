"""Which ticks a run waits for that adopts a job which has ended: those of one sensor that may be reporting it."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from dw_orchestration.assets.ticks import LONGEST_TICK_S, OpenTicks


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps ticks."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def repository(name: str) -> RemoteRepositoryOrigin:
    """A repository of a code location."""
    location = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path="python", module_name=name),
        container_image=None,
        entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
        location_name=name,
    )
    return RemoteRepositoryOrigin(location, "__repository__")


class Sensor:
    """A sensor as the instance knows it."""

    def __init__(self, instance: dg.DagsterInstance, location: str, name: str = "posthog_warehouse_job_status") -> None:
        self.instance = instance
        self.state = InstigatorState(
            RemoteInstigatorOrigin(repository(location), name),
            InstigatorType.SENSOR,
            InstigatorStatus.RUNNING,
            SensorInstigatorData(min_interval=30),
        )
        instance.add_instigator_state(self.state)

    def begin_tick(self, at_s: float) -> InstigatorTick:
        """A tick that is under way."""
        data = TickData(
            instigator_origin_id=self.state.instigator_origin_id,
            instigator_name=self.state.instigator_name,
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.STARTED,
            timestamp=at_s,
            selector_id=self.state.selector_id,
        )
        return self.instance.create_tick(data)


def ticks_of_a_run(instance: dg.DagsterInstance, location: str, *, now_s: float) -> OpenTicks:
    """What a step of a run that a code location has launched sees."""
    run = dg.DagsterRun(job_name="sync", remote_job_origin=RemoteJobOrigin(repository(location), "sync"))
    return OpenTicks(instance, run, resource_keys={"posthog_warehouse", "io_manager"}, clock=lambda: now_s)


def test_only_the_own_sensor_counts_and_costs_one_query(instance) -> None:
    """However many other sensors the instance has, and however busy they are: a run reads its own."""
    own = Sensor(instance, "ours")
    for number in range(20):
        Sensor(instance, "theirs", f"posthog_warehouse_job_status_{number}").begin_tick(1000.0)
    Sensor(instance, "ours", "posthog_warehouse_drift").begin_tick(1000.0)
    ticks = ticks_of_a_run(instance, "ours", now_s=1010.0)
    before = ticks.now()
    queries, read = [], instance.get_ticks
    instance.get_ticks = lambda *args, **more: (queries.append(args), read(*args, **more))[1]
    instance.all_instigator_state = lambda *_, **__: pytest.fail("The sensors were read again.")

    tick = own.begin_tick(1005.0)
    during = ticks.now()
    instance.update_tick(tick.with_status(TickStatus.SUCCESS))

    assert (set(), {(own.state.selector_id, 1005.0)}, set()) == (before, during, ticks.now())
    assert [(own.state.instigator_origin_id, own.state.selector_id)] * 2 == queries


def test_a_tick_older_than_the_sensors_deadline_is_not_open(instance) -> None:
    """One whose daemon was killed stays open until a daemon takes it up again; no tick lasts longer than a minute."""
    Sensor(instance, "ours").begin_tick(1000.0)

    assert {1000.0} == {at_s for _, at_s in ticks_of_a_run(instance, "ours", now_s=1000.0 + LONGEST_TICK_S - 1).now()}
    assert set() == ticks_of_a_run(instance, "ours", now_s=1000.0 + LONGEST_TICK_S).now()
