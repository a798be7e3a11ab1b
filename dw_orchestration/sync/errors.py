"""How a sync can end other than completed.

The tree; `allow_retries` says whether another try can help, `retry_after_s` when:

    SyncError
    ├── SyncFailedError             the job failed; carries its own error
    ├── SyncCancelledError          somebody stopped the job
    ├── TurnedOffByPostHogError     the job failed for good, and PostHog switched the table off
    ├── BillingLimitReachedError    the project is over its billing limit
    ├── BillingLimitTooLowError     this table's rows would pass the billing limit
    ├── NotTriggeredError           not tried: billing had stopped the batch before
    ├── SyncNeverStartedError       PostHog took the trigger, and no job appeared
    ├── SyncStalledError            the job runs without progress
    ├── SyncTooLongError            the job runs, and the time is up
    ├── UnknownStatusError          the job has a status that this version does not know
    ├── SchemaDeletedError          the table or its source is gone
    ├── NotSyncableError            not a table that a reload syncs
    ├── AlreadyRunningError         a sync was running, and the settings say to fail then
    ├── FailureStreakError          PostHog would defer the sync: too many failed in a row
    ├── TriggerRefusedError         PostHog refused the trigger
    └── PollingLostError            PostHog could not be asked for too long
"""

from typing import ClassVar, Self

from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.outcome import SyncOutcome
from dw_orchestration.tables.classify import SchemaClass

__all__ = [
    "AlreadyRunningError",
    "BillingLimitReachedError",
    "BillingLimitTooLowError",
    "FailureStreakError",
    "NotSyncableError",
    "NotTriggeredError",
    "PollingLostError",
    "SchemaDeletedError",
    "SyncCancelledError",
    "SyncError",
    "SyncFailedError",
    "SyncNeverStartedError",
    "SyncStalledError",
    "SyncTooLongError",
    "TriggerRefusedError",
    "TurnedOffByPostHogError",
    "UnknownStatusError",
]


class SyncError(Exception):
    """Base of all: what happened to which table, whether a retry can help, and what to do.

    Attributes:
        allow_retries: Whether another try can help.
        retry_after_s: How long to wait before it, in seconds, where that is known.
        schema_id: The table.
        job_id: The job, where there was one.
    """

    outcome: ClassVar[SyncOutcome]
    retry_helps: ClassVar[bool] = False
    cure: ClassVar[str] = ""

    def __init__(
        self,
        what: str,
        *,
        schema_id: str | None = None,
        job_id: str | None = None,
        allow_retries: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(what)
        self.schema_id = schema_id
        self.job_id = job_id
        self.allow_retries = self.retry_helps if allow_retries is None else allow_retries
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, job: Job, what: str) -> Self:
        """The error about a job."""
        return cls(what, schema_id=job.schema_id, job_id=job.id)

    def __str__(self) -> str:
        return f"{self.args[0]} {self.cure}".strip()


class SyncFailedError(SyncError):
    """The job failed; `job_error` is PostHog's own text."""

    outcome = SyncOutcome.FAILED
    retry_helps = True
    cure = "Mend what the error names, then sync again."
    job_error: str | None = None


class SyncCancelledError(SyncError):
    """Somebody stopped the job: a user, a newer run, or the table's switch. Not a failure of the source."""

    outcome = SyncOutcome.CANCELLED
    cure = "If that was not meant, sync again."


class TurnedOffByPostHogError(SyncError):
    """The job failed with an error that PostHog does not retry, and PostHog has switched the table off."""

    outcome = SyncOutcome.TURNED_OFF
    cure = "Mend what the error names and switch the table on in PostHog; until then no schedule runs it."


class BillingLimitReachedError(SyncError):
    """The project is over its billing limit. Nothing is synced until the limit is raised or the period turns."""

    outcome = SyncOutcome.BILLING_LIMIT
    cure = "Raise the limit in PostHog or wait for the next period; another try before is useless."


class BillingLimitTooLowError(SyncError):
    """PostHog counted the rows first: this table's sync would pass the project's billing limit."""

    outcome = SyncOutcome.BILLING_LIMIT_TOO_LOW
    cure = "Raise the limit in PostHog, or sync less: an incremental sync type or fewer columns."


class NotTriggeredError(SyncError):
    """The table was not tried, because the project's billing limit had stopped the batch."""

    outcome = SyncOutcome.NOT_TRIGGERED
    cure = "Raise the limit in PostHog, then sync it again."


class SyncNeverStartedError(SyncError):
    """PostHog took the trigger, or its answer was lost, and no job appeared in time."""

    outcome = SyncOutcome.NEVER_STARTED
    retry_helps = True
    cure = (
        "Try again; if it stays so, look at the table in PostHog: a schedule may be missing, a leftover sync may hold "
        "its lock, or its workers may be busy (then raise start_timeout_s)."
    )


class SyncStalledError(SyncError):
    """The job runs, and neither its rows nor its status have changed for too long."""

    outcome = SyncOutcome.STALLED
    cure = "Look at the sync in PostHog and cancel it there if it is stuck; raise stall_timeout_s if it is not."


class SyncTooLongError(SyncError):
    """The job still runs when the time for it is up."""

    outcome = SyncOutcome.TOO_LONG
    cure = "It goes on at PostHog: wait for it there, or cancel it. Raise total_timeout_s if that is normal."


class UnknownStatusError(SyncError):
    """The job's status is one that this version does not know; it is never taken for success."""

    outcome = SyncOutcome.UNKNOWN_STATUS
    cure = "Look at the sync in PostHog, and update this package."


class SchemaDeletedError(SyncError):
    """The table, or its whole source, is not there (any more)."""

    outcome = SyncOutcome.DELETED
    cure = "Refresh the definitions if it was deleted on purpose; otherwise add the table again in PostHog."


class NotSyncableError(SyncError):
    """Not a table that a reload syncs; `schema_class` says what it is, and the text why."""

    outcome = SyncOutcome.NOT_SYNCABLE
    schema_class: SchemaClass | None = None


class AlreadyRunningError(SyncError):
    """A sync of the table was running, and the settings say to fail then."""

    outcome = SyncOutcome.ALREADY_RUNNING
    retry_helps = True
    cure = "Wait for its end, or set if_running to attach or wait_then_reload."


class FailureStreakError(SyncError):
    """Too many syncs failed in a row: PostHog would take the trigger and start nothing until a gap has passed."""

    outcome = SyncOutcome.FAILURE_STREAK
    retry_helps = True
    cure = "Mend what the error names; a resync starts at once, but drops the table and bills all its rows."


class TriggerRefusedError(SyncError):
    """PostHog refused the trigger; the text says why."""

    outcome = SyncOutcome.REFUSED


class PollingLostError(SyncError):
    """PostHog could not be asked for so long that the sync was given up; it may well be running."""

    outcome = SyncOutcome.POLLING_LOST
    retry_helps = True
    cure = "Try again when PostHog answers: a sync that still runs is attached to, not started twice."
