"""Whether the job-status sensor is just about to report something: what it has read before, it does not read again."""

import time
from collections.abc import Callable, Collection

import dagster as dg

# Dagster gives a sensor's tick a minute; one that was killed stays open until its daemon is back
LONGEST_TICK_S = 60.0


def job_status_sensor_name(resource_key: str) -> str:
    """The name of the job-status sensor of a warehouse, or the start of it: a run finds the sensor by it."""
    return f"{resource_key}_job_status"


class OpenTicks:
    """The ticks of the job-status sensor that are under way, for one step.

    A tick that began before a run adopted a job may not have seen the adoption, and report the job too. Ticks that
    begin later do see it.

    Args:
        instance: Where the ticks are.
        run: The run, whose code location has the sensor.
        resource_keys: The keys of the step's resources, one of which is the warehouse's.
        clock: The time of day, in seconds since 1970.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        run: dg.DagsterRun,
        *,
        resource_keys: Collection[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._instance = instance
        # a run that no code location launched may have its sensor in any
        self._repository_id = (
            run.remote_job_origin.repository_origin.get_selector_id() if run.remote_job_origin else None
        )
        self._names = tuple(map(job_status_sensor_name, resource_keys))
        self._clock = clock
        self._sensors: list[tuple[str, str]] = []

    def now(self) -> set[tuple[str, float]]:
        """The open ticks: the sensor of each, and when it began. One that has taken longer than any can is over."""
        return {
            (selector_id, tick.timestamp)
            for origin_id, selector_id in self._known_sensors()
            for tick in self._instance.get_ticks(origin_id, selector_id, limit=1)
            if tick.status.value == "STARTED" and tick.timestamp > self._clock() - LONGEST_TICK_S
        }

    def _known_sensors(self) -> list[tuple[str, str]]:
        if not self._sensors and self._instance.schedule_storage is not None:
            states = self._instance.all_instigator_state(repository_selector_id=self._repository_id)
            self._sensors = [
                (state.instigator_origin_id, state.selector_id)
                for state in states
                if state.instigator_type.value == "SENSOR" and state.instigator_name.startswith(self._names)
            ]
        return self._sensors
