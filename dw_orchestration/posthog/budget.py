"""A share of PostHog's rate limit, kept by all processes of a machine that use the same key."""

import getpass
import hashlib
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pyrate_limiter import AbstractBucket, Duration, InMemoryBucket, Rate, RateItem, SQLiteBucket

from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_HOUR, DEFAULT_REQUESTS_PER_MINUTE

logger = logging.getLogger(__name__)

# Calls older than every window are deleted now and then; until then they cost only disk.
CALLS_BETWEEN_CLEANINGS = 200


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """How many requests to send. PostHog allows a key 480 a minute and 4,800 an hour.

    Args:
        per_minute: Half of PostHog's, so that what else uses the key keeps the other half.
        per_hour: Half of PostHog's.
        folder: Where the count is kept; None is a folder of this user under the system's temporary one.
            Processes that share a folder share the budget.

    Raises:
        ValueError: One of the two numbers would never count.
    """

    per_minute: int = DEFAULT_REQUESTS_PER_MINUTE
    per_hour: int = DEFAULT_REQUESTS_PER_HOUR
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.per_minute < self.per_hour <= 60 * self.per_minute:
            raise ValueError(
                f"{self.per_minute} requests a minute and {self.per_hour} an hour do not go together: "
                "allow more in an hour than in a minute, and at most 60 times as many."
            )


class RateBudget:
    """Waits before a request while the budget is spent.

    `waited_s` is the time spent so; it is nobody's fault, so it should count against no deadline.

    Args:
        name: What the budget is for; processes that give the same name and folder share it.
        limits: How many requests to allow.
        now: Wall clock in seconds, as processes compare it.
        sleep: Waits.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: RateLimits,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.waited_s = 0.0
        self._rates = [
            Rate(limits.per_minute, Duration.MINUTE),
            Rate(limits.per_hour, Duration.HOUR),
        ]
        self._now = now
        self._sleep = sleep
        # The file lock is polled; threads of one process queue here instead, where waking up is immediate.
        self._lock = threading.Lock()
        self._calls = 0
        self._file = (limits.folder or default_folder()) / f"{name}.sqlite"
        # Opened at the first request: making a client costs nothing and leaves nothing behind.
        self._bucket: AbstractBucket | None = None

    @classmethod
    def for_key(
        cls,
        api_key: str,
        *,
        host: str,
        limits: RateLimits,
        sleep: Callable[[float], None] = time.sleep,
    ) -> "RateBudget":
        """The budget that belongs to a key. Only a hash of the key is written down."""
        digest = hashlib.sha256(f"{host}\n{api_key.strip()}".encode()).hexdigest()
        return cls(digest[:16], limits=limits, sleep=sleep)

    def take(self) -> None:
        """Count one request, after waiting until there is room for it."""
        wait_s = self._try_take()
        if wait_s:
            logger.info("The budget of requests to PostHog is spent: waiting %.1f s.", wait_s)
        while wait_s:
            self._sleep(wait_s)
            with self._lock:
                self.waited_s += wait_s
            wait_s = self._try_take()

    def close(self) -> None:
        """Close the file; the next request opens it again."""
        with self._lock:
            if self._bucket is not None:
                self._bucket.close()
            self._bucket = None

    def _try_take(self) -> float:
        """Count one request if there is room for it; else the seconds until there may be."""
        with self._lock:
            try:
                self._bucket = self._bucket or self._open()
                return self._put(self._bucket)
            except (sqlite3.Error, OSError) as exc:
                self._bucket = self._without_file(exc)
                return self._put(self._bucket)

    def _put(self, bucket: AbstractBucket) -> float:
        now_ms = int(self._now() * 1000)
        if self._calls % CALLS_BETWEEN_CLEANINGS == 0:
            bucket.leak(now_ms)
        item = RateItem("call", now_ms)
        if bucket.put(item):
            self._calls += 1
            return 0.0
        # Read under the same lock as the refusal it belongs to; never 0, or the caller would spin.
        return max(cast("int", bucket.waiting(item)), 1) / 1000

    def _open(self) -> AbstractBucket:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SQLiteBucket.init_from_file(self._rates, table="calls", db_path=str(self._file), use_file_lock=True)

    def _without_file(self, exc: Exception) -> AbstractBucket:
        """The budget protects the other users of the key; it is no reason to fail a sync."""
        logger.warning(
            "The budget of requests is kept by this process alone, since its file cannot be used: %s. "
            "Give the rate limits a folder that can be written.",
            exc,
        )
        return InMemoryBucket(self._rates)


def default_folder() -> Path:
    """A folder of this user under the system's temporary one."""
    # By number where there is one: a container's user often has no name.
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"dw_orchestration-{user}" / "rate_budget"
