"""Decides what to do for a table when its turn comes: a pure function of what is known about the table.

The first rule that fits decides:

1. An earlier try of this run recorded a job that runs or has completed: adopt it. If it recorded a resync, no other one
   is triggered. A job since another process set out to start this sync is adopted too.
2. The table cannot be synced by a reload: refuse.
3. A job since `accept_jobs_since` counts as this sync: adopt it.
4. A sync is running: adopt it, wait for it or refuse, as `if_running` says. A resync goes ahead.
5. Too many syncs failed in a row, and PostHog would start none: refuse.
6. It is not yet `trigger_after`: hold, as PostHog's own sync may be about to start.
7. Trigger.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dw_orchestration.posthog.enums import AccessMethod, JobStatus
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.sync import errors
from dw_orchestration.sync.clock import Now
from dw_orchestration.sync.jobs import JobHistory
from dw_orchestration.sync.settings import IfRunning, SyncMode, SyncSettings, TableRequest
from dw_orchestration.tables.classify import SchemaClass, classify


@dataclass(frozen=True)
class Adopt:
    """Follow this job: it is the requested sync, or counts as it."""

    job: Job
    started: bool = False
    """Whether an earlier try of this run started it."""


@dataclass(frozen=True)
class WaitFor:
    """Wait until this job ends, then decide again."""

    job: Job


@dataclass(frozen=True)
class Hold:
    """Wait until `trigger_after`, or until a job appears, then decide again."""


@dataclass(frozen=True)
class Refuse:
    """End the table with this error."""

    error: errors.SyncError


@dataclass(frozen=True)
class Trigger:
    """Ask PostHog for a sync."""


Action = Adopt | WaitFor | Hold | Refuse | Trigger


@dataclass(frozen=True, kw_only=True)
class TableState:
    """All that the decision depends on.

    Attributes:
        request: What was asked for.
        settings: The engine's settings.
        label: The table, for messages.
        record: The table's record; None if its source does not have the table.
        access_method: The access method of its source.
        history: The table's jobs.
        now: The time.
        waited_for: The job that has been waited for, if `if_running` is `wait_then_reload`.
        claimed_at: When another process set out to start this sync, by PostHog's clock; None if none did.
    """

    request: TableRequest
    settings: SyncSettings
    label: str
    record: Schema | None
    access_method: AccessMethod
    history: JobHistory
    now: Now
    waited_for: Job | None = None
    claimed_at: datetime | None = None


def decide(table: TableState) -> tuple[Action, list[str]]:
    """The action for a table, and lines for the log about what else was found."""
    if (action := _resume(table) or _take_over(table) or _refuse_class(table) or _accept(table)) is not None:
        return action, []
    running, notices = _running(table)
    if running:
        if (beside := _beside_running(running[0], table=table)) is not None:
            return beside, notices
        notices.append(f"PostHog cancels the running sync {running[0].id} of {table.label} for the resync.")
    return _refuse_streak(table) or _hold(table) or Trigger(), notices


def _resume(table: TableState) -> Adopt | Refuse | None:
    job_id, is_resync = table.request.resume_job_id, table.settings.sync_mode is SyncMode.RESYNC
    job = table.history.get(job_id)
    if job is None:
        # It is gone from PostHog's list, or so old that it was not searched for.
        if job_id is None or not (is_resync or table.request.resume_failed):
            return None
        lost = errors.lost_resync if is_resync else errors.lost_sync
        return Refuse(lost(table.request.schema_id, label=table.label, job_id=job_id))
    # After a failure only another trigger can help. A resync must not be triggered again: its failure is the result.
    is_good = not is_over(job) or job.status is JobStatus.COMPLETED or table.request.resume_failed
    return Adopt(job, started=table.request.resume_started) if is_good or is_resync else None


def _take_over(table: TableState) -> Adopt | None:
    if table.claimed_at is None:
        return None
    # The other process wrote down that it would start the sync, and not which job that became.
    job = table.history.best_since(table.claimed_at, after=table.history.get(table.request.resume_job_id))
    return Adopt(job, started=True) if job is not None else None


def _refuse_class(table: TableState) -> Refuse | None:
    schema_id = table.request.schema_id
    if table.record is None:
        return Refuse(errors.deleted(schema_id, label=table.label))
    found = classify(table.record, access_method=table.access_method, latest_job=table.history.newest)
    if found is SchemaClass.SYNCABLE:
        return None
    return Refuse(errors.not_syncable(schema_id, label=table.label, found=found, record=table.record))


def _accept(table: TableState) -> Adopt | None:
    since = table.settings.accept_jobs_since
    if since is None:
        return None
    # Even a failed job is the tick's one sync. But a retry of the run exists to try again: only a job that is newer
    # than the one of the earlier try counts for it.
    job = table.history.best_since(since, after=table.history.get(table.request.resume_job_id))
    return Adopt(job) if job is not None else None


def _running(table: TableState) -> tuple[list[Job], list[str]]:
    """The running jobs that matter, newest first, and lines about those that do not."""
    oldest = table.now.server - timedelta(seconds=table.settings.abandoned_after_s)
    waited = table.waited_for
    # After a wait, a job that began before the one that was waited for has older data than the request asked for.
    jobs = [job for job in table.history.running() if waited is None or job.created_at > waited.created_at]
    live = [job for job in jobs if job.created_at >= oldest]
    notices = [
        f"{table.label} has a sync {job.id} that PostHog has shown as {job.status} since {job.created_at:%F %T} UTC. "
        "It seems to be abandoned and is ignored."
        for job in jobs
        if job.created_at < oldest
    ]
    if len(live) > 1:
        others = ", ".join(job.id for job in live[1:])
        notices.append(f"{table.label} has {len(live)} running syncs; the newest, {live[0].id}, counts, not {others}.")
    return live, notices


def _beside_running(job: Job, *, table: TableState) -> Action | None:
    """What to do about a running sync; None if the table may still be triggered."""
    match table.settings.if_running:
        case IfRunning.FAIL:
            return Refuse(errors.already_running(job, label=table.label))
        case IfRunning.WAIT_THEN_RELOAD if table.waited_for is None:
            return WaitFor(job)
        case _:
            # After a wait, a running sync began later than the request, so its data is new enough to attach to it.
            return None if table.settings.sync_mode is SyncMode.RESYNC else Adopt(job)


def _refuse_streak(table: TableState) -> Refuse | None:
    until = table.history.deferred_until()
    # A resync clears the streak, so PostHog does not defer it.
    if until is None or until <= table.now.server or table.settings.sync_mode is SyncMode.RESYNC:
        return None
    wait_s = (until - table.now.server).total_seconds()
    return Refuse(errors.in_streak(table.request.schema_id, label=table.label, history=table.history, wait_s=wait_s))


def _hold(table: TableState) -> Hold | None:
    after = table.settings.trigger_after
    return Hold() if after is not None and table.now.server < after else None
