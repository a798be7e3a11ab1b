"""What a batch tells while it goes."""

from dataclasses import dataclass
from enum import StrEnum

from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.errors import BillingLimitReachedError, SyncError
from dw_orchestration.sync.outcome import SyncOutcome


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """The table's job is known. Record it at once: a later try of the same run resumes it instead of triggering.

    A table whose sync PostHog restarts, or a newer run replaces, is adopted again, with the successor.
    """

    schema_id: str
    job: Job
    started: bool
    """Whether this batch started the job, rather than finding it."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The job's rows or status have changed."""

    schema_id: str
    job: Job
    waited_s: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The table's part in the batch is over; exactly once for each table."""

    schema_id: str
    job: Job | None
    outcome: SyncOutcome
    error: SyncError | None = None
    queue_s: float | None = None
    """From PostHog's accepting the trigger to the job; None for a sync that was already there."""
    duration_s: float | None = None
    usual_s: float | None = None
    """What the table's last completed syncs took (their median)."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that a reader of the log wants to know."""

    text: str
    schema_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class BillingStopped:
    """The last event of a batch in which the billing limit was met: one message for all tables that it cost."""

    error: BillingLimitReachedError
    not_triggered: tuple[str, ...]


SyncEvent = Adopted | Progress | Ended | Notice | BillingStopped


class CancelResult(StrEnum):
    """What became of cancelling a table's sync."""

    CANCELLED = "cancelled"
    ALREADY_FINISHED = "already_finished"
    REPLACED = "replaced"
    """Another run, which is not ours, has taken its place; it was left alone."""
    NO_JOB = "no_job"
    """Triggered, and no job has appeared: there was nothing to cancel, and it may yet start."""
    NOT_CONFIRMED = "not_confirmed"
    """The job still runs at the end of the time for it."""


@dataclass(frozen=True, kw_only=True)
class CancelReport:
    """How cancelling one table's sync went."""

    schema_id: str
    job_id: str | None
    result: CancelResult
    text: str

    @property
    def is_stopped(self) -> bool:
        """Whether nothing that this batch started is running for the table any more."""
        return self.result in {CancelResult.CANCELLED, CancelResult.ALREADY_FINISHED, CancelResult.REPLACED}
