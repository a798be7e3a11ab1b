"""Whether a sensor is just about to report something: what it has read before, it does not read again."""

import time
from collections.abc import Callable, Iterator

import dagster as dg

# Dagster gives a sensor's tick a minute; one that was killed stays open until its daemon is back
LONGEST_TICK_S = 60.0
_LOOK_EVERY_S = 0.25


class OpenTicks:
    """The sensors' ticks that are under way, for one step."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._instance = instance
        self._now = now
        self._sleep = sleep
        self._given_up: set[tuple[str, float]] = set()

    def wait(self) -> None:
        """Wait until every tick that is open now has ended, with its events in the log.

        A tick of the job-status sensor that began before a run adopted a job may not have seen the adoption, and
        report the job too. Ticks that begin later do see it. One that does not end is waited for once.
        """
        under_way = set(_open_ticks(self._instance)) - self._given_up
        deadline = self._now() + LONGEST_TICK_S
        while under_way and self._now() < deadline:
            self._sleep(_LOOK_EVERY_S)
            under_way &= set(_open_ticks(self._instance))
        self._given_up |= under_way


def _open_ticks(instance: dg.DagsterInstance) -> Iterator[tuple[str, float]]:
    """The newest tick of each sensor, if it is under way: the sensor, and when it began."""
    if instance.schedule_storage is None:
        return
    for state in instance.all_instigator_state():
        if state.instigator_type.value != "SENSOR":
            continue
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            if tick.status.value == "STARTED":
                yield state.selector_id, tick.timestamp
