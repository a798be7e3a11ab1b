"""A share of PostHog's rate limit, kept by all processes that use the same key.

PostHog counts requests by key, so one process cannot know what is left. The count is kept in a file for all processes
of a machine, or in a server for all machines.
"""

import getpass
import hashlib
import logging
import math
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pyrate_limiter import AbstractBucket, Duration, InMemoryBucket, Rate, RateItem, SQLiteBucket

from dw_orchestration.files import private_files
from dw_orchestration.posthog.budget_server import BudgetServer, BudgetServerError
from dw_orchestration.posthog.errors import BudgetSpentError, SetupError
from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_HOUR, DEFAULT_REQUESTS_PER_MINUTE

logger = logging.getLogger(__name__)

# Calls that no window counts any more are deleted from time to time. Until then they cost only disk space.
CALLS_BETWEEN_CLEANUPS = 200
# A request is counted before it is sent, and arrives later: under load some later than others. PostHog counts arrivals.
DELAYS_DIFFER_MS = 2000
# After a refusal that is not due to a full window, such as a lock.
SHORTEST_WAIT_S = 0.01
# A shorter wait needs no explanation, and a longer one is reported to people.
SHORTEST_LOGGED_WAIT_S = 1.0
LONG_WAIT_S = 10.0
# If the server cannot be used, it is tried again after this time.
SERVER_RETRY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """How many requests to send. PostHog allows a key 480 a minute and 4,800 an hour.

    Args:
        per_minute: By default half of PostHog's limit, so that everything else that uses the key keeps the other half.
        per_hour: By default half of PostHog's limit.
        folder: Where the count is kept. Processes that share a folder share the budget. None is this user's folder
            below the system's temporary folder.
        server: Where the count of all machines is kept instead: `postgresql://…`, `redis://…` or `rediss://…`. While it
            cannot be used, each machine counts in its folder.

    Raises:
        SetupError: One of the two numbers could never take effect.
    """

    per_minute: int = DEFAULT_REQUESTS_PER_MINUTE
    per_hour: int = DEFAULT_REQUESTS_PER_HOUR
    folder: Path | None = None
    server: str | None = field(default=None, repr=False)

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
        name: Processes that use the same name, and the same folder or server, share the budget.
        limits: How many requests to allow.
        now: Wall clock in seconds, which all processes of a machine share. A server has its own.
        monotonic: Seconds that never run backwards.
        sleep: Waits.
        notify: Called with a sentence for people: about a long wait, or a server that cannot be used.

    Raises:
        SetupError: The server's address is invalid, or its driver is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: RateLimits,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        notify: Callable[[str], None] = logger.warning,
    ) -> None:
        self.waited_s = 0.0
        self._name = name
        self._rates = [
            Rate(limits.per_minute, Duration.MINUTE + DELAYS_DIFFER_MS),
            Rate(limits.per_hour, Duration.HOUR + DELAYS_DIFFER_MS),
        ]
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._notify = notify
        # Processes poll the file lock. Threads of one process queue here instead, where they wake up immediately.
        self._lock = threading.Lock()
        self._calls = 0
        self._file = (limits.folder or default_folder()) / f"{name}.sqlite"
        self._server = BudgetServer(limits.server) if limits.server else None
        self._server_from = -math.inf
        # Opened at the first request, so that a client that sends nothing leaves no file behind.
        self._bucket: AbstractBucket | None = None
        self._shared_bucket: AbstractBucket | None = None

    @classmethod
    def for_key(
        cls,
        api_key: str,
        *,
        host: str,
        limits: RateLimits,
        purpose: str = "",
        sleep: Callable[[float], None] = time.sleep,
        notify: Callable[[str], None] = logger.warning,
    ) -> "RateBudget":
        """The budget of one key, or of one purpose of it. Only a hash of the key is stored."""
        digest = hashlib.sha256(f"{host}\n{api_key.strip()}".encode()).hexdigest()
        return cls(digest[:16] + purpose, limits=limits, sleep=sleep, notify=notify)

    def take(self, *, longest_s: float = math.inf) -> None:
        """Wait until another request is allowed, and count it.

        Args:
            longest_s: How long to wait at most.

        Raises:
            BudgetSpentError: No request is allowed before that. Nothing was counted.
        """
        give_up_at = self._monotonic() + longest_s
        is_first = True
        while wait_s := self._try_take():
            if self._monotonic() + wait_s > give_up_at:
                raise BudgetSpentError(wait_s)
            if is_first:
                self._report(wait_s)
            is_first = False
            self._sleep(wait_s)
            with self._lock:
                self.waited_s += wait_s

    def close(self) -> None:
        """Close the file and the connection; the next request opens them again."""
        with self._lock:
            if self._bucket is not None:
                self._bucket.close()
            self._bucket = None
            self._close_shared()

    def _report(self, wait_s: float) -> None:
        text = f"Rate limit for PostHog used up: waiting {wait_s:.1f} s before the next request."
        if wait_s >= LONG_WAIT_S:
            self._notify(text)
        elif wait_s >= SHORTEST_LOGGED_WAIT_S:
            logger.info(text)

    def _try_take(self) -> float:
        """Count one request and return 0, or return the seconds after which to try again."""
        with self._lock:
            if self._server is not None and self._monotonic() >= self._server_from:
                try:
                    return self._put_shared(self._server)
                except BudgetServerError as exc:
                    self._do_without_server(self._server, exc)
            now_ms = int(self._now() * 1000)
            try:
                self._bucket = self._bucket or self._open()
                return self._put(self._bucket, now_ms)
            except (sqlite3.Error, OSError) as exc:
                self._bucket = self._in_memory(exc)
                return self._put(self._bucket, now_ms)

    def _put(self, bucket: AbstractBucket, now_ms: int) -> float:
        if self._calls % CALLS_BETWEEN_CLEANUPS == 0:
            bucket.leak(now_ms)
        item = RateItem("call", now_ms)
        if bucket.put(item):
            self._calls += 1
            return 0.0
        # Read under the same lock as the refusal: another thread's request would change it. Never 0, which means that
        # the request was counted.
        return max(cast("int", bucket.waiting(item)) / 1000, SHORTEST_WAIT_S)

    def _put_shared(self, server: BudgetServer) -> float:
        """The same in the server, by its clock.

        Raises:
            BudgetServerError: It failed, and not only because an idle connection was closed.
        """
        if self._shared_bucket is not None:
            try:
                return self._put_in(server)
            except BudgetServerError:
                self._close_shared()
        return self._put_in(server)

    def _put_in(self, server: BudgetServer) -> float:
        with server.errors():
            self._shared_bucket = self._shared_bucket or server.open(self._name, self._rates)
            now_ms: int = self._shared_bucket.now()  # type: ignore[no-untyped-call]  # the library's
            return self._put(self._shared_bucket, now_ms)

    def _close_shared(self) -> None:
        bucket, self._shared_bucket = self._shared_bucket, None
        if bucket is not None:
            with suppress(Exception):
                bucket.close()

    def _do_without_server(self, server: BudgetServer, exc: BudgetServerError) -> None:
        """Use the file for a while: a server that is down must not fail a sync, nor lose the end of a running one."""
        self._server_from = self._monotonic() + SERVER_RETRY_S
        self._notify(
            f"The request budget in {server.name} cannot be used: {str(exc).rstrip('.')}. This machine counts its own"
            " requests meanwhile, so all machines together may send more than their limit. The server is tried again"
            f" every {SERVER_RETRY_S:.0f} s: check that it runs, and the address in `request_budget`."
        )

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
