"""How a batch of syncs is to be done."""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from dw_orchestration.posthog import limits

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S


class SyncMode(StrEnum):
    """What is asked of PostHog."""

    RELOAD = "reload"
    """Sync now, as configured."""
    RESYNC = "resync"
    """Drop the table and import everything again; PostHog bills all of its rows."""


class IfRunning(StrEnum):
    """What to do about a sync that is already running. PostHog drops a reload while one is."""

    ATTACH = "attach"
    """Take it as the one to wait for. A resync goes ahead instead: PostHog cancels the running sync for it."""
    WAIT_THEN_RELOAD = "wait_then_reload"
    """Wait for its end, then start another, for data as new as the request."""
    FAIL = "fail"
    """Fail at once."""


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """The settings of a batch; durations are in seconds.

    Attributes:
        mode: Reload or resync.
        if_running: What to do about a sync that is already running.
        accept_jobs_since: A sync that PostHog created at or after this time (PostHog's clock) is as good as one of
            ours, however it ended: it is adopted, and nothing is triggered.
        trigger_after: Nothing is triggered before this time (PostHog's clock), because a sync of PostHog's own may be
            about to begin.
        wait: Follow each sync to its end. Without it, a table ends SUBMITTED as soon as its job is known.
        start_timeout_s: From the trigger to the job. PostHog's workers may be busy for minutes.
        stall_timeout_s: Without a change of rows or status. Hours, because loading shows no progress.
        total_timeout_s: From the trigger, or from attaching, to the end.
        cancel_stalled: Whether a sync that shows no progress, or takes too long, is also cancelled in PostHog, so that
            the next one can begin. Otherwise it is left alone.
        corpse_after_s: A Running row older than this is one that PostHog never finalized: nothing attaches to it.
        poll_min_s: The shortest time between two looks at a source.
        poll_max_s: The longest.
        poll_error_budget_s: For so long may all looks at a source fail before its tables are given up.
        cancel_timeout_s: How long `cancel_started` waits for the jobs to end.
        triggers_per_min: Half of PostHog's limit of 480 requests a minute; a quarter of these may go at once.
        polls_per_min: For all sources together, so that polling leaves room for triggers and for other programs; half
            of these may go at once.
    """

    mode: SyncMode = SyncMode.RELOAD
    if_running: IfRunning = IfRunning.ATTACH
    accept_jobs_since: datetime | None = None
    trigger_after: datetime | None = None
    wait: bool = True
    start_timeout_s: float = 5 * MINUTE_S
    stall_timeout_s: float = 6 * HOUR_S
    total_timeout_s: float = DAY_S
    cancel_stalled: bool = False
    corpse_after_s: float = limits.ABANDONED_AFTER.total_seconds()
    poll_min_s: float = 2.0
    poll_max_s: float = 30.0
    poll_error_budget_s: float = 15 * MINUTE_S
    cancel_timeout_s: float = MINUTE_S
    triggers_per_min: float = limits.DEFAULT_REQUESTS_PER_MINUTE
    polls_per_min: float = 180.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float | int) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"{field.name} is {value}: it has to be above 0.")
        if self.poll_min_s > self.poll_max_s:
            raise ValueError(f"poll_min_s ({self.poll_min_s}) is above poll_max_s ({self.poll_max_s}).")
        for name in ("accept_jobs_since", "trigger_after"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} has no time zone: give an aware time, best in UTC.")
        if self.mode is SyncMode.RESYNC and self.accept_jobs_since is not None:
            raise ValueError("accept_jobs_since with a resync: no other sync can stand in for a resync.")


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """One table to sync.

    Attributes:
        source_id: Its source.
        schema_id: Its external data schema.
        name: Its name at PostHog, as last known; the source's record has the current one.
        resume_job_id: The job that an earlier try of the same run recorded. If it is running it is followed again,
            and if it has completed that is the result; if it failed, a reload triggers a new one. A resync takes
            its failure as the result too: no retry may drop the table a second time.
        resume_started: Whether that earlier try had started the job; if so, a termination cancels it.
    """

    source_id: str
    schema_id: str
    name: str
    resume_job_id: str | None = None
    resume_started: bool = True
