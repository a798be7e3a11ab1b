"""A run that adopts a job which has ended waits for the sensor's tick that may be reporting it."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
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


class Sensor:
    """A sensor as the instance knows it, with a clock that passes while a run waits for it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        location = InProcessCodeLocationOrigin(
            LoadableTargetOrigin(executable_path="python", module_name="location"),
            container_image=None,
            entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
        )
        origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "repository"), "job_status")
        self.instance = instance
        self.state = InstigatorState(
            origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(min_interval=30)
        )
        instance.add_instigator_state(self.state)
        self.ends: dict[float, object] = {}
        self.now_s = 0.0
        self.ticks = OpenTicks(instance, now=lambda: self.now_s, sleep=self.sleep)

    def begin_tick(self, *, ends_at_s: float) -> None:
        """A tick that is under way until then."""
        data = TickData(
            instigator_origin_id=self.state.instigator_origin_id,
            instigator_name="job_status",
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.STARTED,
            timestamp=1000.0 + self.now_s,
            selector_id=self.state.selector_id,
        )
        self.ends[ends_at_s] = self.instance.create_tick(data)

    def sleep(self, seconds: float) -> None:
        """Let time pass, and ticks end; after the first another begins."""
        self.now_s += seconds
        for at_s in [at_s for at_s in self.ends if at_s <= self.now_s]:
            self.instance.update_tick(self.ends.pop(at_s).with_status(TickStatus.SUCCESS))
            self.begin_tick(ends_at_s=float("inf"))

    def wait(self) -> float:
        """How long a run waits, in seconds."""
        began_s = self.now_s
        self.ticks.wait()
        return self.now_s - began_s


def test_no_open_tick_is_no_wait(instance) -> None:
    """The usual case costs nothing."""
    assert Sensor(instance).wait() == 0


def test_an_open_tick_is_waited_for_and_a_later_one_is_not(instance) -> None:
    """A tick that begins after the run has recorded its adoption sees the adoption."""
    sensor = Sensor(instance)
    sensor.begin_tick(ends_at_s=3.0)

    assert sensor.wait() == 3.0


def test_a_tick_whose_daemon_was_killed_is_not_waited_for_for_ever(instance) -> None:
    """It stays open until a daemon takes it up again; no tick lasts longer than a minute, and once is enough."""
    sensor = Sensor(instance)
    sensor.begin_tick(ends_at_s=float("inf"))

    assert LONGEST_TICK_S == pytest.approx(sensor.wait(), abs=1)
    assert sensor.wait() == 0
