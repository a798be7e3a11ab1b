"""Who decides when a table is synced."""

from enum import StrEnum


class SchedulingMode(StrEnum):
    """How Dagster's schedules work together with PostHog's own.

    In all three, PostHog keeps syncing every enabled table by itself, unless a takeover has moved it out of the way.
    """

    OBSERVE = "observe"
    """PostHog alone: no schedules here; the job-status sensor reports what PostHog did."""

    ENSURE = "ensure"
    """Both: each tick has exactly one sync, PostHog's own if it has begun one, else one that Dagster starts."""

    DRIVE = "drive"
    """Dagster alone: each tick starts a sync."""
