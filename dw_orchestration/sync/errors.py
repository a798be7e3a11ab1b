"""How a sync can end: the outcomes, an error class for each outcome but success, and the texts of the errors.

The tree; `allow_retries` says whether another try can help, and `retry_after_s` when:

    SyncError
    ├── SyncFailedError             the job failed; carries the job's own error
    ├── SyncCancelledError          somebody stopped the job
    ├── DisabledByPostHogError      the job failed permanently, and PostHog disabled the table
    ├── BillingLimitReachedError    the project is over its billing limit
    ├── BillingLimitTooLowError     this table's rows would exceed the billing limit
    ├── NotTriggeredError           not tried, because another table had met the billing limit
    ├── SyncNeverStartedError       PostHog accepted the trigger, but no job appeared
    ├── SyncStalledError            the job runs without progress
    ├── SyncTooLongError            the job still runs when the time is up
    ├── UnknownStatusError          the job has a status that this version does not know
    ├── SchemaDeletedError          the table or its source does not exist
    ├── NotSyncableError            a reload does not sync this kind of table
    ├── AlreadyRunningError         a sync was running, and `if_running` is `fail`
    ├── FailureStreakError          PostHog would defer the sync, because too many failed in a row
    ├── TriggerRefusedError         PostHog refused the trigger
    └── SourceUnreachableError      PostHog was unreachable for too long
"""

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, Self

from dw_orchestration.posthog.enums import JobStatus, SyncStatus
from dw_orchestration.posthog.errors import (
    BadRequestError,
    BillingLimitError,
    NotFoundError,
    PermissionDeniedError,
    PostHogError,
    RateLimitedError,
    UnreachableError,
)
from dw_orchestration.posthog.jobs import block_of, table_was_deleted, was_cancelled
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.posthog.rows import UnreadableRow
from dw_orchestration.sync.jobs import JobHistory
from dw_orchestration.tables.classify import SchemaClass, cure_of, why_not_synced
from dw_orchestration.text import VisibleError

# `dw_orchestration.errors` exports these names.
__all__ = [
    "AlreadyRunningError",
    "BillingLimitReachedError",
    "BillingLimitTooLowError",
    "DisabledByPostHogError",
    "FailureStreakError",
    "NotSyncableError",
    "NotTriggeredError",
    "SchemaDeletedError",
    "SourceUnreachableError",
    "SyncCancelledError",
    "SyncError",
    "SyncFailedError",
    "SyncNeverStartedError",
    "SyncStalledError",
    "SyncTooLongError",
    "TriggerRefusedError",
    "UnknownStatusError",
]


class SyncOutcome(StrEnum):
    """How the engine's work on a table ended."""

    COMPLETED = "completed"
    SUBMITTED = "submitted"
    """The table's job is known, and the engine does not wait for it. This claims no success."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    BILLING_LIMIT = "billing_limit"
    BILLING_LIMIT_TOO_LOW = "billing_limit_too_low"
    NEVER_STARTED = "never_started"
    STALLED = "stalled"
    TOO_LONG = "too_long"
    UNKNOWN_STATUS = "unknown_status"
    DISABLED_BY_POSTHOG = "disabled_by_posthog"
    DELETED = "deleted"
    NOT_SYNCABLE = "not_syncable"
    ALREADY_RUNNING = "already_running"
    FAILURE_STREAK = "failure_streak"
    REFUSED = "refused"
    NOT_TRIGGERED = "not_triggered"
    UNREACHABLE = "unreachable"


class SyncError(VisibleError):
    """Base of all: what happened to which table, whether a retry can help, and what to do.

    Attributes:
        allow_retries: Whether another try can help.
        retry_after_s: How long to wait before another try, in seconds, if that is known.
        schema_id: The table.
        job_id: The job, if there was one.
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

    @property
    def text(self) -> str:
        """What happened to which table, and the cure."""
        return f"{self.args[0]} {self.cure}".strip()


class SyncFailedError(SyncError):
    """The job failed; `job_error` is PostHog's own text."""

    outcome = SyncOutcome.FAILED
    retry_helps = True
    cure = "Fix the cause above, then sync again."
    job_error: str | None = None


class SyncCancelledError(SyncError):
    """A user, a newer sync or a change of the table's settings stopped the job. The source is not at fault."""

    outcome = SyncOutcome.CANCELLED
    cure = "If this was not intended, sync again."


class DisabledByPostHogError(SyncError):
    """The job failed with an error that PostHog does not retry, and PostHog disabled the table."""

    outcome = SyncOutcome.DISABLED_BY_POSTHOG
    cure = "Fix the cause above and enable the table in PostHog. Until then, no schedule syncs it."


class BillingLimitReachedError(SyncError):
    """The project is over its billing limit. PostHog syncs nothing until the limit is raised or the period ends."""

    outcome = SyncOutcome.BILLING_LIMIT
    cure = "Raise the limit in PostHog or wait for the next billing period. Until then, retries cannot succeed."


class BillingLimitTooLowError(SyncError):
    """PostHog counted the rows before the sync: this table would exceed the project's billing limit."""

    outcome = SyncOutcome.BILLING_LIMIT_TOO_LOW
    cure = "Raise the limit in PostHog, or sync less: use an incremental sync type or fewer columns."


class NotTriggeredError(SyncError):
    """The table was not tried, because another table of the same run had met the project's billing limit."""

    outcome = SyncOutcome.NOT_TRIGGERED
    cure = "Raise the limit in PostHog, then sync the table again."


class SyncNeverStartedError(SyncError):
    """PostHog accepted the trigger, or its answer was lost, but no job appeared in time."""

    outcome = SyncOutcome.NEVER_STARTED
    retry_helps = True
    cure = (
        "Try again. If it happens again, check the table in PostHog: its schedule may be missing, an earlier sync may "
        "still hold its lock, or PostHog's workers may be busy (then raise start_timeout_s)."
    )


class SyncStalledError(SyncError):
    """The job runs, but neither its rows nor its status have changed for too long."""

    outcome = SyncOutcome.STALLED
    cure = "Check the sync in PostHog. Cancel it there if it is stuck; otherwise raise stall_timeout_s."


class SyncTooLongError(SyncError):
    """The job still runs when the time for it is up."""

    outcome = SyncOutcome.TOO_LONG
    cure = "PostHog continues the sync: wait until it ends there, or cancel it. If it is normal, raise total_timeout_s."


class UnknownStatusError(SyncError):
    """The job's status is one that this version does not know. Such a status never counts as success."""

    outcome = SyncOutcome.UNKNOWN_STATUS
    cure = "Check the sync in PostHog, and update this package."


class SchemaDeletedError(SyncError):
    """The table, or its whole source, does not exist in PostHog."""

    outcome = SyncOutcome.DELETED
    cure = "If it was deleted on purpose, refresh the definitions; otherwise add the table again in PostHog."


class NotSyncableError(SyncError):
    """A reload does not sync this kind of table; `schema_class` is the kind, and the text says why."""

    outcome = SyncOutcome.NOT_SYNCABLE
    schema_class: SchemaClass | None = None


class AlreadyRunningError(SyncError):
    """A sync of the table was running, and `if_running` is `fail`."""

    outcome = SyncOutcome.ALREADY_RUNNING
    retry_helps = True
    cure = "Wait until it ends, or set if_running to attach or wait_then_reload."


class FailureStreakError(SyncError):
    """Too many syncs failed in a row. PostHog would accept the trigger, but start nothing until a pause has passed."""

    outcome = SyncOutcome.FAILURE_STREAK
    retry_helps = True
    cure = (
        "Fix the cause above, then sync again after the pause. A resync starts at once, but it deletes the table's "
        "data, and PostHog bills all of its rows."
    )


class TriggerRefusedError(SyncError):
    """PostHog refused the trigger; the text says why."""

    outcome = SyncOutcome.REFUSED


class SourceUnreachableError(SyncError):
    """PostHog was unreachable for so long that the engine gave up. The sync may still be running."""

    outcome = SyncOutcome.UNREACHABLE
    retry_helps = True
    cure = "Try again when PostHog is reachable. A sync that still runs is then attached to, not started twice."


# --- from what was found to the error ---


def error_for(job: Job, *, label: str, history: JobHistory) -> SyncError | None:
    """The error for a job that has ended; None if it completed.

    Args:
        job: The job.
        label: The table, for the message.
        history: The table's jobs, for its failure streak.
    """
    match job.status:
        case JobStatus.COMPLETED:
            return None
        case JobStatus.BILLING_LIMIT:
            what = f"{label} was not synced: the project is over its billing limit."
            return BillingLimitReachedError.of(job, what)
        case JobStatus.BILLING_LIMIT_TOO_LOW:
            what = f"{label} was not synced: its rows would exceed the project's billing limit ({_reason(job)})."
            return BillingLimitTooLowError.of(job, what)
        case JobStatus.FAILED | JobStatus.CANCELLED:
            return _failure(job, label=label, history=history)
        case _:
            return unknown_status(job, label=label)


def _failure(job: Job, *, label: str, history: JobHistory) -> SyncError:
    # The order matters: PostHog gives all of these the status Failed, and a deleted table's text also says "stopped".
    if table_was_deleted(job):
        what = f"The sync of {label} was stopped, because the table was deleted in PostHog."
        return SchemaDeletedError.of(job, what)
    if was_cancelled(job):
        return SyncCancelledError.of(job, f"The sync of {label} was cancelled: {_reason(job)}.")
    if not job.table.should_sync:
        what = f"The sync of {label} failed, and PostHog disabled the table: {_reason(job)}."
        if (cure := cure_of(block_of(job))) is not None:
            what += f" {cure}"
        return DisabledByPostHogError.of(job, what)
    error = SyncFailedError.of(job, f"The sync of {label} failed: {_reason(job)}.")
    error.job_error = job.latest_error
    if (until := history.deferred_until()) is not None:
        error.retry_after_s = max(0.0, (until - (job.finished_at or job.created_at)).total_seconds())
    return error


def unknown_status(job: Job, *, label: str) -> UnknownStatusError:
    """The error for a job whose status this version does not know."""
    what = f"The sync of {label} has the status {str(job.status)!r}, which this version does not know."
    return UnknownStatusError.of(job, what)


def already_running(job: Job, *, label: str) -> AlreadyRunningError:
    """The error for a table with a running sync, which `if_running` forbids to join."""
    what = f"{label} was not triggered: its sync {job.id} has been running since {job.created_at:%F %T} UTC."
    return AlreadyRunningError.of(job, what)


def stalled(job: Job, *, label: str, after_s: float) -> SyncStalledError:
    """The error for a job without progress."""
    what = f"The sync of {label} has shown no progress for {_span(after_s)}, at {job.rows_synced or 0} rows."
    return SyncStalledError.of(job, what)


def too_long(job: Job, *, label: str, after_s: float) -> SyncTooLongError:
    """The error for a job that still runs when the time is up."""
    what = f"The sync of {label} has not ended after {_span(after_s)}, at {job.rows_synced or 0} rows."
    return SyncTooLongError.of(job, what)


def never_started(
    schema_id: str, *, label: str, status: SyncStatus | None, newest: Job | None, after_s: float, lost: bool
) -> SyncNeverStartedError:
    """The error for a trigger without a job, with what PostHog shows instead.

    Args:
        schema_id: The table.
        label: The table, for the message.
        status: The status in the table's record.
        newest: The table's newest job.
        after_s: How long the engine waited for a job.
        lost: Whether the answer to the trigger was lost.
    """
    accepted = "The answer to the trigger was lost" if lost else "PostHog accepted the trigger"
    last = (
        f"its newest job is {newest.id} ({newest.status}, {newest.created_at:%F %T} UTC)" if newest else "it has no job"
    )
    what = (
        f"{label} did not start. {accepted}, but no job appeared within {_span(after_s)}; "
        f"PostHog shows the table {f'as {status}' if status else 'without a status'}, and {last}."
    )
    return SyncNeverStartedError(what, schema_id=schema_id)


def deleted(schema_id: str, *, label: str) -> SchemaDeletedError:
    """The error for a table that PostHog does not have."""
    return SchemaDeletedError(f"{label} does not exist in PostHog.", schema_id=schema_id)


def not_triggered(schema_id: str, *, label: str) -> NotTriggeredError:
    """The error for a table that was not tried, because another one had met the billing limit."""
    what = f"{label} was not triggered: the project is over its billing limit."
    return NotTriggeredError(what, schema_id=schema_id)


def not_syncable(schema_id: str, *, label: str, found: SchemaClass, record: Schema | None = None) -> NotSyncableError:
    """The error for a table of another class than syncable; the record of the table may show more of the reason."""
    why = why_not_synced(record, found) if record is not None else found.reason
    error = NotSyncableError(f"{label} cannot be synced from here: {why}", schema_id=schema_id)
    error.schema_class = found
    return error


def in_streak(schema_id: str, *, label: str, history: JobHistory, wait_s: float) -> FailureStreakError:
    """The error for a table whose sync PostHog would defer."""
    streak = history.failure_streak()
    what = (
        f"{label} was not triggered: its last {len(streak)} syncs failed ({_reason(streak[0])}), and PostHog starts "
        f"no other for {_span(wait_s)}."
    )
    return FailureStreakError(what, schema_id=schema_id, job_id=streak[0].id, retry_after_s=wait_s)


def lost_resync(schema_id: str, *, label: str, job_id: str) -> TriggerRefusedError:
    """The error for a table whose resync an earlier try began, and whose job was not found."""
    what = (
        f"{label} was not triggered: an earlier try began its resync {job_id}, which is not among PostHog's recent "
        "jobs, and a retry or re-execution does not resync again. If the table needs another resync, launch a new run."
    )
    return TriggerRefusedError(what, schema_id=schema_id, job_id=job_id)


def lost_sync(schema_id: str, *, label: str, job_id: str) -> TriggerRefusedError:
    """The error for a table whose sync was started for this very request, and whose job was not found."""
    what = (
        f"{label} was not triggered: its sync {job_id} has been started, and is not among PostHog's recent jobs. If"
        " the table needs another sync, materialize it again."
    )
    return TriggerRefusedError(what, schema_id=schema_id, job_id=job_id)


def refused(schema_id: str, *, label: str, exc: PostHogError) -> SyncError:
    """The error for a trigger that PostHog did not accept, caused by `exc`."""
    error = _refusal(schema_id, label=label, exc=exc)
    error.__cause__ = exc
    return error


def _refusal(schema_id: str, *, label: str, exc: PostHogError) -> SyncError:
    what = f"{label} was not triggered: {exc.text}"
    match exc:
        case BillingLimitError():
            return BillingLimitReachedError(what, schema_id=schema_id)
        case PermissionDeniedError() if "managed by PostHog" in exc.detail:
            return not_syncable(schema_id, label=label, found=SchemaClass.EXTERNAL)
        case RateLimitedError():
            after_s = exc.retry_after_s
            return TriggerRefusedError(what, schema_id=schema_id, allow_retries=True, retry_after_s=after_s)
        # a table that PostHog does not show either has been recognized as deleted before
        # PostHog names the code of a rule that the table breaks, and none where it could not start the sync now
        case UnreachableError() | NotFoundError() | BadRequestError(code=None):
            return TriggerRefusedError(what, schema_id=schema_id, allow_retries=True)
        case _:
            return TriggerRefusedError(what, schema_id=schema_id)


def not_readable(schema_id: str, *, label: str, exc: PostHogError) -> TriggerRefusedError:
    """The error for a source that the API key may not read, caused by `exc`."""
    error = TriggerRefusedError(
        f"{label} was not triggered: its source cannot be read. {exc.text}", schema_id=schema_id
    )
    error.__cause__ = exc
    return error


def unreadable(schema_id: str, *, label: str, rows: Iterable[UnreadableRow]) -> TriggerRefusedError:
    """The error for a table without a record, in a source of which some records cannot be read."""
    named = ", ".join(map(str, rows))
    what = f"{label} was not triggered: its record cannot be read. What cannot be read in its source: {named}."
    return TriggerRefusedError(what, schema_id=schema_id)


def unreachable(schema_id: str, *, label: str, exc: PostHogError) -> SourceUnreachableError:
    """The error for a source that was unreachable for too long, caused by `exc`."""
    error = SourceUnreachableError(
        f"Gave up on {label}: PostHog was unreachable for too long. {exc.text}", schema_id=schema_id
    )
    error.__cause__ = exc
    return error


def _reason(job: Job) -> str:
    return (job.latest_error or "PostHog gave no reason").strip().rstrip(".")


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
