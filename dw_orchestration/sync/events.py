"""The events that the engine reports while it runs."""

from dataclasses import dataclass
from enum import StrEnum

from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.errors import BillingLimitReachedError, SyncError, SyncOutcome


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """The table's job is known.

    Record the job at once, so that a later try of the same run resumes it instead of triggering another sync. If
    PostHog restarts the sync, or a newer sync replaces it, a second `Adopted` reports the new job.
    """

    schema_id: str
    job: Job
    started: bool
    """Whether this run of the engine started the job. Otherwise it was found."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The job's rows or status have changed."""

    schema_id: str
    job: Job
    waited_s: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The engine is done with the table. Each table ends exactly once."""

    schema_id: str
    job: Job | None
    outcome: SyncOutcome
    error: SyncError | None = None
    queue_s: float | None = None
    """Seconds from PostHog's acceptance of the trigger to the job; None if this run did not start the job."""
    duration_s: float | None = None
    usual_s: float | None = None
    """The median duration of the table's latest completed syncs, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A line for the log."""

    text: str
    schema_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class BillingStopped:
    """The last event if the project is over its billing limit: one message for all tables that were not triggered."""

    error: BillingLimitReachedError
    not_triggered: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CaughtUp:
    """All tables whose end one poll has shown are reported. What takes time, and can be done later, holds up none."""


SyncEvent = Adopted | Progress | Ended | Notice | BillingStopped | CaughtUp


class CancelResult(StrEnum):
    """The result of cancelling a table's sync."""

    CANCELLED = "cancelled"
    ALREADY_FINISHED = "already_finished"
    REPLACED = "replaced"
    """Another sync, which was not started here, has replaced ours. It was not cancelled."""
    NO_JOB = "no_job"
    """The table was triggered, but no job has appeared. There was nothing to cancel, and the sync may still start."""
    NOT_CONFIRMED = "not_confirmed"
    """The job still showed as running when the time was up, or PostHog was unreachable."""


@dataclass(frozen=True, kw_only=True)
class CancelReport:
    """The result of cancelling one table's sync, with a line for the log."""

    schema_id: str
    job_id: str | None
    result: CancelResult
    text: str

    @property
    def is_stopped(self) -> bool:
        """Whether no sync that we started is running for the table any more."""
        return self.result in {CancelResult.CANCELLED, CancelResult.ALREADY_FINISHED, CancelResult.REPLACED}
