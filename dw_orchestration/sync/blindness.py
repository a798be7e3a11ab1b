"""A source that cannot be read at the moment."""

from dw_orchestration.posthog.errors import PostHogError, RateLimitedError
from dw_orchestration.sync.settings import SyncSettings


class Blindness:
    """An unbroken run of looks that failed. Deadlines stand still in it.

    Attributes:
        watched_s: What the stopwatch showed at its beginning.
    """

    def __init__(self, *, at: float, watched_s: float) -> None:
        self.watched_s = watched_s
        self._at = at
        self._failures = 0
        self._told_s = 0.0
        self._told_in_all_s = 0.0

    def note(self, exc: PostHogError, *, settings: SyncSettings) -> None:
        """Another look has failed."""
        self._failures += 1
        self._told_s = (exc.retry_after_s or settings.poll_max_s) if isinstance(exc, RateLimitedError) else 0.0
        self._told_in_all_s += self._told_s

    def pause_s(self, settings: SyncSettings) -> float:
        """How long to wait for the next look: as told, or twice as long each time."""
        if self._told_s:
            return self._told_s
        return min(settings.poll_min_s * 2.0 ** min(self._failures - 1, 10), settings.poll_max_s)

    def lasts_s(self, now: float) -> float:
        """How long it has been going on."""
        return now - self._at

    def is_too_long(self, now: float, *, settings: SyncSettings) -> bool:
        """Whether to give up.

        Waits that PostHog asked for do not count against the budget for errors. They end at the total timeout,
        since a key can be used up by others for ever.
        """
        lasted_s, budget_s = self.lasts_s(now), settings.unreachable_timeout_s
        return lasted_s - self._told_in_all_s >= budget_s or lasted_s >= max(settings.total_timeout_s, budget_s)
