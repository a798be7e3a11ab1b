"""The sensor that reports what the warehouse did by itself: each finished sync once, no matter who started it."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from dw_orchestration.assets.checks import OVERDUE_SINCE
from dw_orchestration.assets.event_log import Adoption, EventLog, TableLog, shared_keys
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.assets.ticks import job_status_sensor_name
from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import BudgetSpentError, PostHogError
from dw_orchestration.posthog.jobs import is_over, table_was_disabled_or_deleted
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.posthog.rows import Rows, includes
from dw_orchestration.resources.failure import PlainError, errors_of_tick
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.sensors.completion import Completions
from dw_orchestration.sensors.cursor import SensorCursor, SourceCursor
from dw_orchestration.sensors.events import AssetEvent, Lateness, events_of, lateness_changes
from dw_orchestration.sensors.unreported import Batch, advance, may_have_unreported_jobs, quiet_cursor, read_jobs
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import visible_lines

DEFAULT_BUDGET_S = 15.0
# Dagster's storage takes about forty a second, and a tick must end within its minute
MAX_EVENTS_PER_TICK = 200
# of a source; a tick reports about as many
JOBS_AT_ONCE = 5 * JOBS_PER_ANSWER
# every tick keeps the cursor: syncs beyond this are read again instead
MOST_OPEN_JOBS = 500
# a tick with more syncs than this evaluates only what has changed of the others
FULLY_CHECKED = 20
# a run that has started a sync needs some seconds to see its job and to write down that it is the run's
RUN_GRACE = timedelta(seconds=30)
# a run that waits for other syncs logs their progress more often, and one that sees a sync's end reports it
SILENT_AFTER = timedelta(minutes=15)
# shorter trouble passes without anybody's help
TROUBLE_IS_LASTING = timedelta(minutes=5)
# a project that has reported nothing under our keys for so long has got other keys, or has gone
SHARED_UNTIL = timedelta(days=1)
# Dagster keeps nothing of a tick that fails. So ticks fail for this many intervals after one that was kept, and then
# the next one is kept.
INTERVALS_THAT_FAIL = 2


def build_job_status_sensor(
    tables: Tables,
    *,
    name: str | None = None,
    interval: timedelta = timedelta(seconds=30),
    auto_heal: int = 0,
    tick_budget_s: float = DEFAULT_BUDGET_S,
    run_grace: timedelta = RUN_GRACE,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor that polls the sources' jobs and reports each finished one exactly once.

    A completed job becomes a materialization of its table, any other a failed evaluation of the table's check
    `sync_succeeded`. Jobs that a run has adopted are left to it, and reported here only if it died. For jobs that a run
    has started without waiting for them (`wait: false`), another run is requested, which reports them. Jobs that ended
    because somebody switched their table off are not reported: that is no failure. A table that PostHog has silently
    stopped syncing fails its check `sync_succeeded` too, until the next sync is reported.

    Ticks also fail, in the same way, while another project reports syncs under the same asset keys: a second code
    location whose component has the same name.

    If the jobs of a source cannot be read, the other sources are reported. If that lasts for minutes, ticks fail with
    the reason, but for every third one or so: Dagster keeps no events of a tick that fails.

    Args:
        tables: The tables of the project; tables that came later are reported after the next refresh of the state.
        name: The sensor's name, if there are several of one resource; it begins with `<resource key>_job_status`, which
            is the default, because runs find the sensor by that.
        interval: Time between two ticks, at least.
        auto_heal: How many tables a tick may sync that PostHog has silently stopped scheduling; such syncs are billed,
            so there are none by default.
        tick_budget_s: Seconds that a tick may take. What is left over is done in the next one.
        run_grace: A job that began this recently is checked again in the next tick, although it has ended: the run
            that started it may not have written that down yet.
        default_status: Whether the sensor runs before anybody switches it on. It changes nothing in PostHog.
        now: The time of day.

    Raises:
        SetupError: The name begins with something else.
    """
    own_name = job_status_sensor_name(tables.resource_key)
    if name is not None and not name.startswith(own_name):
        raise SetupError(f"The name of the job-status sensor, {name!r}, has to begin with {own_name!r}.")

    @errors_of_tick()
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        warehouse: WarehouseResource = getattr(context.resources, tables.resource_key)
        before = SensorCursor.parse(context.cursor)
        with _connected(warehouse, finish_within_s=tick_budget_s) as api:
            work = Tick(
                api,
                tables,
                EventLog(context.instance, project=tables.snapshot.project),
                repository=context.repository_def,
                budget_s=tick_budget_s,
                auto_heal=auto_heal,
                run_grace=run_grace,
                clock=now,
            )
            try:
                cursor = work.run(before)
            except BudgetSpentError as error:
                return dg.SkipReason(f"No sync is reported, and the next tick continues here: {error}")
            except PostHogError as error:
                raise PlainError(f"The list of sources cannot be read, so no sync is reported: {error}") from None
        if (
            (work.trouble_is_lasting or work.others)
            and before.kept_at
            and now() - before.kept_at < INTERVALS_THAT_FAIL * interval
        ):
            raise PlainError(work.summary())
        requests = work.run_requests()
        return dg.SensorResult(
            asset_events=work.events,
            run_requests=requests,
            cursor=cursor.dump(),
            skip_reason=None if requests else work.summary(),
        )

    return _JobStatusSensor(
        name=name or own_name,
        evaluation_fn=tick,
        required_resource_keys={tables.resource_key},
        # what a run with `wait: false` may have selected
        asset_selection=dg.AssetSelection.assets(*map(asset_key, tables)).downstream(),
        minimum_interval_seconds=int(interval.total_seconds()),
        default_status=default_status,
        description="Reports the syncs that PostHog ran by itself, each once: completed ones as materializations,"
        " others as failed checks.",
    )


class _JobStatusSensor(dg.SensorDefinition):
    """A sensor whose ticks need the code location's assets only if they request a run: tests of users have none."""

    def resolve_run_requests(
        self, run_requests: Sequence[dg.RunRequest], *args: Any, **named: Any
    ) -> Sequence[dg.RunRequest]:
        """The runs that a tick requests, as Dagster launches them."""
        return super().resolve_run_requests(run_requests, *args, **named) if run_requests else []


def _connected(warehouse: WarehouseResource, *, finish_within_s: float) -> AbstractContextManager[WarehouseApi]:
    return warehouse.connect(finish_within_s=finish_within_s)


@dataclass
class Tick:
    """One tick's way through the sources: those that may have new jobs, and in turn one of the others."""

    api: WarehouseApi
    tables: Tables
    log: EventLog
    repository: dg.RepositoryDefinition | None = None
    budget_s: float = DEFAULT_BUDGET_S
    max_events: int = MAX_EVENTS_PER_TICK
    auto_heal: int = 0
    run_grace: timedelta = RUN_GRACE
    fully_checked: int = FULLY_CHECKED
    jobs_at_once: int = JOBS_AT_ONCE
    most_open_jobs: int = MOST_OPEN_JOBS
    now: Callable[[], float] = time.monotonic
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    events: list[AssetEvent] = field(default_factory=list)
    reported: int = 0
    problems: list[str] = field(default_factory=list)
    trouble: dict[str, datetime] = field(default_factory=dict)
    others: dict[str, datetime] = field(default_factory=dict)
    unknown_tables: set[str] = field(default_factory=set)
    forgotten: list[Table] = field(default_factory=list)
    completions: list[dg.RunRequest] = field(default_factory=list)
    _kept: dict[str, SourceCursor] = field(default_factory=dict)
    _over: dict[str, bool] = field(default_factory=dict)
    _deadline: float = math.inf
    _released: Completions = field(init=False)

    def run(self, cursor: SensorCursor) -> SensorCursor:
        """Deal with as many sources as the budget allows; the returned cursor says where to continue.

        Raises:
            PostHogError: The list of sources could not be read.
        """
        self._deadline = self.now() + self.budget_s
        self._released = Completions(self.log, self.repository)
        sources = self._sources()
        self.trouble = {source_id: since for source_id, since in cursor.trouble.items() if source_id in sources}
        still_shared = self._server_now() - SHARED_UNTIL
        self.others = {project: began for project, began in cursor.others.items() if began > still_shared}
        self._kept = {source_id: known for source_id, known in cursor.sources.items() if source_id in sources}
        to_read, turn, sweep_at = self._worth_reading(sources, cursor)
        resume_at = None
        for source_id in to_read:
            source, known = sources[source_id], self._kept.get(source_id)
            if not self._is_full() and self._try(source, known, is_its_turn=source_id == turn):
                continue
            if known is None and not may_have_unreported_jobs(source, None):
                # the list shows where its tables are; their last syncs are reported as the source's turn comes
                self._kept[source_id] = quiet_cursor(source, now=self._server_now())
            else:
                resume_at = resume_at or source_id
        clock_ahead, is_complete = self.clock() - self._server_now(), resume_at is None and not self._is_full()
        for request, notes in self._released.requests(clock_ahead=clock_ahead, is_complete=is_complete):
            self.completions.append(request)
            self.events += notes
        return SensorCursor(
            sources=self._kept,
            stale=self._report_overdue(sources.values(), cursor.stale),
            resume_at=resume_at,
            sweep_at=sweep_at,
            trouble=self.trouble,
            others=self.others,
            kept_at=self.clock(),
        )

    def _is_full(self) -> bool:
        """Whether the rest has to wait for the next tick."""
        return self.now() >= self._deadline or len(self.events) >= self.max_events

    def _try(self, source: Source, cursor: SourceCursor | None, *, is_its_turn: bool) -> bool:
        """Deal with a source; False if the budget of requests is spent."""
        try:
            self._deal_with(source, cursor, is_its_turn=is_its_turn)
            self.trouble.pop(source.id, None)
        except BudgetSpentError as error:
            # no trouble of the source's: the next tick starts here
            self.problems.append(f"Stopped early: {str(error).rstrip('.')}")
            self._deadline = -math.inf
            return False
        except PostHogError as error:
            self._note_trouble(source, error)
        return True

    @property
    def trouble_is_lasting(self) -> bool:
        """Whether the jobs of a source have not been readable for minutes."""
        return any(self.clock() - since >= TROUBLE_IS_LASTING for since in self.trouble.values())

    def _sources(self) -> dict[str, Source]:
        """The sources by id. The row of one that was left out cannot be read, but its jobs can."""
        listed = {source.id: source for source in self.api.list_sources()}
        if not includes(self.api.unreadable, "source"):
            return listed
        known = {table.source.id: table.source for table in self.tables}
        return {key: Source(id=key, source_type=it.source_type, schemas=Rows()) for key, it in known.items()} | listed

    def run_requests(self) -> list[dg.RunRequest]:
        """The runs that report syncs, and a sync for each table that PostHog has silently stopped scheduling."""
        day = f"{self._server_now():%Y-%m-%d}"
        return self.completions + [
            dg.RunRequest(
                run_key=f"heal:{table.id}:{day}", asset_selection=[asset_key(table)], tags=self.tables.run_tags
            )
            for table in self.forgotten
        ]

    def summary(self) -> str:
        """What the tick's line in the UI says."""
        shared = [shared_keys(self.tables.snapshot.project, self.others)] if self.others else []
        parts = [*shared, *self.problems, f"{self.reported} syncs reported" if self.reported else "No new syncs"]
        if self.completions:
            parts.append(f"{len(self.completions)} runs requested to report {len(self._released)} more")
        if self.unknown_tables:
            parts.append(f"{len(self.unknown_tables)} tables are newer than the state: refresh it to see them")
        if unreadable := self.api.unreadable:
            parts.append(f"Left out, because they cannot be read: {', '.join(map(str, unreadable))}")
        return visible_lines(". ".join(parts) + ".")

    def _note_trouble(self, source: Source, error: PostHogError) -> None:
        since = self.trouble.setdefault(source.id, self.clock())
        self.problems.append(
            f"The jobs of {source.source_type} ({source.prefix or source.id}) cannot be read since"
            f" {since:%Y-%m-%d %H:%M} UTC: {str(error).rstrip('.')}"
        )

    def _note_others(self, others: Mapping[str, datetime]) -> None:
        for project, began in others.items():
            if began > self._server_now() - SHARED_UNTIL:
                self.others[project] = max(began, self.others.get(project, began))

    def _server_now(self) -> datetime:
        """PostHog's time, by which all of its times are to be judged; ours may be minutes off."""
        return self.api.server_time or datetime.now(UTC)

    def _worth_reading(
        self, sources: dict[str, Source], cursor: SensorCursor
    ) -> tuple[list[str], str | None, str | None]:
        """The sources to read, the one whose turn it is although it may show no change, and the one after that.

        Those that may have unreported jobs begin with where the last tick stopped; then come those never met.
        """
        known = {table.source.id for table in self.tables}
        ids = _from(sorted(known & sources.keys()), cursor.resume_at)
        busy = [
            source_id
            for source_id in ids
            if source_id in cursor.trouble
            or may_have_unreported_jobs(sources[source_id], cursor.sources.get(source_id))
        ]
        # those that may time out take no time from the others
        busy.sort(key=lambda source_id: source_id in cursor.trouble)
        never_met = sorted(set(ids) - set(busy) - cursor.sources.keys())
        unread = [source_id for source_id in ids if (it := cursor.sources.get(source_id)) and it.is_unread]
        turns = _from(sorted(unread or set(ids) - set(busy) - set(never_met)), cursor.sweep_at)
        to_read = dict.fromkeys([*busy, *never_met, *turns[:1]])
        return list(to_read), next(iter(turns), None), turns[1] if len(turns) > 1 else None

    def _report_overdue(self, sources: Iterable[Source], known: Sequence[str]) -> tuple[str, ...]:
        """Evaluate `sync_succeeded` of tables that are overdue now, or no longer; the schemas that are overdue.

        With `auto_heal`, an overdue table is reported in the tick that syncs it, so that none is left out.
        """
        due: list[Lateness] = []
        healed: set[str] = set()
        for change in lateness_changes(sources, self.tables.by_id, known=known, now=self._server_now()):
            is_healed = bool(self.auto_heal) and change.is_forgotten
            if len(self.events) + len(due) >= self.max_events or (is_healed and len(healed) >= self.auto_heal):
                continue
            due.append(change)
            healed |= {change.table.id} if is_healed else set()
        newest, stale = self.log.newest([asset_key(change.table) for change in due]), set(known)
        for change in due:
            is_evaluated, check = self._is_evaluated(change.outcome.check_key), change.outcome.check_key
            if change.is_overdue and (is_evaluated or newest.is_awaited(check)):
                # a sync that began after the list was read has an outcome, or will have one from a run
                continue
            stale ^= {change.table.id}
            last = None if is_evaluated else newest.last_evaluation(check)
            is_red = last is not None and not last.passed and OVERDUE_SINCE in last.metadata
            if change.is_overdue or is_red:
                self.events.append(change.outcome.to_evaluation())
            if change.table.id in healed:
                self.forgotten.append(change.table)
        return tuple(sorted(stale & self.tables.by_id.keys()))

    def _is_evaluated(self, check: dg.AssetCheckKey) -> bool:
        return any(isinstance(each, dg.AssetCheckEvaluation) and each.asset_check_key == check for each in self.events)

    def _deal_with(self, source: Source, cursor: SourceCursor | None, *, is_its_turn: bool) -> None:
        """Report the source's jobs, oldest first, until all are dealt with or the tick is full."""
        for batch in read_jobs(self.api, source, cursor, at_once=self.jobs_at_once, is_its_turn=is_its_turn):
            before = self._kept.get(source.id)
            if before is not None and before.settled == batch.digest:
                return
            still_open, left = self._report_all(batch, source)
            room = self.most_open_jobs - sum(len(each.open) for key, each in self._kept.items() if key != source.id)
            self._kept[source.id] = advance(before, source, batch, still_open=still_open, left=left, room=max(room, 1))
            if self._is_full():
                return

    def _report_all(self, batch: Batch, source: Source) -> tuple[list[Job], list[Job]]:
        """Report the jobs of a batch; those to check again in the next tick, and those to begin it with."""
        over = [job for job in batch.jobs if is_over(job)]
        still_open, left = [job for job in batch.jobs if not is_over(job)], list[Job]()
        logs = self._logs_for(over)
        for number, job in enumerate(over):
            # one at least, however long it took to read them
            if self._is_full() and (number or self.now() < self._deadline):
                left = over[number:]
                break
            if not self._report(job, source, logs):
                still_open.append(job)
        return still_open, left

    def _logs_for(self, jobs: Sequence[Job]) -> dict[str, TableLog]:
        """What the event log has of each table, back to the oldest of its jobs here; read once for all of them."""
        # the newest come first, so that the oldest job of each table stays
        began_at = {job.schema_id: job.created_at for job in sorted(jobs, key=lambda job: job.created_at, reverse=True)}
        known = {schema_id: asset_key(table) for schema_id in began_at if (table := self.tables.by_id.get(schema_id))}
        logs = self.log.of_tables(
            {key: began_at[schema_id] for schema_id, key in known.items()},
            clock_ahead=self.clock() - self._server_now(),
        )
        for event in self.events:
            if event.asset_key in logs:
                logs[event.asset_key].add([event])
        return {schema_id: logs[key] for schema_id, key in known.items()}

    def _report(self, job: Job, source: Source, logs: Mapping[str, TableLog]) -> bool:
        """Report a job unless that is done already; False if the next tick has to check it again."""
        table = self.tables.by_id.get(job.schema_id)
        if table is None:
            # a table that a selection left out is known, and none of our business
            self.unknown_tables |= {job.schema_id} - self.tables.left_out_ids
            return True
        log = logs[job.schema_id]
        if table_was_disabled_or_deleted(job) or log.has_report_of(job):
            return True
        adoptions = log.adoptions_of(job)
        if self._belongs_to_a_run(job, adoptions):
            self._released.leave(asset_key(table))
            return False
        if adoptions and self.log.of_table(asset_key(table), since=job.created_at).has_report_of(job):
            # the run has ended since the log was read, and its last event was this one
            return True
        if self._released.take(job, table, adoptions, log=log, now=self.clock()):
            return False
        events = events_of(
            job,
            table,
            record=_fresh_record(source, job),
            triggered_by="dagster" if any(adoption.started for adoption in adoptions) else "posthog",
            full_refresh=any(adoption.full_refresh for adoption in adoptions),
            log=log,
            every_check=self.reported < self.fully_checked,
        )
        self._note_others(log.of_others)
        log.add(events)
        self.events += events
        self.reported += 1
        return True

    def _belongs_to_a_run(self, job: Job, adoptions: Sequence[Adoption]) -> bool:
        """Whether a run that has adopted the job is alive, or one may have started it and not have recorded it yet.

        A run whose worker was lost stays as started if no run monitoring ends it: it is taken to be dead if it has
        written no event for minutes after the job's end. Should it wake up, it repeats the report as its result.
        """
        if adoptions:
            alive = {adoption.run_id for adoption in adoptions if not self._is_over(adoption.run_id)}
            if (job.finished_at or job.created_at) > self._server_now() - SILENT_AFTER:
                return bool(alive)
            return not all(self.log.is_silent(run_id, since=self.clock() - SILENT_AFTER) for run_id in alive)
        return bool(self.run_grace) and job.created_at > self._server_now() - self.run_grace

    def _is_over(self, run_id: str) -> bool:
        if run_id not in self._over:
            self._over[run_id] = self.log.is_over(run_id)
        return self._over[run_id]


def _fresh_record(source: Source, job: Job) -> Schema | None:
    """The table's record from the list of sources, if it shows the table as this job left it.

    PostHog dates a table's last sync at the start of its job.
    """
    record = next((schema for schema in source.schemas if schema.id == job.schema_id), None)
    return record if record is not None and record.last_synced_at == job.created_at else None


def _from(ids: Sequence[str], first: str | None) -> list[str]:
    """The sorted ids, rotated so that `first`, or the one after where it would stand, comes first."""
    later = [own_id for own_id in ids if first is None or own_id >= first]
    return later + [own_id for own_id in ids if first is not None and own_id < first]
