"""What a user may set when materializing a table."""

from datetime import UTC, datetime
from typing import Literal

import dagster as dg
from pydantic import Field

from dw_orchestration.posthog.limits import ABANDONED_AFTER
from dw_orchestration.sync.settings import IfRunning, SyncMode, SyncSettings

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


class PostHogSyncConfig(dg.Config):
    """How the selected tables are synced, for one run."""

    sync_mode: Literal["reload", "resync"] = Field(
        default="reload",
        description="`reload` syncs as the table is configured. `resync` deletes what was synced and brings everything"
        " again, which PostHog bills again; it has to be confirmed.",
    )
    confirm_resync: list[str] = Field(
        default=[],
        description="The names of the tables to resync, as PostHog has them. Asked for with `resync` alone, and it has"
        " to name every selected table.",
    )
    if_running: Literal["attach", "wait_then_reload", "fail"] = Field(
        default="attach",
        description="What to do when a sync of the table is already going on: end as it ends, wait for it and sync"
        " once more, or fail.",
    )
    accept_jobs_since: str | None = Field(
        default=None,
        description="An ISO 8601 time. A sync that began then or later is taken instead of starting one, however it"
        " ended. Schedules set it to their tick, so that there is one sync for each.",
    )
    trigger_after: str | None = Field(
        default=None,
        description="An ISO 8601 time, by PostHog's clock. No sync is started before it. Schedules set it to a little"
        " after their tick, so that PostHog's own sync comes first.",
    )
    wait: bool = Field(
        default=True,
        description="Whether the run stays until the syncs have ended. If not, it ends once they have begun, and the"
        " job-status sensor reports how they end.",
    )
    on_termination: Literal["cancel", "leave"] = Field(
        default="cancel",
        description="What happens to syncs that this run started when a user terminates it. A run that is evicted or"
        " killed always leaves them, and its retry takes them up again.",
    )
    start_timeout_s: float = Field(
        default=5 * MINUTE_S, gt=0, description="Seconds until a sync that was asked for must have begun."
    )
    stall_timeout_s: float = Field(
        default=6 * HOUR_S,
        gt=0,
        description="Seconds that a sync may go on without a further row or another status.",
    )
    total_timeout_s: float = Field(
        default=DAY_S,
        gt=0,
        description="Seconds that a sync may take in all. PostHog allows a full refresh a day.",
    )
    on_stall: Literal["leave", "cancel"] = Field(
        default="leave",
        description="What happens to a sync that stalls or takes too long, besides the failure of the run: PostHog"
        " starts no other sync of the table while it shows as running.",
    )
    poll_error_budget_s: float = Field(
        default=15 * MINUTE_S,
        gt=0,
        description="Seconds on end for which PostHog may not answer before the run gives up on its syncs.",
    )
    corpse_after_s: float = Field(
        default=ABANDONED_AFTER.total_seconds(),
        gt=0,
        description="Age in seconds from which a sync that PostHog shows as running is taken to be a leftover.",
    )
    poll_min_s: float = Field(default=2.0, gt=0, description="Seconds between two looks at a source at first.")
    poll_max_s: float = Field(default=30.0, gt=0, description="Seconds between two looks at a source at most.")

    def settings(self) -> SyncSettings:
        """The same for the engine.

        Raises:
            ValueError: `accept_jobs_since` or `trigger_after` is not an ISO 8601 time.
        """
        return SyncSettings(
            mode=SyncMode(self.sync_mode),
            if_running=IfRunning(self.if_running),
            accept_jobs_since=_utc(self.accept_jobs_since),
            trigger_after=_utc(self.trigger_after),
            wait=self.wait,
            start_timeout_s=self.start_timeout_s,
            stall_timeout_s=self.stall_timeout_s,
            total_timeout_s=self.total_timeout_s,
            cancel_stalled=self.on_stall == "cancel",
            poll_error_budget_s=self.poll_error_budget_s,
            corpse_after_s=self.corpse_after_s,
            poll_min_s=self.poll_min_s,
            poll_max_s=self.poll_max_s,
        )


def _utc(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
