"""One table on its way: from its turn over its job to its end. Makes no request and knows no clock."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from dw_orchestration.posthog.enums import AccessMethod, JobStatus
from dw_orchestration.posthog.jobs import duration_s, is_over, was_interrupted
from dw_orchestration.posthog.limits import LATE_ROWS
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.sync import verdict
from dw_orchestration.sync.attempt import Attempt
from dw_orchestration.sync.book import JobBook
from dw_orchestration.sync.errors import SyncError
from dw_orchestration.sync.events import Adopted, Ended, Notice, Progress, SyncEvent
from dw_orchestration.sync.outcome import SyncOutcome
from dw_orchestration.sync.pace import Wait
from dw_orchestration.sync.phase import Phase
from dw_orchestration.sync.plan import Case, Follow, HoldOff, Refuse, WaitFor, decide
from dw_orchestration.sync.reader import FirstLook, Want
from dw_orchestration.sync.settings import SyncMode, SyncSettings, TableRequest

# `after` is compared strictly, and the row itself has to be found.
JUST_BEFORE = timedelta(milliseconds=1)


class TableSync:
    """The state of one table in a batch. `now` is always the time of its source's stopwatch, in seconds."""

    def __init__(self, request: TableRequest, *, settings: SyncSettings) -> None:
        self.request = request
        self.settings = settings
        self.name = request.name
        self.phase = Phase.NEW
        self.book = JobBook()
        self.schema: Schema | None = None
        self.job: Job | None = None
        self.started = False
        self.ended: Ended | None = None
        self.looked_at = 0.0
        self.since = 0.0
        """When the phase began."""
        self.job_age_s = 0.0
        """How old the job was then."""
        self._access = AccessMethod.WAREHOUSE
        self._horizon: datetime | None = None
        self._newest_before: datetime | None = None
        self._attempt: Attempt | None = None
        self._began: float | None = None
        self._progress_at = 0.0
        self._waited_for: Job | None = None
        self._held_with: frozenset[str] = frozenset()
        self._interrupted: Job | None = None
        self._leaves_job = not settings.wait

    @property
    def id(self) -> str:
        """The schema's id."""
        return self.request.schema_id

    @property
    def label(self) -> str:
        """The table, for messages."""
        return f"{self.name!r} ({self.id})"

    @property
    def is_live(self) -> bool:
        """Whether its end is still to come."""
        return self.phase is not Phase.ENDED

    @property
    def is_ours(self) -> bool:
        """Whether a sync that this batch started is, or may be, running."""
        return self.started and self.phase in {Phase.AWAITING, Phase.FOLLOWING}

    @property
    def want(self) -> Want:
        """What the next look should bring."""
        if self.job is not None and self.phase in {Phase.FOLLOWING, Phase.WAITING}:
            return Want(name=self.name, after=self.job.created_at - JUST_BEFORE, job_id=self.job.id)
        after = self._newest_before and self._newest_before - LATE_ROWS
        return Want(name=self.name, after=after, job_id=None)

    def baseline(self, look: FirstLook) -> None:
        """Take the first look: whatever is in it, or older than its horizon, was there before any trigger."""
        self.refresh(next((schema for schema in look.source.schemas if schema.id == self.id), None))
        self._access = look.source.access_method
        self._horizon = look.horizon
        self._newest_before = max((job.created_at for job in look.jobs), default=None)
        self.book.note(job for job in look.jobs if job.schema_id == self.id)
        self.phase = Phase.QUEUED

    def refresh(self, schema: Schema | None) -> None:
        """Take its record as it is now, with its name; None if it is gone."""
        self.schema = schema
        self.name = schema.name if schema is not None else self.name

    def take_turn(self, now: float, *, server_now: datetime) -> Iterator[SyncEvent]:
        """Decide what to do. Still QUEUED afterwards means: trigger it."""
        case = Case(
            request=self.request,
            settings=self.settings,
            label=self.label,
            schema=self.schema,
            access_method=self._access,
            book=self.book,
            server_now=server_now,
            waited_for=self._waited_for,
        )
        step, notices = decide(case)
        yield from (Notice(text=text, schema_id=self.id) for text in notices)
        match step:
            case Follow(job, started):
                yield from self._adopt(job, now, started=started, server_now=server_now)
            case WaitFor(job):
                self._waited_for = job
                self._enter(Phase.WAITING, now, job=job, server_now=server_now)
                yield Notice(text=f"{self.label} waits for the end of the sync {job.id}.", schema_id=self.id)
            case HoldOff():
                self._held_with = self.book.ids
                self._enter(Phase.HOLDING, now)
            case Refuse(error):
                yield self.end(error)

    def hold_left_s(self, *, server_now: datetime) -> float:
        """How long it still holds off, unless a job appears."""
        until = self.settings.trigger_after
        return max(0.0, (until - server_now).total_seconds()) if until is not None else 0.0

    def let_go(self, *, server_now: datetime) -> None:
        """Let its turn come again if it was held off, and a job has appeared or the time is up."""
        has_news = self.book.ids > self._held_with
        if self.phase is Phase.HOLDING and (has_news or not self.hold_left_s(server_now=server_now)):
            self.phase = Phase.QUEUED

    def begin_trigger(self, now: float) -> None:
        """About to ask PostHog. Said before: a process stopped within the request knows what it may have begun."""
        self.started = True
        self._attempt = Attempt(known=self.book.ids, horizon=self._horizon, mode=self.settings.sync_mode)
        self._enter(Phase.AWAITING, now)

    def trigger_accepted(self, now: float, *, at: datetime | None, took_s: float) -> None:
        """PostHog accepted the trigger at its time `at`, after `took_s` seconds."""
        self.since = now
        self._attempt = self._attempt and replace(self._attempt, is_accepted=True, accepted_at=at, took_s=took_s)

    def trigger_undone(self) -> None:
        """PostHog did not take the trigger: its turn will come again."""
        self.started = False
        self._began = None
        self.phase = Phase.QUEUED

    def see(self, jobs: Iterable[Job], now: float, *, server_now: datetime) -> Iterator[SyncEvent]:
        """Take a look at its jobs, and draw the consequences."""
        self.book.note(jobs)
        self.looked_at = now
        if self.job is not None and self.phase in {Phase.FOLLOWING, Phase.WAITING}:
            yield from self._follow(self.job, now, server_now=server_now)
        elif self.phase is Phase.AWAITING and self._attempt is not None:
            job = self._attempt.first_new(self.book)
            if job is not None:
                started = self.started and self._attempt.caused(job)
                yield from self._adopt(job, now, started=started, server_now=server_now)

    def wait(self, now: float) -> Wait:
        """What it waits for, as far as the pace of looks depends on it."""
        usual_s = self.book.usual_s() if self.phase is not Phase.AWAITING else None
        return Wait(waited_s=now - self.since, job_age_s=self.job_age_s + now - self.since, usual_s=usual_s)

    def keep_watching(self) -> None:
        """Follow its job from here on, even if it was to be left to itself."""
        self._leaves_job = False
        if self.ended is not None and self.ended.outcome is SyncOutcome.SUBMITTED:
            self.phase = Phase.FOLLOWING

    def start_is_overdue(self, now: float) -> bool:
        """Whether its job should have appeared by now."""
        return self.phase is Phase.AWAITING and now - self.since >= self.settings.start_timeout_s

    def not_started(self) -> Ended:
        """No job has appeared in time; say what PostHog shows."""
        if self._interrupted is not None:
            return self.end(verdict.judge(self._interrupted, label=self.label, book=self.book))
        error = verdict.never_started(
            self.id,
            status=self.schema.status if self.schema is not None else None,
            label=self.label,
            newest=self.book.newest,
            after_s=self.settings.start_timeout_s,
            lost=self._attempt is None or not self._attempt.is_accepted,
        )
        return self.end(error)

    def overdue(self, now: float) -> Ended | None:
        """Its end, if its job has run for too long or without progress for too long."""
        if self.job is None or self.phase not in {Phase.FOLLOWING, Phase.WAITING}:
            return None
        stall_s, total_s = self.settings.stall_timeout_s, self.settings.total_timeout_s
        is_too_long, is_stalled = now - (self._began or 0.0) >= total_s, now - self._progress_at >= stall_s
        if not (is_too_long or is_stalled):
            return None
        if self.job.status is not JobStatus.RUNNING:
            return self.end(verdict.unknown_status(self.job, label=self.label))
        if is_too_long:
            return self.end(verdict.too_long(self.job, label=self.label, after_s=total_s))
        return self.end(verdict.stalled(self.job, label=self.label, after_s=stall_s))

    def end(self, error: SyncError | None = None, *, outcome: SyncOutcome = SyncOutcome.COMPLETED) -> Ended:
        """The end of its part in the batch."""
        if error is not None:
            outcome = error.outcome
            # No retry may drop a table a second time.
            error.allow_retries &= self.settings.sync_mode is SyncMode.RELOAD
        # A sync that was only waited for is none of ours to report.
        job = self.job if self.phase is not Phase.WAITING else None
        self.phase = Phase.ENDED
        self.ended = Ended(
            schema_id=self.id,
            job=job,
            outcome=outcome,
            error=error,
            queue_s=self._attempt.queue_s(job) if self._attempt else None,
            duration_s=duration_s(job) if job is not None else None,
            usual_s=self.book.usual_s(besides=job),
        )
        return self.ended

    def _adopt(self, job: Job, now: float, *, started: bool, server_now: datetime) -> Iterator[SyncEvent]:
        self.started = started
        self._interrupted = None
        self._enter(Phase.FOLLOWING, now, job=job, server_now=server_now)
        yield Adopted(schema_id=self.id, job=job, started=started)
        if is_over(job):
            yield from self._settle(job, now, server_now=server_now)
        elif self._leaves_job:
            yield self.end(outcome=SyncOutcome.SUBMITTED)

    def _follow(self, before: Job, now: float, *, server_now: datetime) -> Iterator[SyncEvent]:
        self.job = job = self.book.get(before.id) or before
        has_moved = (before.status, before.rows_synced) != (job.status, job.rows_synced)
        self._progress_at = now if has_moved else self._progress_at
        if has_moved and self.phase is Phase.FOLLOWING:
            yield Progress(schema_id=self.id, job=job, waited_s=now - self.since)
        if before.table.should_sync and not job.table.should_sync and not is_over(job):
            text = f"{self.label} was switched off in PostHog while its sync runs; PostHog may stop the sync."
            yield Notice(text=text, schema_id=self.id)
        if is_over(job):
            yield from self._settle(job, now, server_now=server_now)

    def _settle(self, job: Job, now: float, *, server_now: datetime) -> Iterator[SyncEvent]:
        """The job is over. Is that the end?"""
        if self.phase is Phase.WAITING:
            self.phase, self.job = Phase.QUEUED, None
        elif (successor := self._successor(job)) is not None:
            text = f"The sync {job.id} of {self.label} was replaced by {successor.id}, which is followed instead."
            yield Notice(text=text, schema_id=self.id)
            started = self.started and was_interrupted(job)
            yield from self._adopt(successor, now, started=started, server_now=server_now)
        elif was_interrupted(job):
            yield from self._await_successor(job, now)
        else:
            yield from self._remark(job)
            yield self.end(verdict.judge(job, label=self.label, book=self.book))

    def _successor(self, job: Job) -> Job | None:
        """The job that goes on with a failed one's work, or has taken its place.

        A Completed job has none. Older servers end an interrupted sync as Completed and start another one, but a
        scheduled sync that happens to begin just then looks the same; the successor's result is reported by
        whoever watches PostHog's own syncs.
        """
        if job.status is JobStatus.COMPLETED:
            return None
        return self.book.next_after(job) if was_interrupted(job) else self.book.running_after(job)

    def _await_successor(self, job: Job, now: float) -> Iterator[SyncEvent]:
        self._interrupted = job
        self._attempt = Attempt(known=self.book.ids, horizon=job.created_at, mode=SyncMode.RELOAD)
        self._enter(Phase.AWAITING, now)
        text = f"PostHog restarted under the sync {job.id} of {self.label}, and starts another one by itself."
        yield Notice(text=text, schema_id=self.id)

    def _remark(self, job: Job) -> Iterator[SyncEvent]:
        if job.status is JobStatus.COMPLETED and (other := self.book.running_after(job)) is not None:
            text = f"The sync {job.id} of {self.label} has completed, and another one, {other.id}, is running."
            yield Notice(text=text, schema_id=self.id)

    def _enter(self, phase: Phase, now: float, *, job: Job | None = None, server_now: datetime | None = None) -> None:
        self.phase = phase
        self.since = self._progress_at = now
        self._began = now if self._began is None else self._began
        if job is not None and server_now is not None:
            self.job = job
            self.job_age_s = max(0.0, (server_now - job.created_at).total_seconds())
