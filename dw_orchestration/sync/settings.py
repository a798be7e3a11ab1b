"""What the engine is asked to do: which tables, and how.

Each setting's name, type, default, bounds and description stand here and nowhere else. The run config, the component's
`sync` attribute and the options of `dw sync` are made from them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from dw_orchestration.posthog import limits

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S

Seconds = Annotated[float, Field(gt=0)]
"""A duration above zero, in seconds."""


class SyncMode(StrEnum):
    """What PostHog is asked to do."""

    RELOAD = "reload"
    """Sync now, as configured."""
    RESYNC = "resync"
    """Drop the table and import everything again. PostHog bills all of its rows."""


class IfRunning(StrEnum):
    """What to do if the table is already syncing. PostHog drops a reload then."""

    ATTACH = "attach"
    """Wait for that sync. A resync is triggered anyway: PostHog cancels the running sync for it."""
    WAIT_THEN_RELOAD = "wait_then_reload"
    """Wait until that sync ends, then start another one, so that the data is as new as the request."""
    FAIL = "fail"
    """Fail at once."""


class OnStall(StrEnum):
    """What to do in PostHog with a sync that the engine gave up because it stalled or took too long."""

    LEAVE = "leave"
    """Nothing."""
    CANCEL = "cancel"
    """Cancel it, so that the next sync of the table can start."""


class SyncSettings(BaseModel):
    """How the engine syncs its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sync_mode: SyncMode = Field(
        default=SyncMode.RELOAD,
        description="`reload` syncs the table as configured. `resync` deletes the table's data and imports everything"
        " again; PostHog bills every row, so a resync must be confirmed.",
    )
    if_running: IfRunning = Field(
        default=IfRunning.ATTACH,
        description="If the table is already syncing: `attach` to that sync, `wait_then_reload` (wait until it ends,"
        " then start another sync), or `fail`.",
    )
    accept_jobs_since: AwareDatetime | None = Field(
        default=None,
        description="Accept a sync that PostHog created at or after this time instead of starting one, even if that"
        " sync failed. ISO 8601, by PostHog's clock. Schedules set it to their tick, so that each tick has one sync.",
    )
    trigger_after: AwareDatetime | None = Field(
        default=None,
        description="Start no sync before this time. ISO 8601, by PostHog's clock. Schedules set it shortly after their"
        " tick, so that PostHog's own sync can start first.",
    )
    wait: bool = Field(
        default=True,
        description="Wait until the syncs end. If false, the run ends when the syncs have started and holds no slot"
        " meanwhile. When they have ended, the job-status sensor requests another run for the tables and for what the"
        " run had selected downstream of them, which reports the results and fails if a sync failed. The sensor alone"
        " reports a resync.",
    )
    start_timeout_s: Seconds = Field(
        default=5 * MINUTE_S,
        description="Fail if no sync has started this many seconds after the trigger. PostHog's workers can be busy for"
        " minutes.",
    )
    stall_timeout_s: Seconds = Field(
        default=6 * HOUR_S,
        description="Fail if neither the rows nor the status of a sync have changed for this many seconds. The default"
        " is hours because PostHog reports no rows while it loads them.",
    )
    total_timeout_s: Seconds = Field(
        default=DAY_S,
        description="Fail if a sync takes longer than this many seconds in all. The default is a day, as a full refresh"
        " of a large table can take many hours.",
    )
    on_stall: OnStall = Field(
        default=OnStall.LEAVE,
        description="What to do in PostHog with a sync that stalled or took too long: `leave` it running or `cancel`"
        " it. PostHog starts no other sync of the table while it shows this one as running.",
    )
    unreachable_timeout_s: Seconds = Field(
        default=15 * MINUTE_S,
        description="Give up after PostHog has been unreachable for this many seconds. The other timeouts do not count"
        " that time.",
    )
    abandoned_after_s: Seconds = Field(
        default=limits.ABANDONED_AFTER.total_seconds(),
        description="Treat a sync that PostHog has reported as running for longer than this many seconds as abandoned,"
        " and do not attach to it. The default is a week, PostHog's own limit for a sync.",
    )
    poll_min_s: Seconds = Field(
        default=2.0,
        description="Shortest time in seconds between two polls of a source, used at first and when a sync is about to"
        " end.",
    )
    poll_max_s: Seconds = Field(
        default=60.0, description="Longest time in seconds between two polls of a source, used for long syncs."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.poll_min_s > self.poll_max_s:
            raise ValueError(f"poll_min_s ({self.poll_min_s}) is above poll_max_s ({self.poll_max_s}).")
        if self.sync_mode is SyncMode.RESYNC and self.accept_jobs_since is not None:
            raise ValueError("accept_jobs_since cannot be combined with a resync: no other sync can replace a resync.")
        return self


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """One table to sync.

    Attributes:
        source_id: The table's source.
        schema_id: The table's external data schema.
        name: The table's name in PostHog, as last known. The engine takes the current name from the source's record.
        label: What people call it, for messages; by default its name and id.
        resume_job_id: The job that an earlier try of the same run recorded. If that job is running, the engine follows
            it again; if it completed, that is the result. If it failed, a reload starts another one. A resync does
            not: no retry may drop a table a second time.
        resume_started: Whether the earlier try started that job. If so, terminating the run cancels it.
        resume_failed: Whether that job is the result even if it failed: it was started for this very request.
        claimed_at: When, by this machine's clock, another process set out to start this sync. A job since then is the
            requested one.
        ahead: Start the sync and report its job, and no more: another process follows it. A table whose sync cannot
            start soon is handed back.
    """

    source_id: str
    schema_id: str
    name: str
    label: str | None = None
    resume_job_id: str | None = None
    resume_started: bool = True
    resume_failed: bool = False
    claimed_at: datetime | None = None
    ahead: bool = False
