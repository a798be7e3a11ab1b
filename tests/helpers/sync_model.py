"""A model of PostHog's sync server, and a clock that drives it.

It states the server's rules independently of the engine: rows appear some time after a trigger, a trigger while a run
is on is dropped, some runs leave no row, restarts split a run, a page has 50 rows, times are the server's. Sleeping on
its clock lets its time pass; nothing here sleeps for real.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from dw_orchestration.posthog.enums import AccessMethod, CancelOutcome, JobStatus, SyncStatus, SyncType
from dw_orchestration.posthog.errors import (
    LostAnswerError,
    NotFoundError,
    PostHogError,
    Problem,
    RateLimitedError,
    UnreachableError,
)
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.posthog.rows import Rows, UnreadableRow
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Ended, Notice, SyncEvent
from dw_orchestration.sync.polling import TRIGGERS_PER_MIN
from dw_orchestration.sync.settings import SyncSettings, TableRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from dw_orchestration.sync.errors import SyncError

START = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
PAGE = 50
SOURCES_PAGE = 100
RESTARTED = "This sync run was interrupted too many times by restarts on PostHog's side, so it did not finish."
CANCELLED = "Sync cancelled by user"


def problem(status: int, *, detail: str = "", retry_after_s: float | None = None) -> Problem:
    """What an answer of this status says."""
    return Problem(status=status, method="GET", path="/", host="model", detail=detail, retry_after_s=retry_after_s)


def too_many_requests(after_s: float | None = 30.0) -> RateLimitedError:
    """A 429."""
    return RateLimitedError(problem(429, retry_after_s=after_s))


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one run of a table goes."""

    queue_s: float = 3.0
    duration_s: float = 60.0
    status: str = "Completed"
    error: str | None = None
    rows: int = 100
    leaves_row: bool = True
    restarts: bool = False
    turns_off: bool = False
    never_ends: bool = False
    steps: int = 3
    """In how many steps the rows arrive."""


@dataclass(eq=False)
class Row:
    """A job row."""

    id: str
    table: Table
    created_at: float
    status: str = "Running"
    finished_at: float | None = None
    rows: int = 0
    error: str | None = None


@dataclass(eq=False)
class Table:
    """A table of the model."""

    id: str
    name: str
    should_sync: bool = True
    sync_type: SyncType | None = SyncType.FULL_REFRESH
    status: str | None = "Completed"
    last_synced_at: float | None = None
    latest_error: str | None = None
    runs: deque[Run] = field(default_factory=deque)
    usual_run: Run = field(default_factory=Run)
    run_id: int | None = None
    """The run that holds the table, with or without a row."""


class World:
    """The server, its time, and the clock of the engine.

    Attributes:
        t: Seconds since START, by the server.
        skew_s: How far the engine's wall clock deviates.
        latency_s: What each request takes.
        chance: The random number that the engine draws, between 0 and 1.
        unlisted: The sources and tables that the list of sources leaves out.
        hidden: How many of the next reads of its source leave out a table, by its id.
        slow_s: How long the requests of an operation take in addition.
        triggers: How often each table's trigger was sent and may have had its effect.
        others: How many other requests were made, and `calls` how many of each operation.
        faults: What the next calls of an operation (`list_jobs`, or `list_jobs <source>`) raise; None lets one through.
        lost: How many of the next triggers take effect and lose their answer.
    """

    def __init__(self, *, skew_s: float = 0.0, latency_s: float = 0.05, chance: float = 0.0) -> None:
        self.t = 0.0
        self.chance = chance
        self.skew_s = skew_s
        self.latency_s = latency_s
        self.slow_s: dict[str, float] = {}
        self.sources: dict[str, list[Table]] = {}
        self.unlisted: set[str] = set()
        self.hidden: Counter[str] = Counter()
        self.access = AccessMethod.WAREHOUSE
        self.rows: list[Row] = []
        self.triggers: Counter[str] = Counter()
        self.cancels: Counter[str] = Counter()
        self.others = 0
        self.calls: Counter[str] = Counter()
        self.faults: dict[str, deque[PostHogError | None]] = defaultdict(deque)
        self.outages: list[tuple[float, float, Callable[[], PostHogError]]] = []
        self.lost = 0
        self.server_time: datetime | None = None
        self.unreadable: list[UnreadableRow] = []
        self.tells_time = True
        self.cancel_takes_s = 1.0
        self.page_reads: list[tuple[str, ...]] = []
        self.rows_read: list[int] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count(1)

    # --- the engine's clock ---

    def now(self) -> datetime:
        """The engine's wall clock, which may be off."""
        return self._stamp(self.t + self.skew_s)

    def monotonic(self) -> float:
        """The engine's own seconds."""
        return self.t + 1000.0

    def sleep(self, seconds: float) -> None:
        """Let the server's time pass."""
        until = self.t + seconds
        while self._events and self._events[0][0] <= until:
            at, _, happen = heapq.heappop(self._events)
            self.t = max(self.t, at)
            happen()
        self.t = max(self.t, until)

    def at(self, t: float, happen: Callable[[], object]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (t, next(self._numbers), happen))

    # --- setting the scene ---

    def add(self, source_id: str, *tables: Table) -> None:
        """Add tables to a source."""
        self.sources.setdefault(source_id, []).extend(tables)

    def table(self, schema_id: str) -> Table:
        """A table by its id."""
        return next(table for tables in self.sources.values() for table in tables if table.id == schema_id)

    def past(
        self,
        table: Table,
        *,
        ago_s: float,
        took_s: float | None = 60.0,
        status: str | None = None,
        error: str | None = None,
    ) -> Row:
        """A row from before, Completed unless said otherwise; `took_s=None` for one that still shows as running."""
        status = status or ("Running" if took_s is None else "Completed")
        end = None if took_s is None else self.t - ago_s + took_s
        row = Row(f"past-{next(self._numbers)}", table, round(self.t - ago_s, 6), status, end, 100, error)
        self.rows.append(row)
        if status == "Completed":
            table.last_synced_at = max(row.created_at, -inf if table.last_synced_at is None else table.last_synced_at)
        return row

    def start(self, table: Table, run: Run | None = None) -> None:
        """Start a run, unless one is on: by its own schedule, a trigger or a restart."""
        if table.run_id is not None:
            return
        if run is None:
            run = table.runs.popleft() if table.runs else table.usual_run
        table.run_id = run_id = next(self._numbers)
        table.status = "Running"
        self.at(self.t + run.queue_s, lambda: self._begin(table, run, run_id))

    def delete(self, table: Table) -> None:
        """Delete a table and its rows."""
        for tables in self.sources.values():
            if table in tables:
                tables.remove(table)
        self.rows = [row for row in self.rows if row.table is not table]

    def rows_of(self, table: Table) -> list[Row]:
        """The rows of a table, oldest first."""
        return sorted((row for row in self.rows if row.table is table), key=lambda row: row.created_at)

    # --- the API ---

    def get_source(self, source_id: str) -> Source:
        """The source with its tables."""
        self._request("get_source", f"get_source {source_id}", is_trigger=False)
        self._known(source_id)
        source = self._source(source_id)
        hidden = {schema.id for schema in source.schemas if self.hidden[schema.id] > 0}
        self.hidden -= Counter(hidden)
        return source.model_copy(update={"schemas": Rows(each for each in source.schemas if each.id not in hidden)})

    def get_schema(self, schema_id: str) -> Schema:
        """The record of a table."""
        self._request("get_schema", is_trigger=False)
        return self._schema(self.table(schema_id))

    def list_schemas(self) -> Iterator[Schema]:
        """The records of all tables, in one request."""
        self._request("list_schemas", is_trigger=False)
        return iter([self._schema(table) for tables in self.sources.values() for table in tables])

    def list_sources(self) -> Iterator[Source]:
        """All sources, newest first, 100 in a request."""
        offset = 0
        while True:
            self._request("list_sources", is_trigger=False)
            newest = [source_id for source_id in reversed(self.sources) if source_id not in self.unlisted]
            page = [self._source(source_id) for source_id in newest[offset : offset + SOURCES_PAGE]]
            for source in page:
                shown = Rows(schema for schema in source.schemas if schema.id not in self.unlisted)
                yield source.model_copy(update={"schemas": shown})
            offset += SOURCES_PAGE
            if offset >= len(newest):
                return

    def list_jobs(
        self,
        source_id: str,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        schemas: Collection[str] = (),
    ) -> Iterator[Job]:
        """The rows, newest first, 50 in a request."""
        while True:
            self._request("list_jobs", f"list_jobs {source_id}", is_trigger=False)
            self._known(source_id)
            self.page_reads.append(tuple(schemas))
            tables, names = set(self.sources[source_id]), set(schemas)
            low = -inf if after is None else (after - START).total_seconds()
            high = inf if before is None else (before - START).total_seconds()
            found = [
                row
                for row in self.rows
                if low < row.created_at < high and row.table in tables and (not names or row.table.name in names)
            ]
            newest = heapq.nlargest(PAGE, found, key=lambda row: (row.created_at, row.id))
            page = [self._job(row) for row in newest]
            self.rows_read.append(len(page))
            yield from page
            if len(page) < PAGE:
                return
            before = page[-1].created_at

    def reload_schema(self, schema_id: str) -> datetime | None:
        """Trigger; dropped if a run is on."""
        table = self._trigger(schema_id)
        self.start(table)
        table.status = "Running"
        return self._answer_trigger()

    def resync_schema(self, schema_id: str) -> datetime | None:
        """Cancel what runs, and trigger."""
        table = self._trigger(schema_id)
        for row in self.rows_of(table):
            self._finish(row, "Failed", error="Cancelled")
        table.run_id = None
        self.start(table)
        return self._answer_trigger()

    def cancel_schema(self, schema_id: str) -> CancelOutcome:
        """Cancel the newest row's run."""
        self._request("cancel_schema", is_trigger=False)
        self.cancels[schema_id] += 1
        rows = self.rows_of(self.table(schema_id))
        if not rows or rows[-1].finished_at is not None:
            return CancelOutcome.NOTHING_RUNNING
        row = rows[-1]
        self.at(self.t + self.cancel_takes_s, lambda: self._finish(row, "Failed", error=CANCELLED))
        return CancelOutcome.REQUESTED

    # --- its inside ---

    def _request(self, *operations: str, is_trigger: bool) -> None:
        self.sleep(self.latency_s + sum(self.slow_s.get(operation, 0.0) for operation in operations))
        if not is_trigger:
            self.others += 1
            self.calls[operations[0]] += 1
        scripted = [self.faults[operation].popleft() for operation in operations if self.faults[operation]]
        fault = next((fault for fault in scripted if fault is not None), None)
        for begin, end, make in self.outages:
            if begin <= self.t < end:
                fault = make()
        if fault is not None:
            raise fault
        self.server_time = self._date()

    def _known(self, source_id: str) -> None:
        if source_id not in self.sources:
            raise NotFoundError(problem(404, detail="Not found."))

    def _trigger(self, schema_id: str) -> Table:
        try:
            self._request("trigger", is_trigger=True)
        except (RateLimitedError, UnreachableError):
            raise
        except PostHogError:
            self.triggers[schema_id] += 1
            raise
        self.triggers[schema_id] += 1
        for tables in self.sources.values():
            for table in tables:
                if table.id == schema_id:
                    return table
        raise NotFoundError(problem(404, detail="Not found."))

    def _answer_trigger(self) -> datetime | None:
        if self.lost:
            self.lost -= 1
            raise LostAnswerError("the connection broke")
        return self._date()

    def _begin(self, table: Table, run: Run, run_id: int) -> None:
        if table.run_id != run_id:
            return
        if not run.leaves_row:
            table.run_id = None
            return
        row = Row(f"job-{next(self._numbers)}", table, round(self.t, 6))
        self.rows.append(row)
        for step in range(1, run.steps):
            part = step / run.steps
            self.at(self.t + run.duration_s * part, partial(self._progress, row, round(run.rows * part)))
        if not run.never_ends:
            self.at(self.t + run.duration_s, lambda: self._end(row, run))

    def _progress(self, row: Row, rows: int) -> None:
        if row.finished_at is None:
            row.rows = rows

    def _end(self, row: Row, run: Run) -> None:
        if row.finished_at is not None:
            return
        row.rows = run.rows
        if run.turns_off:
            row.table.should_sync = False
        self._finish(row, run.status, error=run.error)
        if run.restarts:
            self.start(row.table, replace(row.table.usual_run, queue_s=run.queue_s))

    def _finish(self, row: Row, status: str, *, error: str | None) -> None:
        if row.finished_at is not None:
            return
        row.status, row.error, row.finished_at = status, error, self.t
        row.table.status, row.table.run_id = status, None
        if status == "Completed":
            row.table.last_synced_at, row.table.latest_error = row.created_at, None
        else:
            row.table.latest_error = error

    def _job(self, row: Row) -> Job:
        table = row.table
        schema = {
            "id": table.id,
            "name": table.name,
            "should_sync": table.should_sync,
            "sync_type": table.sync_type,
        }
        return Job.model_validate(
            {
                "id": row.id,
                "created_at": self._stamp(row.created_at),
                "finished_at": None if row.finished_at is None else self._stamp(row.finished_at),
                "status": JobStatus(row.status),
                "schema": schema,
                "rows_synced": row.rows,
                "latest_error": row.error,
            }
        )

    def _source(self, source_id: str) -> Source:
        tables = tuple(self._schema(table) for table in self.sources[source_id])
        return Source(id=source_id, source_type="Postgres", access_method=self.access, schemas=tables)

    def _schema(self, table: Table) -> Schema:
        return Schema(
            id=table.id,
            name=table.name,
            should_sync=table.should_sync,
            sync_type=table.sync_type,
            status=None if table.status is None else SyncStatus(table.status),
            last_synced_at=None if table.last_synced_at is None else self._stamp(table.last_synced_at),
            latest_error=table.latest_error,
        )

    def _date(self) -> datetime | None:
        """The Date of an answer, in whole seconds."""
        return self._stamp(self.t).replace(microsecond=0) if self.tells_time else None

    def _stamp(self, t: float) -> datetime:
        return START + timedelta(seconds=t)


# --- playing a batch against it ---

E = TypeVar("E")


@dataclass
class Play:
    """An engine on a world, and the events it has emitted."""

    world: World
    engine: SyncEngine
    events: list[SyncEvent] = field(default_factory=list)

    def to_end(self) -> Play:
        """Play until the batch ends."""
        self.events += self.engine.events()
        return self

    def until(self, kind: type[E]) -> E:
        """Play up to the first event of a kind, and leave the batch there, as an interrupt does."""
        for event in self.engine.events():
            self.events.append(event)
            if isinstance(event, kind):
                return event
        raise AssertionError(f"no {kind.__name__} among {self.events}")

    def all(self, kind: type[E], schema_id: str | None = None) -> list[E]:
        """The events of a kind, of all tables or of one."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [e for e in found if schema_id is None or getattr(e, "schema_id", None) == schema_id]

    def ended(self, schema_id: str = "t") -> Ended:
        """How a table ended."""
        (event,) = self.all(Ended, schema_id)
        return event

    def error(self, schema_id: str = "t") -> SyncError:
        """The error that a table ended with."""
        error = self.ended(schema_id).error
        assert error is not None
        return error

    def outcomes(self) -> dict[str, SyncOutcome]:
        """How each table ended."""
        return {event.schema_id: event.outcome for event in self.all(Ended)}

    def notices(self) -> str:
        """All notices."""
        return "\n".join(notice.text for notice in self.all(Notice))


def one_table(*runs: Run, world: World | None = None, **traits: Any) -> tuple[World, Table]:
    """A world with one source `s` and one table `t`, whose next runs go like this."""
    world = world or World()
    table = Table("t", "users", runs=deque(runs), **traits)
    world.add("s", table)
    return world, table


def requests_for(world: World, **traits: Any) -> list[TableRequest]:
    """A request for each table of a world."""
    return [
        TableRequest(source_id=source_id, schema_id=table.id, name=table.name, **traits)
        for source_id, tables in world.sources.items()
        for table in tables
    ]


def play(
    world: World,
    *,
    requests: Sequence[TableRequest] | None = None,
    triggers_per_min: float = TRIGGERS_PER_MIN,
    **settings: Any,
) -> Play:
    """A batch for all tables of a world, not yet begun."""
    wanted = requests if requests is not None else requests_for(world)
    engine = SyncEngine(
        world,
        wanted,
        settings=SyncSettings(**settings),
        clock=world,
        chance=lambda: world.chance,
        triggers_per_min=triggers_per_min,
    )
    return Play(world, engine)


def world_of(tables: int, *, sources: int = 1, duration_s: float = 60.0, past: bool = True) -> World:
    """Sources with as many tables each, whose syncs take so long."""
    world = World()
    for source in range(sources):
        for n in range(tables):
            table = Table(f"{source}-{n}", f"table_{n}", usual_run=Run(duration_s=duration_s))
            world.add(f"source-{source}", table)
            if past:
                world.past(table, ago_s=7200 + n, took_s=duration_s)
    return world


def lags(world: World, **settings: Any) -> list[float]:
    """From each job's end at PostHog to its table's Ended."""
    found = []
    for event in play(world, **settings).engine.events():
        if isinstance(event, Ended):
            assert event.outcome is SyncOutcome.COMPLETED
            row = world.rows_of(world.table(event.schema_id))[-1]
            assert row.finished_at is not None
            found.append(world.t - row.finished_at)
    return found
