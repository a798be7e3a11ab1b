"""The pace of requests."""

from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_MINUTE
from dw_orchestration.sync.settings import MINUTE_S, SyncSettings

# So many seconds' worth may go at once: a batch of some dozens of tables begins, and ends, without a pause. A client
# has a budget of its own besides, so longer bursts would only be followed by longer silence.
TRIGGERS_PER_MIN = float(DEFAULT_REQUESTS_PER_MINUTE)
TRIGGER_BURST_S = 15.0
# For all sources together. It leaves room for triggers and for other programs that use the key.
POLLS_PER_MIN = 180.0
POLL_BURST_S = 30.0


class Bucket:
    """Lets requests go at a pace, after a burst as fast as they are answered."""

    def __init__(self, *, per_min: float, burst_s: float, at: float) -> None:
        self._burst_s = burst_s
        self._each_s = MINUTE_S / per_min
        self._last_at = at
        self._paid_until = at

    @property
    def at(self) -> float:
        """When the next request may go, on the monotonic clock: never before the last one, so that takers alternate."""
        return max(self._last_at, self._paid_until - self._burst_s)

    def take(self, now: float, *, cost: int = 1) -> None:
        """So many requests were made."""
        self._last_at = now
        self._paid_until = max(self._paid_until, now) + cost * self._each_s


class Gate:
    """Lets triggers through one by one, and closes for a while when PostHog takes none."""

    def __init__(self, *, settings: SyncSettings, sources: int, at: float, per_min: float = TRIGGERS_PER_MIN) -> None:
        self._settings = settings
        # one table of each source may begin at once; the others keep the pace, so that a billing limit is met by few
        burst_s = min((sources - 1) * MINUTE_S / per_min, TRIGGER_BURST_S)
        self._bucket = Bucket(per_min=per_min, burst_s=burst_s, at=at)
        self._opens_at = at
        self._closed_since: float | None = None

    @property
    def at(self) -> float:
        """When the next trigger may go, on the monotonic clock."""
        return max(self._opens_at, self._bucket.at)

    def passed(self, now: float) -> None:
        """A trigger was sent, and PostHog dealt with it."""
        self._bucket.take(now)
        self._closed_since = None

    def close(self, now: float, *, pause_s: float) -> None:
        """A trigger had no effect; the next may go after a pause."""
        self._opens_at = now + pause_s
        self._closed_since = now if self._closed_since is None else self._closed_since

    def is_given_up(self, now: float) -> bool:
        """Whether no trigger has gone through for so long that the rest is not tried."""
        limit_s = max(self._settings.unreachable_timeout_s, self._settings.total_timeout_s)
        return self._closed_since is not None and now - self._closed_since >= limit_s
