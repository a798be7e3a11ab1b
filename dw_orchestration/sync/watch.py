"""One source under watch: looks at it, tells its tables, and bears with an API that does not answer."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.errors import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    PostHogError,
    ProjectNotFoundError,
)
from dw_orchestration.posthog.limits import NAMES_PER_REQUEST
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.sync import verdict
from dw_orchestration.sync.blindness import Blindness
from dw_orchestration.sync.clock import Clock, ServerClock, Stopwatch
from dw_orchestration.sync.errors import SyncError
from dw_orchestration.sync.events import Notice, SyncEvent
from dw_orchestration.sync.news import is_news
from dw_orchestration.sync.pace import Wait, floor_s, interval_s, pause_s, search_s, sweep_s
from dw_orchestration.sync.phase import Phase
from dw_orchestration.sync.reader import FirstLook, JobReader
from dw_orchestration.sync.settings import OnStall, SyncSettings
from dw_orchestration.sync.table_sync import TableSync

T = TypeVar("T")

# In a source of many tables the record tells whose jobs to read; but it can be wrong, so each is read now and then.
SWEEP_S = 120.0
# As the time of the next look: before all that only has its turn.
AT_ONCE = float("-inf")


class SourceWatch:
    """Looks at one source for all of its tables in a batch.

    Attributes:
        tables: The tables.
        next_at: When to look next, on the monotonic clock.
        cost: The requests of the last look after the first.
    """

    def __init__(
        self,
        api: WarehouseApi,
        source_id: str,
        tables: Sequence[TableSync],
        *,
        settings: SyncSettings,
        clock: Clock,
        stopwatch: Stopwatch,
        server_clock: ServerClock,
    ) -> None:
        self.source_id = source_id
        self.tables = tuple(tables)
        self.next_at = clock.monotonic()
        self.cost = 1
        self._api = api
        self._reader = JobReader(api, source_id)
        self._settings = settings
        self._clock = clock
        self._stopwatch = stopwatch
        self._server_clock = server_clock
        self._is_known = False
        self._last_at = clock.monotonic()
        self._blind_s = 0.0
        self._blind: Blindness | None = None
        self._record: dict[str, Schema] | None = None
        self._listed: Source | None = None
        self._news: set[str] = set()

    @property
    def live(self) -> list[TableSync]:
        """The tables whose end is still to come."""
        return [table for table in self.tables if table.is_live]

    @property
    def can_see(self) -> bool:
        """Whether the last look succeeded; nothing is triggered at a source that cannot be seen."""
        return self._is_known and self._blind is None

    @property
    def is_told(self) -> bool:
        """Whether the list of sources has its record."""
        return self._listed is not None

    def now(self) -> float:
        """The time that this source has been watched; it stands still while it cannot be seen."""
        return self._stopwatch.now() - self._blind_s

    def waits(self) -> list[Wait]:
        """What its tables wait for."""
        now = self.now()
        return [table.wait(now) for table in self._waiting]

    def told(self, source: Source | None) -> None:
        """Take the source's record from the list of all; None if that cannot be had.

        A record without one of the tables is not used: only a look at the source itself tells that one is deleted.
        """
        was_told = self.is_told
        schemas = {schema.id: schema for schema in source.schemas} if source is not None else {}
        self._listed = source if all(table.id in schemas for table in self.live) else None
        if not self._is_known:
            return
        if self._listed is not None:
            self._take(schemas)
        is_due = bool(self._news) if self.is_told else was_told
        if is_due and self._blind is None:
            self.next_at = AT_ONCE

    def look(self) -> Iterator[SyncEvent]:
        """Look once, and tell what follows from it."""
        self._reader.cost = 0
        self._record = None
        if not self._is_known:
            yield from self._first_look()
        else:
            yield from self._next_look()
        self.cost = max(self._reader.cost, 1)

    def plan_next(self) -> None:
        """Choose the time of the next look."""
        self._last_at = self._clock.monotonic()
        if self._blind is not None:
            self.next_at = self._last_at + self._blind.pause_s(self._settings)
        elif self.is_told:
            self.next_at = self._last_at + self._pause_beside_the_list()
        else:
            self.next_at = self._last_at + pause_s(self.waits(), cost=self.cost, settings=self._settings)

    def hurry(self) -> None:
        """A table was triggered: look soon."""
        if self.is_told:
            soon = self._clock.monotonic() + self._pause_beside_the_list()
        else:
            floor = self._last_at + floor_s(cost=self.cost, settings=self._settings)
            soon = max(self._clock.monotonic() + self._settings.poll_min_s, floor)
        self.next_at = min(self.next_at, soon)

    @property
    def _waiting(self) -> list[TableSync]:
        return [table for table in self.live if table.phase not in {Phase.NEW, Phase.QUEUED}]

    def _pause_beside_the_list(self) -> float:
        """The time to the next look, when whatever happens is told."""
        now = self.now()
        wanted = min((self._patience_s(table, now) for table in self._waiting), default=SWEEP_S)
        return max(wanted, floor_s(cost=self.cost, settings=self._settings))

    def _patience_s(self, table: TableSync, now: float) -> float:
        wait = table.wait(now)
        if table.phase is Phase.AWAITING:
            return search_s(wait, settings=self._settings)
        if table.phase is Phase.HOLDING:
            return max(table.hold_left_s(server_now=self._server_clock.now()), self._settings.poll_min_s)
        is_running = table.schema is not None and table.schema.status is SyncStatus.RUNNING
        return sweep_s(wait, settings=self._settings) if is_running else interval_s(wait, settings=self._settings)

    def _first_look(self) -> Iterator[SyncEvent]:
        look = yield from self._ask(self._read_first)
        if look is None:
            return
        self._is_known = True
        for table in self.live:
            table.baseline(look)

    def _next_look(self) -> Iterator[SyncEvent]:
        answer = yield from self._ask(self._read_next)
        if answer is None:
            return
        read, jobs = answer
        now, server_now = self.now(), self._server_clock.now()
        for table in read:
            yield from table.see(jobs.get(table.id, ()), now, server_now=server_now)
        for table in self.live:
            table.let_go(server_now=server_now)
        lost = [table for table in read if table.want.job_id not in {None, *(j.id for j in jobs.get(table.id, ()))}]
        yield from self._check(lost, now)

    def _read_first(self) -> FirstLook:
        settings = self._settings
        return self._reader.first_look(
            {table.id for table in self.live},
            source=self._listed,
            since=settings.accept_jobs_since,
            after=self._server_clock.now() - timedelta(seconds=settings.abandoned_after_s),
            resumed={t.id: t.request.resume_job_id for t in self.live if t.request.resume_job_id is not None},
        )

    def _read_next(self) -> tuple[list[TableSync], dict[str, list[Job]]]:
        read = self.live
        if len(read) > NAMES_PER_REQUEST:
            if not self.is_told:
                self._record = {schema.id: schema for schema in self._reader.source().schemas}
                self._take(self._record)
            read = [table for table in read if self._is_worth_reading(table)]
        jobs: dict[str, list[Job]] = {}
        for job in self._reader.look([table.want for table in read]):
            jobs.setdefault(job.schema_id, []).append(job)
        self._news -= {table.id for table in read}
        return read, jobs

    def _take(self, record: Mapping[str, Schema]) -> None:
        """Note which tables' records tell of something new."""
        for table in self.live:
            before, table.schema = table.schema, record.get(table.id)
            if is_news(before, table.schema, phase=table.phase):
                self._news.add(table.id)

    def _is_worth_reading(self, table: TableSync) -> bool:
        if table.phase is Phase.AWAITING or table.id in self._news or table.schema is None:
            return True
        if (table.schema.status is SyncStatus.RUNNING) != bool(table.book.running()):
            return True
        return table.phase is not Phase.QUEUED and self.now() - table.looked_at >= SWEEP_S

    def _check(self, lost: Sequence[TableSync], now: float) -> Iterator[SyncEvent]:
        """End what is deleted or overdue."""
        late = [table for table in self.live if table.start_is_overdue(now)]
        if self._record is None and (lost or late):
            self._record = self._read_record()
        if self._record is not None:
            yield from self._compare(self._record)
        yield from (table.not_started() for table in late if table.is_live)
        for table in self.live:
            if (end := table.overdue(now)) is not None:
                yield end
                yield from self._cancel(table) if self._settings.on_stall is OnStall.CANCEL else ()

    def _cancel(self, table: TableSync) -> Iterator[SyncEvent]:
        """Ask PostHog to stop a sync that was given up, so that another one can begin."""
        try:
            self._api.cancel_schema(table.id)
        except PostHogError as exc:
            yield Notice(text=f"{table.label}: its sync could not be cancelled: {exc}", schema_id=table.id)
        else:
            yield Notice(text=f"{table.label}: PostHog was asked to cancel its sync.", schema_id=table.id)

    def _compare(self, record: Mapping[str, Schema]) -> Iterator[SyncEvent]:
        for table in self.live:
            table.refresh(record.get(table.id))
            if table.schema is None:
                yield table.end(verdict.deleted(table.id, label=table.label))

    def _read_record(self) -> dict[str, Schema] | None:
        """The record, if it can be had: its absence must not keep a table from its end."""
        try:
            with self._stopwatch.stopped():
                return {schema.id: schema for schema in self._reader.source().schemas}
        except PostHogError:
            return None

    def _ask(self, call: Callable[[], T]) -> Generator[SyncEvent, None, T | None]:
        """The answer, or None and events that tell why there is none."""
        try:
            with self._stopwatch.stopped():
                answer = call()
        except ProjectNotFoundError as exc:
            yield from self._refuse_all(exc)
        except NotFoundError:
            yield from self._end_all(lambda table: verdict.deleted(table.id, label=table.label))
        except PostHogError as exc:
            yield from self._cannot_see(exc)
        else:
            self._server_clock.learn(self._api.server_time)
            yield from self._sees_again()
            return answer
        return None

    def _cannot_see(self, exc: PostHogError) -> Iterator[SyncEvent]:
        is_first = self._blind is None
        self._blind = self._blind or Blindness(at=self._clock.monotonic(), watched_s=self._stopwatch.now())
        self._blind.note(exc, settings=self._settings)
        if not self._is_known and isinstance(exc, AuthenticationError | PermissionDeniedError):
            yield from self._refuse_all(exc)
        elif self._blind.is_too_long(self._clock.monotonic(), settings=self._settings):
            yield from self._end_all(lambda table: verdict.polling_lost(table.id, label=table.label, exc=exc))
        elif is_first:
            yield Notice(text=f"The source {self.source_id} cannot be read at the moment; the wait goes on: {exc}")

    def _sees_again(self) -> Iterator[SyncEvent]:
        if self._blind is not None:
            self._blind_s += self._stopwatch.now() - self._blind.watched_s
            yield Notice(text=f"The source {self.source_id} can be read again.")
        self._blind = None

    def _refuse_all(self, exc: PostHogError) -> Iterator[SyncEvent]:
        return self._end_all(lambda table: verdict.not_shown(table.id, label=table.label, exc=exc))

    def _end_all(self, error: Callable[[TableSync], SyncError]) -> Iterator[SyncEvent]:
        yield from (table.end(error(table)) for table in self.live)
