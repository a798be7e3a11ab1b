"""Sync many tables at once: trigger, adopt, follow."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import (
    LostAnswerError,
    PostHogError,
    RateLimitedError,
    ServerError,
    UnexpectedAnswerError,
    UnreachableError,
)
from dw_orchestration.sync import verdict
from dw_orchestration.sync.cancel import CANCEL_TIMEOUT_S, Cancelling
from dw_orchestration.sync.clock import Clock, ServerClock, Stopwatch, SystemClock
from dw_orchestration.sync.errors import BillingLimitReachedError
from dw_orchestration.sync.events import BillingStopped, CancelReport, Ended, Notice, SyncEvent
from dw_orchestration.sync.gate import POLL_BURST_S, POLLS_PER_MIN, TRIGGERS_PER_MIN, Bucket, Gate
from dw_orchestration.sync.pace import put_off
from dw_orchestration.sync.phase import Phase
from dw_orchestration.sync.roster import Roster
from dw_orchestration.sync.settings import SyncMode, SyncSettings, TableRequest
from dw_orchestration.sync.table_sync import TableSync
from dw_orchestration.sync.watch import SourceWatch


class SyncEngine:
    """Syncs a set of tables of one project, of any number of sources, in one thread.

    Args:
        api: The client.
        requests: The tables.
        settings: How it is to be done.
        clock: The machine's, or a test's.
        triggers_per_min: How many tables it triggers in a minute, after those that may begin at once.
        chance: A number between 0 and 1, by which each pause between two looks is made a little longer.

    Example:
        >>> batch = SyncEngine(client, requests, settings=SyncSettings())
        >>> for event in batch.events():
        ...     report(event)
    """

    def __init__(
        self,
        api: WarehouseApi,
        requests: Sequence[TableRequest],
        *,
        settings: SyncSettings | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        triggers_per_min: float = TRIGGERS_PER_MIN,
    ) -> None:
        self._api = api
        self._chance = chance
        self._settings = settings or SyncSettings()
        self._clock = clock or SystemClock()
        self._stopwatch = Stopwatch(self._clock)
        self._server_clock = ServerClock(self._clock)
        self._tables = [TableSync(request, settings=self._settings) for request in requests]
        sources = len({table.request.source_id for table in self._tables})
        self._gate = Gate(
            settings=self._settings,
            sources=max(sources, 1),
            at=self._clock.monotonic(),
            per_min=triggers_per_min,
        )
        self._polls = Bucket(per_min=POLLS_PER_MIN, burst_s=POLL_BURST_S, at=self._clock.monotonic())
        self._watches = self._watch_sources()
        self._roster = Roster(
            api,
            list(self._watches.values()),
            settings=self._settings,
            clock=self._clock,
            stopwatch=self._stopwatch,
        )
        self._billing: BillingLimitReachedError | None = None
        self._not_triggered: list[str] = []
        self._is_holding = False

    def events(self) -> Iterator[SyncEvent]:
        """Do it, and tell what happens as it happens.

        For each table `Adopted` comes before the wait for its job, and `Ended` comes exactly once. What goes wrong
        with a table is in its `Ended`; nothing is raised.
        """
        for event in self._steps():
            yield event
            if isinstance(event, Ended) and isinstance(event.error, BillingLimitReachedError) and not self._billing:
                self._billing = event.error
                yield Notice(text="The project's billing limit is reached: no further table is triggered.")
        if self._billing is not None:
            yield BillingStopped(error=self._billing, not_triggered=tuple(self._not_triggered))

    def cancel_started(self, *, timeout_s: float = CANCEL_TIMEOUT_S) -> list[CancelReport]:
        """Cancel the jobs that this batch has started, not those that it found, and wait until they have ended.

        For the end of a batch that a user stops; a sync that ended by itself meanwhile is no error.
        """
        cancelling = Cancelling(self._api, self._tables, settings=self._settings, clock=self._clock)
        return cancelling.run(timeout_s=timeout_s)

    def _watch_sources(self) -> dict[str, SourceWatch]:
        ids = [table.id for table in self._tables]
        if len(ids) != len(set(ids)):
            raise ValueError("A table is asked for twice in one batch; name each once.")
        by_source: dict[str, list[TableSync]] = {}
        for table in self._tables:
            by_source.setdefault(table.request.source_id, []).append(table)
        return {
            source_id: SourceWatch(
                self._api,
                source_id,
                tables,
                settings=self._settings,
                clock=self._clock,
                stopwatch=self._stopwatch,
                server_clock=self._server_clock,
            )
            for source_id, tables in by_source.items()
        }

    def _steps(self) -> Iterator[SyncEvent]:
        """Look at sources and trigger tables, whatever is due first, until every table has ended."""
        while live := [watch for watch in self._watches.values() if watch.live]:
            lookers: list[Roster | SourceWatch] = [self._roster, *live]
            looker = min(lookers, key=lambda looker: looker.next_at)
            # The list is never held up: it tells which of the sources' turns matter.
            look_at = looker.next_at if looker is self._roster else max(looker.next_at, self._polls.at)
            table = self._next_queued()
            if table is None or look_at <= self._gate.at:
                self._sleep_until(look_at)
                yield from self._look(looker)
            else:
                self._sleep_until(self._gate.at)
                yield from self._take_turn(table)

    def _look(self, looker: Roster | SourceWatch) -> Iterator[SyncEvent]:
        yield from looker.look()
        self._polls.take(self._clock.monotonic(), cost=looker.cost)
        looker.plan_next()
        looker.next_at = put_off(looker.next_at, now=self._clock.monotonic(), chance=self._chance())

    def _next_queued(self) -> TableSync | None:
        queued = (table for table in self._tables if table.phase is Phase.QUEUED)
        return next((table for table in queued if self._watch_of(table).can_see), None)

    def _take_turn(self, table: TableSync) -> Iterator[SyncEvent]:
        yield from table.take_turn(self._watch_of(table).now(), server_now=self._server_clock.now())
        if table.phase is Phase.HOLDING and not self._is_holding:
            self._is_holding = True
            after = self._settings.trigger_after
            yield Notice(text=f"PostHog's own syncs are due and may yet begin; none is started before {after}.")
        if table.phase is not Phase.QUEUED:
            self._hurry(table)
        elif self._billing is not None:
            self._not_triggered.append(table.id)
            yield table.end(verdict.not_triggered(table.id, label=table.label))
        else:
            yield from self._trigger(table)

    def _trigger(self, table: TableSync) -> Iterator[SyncEvent]:
        watch, began = self._watch_of(table), self._clock.monotonic()
        table.begin_trigger(watch.now())
        try:
            with self._stopwatch.stopped():
                at = self._ask_for(table)
        except (RateLimitedError, UnreachableError) as exc:
            table.trigger_undone()
            yield from self._close_gate(exc)
            return
        except (LostAnswerError, ServerError, UnexpectedAnswerError) as exc:
            text = f"{table.label}: the trigger's answer was lost; it is not repeated, its job is looked for. {exc}"
            yield Notice(text=text, schema_id=table.id)
        except PostHogError as exc:
            yield table.end(verdict.refused(table.id, label=table.label, exc=exc))
        else:
            self._server_clock.learn(at)
            table.trigger_accepted(watch.now(), at=at, took_s=self._clock.monotonic() - began)
        self._gate.passed(self._clock.monotonic())
        self._hurry(table)

    def _ask_for(self, table: TableSync) -> datetime | None:
        if self._settings.sync_mode is SyncMode.RESYNC:
            return self._api.resync_schema(table.id)
        return self._api.reload_schema(table.id)

    def _close_gate(self, exc: RateLimitedError | UnreachableError) -> Iterator[SyncEvent]:
        """PostHog did not take a trigger: it did nothing, so the trigger may be sent again, later."""
        now = self._clock.monotonic()
        told_s = exc.retry_after_s if isinstance(exc, RateLimitedError) else None
        pause_s = told_s or self._settings.poll_max_s
        self._gate.close(now, pause_s=pause_s)
        if not self._gate.is_given_up(now):
            yield Notice(text=f"No table is triggered for {pause_s:.0f} s: {exc}")
            return
        for table in self._tables:
            if table.phase is Phase.QUEUED:
                yield table.end(verdict.refused(table.id, label=table.label, exc=exc))

    def _watch_of(self, table: TableSync) -> SourceWatch:
        return self._watches[table.request.source_id]

    def _hurry(self, table: TableSync) -> None:
        self._watch_of(table).hurry()
        self._roster.hurry()

    def _sleep_until(self, at: float) -> None:
        left_s = at - self._clock.monotonic()
        if left_s > 0:
            self._clock.sleep(left_s)
