"""The clocks of the engine. A test passes in its own clock, so that a day of waiting takes milliseconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The machine's clock, as the engine uses it."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    def sleep(self, seconds: float) -> None:
        """Let this much time pass."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let this much time pass."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Now:
    """One moment, in the two times that a table needs.

    Attributes:
        watched_s: How long the table's source has been watched, in seconds from an arbitrary start. Deadlines and poll
            intervals count this time, because it does not pass during a request or an outage: a slow or unreachable
            API must not make a sync fail.
        server: PostHog's own time. The times of jobs and of schedules are compared with it, because this machine's
            clock may be minutes off.
    """

    watched_s: float
    server: datetime


class EngineClock:
    """All times of one run of the engine, from one machine clock.

    `monotonic()` says when to send requests. `watched_s()` and `server()` are the two parts of a `Now`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._paused_s = 0.0
        self._learned: tuple[datetime, float] | None = None

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return self._clock.monotonic()

    def sleep_until(self, at: float) -> None:
        """Sleep until a monotonic time; return at once if it has passed."""
        left_s = at - self._clock.monotonic()
        if left_s > 0:
            self._clock.sleep(left_s)

    def watched_s(self) -> float:
        """Seconds in which no request was under way."""
        return self._clock.monotonic() - self._paused_s

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count this block in `watched_s()`: it makes a request.

        The client may wait for its rate budget or retry within a request.
        """
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._paused_s += self._clock.monotonic() - began

    def server(self) -> datetime:
        """PostHog's time, estimated from its latest answer. Before the first answer: this machine's time."""
        if self._learned is None:
            return self._clock.now()
        server_time, at = self._learned
        return server_time + timedelta(seconds=self._clock.monotonic() - at)

    def to_server(self, moment: datetime) -> datetime:
        """A time of this machine's clock by PostHog's."""
        return moment + (self.server() - self._clock.now())

    def learn(self, server_time: datetime | None) -> None:
        """Take PostHog's time from an answer. A repeated or earlier time is ignored, as it may be a cached answer's."""
        if server_time is not None and (self._learned is None or server_time > self._learned[0]):
            self._learned = (server_time, self._clock.monotonic())
