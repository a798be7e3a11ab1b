"""What to do for a table when its turn comes. A pure decision over what has been seen of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dw_orchestration.posthog.enums import AccessMethod, JobStatus
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.sync import errors, verdict
from dw_orchestration.sync.book import JobBook
from dw_orchestration.sync.settings import IfRunning, SyncMode, SyncSettings, TableRequest
from dw_orchestration.tables.classify import SchemaClass, classify


@dataclass(frozen=True)
class Follow:
    """Adopt this job: it is, or stands for, the sync that was asked for."""

    job: Job
    started: bool = False


@dataclass(frozen=True)
class WaitFor:
    """Wait for the end of this job, then decide anew."""

    job: Job


@dataclass(frozen=True)
class HoldOff:
    """Wait: a sync of PostHog's own may be about to begin."""


@dataclass(frozen=True)
class Refuse:
    """End here."""

    error: errors.SyncError


@dataclass(frozen=True)
class Trigger:
    """Ask PostHog for a sync."""


Step = Follow | WaitFor | HoldOff | Refuse | Trigger


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a decision depends on.

    Attributes:
        request: The table.
        settings: The batch's.
        label: The table, for messages.
        schema: The table's record; None if its source does not have it.
        access_method: Its source's.
        book: Its jobs.
        server_now: PostHog's time.
        waited_for: The job that was waited for, once `wait_then_reload` has.
    """

    request: TableRequest
    settings: SyncSettings
    label: str
    schema: Schema | None
    access_method: AccessMethod
    book: JobBook
    server_now: datetime
    waited_for: Job | None = None


def decide(case: Case) -> tuple[Step, list[str]]:
    """Choose what to do, with what a reader of the log should know about it."""
    if (step := _resumed(case)) is not None:
        return step, []
    if (step := _refused(case)) is not None:
        return step, []
    if (job := _accepted(case)) is not None:
        return Follow(job), []
    running, notices = _running(case)
    step = _beside(running[0], case=case) if running else None
    if step is None and running:
        notices.append(f"PostHog cancels the running sync {running[0].id} of {case.label} for the resync.")
    return step or _in_streak(case) or _too_early(case) or Trigger(), notices


def _resumed(case: Case) -> Step | None:
    """The job of an earlier try, unless it failed: then only another trigger can help, and a resync allows none."""
    job = case.book.get(case.request.resume_job_id)
    if job is None:
        return None
    is_good = not is_over(job) or job.status is JobStatus.COMPLETED
    if is_good or case.settings.sync_mode is SyncMode.RESYNC:
        return Follow(job, started=case.request.resume_started)
    return None


def _accepted(case: Case) -> Job | None:
    """The sync that makes a trigger needless: even one that failed is the one for its tick, but not to its retry."""
    since, tried = case.settings.accept_jobs_since, case.book.get(case.request.resume_job_id)
    return case.book.best_since(since, after=tried) if since is not None else None


def _refused(case: Case) -> Refuse | None:
    if case.schema is None:
        return Refuse(verdict.deleted(case.request.schema_id, label=case.label))
    found = classify(case.schema, access_method=case.access_method, latest_job=case.book.newest)
    if found is SchemaClass.SYNCABLE:
        return None
    return Refuse(verdict.not_syncable(case.request.schema_id, label=case.label, found=found))


def _running(case: Case) -> tuple[list[Job], list[str]]:
    """The running jobs that count, newest first, with a word about those that do not."""
    oldest = case.server_now - timedelta(seconds=case.settings.abandoned_after_s)
    waited = case.waited_for
    jobs = [job for job in case.book.running() if waited is None or job.created_at > waited.created_at]
    live = [job for job in jobs if job.created_at >= oldest]
    notices = [
        f"{case.label} has a sync {job.id} that PostHog shows as {job.status} since {job.created_at:%F %T} UTC. "
        "Nothing seems to run behind it any more; it is left alone."
        for job in jobs
        if job.created_at < oldest
    ]
    if len(live) > 1:
        others = ", ".join(job.id for job in live[1:])
        notices.append(f"{case.label} has {len(live)} running syncs; the newest, {live[0].id}, counts, not {others}.")
    return live, notices


def _beside(job: Job, *, case: Case) -> Step | None:
    """What a running sync means for this table; None if it does not stand in the way."""
    match case.settings.if_running:
        case IfRunning.FAIL:
            what = f"{case.label} was not triggered: its sync {job.id} is running since {job.created_at:%F %T} UTC."
            return Refuse(errors.AlreadyRunningError.of(job, what))
        case IfRunning.WAIT_THEN_RELOAD if case.waited_for is None:
            return WaitFor(job)
        case _:
            # After a wait, whatever runs began later than the request: its data is new enough.
            return None if case.settings.sync_mode is SyncMode.RESYNC else Follow(job)


def _in_streak(case: Case) -> Refuse | None:
    ends = case.book.streak_gap_ends()
    if ends is None or ends <= case.server_now or case.settings.sync_mode is SyncMode.RESYNC:
        return None
    wait_s = (ends - case.server_now).total_seconds()
    return Refuse(verdict.in_streak(case.request.schema_id, label=case.label, book=case.book, wait_s=wait_s))


def _too_early(case: Case) -> HoldOff | None:
    after = case.settings.trigger_after
    return HoldOff() if after is not None and case.server_now < after else None
