"""The pace of triggers."""

from dw_orchestration.sync.settings import MINUTE_S, SyncSettings


class Gate:
    """Lets triggers through one by one, and closes for a while when PostHog takes none.

    Attributes:
        at: When the next trigger may go, on the monotonic clock.
    """

    def __init__(self, *, settings: SyncSettings, at: float) -> None:
        self.at = at
        self._settings = settings
        self._closed_since: float | None = None

    def passed(self, now: float) -> None:
        """A trigger was sent, and PostHog dealt with it."""
        self.at = now + MINUTE_S / self._settings.triggers_per_min
        self._closed_since = None

    def close(self, now: float, *, pause_s: float) -> None:
        """A trigger had no effect; the next may go after a pause."""
        self.at = now + pause_s
        self._closed_since = now if self._closed_since is None else self._closed_since

    def is_given_up(self, now: float) -> bool:
        """Whether no trigger has gone through for so long that the rest is not tried."""
        limit_s = max(self._settings.poll_error_budget_s, self._settings.total_timeout_s)
        return self._closed_since is not None and now - self._closed_since >= limit_s
