"""Whether a sensor is just about to report something: what it has read before, it does not read again."""

import time
from collections.abc import Callable, Iterator

import dagster as dg

# Dagster gives a sensor's tick a minute; one that was killed stays open until its daemon is back
LONGEST_TICK_S = 60.0
_LOOK_EVERY_S = 0.25


def wait_for_open_ticks(
    instance: dg.DagsterInstance,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until every tick that is open now has ended, with its events in the log.

    A tick of the job-status sensor that began before a run adopted a job may not have seen the adoption, and report
    the job too. Ticks that begin later do see it.
    """
    open_ticks = set(_open_ticks(instance))
    deadline = now() + LONGEST_TICK_S
    while open_ticks and now() < deadline:
        sleep(_LOOK_EVERY_S)
        open_ticks &= set(_open_ticks(instance))


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
