"""Reads jobs: whether one has ended, how long it took, why it ended, and which is the newest of each table."""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from itertools import islice

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import IncrementalSyncBlock, JobStatus
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER
from dw_orchestration.posthog.models import Job

# PostHog has no status for a cancelled job: it is Failed, and only the text of its error shows the reason. The texts
# are those of several server versions. They are matched narrowly, and mostly from the start, because an error of the
# source can contain the same words ("cancelled by the source's administrator", "the server was restarted").
_CANCELLED = re.compile(r"cancelled$|this sync run was cancelled|sync cancelled by|sync stopped because", re.IGNORECASE)
_RESTARTED = re.compile(r"interrupted .*by restarts|worker (was )?(being )?(restart|shut)", re.IGNORECASE)
_DELETED = re.compile(r"sync stopped because the table was deleted", re.IGNORECASE)
_DISABLED = re.compile(r"sync stopped because syncing was turned off", re.IGNORECASE)
_BLOCKED = {
    IncrementalSyncBlock.DUPLICATE_PRIMARY_KEY: re.compile(
        r"primary key set for this table isn.t unique", re.IGNORECASE
    ),
    IncrementalSyncBlock.MISSING_PRIMARY_KEY: re.compile(r"has no primary key", re.IGNORECASE),
}
_GIVEN_UP = re.compile(r"sync stopped because of an error", re.IGNORECASE)


def is_over(job: Job) -> bool:
    """Whether the job has ended. If its status is unknown to this version, its end time decides."""
    return job.status.is_terminal or job.finished_at is not None


def duration_s(job: Job) -> float | None:
    """How long the job took, in seconds; None while it runs."""
    return (job.finished_at - job.created_at).total_seconds() if job.finished_at is not None else None


def failed(job: Job) -> bool:
    """Whether the job failed because of the source or its data: neither cancelled nor interrupted."""
    return job.status is JobStatus.FAILED and not was_cancelled(job) and not was_interrupted(job)


def was_cancelled(job: Job) -> bool:
    """Whether somebody stopped the job, rather than an error."""
    if job.status is JobStatus.CANCELLED:
        return True
    return job.status is JobStatus.FAILED and means_cancelled(_error_text(job))


def means_cancelled(error: str) -> bool:
    """Whether a Failed job or schema with this error text was stopped by somebody."""
    return bool(_CANCELLED.match(error)) and not _GIVEN_UP.match(error)


def was_interrupted(job: Job) -> bool:
    """Whether a restart of PostHog's worker ended the job. PostHog then starts another one by itself."""
    return job.status is JobStatus.FAILED and bool(_RESTARTED.search(_error_text(job)))


def table_was_deleted(job: Job) -> bool:
    """Whether the job was stopped because its table was deleted in PostHog."""
    return job.status is JobStatus.FAILED and bool(_DELETED.match(_error_text(job)))


def table_was_disabled_or_deleted(job: Job) -> bool:
    """Whether the job was stopped because a user disabled or deleted its table.

    A table that PostHog itself disables has a Failed job with the source's error instead.
    """
    return table_was_deleted(job) or (job.status is JobStatus.FAILED and bool(_DISABLED.match(_error_text(job))))


def block_of(job: Job) -> IncrementalSyncBlock | None:
    """What is wrong with the table's primary key, if PostHog disabled the table for that after this job."""
    if job.status is not JobStatus.FAILED:
        return None
    return next((block for block, text in _BLOCKED.items() if text.search(_error_text(job))), None)


def newest_job_per_table(
    api: WarehouseApi,
    source_id: str,
    *,
    where: Callable[[Job], bool] = lambda _: True,
    until: Collection[str] | None = None,
    max_jobs: int = JOBS_PER_ANSWER,
    before: datetime | None = None,
) -> dict[str, Job]:
    """The newest job of each table among the newest jobs of a source, by schema id. One request by default.

    A table is missing if it has no job among the `max_jobs` newest ones of its source.

    Args:
        api: The warehouse.
        source_id: The source.
        where: Which jobs to consider.
        until: Stop reading as soon as each of these schemas has a job.
        max_jobs: Read at most this many jobs; PostHog returns 50 per request.
        before: Leave out the jobs that began at this time or later.

    Raises:
        PostHogError: The jobs cannot be read.
    """
    newest: dict[str, Job] = {}
    wanted = None if until is None else set(until)
    for job in islice(api.list_jobs(source_id, before=before), max_jobs):
        if where(job):
            newest.setdefault(job.schema_id, job)
        if wanted is not None and wanted <= newest.keys():
            break
    return newest


def _error_text(job: Job) -> str:
    return (job.latest_error or "").strip()
