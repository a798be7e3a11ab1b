"""One table on its way from the request to its end, as a state machine. Makes no request and reads no clock.

Rule 1: everything that affects a table's state is in this module. The other modules call the methods of `TableSync`,
and each change of state goes through `TableSync._enter`, which takes the next state from `TRANSITIONS`.

    NEW ──READ──► QUEUED ──────────TRIGGERED──────────► STARTING ──ADOPTED──► FOLLOWING ──JOB_ENDED──► ENDED
                   │  ▲ ▲                                 │  ▲                  ▲ │  │
                   │  │ └───────────NOT_ACCEPTED──────────┘  └───INTERRUPTED────┼─┘  └── ADOPTED: a successor
                   │  │                                                         │
                   ├──┼─────────────ADOPTED: a job that was there───────────────┘
                   │  │
                   ├──┼─ BUSY ──────► WAITING ─┐
                   └──┼─ TOO_EARLY ─► HOLDING ─┤
                      └───── DECIDE_AGAIN ─────┘

    Ends without a job's end (REFUSED, TIMED_OUT, SUBMITTED, LOST) are in the table only.

| state | cause | next state | what is done |
| --- | --- | --- | --- |
| NEW | READ | QUEUED | Keep the jobs that exist already, to recognize a new one. |
| NEW | LOST | ENDED | Report the error. |
| NEW | HANDED_BACK | ENDED | It is started ahead, and its source is unreachable. |
| QUEUED | TRIGGERED | STARTING | Ask PostHog for a sync. |
| QUEUED | ADOPTED | FOLLOWING | Report the job: an earlier try's, one since the tick, or a running one. |
| QUEUED | BUSY | WAITING | Wait for another sync, because `if_running` is `wait_then_reload`. |
| QUEUED | TOO_EARLY | HOLDING | Wait for `trigger_after`, or for PostHog's own sync. |
| QUEUED | REFUSED | ENDED | Report the error: not syncable, already running, billing limit, failure streak. |
| QUEUED | LOST | ENDED | Report the error. |
| QUEUED | HANDED_BACK | ENDED | It is started ahead, and cannot start soon. |
| HOLDING | DECIDE_AGAIN | QUEUED | A job has appeared, or the time has come. |
| HOLDING | LOST | ENDED | Report the error. |
| HOLDING | HANDED_BACK | ENDED | It is started ahead, and the time comes too late. |
| WAITING | DECIDE_AGAIN | QUEUED | The other sync has ended. |
| WAITING | TIMED_OUT | ENDED | Report that the other sync stalled or took too long. |
| WAITING | LOST | ENDED | Report the error. |
| STARTING | ADOPTED | FOLLOWING | Report the job that has appeared. |
| STARTING | NOT_ACCEPTED | QUEUED | PostHog did not accept the trigger, so it had no effect: queue again. |
| STARTING | REFUSED | ENDED | Report why PostHog refused the trigger. |
| STARTING | TIMED_OUT | ENDED | Report that no job has appeared. |
| STARTING | LOST | ENDED | Report the error. |
| STARTING | HANDED_BACK | ENDED | It is started ahead, and its source is unreachable. |
| FOLLOWING | ADOPTED | FOLLOWING | Report the job that has replaced ours. |
| FOLLOWING | INTERRUPTED | STARTING | PostHog restarts the sync by itself: wait for the new job. |
| FOLLOWING | JOB_ENDED | ENDED | Report success, or the job's error. |
| FOLLOWING | SUBMITTED | ENDED | Report the job without waiting for it, because `wait` is false. |
| FOLLOWING | TIMED_OUT | ENDED | Report that the job stalled or took too long. |
| FOLLOWING | LOST | ENDED | Report the error. |
| ENDED | KEPT | FOLLOWING | A submitted job is followed after all, to cancel it. |

LOST means: the table or its source was deleted, the API key may not read it, or it was unreachable for too long.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from types import MappingProxyType

from dw_orchestration.posthog.enums import AccessMethod, JobStatus, SyncStatus
from dw_orchestration.posthog.jobs import duration_s, is_over, was_interrupted
from dw_orchestration.posthog.limits import LATE_ROWS
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.sync import errors
from dw_orchestration.sync.clock import Now
from dw_orchestration.sync.decide import Action, TableState, decide
from dw_orchestration.sync.errors import SyncError, SyncOutcome
from dw_orchestration.sync.events import Adopted, Ended, Notice, Progress, SyncEvent
from dw_orchestration.sync.jobs import InitialRead, JobHistory, JobQuery
from dw_orchestration.sync.polling import Wait
from dw_orchestration.sync.settings import MINUTE_S, SyncMode, SyncSettings, TableRequest
from dw_orchestration.text import visible

# The API's `after` is exclusive, and the row itself must be found.
JUST_BEFORE = timedelta(milliseconds=1)

# So long after the trigger its job is looked for among those created since, then among older ones: PostHog drops the
# trigger while another job runs, which a wrong record may not have shown.
JOB_IS_LATE_S = 30.0

# A sync that is started ahead waits this long for `trigger_after`; schedules set that to half a minute.
LONGEST_HOLD_AHEAD_S = 2 * MINUTE_S

# The Date header of an answer has whole seconds, and the times in job rows come from other machines of PostHog's.
SERVER_CLOCKS_AGREE = timedelta(seconds=2)


class State(Enum):
    """Where a table is on its way."""

    NEW = auto()
    """Nothing is known about it yet."""
    QUEUED = auto()
    """It waits for its turn, when `decide` chooses what to do."""
    HOLDING = auto()
    """PostHog's own sync is due and may still appear."""
    WAITING = auto()
    """Another sync of the table must end first."""
    STARTING = auto()
    """It was triggered, or PostHog restarts its sync: a new job is to appear."""
    FOLLOWING = auto()
    """Its job is known and runs."""
    ENDED = auto()


class Cause(Enum):
    """Why a table changes its state."""

    READ = auto()
    TRIGGERED = auto()
    NOT_ACCEPTED = auto()
    ADOPTED = auto()
    BUSY = auto()
    TOO_EARLY = auto()
    DECIDE_AGAIN = auto()
    INTERRUPTED = auto()
    JOB_ENDED = auto()
    SUBMITTED = auto()
    REFUSED = auto()
    TIMED_OUT = auto()
    LOST = auto()
    HANDED_BACK = auto()
    KEPT = auto()


TRANSITIONS: Mapping[State, Mapping[Cause, State]] = MappingProxyType(
    {
        State.NEW: {
            Cause.READ: State.QUEUED,
            Cause.LOST: State.ENDED,
            Cause.HANDED_BACK: State.ENDED,
        },
        State.QUEUED: {
            Cause.TRIGGERED: State.STARTING,
            Cause.ADOPTED: State.FOLLOWING,
            Cause.BUSY: State.WAITING,
            Cause.TOO_EARLY: State.HOLDING,
            Cause.REFUSED: State.ENDED,
            Cause.LOST: State.ENDED,
            Cause.HANDED_BACK: State.ENDED,
        },
        State.HOLDING: {
            Cause.DECIDE_AGAIN: State.QUEUED,
            Cause.LOST: State.ENDED,
            Cause.HANDED_BACK: State.ENDED,
        },
        State.WAITING: {
            Cause.DECIDE_AGAIN: State.QUEUED,
            Cause.TIMED_OUT: State.ENDED,
            Cause.LOST: State.ENDED,
        },
        State.STARTING: {
            Cause.ADOPTED: State.FOLLOWING,
            Cause.NOT_ACCEPTED: State.QUEUED,
            Cause.REFUSED: State.ENDED,
            Cause.TIMED_OUT: State.ENDED,
            Cause.LOST: State.ENDED,
            Cause.HANDED_BACK: State.ENDED,
        },
        State.FOLLOWING: {
            Cause.ADOPTED: State.FOLLOWING,
            Cause.INTERRUPTED: State.STARTING,
            Cause.JOB_ENDED: State.ENDED,
            Cause.SUBMITTED: State.ENDED,
            Cause.TIMED_OUT: State.ENDED,
            Cause.LOST: State.ENDED,
        },
        State.ENDED: {
            Cause.KEPT: State.FOLLOWING,
        },
    }
)


class UndeclaredTransitionError(RuntimeError):
    """The engine tried a change of state that `TRANSITIONS` does not have. This is a bug in this package."""


@dataclass(frozen=True, kw_only=True)
class TriggerAttempt:
    """One trigger, and what was known when it was sent. PostHog's answer to a trigger contains no job id.

    All times are PostHog's.

    Attributes:
        known: The ids of the jobs seen before.
        horizon: A job created at or before this time existed before, even if it was not seen: it was behind the end of
            the first page.
        mode: Reload or resync.
        is_accepted: Whether an answer came that accepts the trigger.
        accepted_at: When PostHog accepted it; None if it did not, or if its answer had no time.
        took_s: How long the request took.
        began_at: When the trigger was sent, if the jobs before it were not read. Otherwise `known` is better evidence.
    """

    known: frozenset[str]
    horizon: datetime | None
    mode: SyncMode
    is_accepted: bool = False
    accepted_at: datetime | None = None
    took_s: float = 0.0
    began_at: datetime | None = None

    def first_new(self, history: JobHistory) -> Job | None:
        """The first job that this trigger caused, or that made PostHog drop it because it was already running."""
        return next((job for job in reversed(history.jobs) if self._is_new(job)), None)

    def caused(self, job: Job) -> bool:
        """Whether the job began after the trigger was sent."""
        return self.sent_at is None or job.created_at >= self.sent_at

    def queue_s(self, job: Job | None) -> float | None:
        """Seconds from the acceptance of the trigger to the job; None if the trigger did not cause it."""
        if self.accepted_at is None or job is None or not self.caused(job):
            return None
        return max(0.0, (job.created_at - self.accepted_at).total_seconds())

    def _is_new(self, job: Job) -> bool:
        if job.id in self.known or (self.horizon is not None and job.created_at <= self.horizon):
            return False
        if self.sent_at is None:
            # The answer was lost, so no time is known to compare with. Unseen before is the best there is.
            return True
        # The job was not seen before the trigger, but PostHog may have started it between our last read and the
        # trigger. A reload is dropped while a job runs, so such a job is the one to follow unless it had already ended
        # when the trigger arrived. A resync cancels the running job instead, so only a job that began later is its own.
        if self.mode is SyncMode.RESYNC:
            return job.created_at >= self.sent_at
        return job.finished_at is None or job.finished_at >= self.sent_at

    @property
    def sent_at(self) -> datetime | None:
        """The earliest time at which PostHog can have received the trigger."""
        if self.accepted_at is None:
            return self.began_at and self.began_at - SERVER_CLOCKS_AGREE
        return self.accepted_at - timedelta(seconds=self.took_s) - SERVER_CLOCKS_AGREE


class TableSync:
    """The state of one table in the engine.

    Each method that needs the time takes `now` from the poller of the table's source.

    Attributes:
        request: What was asked for.
        name: The table's current name in PostHog.
        state: Where it is on its way.
        history: Its jobs.
        record: Its record in PostHog; None before the first read, or if its source does not have it.
        job: The job that it follows or waits for.
        started: Whether this run, or an earlier try of it, started the job.
        ended: Its end, once it has ended.
        read_at: When its jobs were last read, in watched seconds.
    """

    def __init__(self, request: TableRequest, *, settings: SyncSettings) -> None:
        self.request = request
        self.name = request.name
        self.state = State.NEW
        self.history = JobHistory()
        self.record: Schema | None = None
        self.job: Job | None = None
        self.started = False
        self.ended: Ended | None = None
        self.read_at = 0.0
        self._settings = settings
        self._access = AccessMethod.WAREHOUSE
        self._horizon: datetime | None = None
        self._newest_before: datetime | None = None
        self._is_unread = False
        self._attempt: TriggerAttempt | None = None
        # All in watched seconds: when the total timeout began, when the state began, when there was progress.
        self._began_s: float | None = None
        self._since_s = 0.0
        self._progress_s = 0.0
        self._job_age_s = 0.0  # when the state began
        self._waited_for: Job | None = None
        self._held_with: frozenset[str] = frozenset()
        self._interrupted: Job | None = None
        self._is_submitted_only = not settings.wait

    @property
    def id(self) -> str:
        """The schema's id."""
        return self.request.schema_id

    @property
    def label(self) -> str:
        """The table, for messages: in one line, as any source chooses the names of its tables."""
        return visible(self.request.label) if self.request.label else f"{self.name!r} ({self.id})"

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state is not State.ENDED

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for something that a poll can show."""
        return self.state in {State.HOLDING, State.WAITING, State.STARTING, State.FOLLOWING}

    @property
    def is_ours(self) -> bool:
        """Whether a sync that this run started is, or may be, running."""
        return self.started and self.state in {State.STARTING, State.FOLLOWING}

    @property
    def query(self) -> JobQuery:
        """What the next poll should read of its jobs."""
        if self.job is not None and self.state in {State.FOLLOWING, State.WAITING}:
            return JobQuery(name=self.name, after=self.job.created_at - JUST_BEFORE, job_id=self.job.id)
        after, sent_at = self._newest_before and self._newest_before - LATE_ROWS, None
        if self.state is State.STARTING and self._attempt and self.read_at - self._since_s < JOB_IS_LATE_S:
            sent_at = self._attempt.sent_at
        return JobQuery(name=self.name, after=after, job_id=None, expected_after=sent_at and sent_at - LATE_ROWS)

    def wait(self, now: Now) -> Wait:
        """What it waits for, as input to the time of the next poll."""
        waited_s = now.watched_s - self._since_s
        is_starting = self.state is State.STARTING
        return Wait(
            waited_s=waited_s,
            job_age_s=self._job_age_s + waited_s,
            # The duration of a sync does not predict when its job appears.
            usual_s=None if is_starting else self.history.usual_s(),
            is_for_job=is_starting,
            is_for_s=self._hold_left_s(now) if self.state is State.HOLDING else None,
            seems_running=self.record is not None and self.record.status is SyncStatus.RUNNING,
        )

    # --- what is read ---

    def take_initial(self, read: InitialRead) -> None:
        """Take the first read. All jobs in it, or older than its horizon, existed before any trigger."""
        self.take_record(next((schema for schema in read.source.schemas if schema.id == self.id), None))
        self._access = read.source.access_method
        self._horizon = read.horizon
        self._newest_before = max((job.created_at for job in read.jobs), default=None)
        if read.is_unread and self.record is not None:
            self._horizon = self._newest_before = self.record.last_synced_at
        self._is_unread = read.is_unread
        self.history.add(job for job in read.jobs if job.schema_id == self.id)
        self._enter(Cause.READ)

    def take_record(self, record: Schema | None) -> bool:
        """Take its record as it is now, with its name; None if it does not exist.

        Returns:
            Whether the record shows more than the sync that is expected to run, so that its jobs must be read.
        """
        before, self.record = self.record, record
        self.name = record.name if record is not None else self.name
        if record is None or before is None:
            return True
        if before.last_synced_at != record.last_synced_at:
            return True
        is_expected = record.status is SyncStatus.RUNNING and self.state in {State.STARTING, State.FOLLOWING}
        return before.status != record.status and not is_expected

    def take_jobs(self, jobs: Iterable[Job], now: Now) -> Iterator[SyncEvent]:
        """Take what was read of its jobs, and draw the consequences."""
        self.history.add(jobs)
        self.read_at = now.watched_s
        if self.job is not None and self.state in {State.FOLLOWING, State.WAITING}:
            yield from self._follow(self.job, now)
        elif self.state is State.STARTING and self._attempt is not None:
            job = self._attempt.first_new(self.history)
            if job is not None:
                yield from self.adopt(job, now, started=self.started and self._attempt.caused(job))

    def decide_again_if_due(self, now: Now) -> None:
        """Queue it again if it holds, and a job has appeared or the time has come."""
        if self.state is not State.HOLDING:
            return
        if self.history.ids > self._held_with or not self._hold_left_s(now):
            self._enter(Cause.DECIDE_AGAIN)

    # --- its turn ---

    def next_action(self, now: Now, *, claimed_at: datetime | None = None) -> tuple[Action, list[Notice]]:
        """What to do with it now, and lines for the log. The caller carries the action out.

        Args:
            now: The time.
            claimed_at: When another process set out to start this sync, by PostHog's clock.
        """
        state = TableState(
            request=self.request,
            settings=self._settings,
            label=self.label,
            record=self.record,
            access_method=self._access,
            history=self.history,
            now=now,
            waited_for=self._waited_for,
            claimed_at=claimed_at,
        )
        action, notices = decide(state)
        return action, [self._notice(text) for text in notices]

    def adopt(self, job: Job, now: Now, *, started: bool) -> Iterator[SyncEvent]:
        """Follow this job from now on."""
        self.started = started
        self._interrupted = None
        self._enter(Cause.ADOPTED, now, job=job)
        yield Adopted(schema_id=self.id, job=job, started=started)
        if self.request.ahead:
            yield self._end(Cause.SUBMITTED, outcome=SyncOutcome.SUBMITTED)
        elif is_over(job):
            yield from self._job_ended(job, now)
        elif self._is_submitted_only:
            yield self._end(Cause.SUBMITTED, outcome=SyncOutcome.SUBMITTED)

    def wait_for(self, job: Job, now: Now) -> Notice:
        """Wait until this job ends."""
        self._waited_for = job
        self._enter(Cause.BUSY, now, job=job)
        return self._notice(f"{self.label} waits until its sync {job.id} ends.")

    def hold(self, now: Now) -> None:
        """Wait until `trigger_after`, or until a job appears."""
        self._held_with = self.history.ids
        self._enter(Cause.TOO_EARLY, now)

    def refuse(self, error: SyncError) -> Ended:
        """End it: it may not be triggered, or PostHog refuses the trigger."""
        return self._end(Cause.REFUSED, error)

    def hand_back(self) -> Ended:
        """End it without a sync: the process that it is started ahead for does so itself."""
        return self._end(Cause.HANDED_BACK, outcome=SyncOutcome.NOT_TRIGGERED)

    def begin_trigger(self, now: Now) -> None:
        """PostHog is about to be asked for a sync.

        This comes before the request, so that a process that is stopped within the request knows what it may have
        started.
        """
        self.started = True
        self._attempt = TriggerAttempt(
            known=self.history.ids,
            horizon=self._horizon,
            mode=self._settings.sync_mode,
            began_at=now.server if self._is_unread else None,
        )
        self._enter(Cause.TRIGGERED, now)

    def trigger_accepted(self, now: Now, *, at: datetime | None, took_s: float) -> None:
        """PostHog accepted the trigger at its time `at`, after `took_s` seconds. The start timeout begins now."""
        self._since_s = now.watched_s
        self._attempt = self._attempt and replace(self._attempt, is_accepted=True, accepted_at=at, took_s=took_s)

    def trigger_not_accepted(self) -> None:
        """The trigger had no effect."""
        self.started = False
        self._began_s = None
        self._enter(Cause.NOT_ACCEPTED)

    # --- ends ---

    def lose(self, error: SyncError) -> Ended:
        """End it: it was deleted, may not be read, or was unreachable for too long."""
        return self._end(Cause.LOST, error)

    def is_start_overdue(self, now: Now) -> bool:
        """Whether its job should have appeared by now."""
        return self.state is State.STARTING and now.watched_s - self._since_s >= self._settings.start_timeout_s

    def end_unstarted(self) -> Ended:
        """End it: no job has appeared in time."""
        if self._interrupted is not None:
            # PostHog did not restart the sync, so the interruption was its end.
            return self._end(
                Cause.TIMED_OUT, errors.error_for(self._interrupted, label=self.label, history=self.history)
            )
        error = errors.never_started(
            self.id,
            status=self.record.status if self.record is not None else None,
            label=self.label,
            newest=self.history.newest,
            after_s=self._settings.start_timeout_s,
            lost=self._attempt is None or not self._attempt.is_accepted,
        )
        return self._end(Cause.TIMED_OUT, error)

    def end_if_overdue(self, now: Now) -> Ended | None:
        """End it if its job has run for too long, or without progress for too long."""
        if self.job is None or self.state not in {State.FOLLOWING, State.WAITING}:
            return None
        stall_s, total_s = self._settings.stall_timeout_s, self._settings.total_timeout_s
        is_too_long = now.watched_s - (self._began_s or 0.0) >= total_s
        is_stalled = now.watched_s - self._progress_s >= stall_s
        if not (is_too_long or is_stalled):
            return None
        error: SyncError
        if self.job.status is not JobStatus.RUNNING:
            error = errors.unknown_status(self.job, label=self.label)
        elif is_too_long:
            error = errors.too_long(self.job, label=self.label, after_s=total_s)
        else:
            error = errors.stalled(self.job, label=self.label, after_s=stall_s)
        return self._end(Cause.TIMED_OUT, error)

    def is_to_start(self, now: Now) -> bool:
        """Whether its sync, started ahead, has no job yet and can have one soon."""
        is_soon = self.state in {State.NEW, State.QUEUED, State.STARTING} or (
            self.state is State.HOLDING and self._hold_left_s(now) <= LONGEST_HOLD_AHEAD_S
        )
        return self.request.ahead and is_soon

    def keep_following(self) -> None:
        """Follow its job from now on, even if it was only to be submitted: it is to be cancelled."""
        self._is_submitted_only = False
        if self.ended is not None and self.ended.outcome is SyncOutcome.SUBMITTED:
            self._enter(Cause.KEPT)

    # --- its job ---

    def _follow(self, before: Job, now: Now) -> Iterator[SyncEvent]:
        self.job = job = self.history.get(before.id) or before
        has_moved = (before.status, before.rows_synced) != (job.status, job.rows_synced)
        self._progress_s = now.watched_s if has_moved else self._progress_s
        if has_moved and self.state is State.FOLLOWING:
            yield Progress(schema_id=self.id, job=job, waited_s=now.watched_s - self._since_s)
        if before.table.should_sync and not job.table.should_sync and not is_over(job):
            yield self._notice(f"{self.label} was disabled in PostHog during its sync. PostHog may stop the sync.")
        if is_over(job):
            yield from self._job_ended(job, now)

    def _job_ended(self, job: Job, now: Now) -> Iterator[SyncEvent]:
        """The job has ended, which may not be the end of the table."""
        if self.state is State.WAITING:
            self.job = None
            self._enter(Cause.DECIDE_AGAIN)
        elif (successor := self._successor(job)) is not None:
            yield self._notice(
                f"The sync {job.id} of {self.label} was replaced by {successor.id}, which is followed instead."
            )
            # PostHog's restart of our sync is ours. A newer sync that replaced ours was started by somebody else.
            yield from self.adopt(successor, now, started=self.started and was_interrupted(job))
        elif was_interrupted(job):
            yield self._wait_for_restart(job, now)
        else:
            if job.status is JobStatus.COMPLETED and (other := self.history.running_after(job)) is not None:
                yield self._notice(
                    f"The sync {job.id} of {self.label} has completed, and another one, {other.id}, is running."
                )
            yield self._end(Cause.JOB_ENDED, errors.error_for(job, label=self.label, history=self.history))

    def _successor(self, job: Job) -> Job | None:
        """The job that continues the work of a failed one, or has replaced it.

        A completed job has none. Older servers end an interrupted sync as Completed and start another one, but a
        scheduled sync that starts at that moment looks the same. Whether to wait for it must not depend on chance, so
        Completed is the end; the job-status sensor reports the other job.

        PostHog's restart after an interruption counts in any state, as it may have ended between two polls. Another
        sync counts only while it runs: then it has taken the place of ours, while one that has ended is history.
        """
        if job.status is JobStatus.COMPLETED:
            return None
        return self.history.next_after(job) if was_interrupted(job) else self.history.running_after(job)

    def _wait_for_restart(self, job: Job, now: Now) -> Notice:
        self._interrupted = job
        # As after a trigger, any job that is newer than the interrupted one is the restart.
        self._attempt = TriggerAttempt(known=self.history.ids, horizon=job.created_at, mode=SyncMode.RELOAD)
        self._enter(Cause.INTERRUPTED, now)
        return self._notice(
            f"A restart of PostHog interrupted the sync {job.id} of {self.label}. PostHog starts another one by itself."
        )

    def _hold_left_s(self, now: Now) -> float:
        until = self._settings.trigger_after
        return max(0.0, (until - now.server).total_seconds()) if until is not None else 0.0

    def _notice(self, text: str) -> Notice:
        return Notice(text=text, schema_id=self.id)

    # --- changes of state ---

    def _enter(self, cause: Cause, now: Now | None = None, *, job: Job | None = None) -> None:
        """Change the state, the only place that does.

        Args:
            cause: Why.
            now: The time at which the next state's wait begins; None if the next state waits for nothing.
            job: The job that the next state follows or waits for.

        Raises:
            UndeclaredTransitionError: `TRANSITIONS` does not have the change.
        """
        if cause not in TRANSITIONS[self.state]:
            raise UndeclaredTransitionError(f"{self.label}: {self.state.name} has no transition for {cause.name}.")
        self.state = TRANSITIONS[self.state][cause]
        if now is not None:
            self._since_s = self._progress_s = now.watched_s
            # The total timeout counts from the first wait on: also a wait for another sync is part of it.
            self._began_s = now.watched_s if self._began_s is None else self._began_s
            if job is not None:
                self.job = job
                self._job_age_s = max(0.0, (now.server - job.created_at).total_seconds())

    def _end(
        self, cause: Cause, error: SyncError | None = None, *, outcome: SyncOutcome = SyncOutcome.COMPLETED
    ) -> Ended:
        if error is not None:
            outcome = error.outcome
            # No retry may drop a table a second time.
            error.allow_retries &= self._settings.sync_mode is SyncMode.RELOAD
        # A sync that was only waited for is not reported as the table's.
        job = self.job if self.state is not State.WAITING else None
        self._enter(cause)
        self.ended = Ended(
            schema_id=self.id,
            job=job,
            outcome=outcome,
            error=error,
            queue_s=self._attempt.queue_s(job) if self._attempt else None,
            duration_s=duration_s(job) if job is not None else None,
            usual_s=self.history.usual_s(excluding=job),
        )
        return self.ended
