"""The pool of workers: runs queue here, one at a time for each schema."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from dw_orchestration.local.rows import CANCELLED, RESTARTED, Schema, StartedBy, Status
from dw_orchestration.local.worker import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from dw_orchestration.local.behaviours import Behaviours
    from dw_orchestration.local.rows import Job
    from dw_orchestration.local.store import Store
    from dw_orchestration.local.worker import Worker

logger = logging.getLogger(__name__)

STOP_WITHIN_S = 2.0


class Runner:
    """Starts, stops and counts runs. A trigger while a run of that schema is on is dropped."""

    def __init__(
        self, store: Store, *, worker: Worker, behaviours: Behaviours, now: Callable[[], datetime], threads: int = 4
    ) -> None:
        self._store = store
        self._worker = worker
        self._behaviours = behaviours
        self._now = now
        self._lock = threading.Lock()
        self._runs: dict[UUID, Run] = {}
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Daemons, so that a source that hangs cannot keep the process from ending.
        self._threads = [
            threading.Thread(target=self._loop, name=f"sync-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Start the workers."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all runs as Failed and stop the workers."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.stop(RESTARTED)
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + STOP_WITHIN_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        for run in runs:
            run.ended.wait(max(deadline - time.monotonic(), 0))
        for job in self._store.running_jobs():
            self._worker.fail(job, RESTARTED)

    def submit(self, task: Callable[[], None]) -> None:
        """Let a worker do something else than a sync."""
        self._tasks.put(task)

    def trigger(self, schema: Schema, *, started_by: StartedBy) -> bool:
        """Queue a run; False if one is queued or running already."""
        behaviour = self._behaviours.of(schema.id)
        if not self._behaviours.allows(started_by) or (behaviour is not None and behaviour.loses_triggers):
            return False
        run = Run(schema.id, started_by)
        with self._lock:
            if schema.id in self._runs:
                return False
            self._runs[schema.id] = run
        if started_by is not StartedBy.SCHEDULE:
            # Running already before there is a job; a tick shows only when its job is there.
            self._store.update(Schema, schema.id, status=Status.RUNNING, updated_at=self._now())
        if behaviour is None:
            self._tasks.put(partial(self._carry_out, run))
        else:  # a scripted run may be held up indefinitely, and must not keep a worker from other tables
            threading.Thread(target=self._carry_out, args=(run,), name="scripted-sync", daemon=True).start()
        return True

    def ask_to_stop(self, schema_id: UUID, *, reason: str) -> Run | None:
        """Ask the run of a schema to end, without waiting; None if there is none."""
        with self._lock:
            run = self._runs.get(schema_id)
        if run is not None:
            run.stop(reason)
        return run

    def cancel(self, schema_id: UUID, *, reason: str = CANCELLED) -> bool:
        """End the run of a schema before returning; False if the sync reached its end anyway."""
        run = self.ask_to_stop(schema_id, reason=reason)
        if run is not None:
            run.ended.wait(STOP_WITHIN_S)
        job = self.running_job(schema_id)
        if job is not None:  # the source does not let go: the job ends anyway, as PostHog's do
            self._worker.fail(job, reason)
        latest = self._store.jobs_of(schema_id, limit=1)
        return not latest or latest[0].status is not Status.COMPLETED

    def running_job(self, schema_id: UUID) -> Job | None:
        """The latest job of a schema, if it is running."""
        latest = self._store.jobs_of(schema_id, limit=1)
        return latest[0] if latest and latest[0].status is Status.RUNNING else None

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:
                # The edge of the thread: one broken task must not take the worker with it.
                logger.exception("A task of the worker broke off")

    def _carry_out(self, run: Run) -> None:
        try:
            self._worker.carry_out(run)
        finally:
            with self._lock:
                del self._runs[run.schema_id]
            run.ended.set()
