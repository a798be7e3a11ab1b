"""The clocks of a batch. All are injected, so that a day of waiting is a matter of milliseconds in a test."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of a clock."""

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


class Stopwatch:
    """Seconds of watching: deadlines run on it.

    It stands still during requests. A client may wait inside one for its rate budget or repeat it, and a table
    must not fail because the API is slow to answer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stood_still_s = 0.0

    def now(self) -> float:
        """Seconds watched so far, from an arbitrary start."""
        return self._clock.monotonic() - self._stood_still_s

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stand still for the length of a block."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._stood_still_s += self._clock.monotonic() - began


class ServerClock:
    """PostHog's own time, estimated between the answers that tell it; ours may be minutes off."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: tuple[datetime, float] | None = None

    def learn(self, server_time: datetime | None) -> None:
        """Take the time of the latest answer. None, or the time of an answer before, tells nothing new."""
        if server_time is not None and (self._told is None or server_time > self._told[0]):
            self._told = (server_time, self._clock.monotonic())

    def now(self) -> datetime:
        """PostHog's time; our own as long as PostHog has told none."""
        if self._told is None:
            return self._clock.now()
        server_time, at = self._told
        return server_time + timedelta(seconds=self._clock.monotonic() - at)
