"""A share of PostHog's rate limit, kept by all processes of a machine that use the same key.

PostHog counts requests by key, so one process cannot know what is left: the count is kept in a file.
"""

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

from dw_orchestration.files import private_files
from dw_orchestration.posthog.errors import SetupError
from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_HOUR, DEFAULT_REQUESTS_PER_MINUTE

logger = logging.getLogger(__name__)

# Calls that no window counts any more are deleted from time to time. Until then they cost only disk space.
CALLS_BETWEEN_CLEANUPS = 200


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """How many requests to send. PostHog allows a key 480 a minute and 4,800 an hour.

    Args:
        per_minute: By default half of PostHog's limit, so that everything else that uses the key keeps the other half.
        per_hour: By default half of PostHog's limit.
        folder: Where the count is kept. Processes that share a folder share the budget. None is this user's folder
            below the system's temporary folder.

    Raises:
        SetupError: One of the two numbers could never take effect.
    """

    per_minute: int = DEFAULT_REQUESTS_PER_MINUTE
    per_hour: int = DEFAULT_REQUESTS_PER_HOUR
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.per_minute < self.per_hour <= 60 * self.per_minute:
            raise SetupError(
                f"Invalid rate limits, {self.per_minute} requests per minute and {self.per_hour} per hour: "
                "allow more per hour than per minute, and at most 60 times as many."
            )


DEFAULT_RATE_LIMITS = RateLimits()


class RateBudget:
    """Delays requests while the rate limits are used up.

    Attributes:
        waited_s: The total delay so far. Subtract this time from deadlines.

    Args:
        name: Processes that use the same name and folder share the budget.
        limits: How many requests to allow.
        now: Wall clock in seconds, which all processes share.
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
        # Processes poll the file lock. Threads of one process queue here instead, where they wake up immediately.
        self._lock = threading.Lock()
        self._calls = 0
        self._file = (limits.folder or default_folder()) / f"{name}.sqlite"
        # Opened at the first request, so that a client that sends nothing leaves no file behind.
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
        """The budget of one key. Only a hash of the key is stored."""
        digest = hashlib.sha256(f"{host}\n{api_key.strip()}".encode()).hexdigest()
        return cls(digest[:16], limits=limits, sleep=sleep)

    def take(self) -> None:
        """Wait until another request is allowed, and count it."""
        wait_s = self._try_take()
        if wait_s:
            logger.info("Rate limit for PostHog used up: waiting %.1f s before the next request.", wait_s)
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
        """Count one request and return 0, or return the seconds after which to try again."""
        with self._lock:
            try:
                self._bucket = self._bucket or self._open()
                return self._put(self._bucket)
            except (sqlite3.Error, OSError) as exc:
                self._bucket = self._in_memory(exc)
                return self._put(self._bucket)

    def _put(self, bucket: AbstractBucket) -> float:
        now_ms = int(self._now() * 1000)
        if self._calls % CALLS_BETWEEN_CLEANUPS == 0:
            bucket.leak(now_ms)
        item = RateItem("call", now_ms)
        if bucket.put(item):
            self._calls += 1
            return 0.0
        # Read under the same lock as the refusal: another thread's request would change it. At least a millisecond,
        # because 0 means that the request was counted.
        return max(cast("int", bucket.waiting(item)), 1) / 1000

    def _open(self) -> AbstractBucket:
        with private_files():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # the database's log has the mode of the database
            self._file.touch()
        return SQLiteBucket.init_from_file(self._rates, table="calls", db_path=str(self._file), use_file_lock=True)

    def _in_memory(self, exc: Exception) -> AbstractBucket:
        """A fallback, because a file problem on this machine must not fail a sync."""
        logger.warning(
            "Cannot use the rate limit's file: %s. This process now counts only its own requests. "
            "Set the `folder` of the rate limits to a writable folder.",
            exc,
        )
        return InMemoryBucket(self._rates)


def default_folder() -> Path:
    """This user's folder below the system's temporary folder."""
    # By number where the system has one: the user of a container often has no name.
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"dw_orchestration-{user}" / "rate_budget"
