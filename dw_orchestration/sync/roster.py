"""The records of many sources from one request. They tell where to look; the job rows tell what has happened."""

from collections.abc import Iterator, Sequence

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.posthog.limits import ROWS_PER_PAGE
from dw_orchestration.posthog.models import Source
from dw_orchestration.sync.blindness import Blindness
from dw_orchestration.sync.clock import Clock, Stopwatch
from dw_orchestration.sync.events import Notice, SyncEvent
from dw_orchestration.sync.pace import floor_s, pause_s
from dw_orchestration.sync.settings import SyncSettings
from dw_orchestration.sync.watch import AT_ONCE, SourceWatch

FEW_SOURCES = 3
"""So many are looked at one by one."""
# Older servers list every column of every table, which can take seconds: most of the time is left to them.
REST = 4.0
# For so long the sources go on being looked at only now and then when the list cannot be read.
PATIENCE_S = 30.0
NEVER = float("inf")


class Roster:
    """Reads the list of sources, and tells each watch its source's record.

    A watch whose source is not told looks by itself, as in a batch of few sources: the list is a saving, not a need.

    Attributes:
        next_at: When to read it next, on the monotonic clock.
        cost: The requests of the last reading.
    """

    def __init__(
        self,
        api: WarehouseApi,
        watches: Sequence[SourceWatch],
        *,
        settings: SyncSettings,
        clock: Clock,
        stopwatch: Stopwatch,
    ) -> None:
        # before any source: real clocks move between making the watches and this
        self.next_at = AT_ONCE if len(watches) > FEW_SOURCES else NEVER
        self.cost = 0
        self._api = api
        self._watches = watches
        self._settings = settings
        self._clock = clock
        self._stopwatch = stopwatch
        self._is_known = False
        self._is_done_without = False
        self._blind: Blindness | None = None
        self._rested_at = self.next_at

    def look(self) -> Iterator[SyncEvent]:
        """Read the list once, and pass it on."""
        began, self.cost = self._clock.monotonic(), 1
        live = [watch for watch in self._watches if watch.live]
        try:
            with self._stopwatch.stopped():
                sources = self._read({watch.source_id for watch in live})
        except PostHogError as exc:
            yield from self._cannot_see(exc, live)
            return
        self._is_known, self._is_done_without, self._blind = True, False, None
        now = self._clock.monotonic()
        self._rested_at = now + min(REST * (now - began), self._settings.poll_max_s)
        for watch in live:
            watch.told(sources.get(watch.source_id))

    def plan_next(self) -> None:
        """Choose the time of the next reading."""
        now = self._clock.monotonic()
        live = [watch for watch in self._watches if watch.live]
        if self._blind is not None:
            self.next_at = now + self._blind.pause_s(self._settings)
        elif self.cost > len(live):
            self.next_at = self._rested_at = NEVER
            self._untell(live)
        else:
            waits = (wait for watch in live for wait in watch.waits())
            self.next_at = max(now + pause_s(waits, cost=self.cost, settings=self._settings), self._rested_at)

    def hurry(self) -> None:
        """A table was triggered: look soon."""
        if self._blind is None:
            soon = self._clock.monotonic() + floor_s(cost=self.cost, settings=self._settings)
            self.next_at = min(self.next_at, max(soon, self._rested_at))

    def _read(self, wanted: set[str]) -> dict[str, Source]:
        """The records of these sources, from as many pages as it takes to meet all."""
        found: dict[str, Source] = {}
        for count, source in enumerate(self._api.list_sources(), 1):
            self.cost = (count + ROWS_PER_PAGE - 1) // ROWS_PER_PAGE
            if source.id in wanted:
                found[source.id] = source
            if len(found) == len(wanted):
                break
        return found

    def _cannot_see(self, exc: PostHogError, live: Sequence[SourceWatch]) -> Iterator[SyncEvent]:
        now = self._clock.monotonic()
        self._blind = self._blind or Blindness(at=now, watched_s=self._stopwatch.now())
        self._blind.note(exc, settings=self._settings)
        is_needed = not self._is_known or self._blind.lasts_s(now) >= PATIENCE_S
        if is_needed and not self._is_done_without:
            self._is_done_without = True
            yield Notice(text=f"The list of sources cannot be read; each is looked at by itself meanwhile: {exc}")
            self._untell(live)

    def _untell(self, live: Sequence[SourceWatch]) -> None:
        for watch in live:
            watch.told(None)
