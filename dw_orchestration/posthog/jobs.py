"""What a job's row says: whether the sync is over, how long it took, and why it ended."""

import re

from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job

# PostHog has no status for a cancelled sync: it is Failed, and one of these texts tells.
_CANCELLED = re.compile(r"cancelled$|this sync run was cancelled|sync cancelled by|sync stopped because", re.IGNORECASE)
_RESTARTED = re.compile(r"interrupted .*by restarts|worker (was )?(being )?(restart|shut)", re.IGNORECASE)
_DELETED = re.compile(r"sync stopped because the table was deleted", re.IGNORECASE)
_SWITCHED_OFF = re.compile(r"sync stopped because syncing was turned off", re.IGNORECASE)
_GIVEN_UP = re.compile(r"sync stopped because of an error", re.IGNORECASE)


def is_over(job: Job) -> bool:
    """Whether the job has ended: a status that this version does not know is over once it has an end."""
    return job.status.is_terminal or job.finished_at is not None


def duration_s(job: Job) -> float | None:
    """How long the job took, in seconds; None while it runs."""
    return (job.finished_at - job.created_at).total_seconds() if job.finished_at is not None else None


def failed(job: Job) -> bool:
    """Whether the job ended as Failed for a reason that speaks of the source: neither cancelled nor interrupted."""
    return job.status is JobStatus.FAILED and not was_cancelled(job) and not was_interrupted(job)


def was_cancelled(job: Job) -> bool:
    """Whether somebody stopped the job, rather than an error."""
    if job.status is JobStatus.CANCELLED:
        return True
    return job.status is JobStatus.FAILED and tells_of_cancelling(_error_text(job))


def tells_of_cancelling(text: str) -> bool:
    """Whether a Failed sync with this error was stopped by somebody."""
    return bool(_CANCELLED.match(text)) and not _GIVEN_UP.match(text)


def was_interrupted(job: Job) -> bool:
    """Whether PostHog restarted under the job; PostHog then starts another one by itself."""
    return job.status is JobStatus.FAILED and bool(_RESTARTED.search(_error_text(job)))


def table_was_deleted(job: Job) -> bool:
    """Whether the job was stopped because its table was deleted at PostHog."""
    return job.status is JobStatus.FAILED and bool(_DELETED.match(_error_text(job)))


def was_unwanted(job: Job) -> bool:
    """Whether the job was stopped because somebody switched its table off or deleted it: no news to them.

    A table that PostHog switches off by itself has a Failed job with the source's own error instead.
    """
    return table_was_deleted(job) or (job.status is JobStatus.FAILED and bool(_SWITCHED_OFF.match(_error_text(job))))


def _error_text(job: Job) -> str:
    return (job.latest_error or "").strip()
