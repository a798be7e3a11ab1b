"""The loop of the engine: polls sources and triggers tables, whichever is due first, until every table has ended."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import assert_never

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.errors import (
    LostAnswerError,
    NotFoundError,
    PostHogError,
    RateLimitedError,
    ServerError,
    UnexpectedAnswerError,
    UnreachableError,
)
from dw_orchestration.posthog.models import Schema, Source
from dw_orchestration.sync import errors
from dw_orchestration.sync.cancel import CANCEL_TIMEOUT_S, Cancellation
from dw_orchestration.sync.clock import Clock, EngineClock, SystemClock
from dw_orchestration.sync.decide import Action, Adopt, Hold, Refuse, Trigger, WaitFor
from dw_orchestration.sync.errors import BillingLimitReachedError
from dw_orchestration.sync.events import Adopted, BillingStopped, CancelReport, CaughtUp, Ended, Notice, SyncEvent
from dw_orchestration.sync.polling import TRIGGERS_PER_MIN, TriggerGate
from dw_orchestration.sync.settings import SyncMode, SyncSettings, TableRequest
from dw_orchestration.sync.source import SourceListPoller, SourcePoller
from dw_orchestration.sync.table_sync import State, TableSync


class SyncEngine:
    """Syncs a set of tables of one project, of any number of sources, in one thread.

    Args:
        api: The client.
        requests: The tables.
        settings: How to sync them.
        sources: Sources that have just been read, by their id. They are not read again to begin with.
        clock: The machine's clock, or a test's.
        chance: Returns a random number between 0 and 1, which makes each pause between two polls a little longer.
        triggers_per_min: How many tables it triggers in a minute, after one of each source.

    Raises:
        ValueError: Two requests are for the same table.

    Example:
        >>> engine = SyncEngine(client, requests, settings=SyncSettings())
        >>> for event in engine.events():
        ...     report(event)
    """

    def __init__(
        self,
        api: WarehouseApi,
        requests: Sequence[TableRequest],
        *,
        settings: SyncSettings | None = None,
        sources: Mapping[str, Source] | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        triggers_per_min: float = TRIGGERS_PER_MIN,
    ) -> None:
        self._api = api
        self._settings = settings or SyncSettings()
        self._machine_clock = clock or SystemClock()
        self._clock = EngineClock(self._machine_clock)
        self._tables = [TableSync(request, settings=self._settings) for request in requests]
        if len({table.id for table in self._tables}) < len(self._tables):
            raise ValueError("A table is requested twice. Request each table once.")
        by_source: dict[str, list[TableSync]] = {}
        for table in self._tables:
            by_source.setdefault(table.request.source_id, []).append(table)
        self._gate = TriggerGate(
            sources=max(len(by_source), 1),
            settings=self._settings,
            now=self._clock.monotonic(),
            per_min=triggers_per_min,
        )
        self._last_poll_at = self._clock.monotonic()
        self._pollers = {
            source_id: SourcePoller(
                api,
                source_id,
                tables,
                source=(sources or {}).get(source_id),
                settings=self._settings,
                clock=self._clock,
                chance=chance,
            )
            for source_id, tables in by_source.items()
        }
        self._list_poller = SourceListPoller(
            api, list(self._pollers.values()), settings=self._settings, clock=self._clock, chance=chance
        )
        self._billing: BillingLimitReachedError | None = None
        self._ahead = {request.schema_id for request in requests if request.ahead}
        self._is_ahead_stopped = False
        self._not_triggered: list[str] = []
        self._is_hold_noted = False

    def events(self) -> Iterator[SyncEvent]:
        """Sync the tables, and report what happens as it happens.

        Each table is `Adopted` before the wait for its job, and `Ended` exactly once. An error of a table is in its
        `Ended`; nothing is raised. It ends with the last table that is not `ahead`, once each of those that are has
        a job or is handed back.
        """
        for event in self._loop():
            yield event
            if isinstance(event, Adopted) and event.job.status is JobStatus.BILLING_LIMIT:
                self._is_ahead_stopped = True
            if isinstance(event, Ended) and isinstance(event.error, BillingLimitReachedError):
                if event.schema_id in self._ahead:
                    # The tables that are not `ahead` are tried: nobody else does, and this error is not theirs.
                    self._is_ahead_stopped = True
                elif self._billing is None:
                    self._billing = event.error
                    yield Notice(text="The project is over its billing limit: no further table is triggered.")
        if self._billing is not None:
            yield BillingStopped(error=self._billing, not_triggered=tuple(self._not_triggered))

    def record(self, schema_id: str) -> Schema | None:
        """A table's record in PostHog as it was read last; None before the first read."""
        return next((table.record for table in self._tables if table.id == schema_id), None)

    def cancel_started(self, *, timeout_s: float = CANCEL_TIMEOUT_S) -> list[CancelReport]:
        """Cancel the jobs that this engine has started, but not those that it found, and wait until they have ended.

        For a run that a user stops. A job that has meanwhile ended by itself is not an error.

        Args:
            timeout_s: How long to wait for the jobs to end.
        """
        cancellation = Cancellation(self._api, self._tables, settings=self._settings, clock=self._machine_clock)
        return cancellation.run(timeout_s=timeout_s)

    def _loop(self) -> Iterator[SyncEvent]:
        while self._is_any_left():
            live = [poller for poller in self._pollers.values() if poller.live]
            pollers: list[SourceListPoller | SourcePoller] = [self._list_poller, *live]
            poller = min(pollers, key=lambda poller: poller.schedule.next_at)
            poll_at = poller.schedule.next_at
            if poller is not self._list_poller:
                # Take turns with the triggers. The list does not: it shows which sources must be polled at all.
                poll_at = max(poll_at, self._last_poll_at)
            table = self._next_queued()
            if table is None or poll_at <= self._gate.at:
                self._clock.sleep_until(poll_at)
                yield from _with_catch_up(poller.poll())
                self._last_poll_at = self._clock.monotonic()
            else:
                self._clock.sleep_until(self._gate.at)
                yield from self._take_turn(table)

        yield from (table.hand_back() for table in self._tables if table.is_live)

    def _is_any_left(self) -> bool:
        """Whether a table has not ended; one that is started ahead counts while its sync can start soon."""
        live = [table for table in self._tables if table.is_live]
        if any(not table.request.ahead for table in live):
            return True
        pollers = ((table, self._poller_of(table)) for table in live)
        return any(table.is_to_start(poller.now()) and poller.schedule.outage is None for table, poller in pollers)

    def _next_queued(self) -> TableSync | None:
        queued = (table for table in self._tables if table.state is State.QUEUED)
        return next((table for table in queued if self._poller_of(table).is_reachable), None)

    def _take_turn(self, table: TableSync) -> Iterator[SyncEvent]:
        now, claimed_at = self._poller_of(table).now(), table.request.claimed_at
        action, notices = table.next_action(now, claimed_at=claimed_at and self._clock.to_server(claimed_at))
        yield from notices
        match action:
            case WaitFor() | Trigger() if table.request.ahead and self._is_to_hand_back(action):
                yield table.hand_back()
                return
            case Trigger() if self._billing is not None:
                self._not_triggered.append(table.id)
                yield table.refuse(errors.not_triggered(table.id, label=table.label))
                return
            case Trigger():
                yield from self._trigger(table)
                return
            case Adopt(job, started):
                yield from table.adopt(job, now, started=started)
            case WaitFor(job):
                yield table.wait_for(job, now)
            case Hold():
                table.hold(now)
                yield from self._note_hold()
            case Refuse(error):
                yield table.refuse(error)
            case _:
                assert_never(action)
        self._poll_soon(table)

    def _is_to_hand_back(self, action: Action) -> bool:
        return isinstance(action, WaitFor) or self._is_ahead_stopped or self._billing is not None

    def _note_hold(self) -> Iterator[SyncEvent]:
        if not self._is_hold_noted:
            self._is_hold_noted = True
            after = self._settings.trigger_after
            yield Notice(text=f"PostHog's own syncs are due and may still start. Nothing is triggered before {after}.")

    def _trigger(self, table: TableSync) -> Iterator[SyncEvent]:
        poller, began = self._poller_of(table), self._clock.monotonic()
        table.begin_trigger(poller.now())
        try:
            with self._clock.paused():
                at = self._send_trigger(table)
        except (RateLimitedError, UnreachableError) as exc:
            # These alone are sure to have had no effect, so the table may be triggered again.
            table.trigger_not_accepted()
            yield from self._close_gate(exc)
            return
        except (LostAnswerError, ServerError, UnexpectedAnswerError) as exc:
            # The trigger may have had its effect. A second one could start, and bill, a second sync.
            text = f"{table.label}: the answer to the trigger was lost. It is not repeated; waiting for its job. {exc}"
            yield Notice(text=text, schema_id=table.id)
        except NotFoundError as exc:
            is_gone = poller.is_gone(table)
            deleted, refused = (
                errors.deleted(table.id, label=table.label),
                errors.refused(table.id, label=table.label, exc=exc),
            )
            yield table.refuse(deleted if is_gone else refused)
        except PostHogError as exc:
            yield table.refuse(errors.refused(table.id, label=table.label, exc=exc))
        else:
            self._clock.learn(at)
            table.trigger_accepted(poller.now(), at=at, took_s=self._clock.monotonic() - began)
        self._gate.passed(self._clock.monotonic())
        self._poll_soon(table)

    def _send_trigger(self, table: TableSync) -> datetime | None:
        if self._settings.sync_mode is SyncMode.RESYNC:
            return self._api.resync_schema(table.id)
        return self._api.reload_schema(table.id)

    def _close_gate(self, exc: RateLimitedError | UnreachableError) -> Iterator[SyncEvent]:
        now = self._clock.monotonic()
        asked_s = exc.retry_after_s if isinstance(exc, RateLimitedError) else None
        pause_s = asked_s or self._settings.poll_max_s
        self._gate.close(now, pause_s=pause_s)
        if not self._gate.is_given_up(now):
            yield Notice(text=f"No table is triggered for {pause_s:.0f} s: {exc}")
            return
        for table in self._tables:
            if table.state is State.QUEUED:
                yield table.refuse(errors.refused(table.id, label=table.label, exc=exc))

    def _poller_of(self, table: TableSync) -> SourcePoller:
        return self._pollers[table.request.source_id]

    def _poll_soon(self, table: TableSync) -> None:
        self._poller_of(table).poll_soon()
        self._list_poller.poll_soon()


def _with_catch_up(events: Iterator[SyncEvent]) -> Iterator[SyncEvent]:
    """The events of one poll, and that they are all, if tables have ended."""
    has_ended = False
    for event in events:
        has_ended |= isinstance(event, Ended)
        yield event
    if has_ended:
        yield CaughtUp()
