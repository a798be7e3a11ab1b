"""Polls one source for all of its tables, or one list for many sources, and tolerates outages of the API.

A `SourcePoller` reads the jobs of its source: they alone show what happened to a sync. For a source with more tables
than one request can name, it reads the source's record first, and only the jobs of tables whose record has changed.

With more than a few sources, a `SourceListPoller` reads the records of all sources in one request and hands each to its
`SourcePoller`. The list only saves requests. A source that it does not show is polled as if there were no list, and no
table ends because of what the list shows or leaves out.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
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
from dw_orchestration.posthog.limits import NAMES_PER_REQUEST, ROWS_PER_PAGE
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.sync import errors
from dw_orchestration.sync.clock import EngineClock, Now
from dw_orchestration.sync.errors import SyncError
from dw_orchestration.sync.events import Notice, SyncEvent
from dw_orchestration.sync.jobs import InitialRead, JobReader
from dw_orchestration.sync.polling import AT_ONCE, NEVER, PollSchedule, Wait, listed_pause_s, pause_s, sweep_s
from dw_orchestration.sync.settings import IfRunning, OnStall, SyncMode, SyncSettings
from dw_orchestration.sync.table_sync import State, TableSync

T = TypeVar("T")

# So many sources are polled one by one. The list can be longer than the sources that are synced.
FEW_SOURCES = 3
# Older servers list every column of every table, which can take seconds. So the list rests for this many times the time
# that it took, and PostHog's database has most of the time for others.
LIST_RESTS = 4.0
# If the list cannot be read, its last records are good enough for this long. Then the sources are polled one by one.
LIST_PATIENCE_S = 30.0


class SourcePoller:
    """Polls one source.

    Attributes:
        source_id: The source.
        tables: Its tables in this run.
        schedule: When it polls next.
    """

    def __init__(
        self,
        api: WarehouseApi,
        source_id: str,
        tables: Sequence[TableSync],
        *,
        source: Source | None,
        settings: SyncSettings,
        clock: EngineClock,
        chance: Callable[[], float],
    ) -> None:
        self.source_id = source_id
        self.tables = tuple(tables)
        self.schedule = PollSchedule(at=clock.monotonic(), settings=settings, chance=chance)
        self._api = api
        self._source = source
        self._reader = JobReader(api, source_id)
        self._settings = settings
        self._clock = clock
        self._is_known = False
        self._answered_at = clock.monotonic()
        self._missing: set[str] = set()
        self._outages_s = 0.0
        self._record: dict[str, Schema] | None = None
        self._listed: Source | None = None
        self._changed: set[str] = set()

    @property
    def live(self) -> list[TableSync]:
        """The tables that have not ended."""
        return [table for table in self.tables if table.is_live]

    @property
    def is_reachable(self) -> bool:
        """Whether the last poll succeeded. Nothing is triggered at a source whose jobs cannot be read."""
        return self._is_known and self.schedule.outage is None

    @property
    def is_listed(self) -> bool:
        """Whether the list of sources shows the record of this source."""
        return self._listed is not None

    def now(self) -> Now:
        """The time for the tables of this source. The watched part stands still during an outage of this source."""
        return Now(self._clock.watched_s() - self._outages_s, self._clock.server())

    def waits(self) -> list[Wait]:
        """What its tables wait for."""
        now = self.now()
        return [table.wait(now) for table in self.live if table.is_waiting]

    def take_listed(self, source: Source | None) -> None:
        """Take the source's record from the list of sources; None if the list does not show it.

        A record without one of the tables is not used: only a poll of the source itself can show that a table was
        deleted.
        """
        was_listed = self.is_listed
        schemas = {schema.id: schema for schema in source.schemas} if source is not None else {}
        self._listed = source if all(table.id in schemas for table in self.live) else None
        if not self._is_known:
            return
        if self._listed is not None:
            self._take_record(schemas)
        # A source that the list shows no more is polled at once, since nothing else shows its changes any more.
        if self._changed if self.is_listed else was_listed:
            self.schedule.poll_at_once()

    def poll(self) -> Iterator[SyncEvent]:
        """Poll once, report what follows from it, and plan the next poll."""
        self._reader.cost = 0
        self._record = None
        yield from self._next_poll() if self._is_known else self._first_poll()
        self.schedule.cost = max(self._reader.cost, 1)
        # from the answer on: until here, events of the tables that have ended may have been stored for seconds
        self.schedule.plan(self._wanted_pause_s(), now=self._answered_at, live=len(self.live))
        if self._is_any_missing:
            self.schedule.poll_soon(self._settings.poll_min_s, now=self._clock.monotonic())

    def poll_soon(self) -> None:
        """A table has been triggered or adopted: plan the next poll again."""
        wanted_s = self._wanted_pause_s() if self.is_listed else self._settings.poll_min_s
        self.schedule.poll_soon(wanted_s, now=self._clock.monotonic())

    def _wanted_pause_s(self) -> float:
        pause = listed_pause_s if self.is_listed else pause_s
        return pause(self.waits(), settings=self._settings)

    # --- polls ---

    def _first_poll(self) -> Iterator[SyncEvent]:
        read = yield from self._request(self._read_initial)
        if read is None:
            return
        gone = self._confirmed_missing({schema.id for schema in read.source.schemas})
        if len(self._missing) > len(gone):
            return
        self._is_known = True
        for table in self.live:
            table.take_initial(read)
            if table.record is None and (unreadable := read.source.schemas.unreadable):
                yield table.lose(errors.unreadable(table.id, label=table.label, rows=unreadable))

    def _next_poll(self) -> Iterator[SyncEvent]:
        answer = yield from self._request(self._read_next)
        if answer is None:
            return
        read, jobs = answer
        now = self.now()
        # each event takes its time to be stored, and assets downstream wait for the results
        for table in sorted(read, key=lambda table: table.state is not State.FOLLOWING):
            yield from table.take_jobs(jobs.get(table.id, ()), now)
        for table in self.live:
            table.decide_again_if_due(now)
        # A job that was queried and is gone: its table may have been deleted.
        lost = [table for table in read if table.query.job_id not in {None, *(j.id for j in jobs.get(table.id, ()))}]
        yield from self._end_deleted_and_overdue(now, is_any_lost=bool(lost))

    def _read_initial(self) -> InitialRead:
        settings = self._settings
        if self._listed is not None and self._api.server_time is not None and all(map(self._is_shown, self.live)):
            return InitialRead(source=self._listed, jobs=(), horizon=None, is_unread=True)
        return self._reader.initial(
            {table.id for table in self.live},
            source=self._listed or self._source,
            since=settings.accept_jobs_since,
            after=self._clock.server() - timedelta(seconds=settings.abandoned_after_s),
            resumed={t.id: t.request.resume_job_id for t in self.live if t.request.resume_job_id is not None},
        )

    def _is_shown(self, table: TableSync) -> bool:
        """Whether the list shows all that could matter of a table's jobs: the newest one has completed.

        A record can be wrong for a while. Then the search for the new job finds the one that was running, so that is
        joined. Where anything else would have to be done about it, the jobs are read.
        """
        settings, request = self._settings, table.request
        joins = settings.if_running is IfRunning.ATTACH and settings.sync_mode is SyncMode.RELOAD
        if not joins or settings.accept_jobs_since or request.resume_job_id or request.claimed_at or not self._listed:
            return False
        record = next(schema for schema in self._listed.schemas if schema.id == table.id)
        return record.should_sync and record.status is SyncStatus.COMPLETED and record.last_synced_at is not None

    def _read_next(self) -> tuple[list[TableSync], dict[str, list[Job]]]:
        read = self.live
        if len(read) > NAMES_PER_REQUEST:
            if not self.is_listed:
                self._record = self._read_record()
                self._take_record(self._record)
            read = [table for table in read if self._is_worth_reading(table)]
        jobs: dict[str, list[Job]] = {}
        for job in self._reader.read([table.query for table in read]):
            jobs.setdefault(job.schema_id, []).append(job)
        self._changed -= {table.id for table in read}
        return read, jobs

    def _read_record(self) -> dict[str, Schema]:
        """The records of the source's tables. One that cannot be read stays as it was: its table is not deleted."""
        schemas = self._reader.source().schemas
        kept = {table.id: table.record for table in self.live if schemas.unreadable and table.record is not None}
        return kept | {schema.id: schema for schema in schemas}

    def _take_record(self, record: Mapping[str, Schema]) -> None:
        # A table that this read does not show keeps its record until another read confirms it.
        self._changed |= {t.id for t in self.live if t.id not in record or t.take_record(record[t.id])}

    def _is_worth_reading(self, table: TableSync) -> bool:
        """Whether to read the jobs of one of many tables, given its record."""
        # A record does not show the row of a new job.
        if table.state is State.STARTING or table.id in self._changed or table.record is None:
            return True
        # The record and the jobs disagree: one of them is out of date, or a sync has begun that nobody here started.
        if (table.record.status is SyncStatus.RUNNING) != bool(table.history.running()):
            return True
        now = self.now()
        return table.state is not State.QUEUED and now.watched_s - table.read_at >= sweep_s(
            table.wait(now), settings=self._settings
        )

    # --- ends ---

    def _end_deleted_and_overdue(self, now: Now, *, is_any_lost: bool) -> Iterator[SyncEvent]:
        late = [table for table in self.live if table.is_start_overdue(now)]
        if self._record is None and (is_any_lost or late or self._is_any_missing):
            # The record distinguishes a deleted table from one whose job is missing. It must not keep a table from
            # its end.
            try:
                with self._clock.paused():
                    self._record = self._read_record()
            except PostHogError:
                pass
        if self._record is not None:
            self._take_record(self._record)
            yield from self._lose(self._confirmed_missing(self._record), error=_deleted)
        yield from (table.end_unstarted() for table in late if table.is_live and table.id not in self._missing)
        for table in self.live:
            if (end := table.end_if_overdue(now)) is not None:
                yield end
                yield from self._cancel(table) if self._settings.on_stall is OnStall.CANCEL else ()

    def _cancel(self, table: TableSync) -> Iterator[SyncEvent]:
        """Ask PostHog to cancel a sync that was given up, so that another one can start."""
        try:
            self._api.cancel_schema(table.id)
        except PostHogError as exc:
            yield Notice(text=f"{table.label}: its sync could not be cancelled: {exc}", schema_id=table.id)
        else:
            yield Notice(text=f"{table.label}: PostHog was asked to cancel its sync.", schema_id=table.id)

    def is_gone(self, table: TableSync) -> bool:
        """Whether PostHog does not show a table whose trigger it has just refused as unknown."""
        try:
            with self._clock.paused():
                return table.id not in self._read_record()
        except NotFoundError:
            return True
        except PostHogError:
            return False

    @property
    def _is_any_missing(self) -> bool:
        """Whether the last read did not show a table, so that another read must confirm it."""
        return any(table.id in self._missing for table in self.live)

    def _confirmed_missing(self, shown: Collection[str]) -> list[TableSync]:
        """The tables that neither this read nor the one before has shown: a single one can be wrong."""
        before = self._missing
        missing = [table for table in self.live if table.id not in shown]
        self._missing = {table.id for table in missing}
        return [table for table in missing if table.id in before]

    def _lose(self, tables: Iterable[TableSync], *, error: Callable[[TableSync], SyncError]) -> Iterator[SyncEvent]:
        yield from (table.lose(error(table)) for table in tables)

    # --- outages ---

    def _request(self, call: Callable[[], T]) -> Generator[SyncEvent, None, T | None]:
        """The answer; or None, after events about why there is none."""
        try:
            answer = self._ask(call)
        except PostHogError as exc:
            if isinstance(exc, NotFoundError) and not isinstance(exc, ProjectNotFoundError):
                yield from self._lose(self._confirmed_missing(()), error=_deleted)
            yield from self._failed(exc)
        else:
            self._clock.learn(self._api.server_time)
            if (outage := self.schedule.succeeded()) is not None:
                self._outages_s += self._clock.watched_s() - outage.watched_s
                yield Notice(text=f"The source {self.source_id} is reachable again.")
            return answer
        return None

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            with self._clock.paused():
                return call()
        finally:
            self._answered_at = self._clock.monotonic()

    def _failed(self, exc: PostHogError) -> Iterator[SyncEvent]:
        now, is_first = self._clock.monotonic(), self.schedule.outage is None
        outage = self.schedule.failed(exc, now=now, watched_s=self._clock.watched_s())
        # At the first poll these mean a wrong key. Later, the same key has worked, so they are taken as an outage.
        if not self._is_known and isinstance(exc, AuthenticationError | PermissionDeniedError | ProjectNotFoundError):
            yield from self._lose(self.live, error=partial(_unreadable, exc=exc))
        elif outage.is_too_long(now):
            yield from self._lose(self.live, error=partial(_unreachable, exc=exc))
        elif is_first and self.live:
            yield Notice(text=f"The source {self.source_id} is unreachable. The run keeps waiting for it: {exc}")


def _deleted(table: TableSync) -> SyncError:
    return errors.deleted(table.id, label=table.label)


def _unreadable(table: TableSync, *, exc: PostHogError) -> SyncError:
    return errors.not_readable(table.id, label=table.label, exc=exc)


def _unreachable(table: TableSync, *, exc: PostHogError) -> SyncError:
    return errors.unreachable(table.id, label=table.label, exc=exc)


class SourceListPoller:
    """Polls the list of sources, and hands each source's record to its poller.

    Attributes:
        schedule: When it polls next.
    """

    def __init__(
        self,
        api: WarehouseApi,
        pollers: Sequence[SourcePoller],
        *,
        settings: SyncSettings,
        clock: EngineClock,
        chance: Callable[[], float],
    ) -> None:
        # Before any source's own poll: a real clock has moved on since the pollers were made.
        first_at = AT_ONCE if len(pollers) > FEW_SOURCES else NEVER
        self.schedule = PollSchedule(at=first_at, settings=settings, chance=chance)
        self._api = api
        self._pollers = pollers
        self._settings = settings
        self._clock = clock
        self._is_known = False
        self._is_replaced = False

    def poll(self) -> Iterator[SyncEvent]:
        """Read the list once, hand the records on, and plan the next poll."""
        began, self.schedule.cost = self._clock.monotonic(), 1
        live = [poller for poller in self._pollers if poller.live]
        try:
            with self._clock.paused():
                sources = self._read({poller.source_id for poller in live})
        except PostHogError as exc:
            yield from self._failed(exc, live)
        else:
            self._succeeded(sources, live, took_s=self._clock.monotonic() - began)
        waits = (wait for poller in live for wait in poller.waits())
        tables = sum(len(poller.live) for poller in live)
        self.schedule.plan(pause_s(waits, settings=self._settings), now=self._clock.monotonic(), live=tables)

    def poll_soon(self) -> None:
        """A table has been triggered or adopted: plan the next poll again."""
        self.schedule.poll_soon(self._settings.poll_min_s, now=self._clock.monotonic())

    def _read(self, wanted: set[str]) -> dict[str, Source]:
        """The records of these sources, from as few pages as show them all."""
        found: dict[str, Source] = {}
        for count, source in enumerate(self._api.list_sources(), 1):
            self.schedule.cost = (count + ROWS_PER_PAGE - 1) // ROWS_PER_PAGE
            if source.id in wanted:
                found[source.id] = source
            if len(found) == len(wanted):
                break
        return found

    def _succeeded(self, sources: Mapping[str, Source], live: Sequence[SourcePoller], *, took_s: float) -> None:
        self._is_known, self._is_replaced = True, False
        self.schedule.succeeded()
        now = self._clock.monotonic()
        if self.schedule.cost > len(live):
            # The list has more pages than there are sources to poll, so it saves nothing.
            self.schedule.rest(NEVER, now=now)
            self._replace(live)
            return
        self.schedule.rest(min(LIST_RESTS * took_s, self._settings.poll_max_s), now=now)
        for poller in live:
            poller.take_listed(sources.get(poller.source_id))

    def _failed(self, exc: PostHogError, live: Sequence[SourcePoller]) -> Iterator[SyncEvent]:
        now = self._clock.monotonic()
        outage = self.schedule.failed(exc, now=now, watched_s=self._clock.watched_s())
        is_needed = not self._is_known or outage.lasts_s(now) >= LIST_PATIENCE_S
        if is_needed and not self._is_replaced:
            self._is_replaced = True
            yield Notice(text=f"The list of sources cannot be read. Each source is polled by itself meanwhile: {exc}")
            self._replace(live)

    def _replace(self, live: Sequence[SourcePoller]) -> None:
        for poller in live:
            poller.take_listed(None)
