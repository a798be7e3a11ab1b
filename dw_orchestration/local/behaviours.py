"""Scripted behaviour: what a server, a worker or a source does wrong on request, until it is reset.

Syncs stay real; a behaviour only bends what happens around them. It is kept in memory, so that a warehouse that is
started again is itself again.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from dw_orchestration.local.rows import StartedBy, Status
from dw_orchestration.local.syncing import SourceError, SyncCancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

POLL_EVERY_S = 0.02
# what nobody asked for at this moment
BY_ITSELF = frozenset({StartedBy.SCHEDULE, StartedBy.ENABLE, StartedBy.CREATE})


class BillingRefusal(Exception):  # noqa: N818 - an end that is not an error of the sync
    """The project's billing keeps a job from importing anything."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class SyncBehaviour(BaseModel):
    """How the syncs of one table behave; what is left out is as usual."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    starts: bool = Field(default=True, description="False: a trigger shows Running, and no job ever appears.")
    job_after_s: float = Field(default=0.0, ge=0, description="Seconds from the trigger to the job.")
    splits: bool = Field(default=False, description="A restart of the worker ends the first job; another follows.")
    billing: Literal["reached", "too_low"] | None = Field(default=None, description="Which billing limit is met.")
    lasts_s: float = Field(default=0.0, ge=0, description="Seconds that the job takes, at least.")
    ends: bool = Field(default=True, description="False: the job stays Running, and no rows move.")
    error: str | None = Field(default=None, description="The source's error, at which the job fails.")
    error_is_permanent: bool = Field(default=False, description="Whether the error disables the table.")
    error_times: int | None = Field(default=None, ge=1, description="How many jobs fail; None for all.")
    loses_triggers: bool = Field(default=False, description="A trigger is accepted, and nothing happens at all.")
    shows_status: str | None = Field(default=None, description="What the API shows for a job that is Running.")
    billable: bool | None = Field(default=None, description="Whether the rows of its jobs are billed.")
    cdc_both: bool = Field(default=False, description="A sync has two jobs, as change data capture in mode `both` has.")
    bulk_save_fails: bool = Field(default=False, description="A batch of changes is saved without this table: 503.")


class ServerBehaviour(BaseModel):
    """How the whole warehouse behaves; what is left out is as usual."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quiet: bool = Field(default=False, description="Nothing is synced but on request: not by schedule, not when new.")
    refuses: Literal["throttled", "down", "broken"] | None = Field(
        default=None, description="How it refuses every call."
    )
    lost_answers: int = Field(default=0, ge=0, description="How many of the next changes take effect unanswered.")
    for_s: float | None = Field(default=None, ge=0, description="Seconds that it refuses; None until the reset.")
    retry_after_s: int = Field(default=1, ge=0, description="The seconds in Retry-After for a throttled caller.")


class Behaviours:
    """What was asked for, and how a run is bent by it. Safe to share between threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tables: dict[UUID, SyncBehaviour] = {}
        self._warehouse = ServerBehaviour()
        self._asked_at = clock()

    def set_table(self, schema_id: UUID, behaviour: SyncBehaviour) -> None:
        """Let the syncs of a table behave so from now on."""
        with self._lock:
            self._tables[schema_id] = behaviour

    def set_warehouse(self, behaviour: ServerBehaviour) -> None:
        """Let the warehouse behave so from now on."""
        with self._lock:
            self._warehouse, self._asked_at = behaviour, self._clock()

    def reset(self) -> None:
        """Forget everything; syncs that were held up continue."""
        with self._lock:
            self._tables.clear()
            self._warehouse = ServerBehaviour()

    def of(self, schema_id: UUID) -> SyncBehaviour | None:
        """How the syncs of a table are to behave; None for as usual."""
        with self._lock:
            return self._tables.get(schema_id)

    def allows(self, started_by: StartedBy) -> bool:
        """Whether a sync may start that was started so."""
        with self._lock:
            return not (self._warehouse.quiet and started_by in BY_ITSELF)

    def refusal(self) -> ServerBehaviour | None:
        """How to refuse a call at this moment; None to answer it."""
        with self._lock:
            behaviour, lasted_s = self._warehouse, self._clock() - self._asked_at
        is_over = behaviour.for_s is not None and lasted_s >= behaviour.for_s
        return None if behaviour.refuses is None or is_over else behaviour

    def loses_answer(self) -> bool:
        """Whether the answer to the change that comes in now is lost; it is one fewer then."""
        with self._lock:
            left = self._warehouse.lost_answers
            if left:
                self._warehouse = self._warehouse.model_copy(update={"lost_answers": left - 1})
            return left > 0

    def is_split(self, schema_id: UUID) -> bool:
        """Whether a restart of the worker is to end the table's next job."""
        behaviour = self.of(schema_id)
        return behaviour is not None and behaviour.splits

    def before_job(self, schema_id: UUID, *, cancelled: threading.Event) -> bool:
        """Delay the table's next job; False if it must never start."""
        behaviour = self.of(schema_id)
        if behaviour is None:
            return True
        self._hold(schema_id, behaviour, for_s=behaviour.job_after_s, cancelled=cancelled)
        return behaviour.starts

    def before_rows(self, schema_id: UUID, *, cancelled: threading.Event) -> None:
        """Delay the rows of the table's running job, or prevent them.

        Raises:
            BillingRefusal: a billing limit is met.
            SourceError: the source fails.
            SyncCancelled: `cancelled` was set during the delay.
        """
        behaviour = self.of(schema_id)
        if behaviour is None:
            return
        if behaviour.billing is not None:
            reached = behaviour.billing == "reached"
            raise BillingRefusal(Status.BILLING_LIMIT if reached else Status.BILLING_LIMIT_TOO_LOW)
        lasts_s = behaviour.lasts_s if behaviour.ends else float("inf")
        self._hold(schema_id, behaviour, for_s=lasts_s, cancelled=cancelled)
        if cancelled.is_set():
            raise SyncCancelled
        self._fail(schema_id)

    def _hold(self, schema_id: UUID, behaviour: SyncBehaviour, *, for_s: float, cancelled: threading.Event) -> None:
        """Wait until the time is up, the run is stopped or the table has another behaviour."""
        until = self._clock() + for_s
        while self._clock() < until and self.of(schema_id) is behaviour:
            if cancelled.wait(POLL_EVERY_S):
                return

    def _fail(self, schema_id: UUID) -> None:
        with self._lock:
            behaviour = self._tables.get(schema_id)
            if behaviour is None or behaviour.error is None:
                return
            self._tables[schema_id] = _after_one_error(behaviour)
        raise SourceError(behaviour.error, permanent=behaviour.error_is_permanent)


def _after_one_error(behaviour: SyncBehaviour) -> SyncBehaviour:
    if behaviour.error_times is None:
        return behaviour
    left = behaviour.error_times - 1
    return behaviour.model_copy(update={"error_times": left} if left else {"error_times": None, "error": None})
