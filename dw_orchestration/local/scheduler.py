"""The clock of the embedded warehouse: runs of schemas and discoveries of sources that are due."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from dw_orchestration.local.rows import TURNED_OFF, Schedule, Schema, Source, StartedBy
from dw_orchestration.local.ticks import Ticks, ticks_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from dw_orchestration.local.store import Store
    from dw_orchestration.local.worker import Run

logger = logging.getLogger(__name__)

DISCOVERY_EVERY = timedelta(hours=6)
# PostHog's sweep ends runs of a disabled table whose row was last saved longer ago than this
DISABLED_RUN_LIMIT = timedelta(minutes=30)


class Runs(Protocol):
    """What the scheduler asks of the runner."""

    def trigger(self, schema: Schema, *, started_by: StartedBy) -> bool:
        """Start a run unless one is on."""

    def ask_to_stop(self, schema_id: UUID, *, reason: str) -> Run | None:
        """End a run early."""


def utc_now() -> datetime:
    """The time of day, in UTC."""
    return datetime.now(UTC)


def save_schedule(store: Store, schema: Schema, *, now: datetime, paused: bool = False) -> None:
    """Create the schedule of a schema, or replace it, from its frequency and time of day."""
    ticks = ticks_for(schema.id, frequency=schema.sync_frequency, time_of_day=schema.sync_time_of_day, now=now)
    schedule = Schedule(
        schema_id=schema.id,
        every_s=int(ticks.every.total_seconds()),
        offset_s=int(ticks.offset.total_seconds()),
        start_at=ticks.start_at,
        paused=paused,
        next_tick=ticks.next_after(now),
    )
    store.insert(schedule)


def unpause_schedule(store: Store, schedule: Schedule, *, now: datetime) -> None:
    """Let a schedule tick again from now on; the spec stays as it was saved."""
    store.update(Schedule, schedule.schema_id, paused=False, next_tick=ticks_of(schedule).next_after(now))


def ticks_of(schedule: Schedule) -> Ticks:
    """The ticks of a saved schedule."""
    every, offset = timedelta(seconds=schedule.every_s), timedelta(seconds=schedule.offset_s)
    return Ticks(every=every, offset=offset, start_at=schedule.start_at)


class Scheduler:
    """Fires what is due. Ticks that were missed while the process was down are made up for by one run."""

    def __init__(
        self,
        store: Store,
        *,
        runs: Runs,
        discover: Callable[[Source], None],
        now: Callable[[], datetime],
        poll_every_s: float | None = 1.0,
    ) -> None:
        self._store = store
        self._runs = runs
        self._discover = discover
        self._now = now
        self._poll_every_s = poll_every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)

    def start(self) -> None:
        """Start looking for what is due, unless somebody else does."""
        if self._poll_every_s is not None:
            self._thread.start()

    def stop(self) -> None:
        """Stop; nothing is fired afterwards."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def fire_due(self) -> None:
        """Start every run and discovery whose time has come."""
        now = self._now()
        for schedule in self._store.due_schedules(now):
            self._store.update(Schedule, schedule.schema_id, next_tick=ticks_of(schedule).next_after(now))
            schema = self._store.schema(schedule.schema_id)
            if schema is None:  # a deleted schema's schedule ends at its next tick
                self._store.delete_schedule(schedule.schema_id)
            else:
                self._runs.trigger(schema, started_by=StartedBy.SCHEDULE)
        for source in self._store.due_discoveries(now):
            self._store.update(Source, source.id, next_discovery=now + DISCOVERY_EVERY)
            self._discover(source)
        self._sweep(now)

    def _sweep(self, now: datetime) -> None:
        for job in self._store.running_jobs():
            schema = self._store.schema(job.schema_id)
            if schema and not schema.should_sync and schema.updated_at < now - DISABLED_RUN_LIMIT:
                self._runs.ask_to_stop(schema.id, reason=TURNED_OFF)

    def _loop(self) -> None:
        while not self._stopped.wait(self._poll_every_s):
            try:
                self.fire_due()
            except Exception:
                # The edge of the thread: a check that failed is repeated a second later.
                logger.exception("The scheduler could not look for what is due")
