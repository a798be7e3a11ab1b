"""What a user may set when materializing a table."""

from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from dw_orchestration.sync.settings import Seconds, SyncSettings


def _setting(name: str) -> Any:
    """The engine's own default and description of a setting, so that they stand once."""
    field = SyncSettings.model_fields[name]
    default = field.default.value if isinstance(field.default, Enum) else field.default
    return Field(default=default, description=field.description)


class PostHogSyncConfig(dg.Config):
    """How the selected tables are synced, for one run.

    The fields are those of `SyncSettings`, in the types that Dagster's config has: text for times, literals for enums.
    """

    sync_mode: Literal["reload", "resync"] = _setting("sync_mode")
    confirm_resync: list[str] = Field(
        default=[],
        description="Repeat the name of every selected table (`stripe_acme.Charge`, no patterns) to confirm a `resync`."
        " Used only then.",
    )
    if_running: Literal["attach", "wait_then_reload", "fail"] = _setting("if_running")
    accept_jobs_since: str | None = _setting("accept_jobs_since")
    trigger_after: str | None = _setting("trigger_after")
    wait: bool = _setting("wait")
    on_termination: Literal["cancel", "leave"] = Field(
        default="cancel",
        description="What to do with the syncs that this run started when a user terminates it: `cancel` them in"
        " PostHog or `leave` them running. A run that is evicted or killed always leaves them; its retry attaches to"
        " them.",
    )
    start_timeout_s: Seconds = _setting("start_timeout_s")
    stall_timeout_s: Seconds = _setting("stall_timeout_s")
    total_timeout_s: Seconds = _setting("total_timeout_s")
    on_stall: Literal["leave", "cancel"] = _setting("on_stall")
    unreachable_timeout_s: Seconds = _setting("unreachable_timeout_s")
    abandoned_after_s: Seconds = _setting("abandoned_after_s")
    poll_min_s: Seconds = _setting("poll_min_s")
    poll_max_s: Seconds = _setting("poll_max_s")
    fetch_logs: bool = Field(
        default=True,
        description="Fetch the last lines that PostHog logged during a sync that failed, was cancelled or stalled: one"
        " request for each, and only for the first 20 of a step.",
    )

    def settings(self) -> SyncSettings:
        """The same settings for the engine. A time without a time zone is taken as UTC.

        Raises:
            ValueError: A time is not ISO 8601, or two settings contradict each other.
        """
        given = self.model_dump(include=set(SyncSettings.model_fields))
        times = {name: _utc(given[name]) for name in ("accept_jobs_since", "trigger_after")}
        return SyncSettings.model_validate(given | times)


def _utc(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
