"""From a job that has ended, or a wait that is up, to the error that says so."""

from datetime import timedelta

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
from dw_orchestration.posthog.jobs import table_was_deleted, was_cancelled
from dw_orchestration.posthog.models import Job
from dw_orchestration.sync import errors
from dw_orchestration.sync.book import JobBook
from dw_orchestration.tables.classify import SchemaClass


def judge(job: Job, *, label: str, book: JobBook) -> errors.SyncError | None:
    """How a job that is over ended: None for Completed, else the error.

    Args:
        job: The job.
        label: The table, for the message.
        book: The table's jobs, for its failure streak.
    """
    match job.status:
        case JobStatus.COMPLETED:
            return None
        case JobStatus.BILLING_LIMIT:
            what = f"{label} was not synced: the project is over its billing limit."
            return errors.BillingLimitReachedError.of(job, what)
        case JobStatus.BILLING_LIMIT_TOO_LOW:
            what = f"{label} was not synced: its rows would pass the project's billing limit ({_said(job)})."
            return errors.BillingLimitTooLowError.of(job, what)
        case JobStatus.FAILED | JobStatus.CANCELLED:
            return _failure(job, label=label, book=book)
        case _:
            return unknown_status(job, label=label)


def unknown_status(job: Job, *, label: str) -> errors.UnknownStatusError:
    """The error for a status that this version does not know."""
    what = f"The sync of {label} has the status {str(job.status)!r}, which this version does not know."
    return errors.UnknownStatusError.of(job, what)


def stalled(job: Job, *, label: str, after_s: float) -> errors.SyncStalledError:
    """The error for a job without progress."""
    what = f"The sync of {label} has shown no progress for {_span(after_s)}, at {job.rows_synced or 0} rows."
    return errors.SyncStalledError.of(job, what)


def too_long(job: Job, *, label: str, after_s: float) -> errors.SyncTooLongError:
    """The error for a job that outlives the wait."""
    what = f"The sync of {label} is not over after {_span(after_s)}, at {job.rows_synced or 0} rows."
    return errors.SyncTooLongError.of(job, what)


def never_started(
    schema_id: str, *, label: str, status: SyncStatus | None, newest: Job | None, after_s: float, lost: bool
) -> errors.SyncNeverStartedError:
    """The error for a trigger that led to no job, with what the API showed."""
    taken = "The answer to the trigger was lost" if lost else "PostHog took the trigger"
    last = (
        f"its newest job is {newest.id} ({newest.status}, {newest.created_at:%F %T} UTC)"
        if newest
        else "no job is known"
    )
    what = (
        f"{label} did not start. {taken}, and no job appeared in {_span(after_s)}; "
        f"PostHog shows it as {status or 'without a status'}, and {last}."
    )
    return errors.SyncNeverStartedError(what, schema_id=schema_id)


def deleted(schema_id: str, *, label: str) -> errors.SchemaDeletedError:
    """The error for a table that PostHog does not have."""
    return errors.SchemaDeletedError(f"PostHog does not have {label}.", schema_id=schema_id)


def not_triggered(schema_id: str, *, label: str) -> errors.NotTriggeredError:
    """The error for a table behind the one that met the billing limit."""
    what = f"{label} was not triggered: the project is over its billing limit."
    return errors.NotTriggeredError(what, schema_id=schema_id)


def refused(schema_id: str, *, label: str, exc: PostHogError) -> errors.SyncError:
    """The error for a trigger that PostHog did not take."""
    error = _refusal(schema_id, label=label, exc=exc)
    error.__cause__ = exc
    return error


def _refusal(schema_id: str, *, label: str, exc: PostHogError) -> errors.SyncError:
    what = f"{label} was not triggered: {exc}"
    match exc:
        case NotFoundError():
            return deleted(schema_id, label=label)
        case BillingLimitError():
            return errors.BillingLimitReachedError(what, schema_id=schema_id)
        case PermissionDeniedError() if "managed by PostHog" in exc.detail:
            return not_syncable(schema_id, label=label, found=SchemaClass.EXTERNAL)
        case RateLimitedError():
            after_s = exc.retry_after_s
            return errors.TriggerRefusedError(what, schema_id=schema_id, allow_retries=True, retry_after_s=after_s)
        case BadRequestError() | UnreachableError():
            return errors.TriggerRefusedError(what, schema_id=schema_id, allow_retries=True)
        case _:
            return errors.TriggerRefusedError(what, schema_id=schema_id)


def not_syncable(schema_id: str, *, label: str, found: SchemaClass) -> errors.NotSyncableError:
    """The error for a table of another class than syncable."""
    error = errors.NotSyncableError(f"{label} cannot be synced from here: {found.reason}", schema_id=schema_id)
    error.schema_class = found
    return error


def not_shown(schema_id: str, *, label: str, exc: PostHogError) -> errors.TriggerRefusedError:
    """The error for a source that the key may not read."""
    error = errors.TriggerRefusedError(
        f"{label} was not triggered: its source cannot be read. {exc}", schema_id=schema_id
    )
    error.__cause__ = exc
    return error


def polling_lost(schema_id: str, *, label: str, exc: PostHogError) -> errors.PollingLostError:
    """The error for a source that could not be read for too long."""
    error = errors.PollingLostError(
        f"{label} was given up: PostHog did not answer for too long. {exc}", schema_id=schema_id
    )
    error.__cause__ = exc
    return error


def in_streak(schema_id: str, *, label: str, book: JobBook, wait_s: float) -> errors.FailureStreakError:
    """The error for a table whose sync PostHog would defer."""
    streak = book.streak()
    what = (
        f"{label} was not triggered: its last {len(streak)} syncs failed ({_said(streak[0])}), and PostHog starts "
        f"no other for {_span(wait_s)}."
    )
    return errors.FailureStreakError(what, schema_id=schema_id, job_id=streak[0].id, retry_after_s=wait_s)


def _failure(job: Job, *, label: str, book: JobBook) -> errors.SyncError:
    if table_was_deleted(job):
        what = f"The sync of {label} was stopped, because the table was deleted in PostHog."
        return errors.SchemaDeletedError.of(job, what)
    if was_cancelled(job):
        return errors.SyncCancelledError.of(job, f"The sync of {label} was cancelled: {_said(job)}.")
    if not job.table.should_sync:
        what = f"The sync of {label} failed, and PostHog has switched the table off: {_said(job)}."
        return errors.TurnedOffByPostHogError.of(job, what)
    error = errors.SyncFailedError.of(job, f"The sync of {label} failed: {_said(job)}.")
    error.job_error = job.latest_error
    error.retry_after_s = _gap_s(job, book=book)
    return error


def _gap_s(job: Job, *, book: JobBook) -> float | None:
    """How long after its end the table may run again; None unless too many syncs failed in a row."""
    until = book.streak_gap_ends()
    return max(0.0, (until - (job.finished_at or job.created_at)).total_seconds()) if until else None


def _said(job: Job) -> str:
    return (job.latest_error or "PostHog gave no reason").strip().rstrip(".")


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
