"""How a table's part in a run of the engine can end."""

from enum import StrEnum


class SyncOutcome(StrEnum):
    """How a table's part in a batch ended."""

    COMPLETED = "completed"
    SUBMITTED = "submitted"
    """Its job is known, and nobody waits for it here: no success is claimed."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    BILLING_LIMIT = "billing_limit"
    BILLING_LIMIT_TOO_LOW = "billing_limit_too_low"
    NEVER_STARTED = "never_started"
    STALLED = "stalled"
    TOO_LONG = "too_long"
    UNKNOWN_STATUS = "unknown_status"
    TURNED_OFF = "turned_off"
    DELETED = "deleted"
    NOT_SYNCABLE = "not_syncable"
    ALREADY_RUNNING = "already_running"
    FAILURE_STREAK = "failure_streak"
    REFUSED = "refused"
    NOT_TRIGGERED = "not_triggered"
    POLLING_LOST = "polling_lost"
