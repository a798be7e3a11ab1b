"""Most of a day in a warehouse that syncs by itself while Dagster's schedules ensure it: three sources, ten tables.

Time passes as it does, and is set forward from tick to tick. Everything else is real: the warehouse with its scheduler
and its workers, the API, the runs and the sensor.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg
import pytest
from croniter import croniter_range

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.checks import SYNC_SUCCEEDED
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.local.behaviours import SyncBehaviour
from dw_orchestration.local.server import WarehouseServer
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import JobStatus, SyncStatus
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.schedules import build_posthog_schedules
from dw_orchestration.schedules.schedules import OWN_SYNC_WITHIN
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from tests.acceptance.conftest import FAST, Dagster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dw_orchestration.posthog.models import Job
    from tests.conftest import Database

# a Thursday, on which PostHog's weekly syncs begin too
DAY = datetime(2026, 11, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
# every table is due by then, and those of twelve hours twice
EVENING = DAY + 15 * HOUR
# how often, and at what time of the day, PostHog syncs each table; the ticks of that day follow from both
TABLES = {
    "Postgres": {
        "public.orders": ("1hour", "00:10"),
        "public.order_lines": ("6hour", "00:40"),
        "public.customers": ("24hour", "05:00"),
        "public.products": ("7day", "05:00"),
    },
    "Stripe": {"Charge": ("6hour", "00:20"), "Customer": ("12hour", "02:00"), "Invoice": ("24hour", "03:30")},
    "Hubspot": {"contacts": ("6hour", "01:00"), "deals": ("6hour", "01:00"), "companies": ("24hour", "03:30")},
}
EVERY = {"1hour": HOUR, "6hour": 6 * HOUR, "12hour": 12 * HOUR, "24hour": 24 * HOUR, "7day": 24 * HOUR}
LOST, KILLED = "deals", "Charge"
# is due with the lost one
FOUND = "contacts"
KILLED_AT = DAY + timedelta(hours=12, minutes=20)
HANGS_FROM = DAY + timedelta(hours=12, minutes=15)
KILLED_BY = "The worker ran out of memory"


class SetClock:
    """A clock that can be set forward, and stopped.

    It runs no faster than others: a run takes a job that PostHog dates before the trigger for somebody else's.
    """

    def __init__(self, start: datetime) -> None:
        self._start, self._began = start, time.monotonic()
        self._is_stopped = False

    def __call__(self) -> datetime:
        """The time that it shows."""
        passed_s = 0.0 if self._is_stopped else time.monotonic() - self._began
        return self._start + timedelta(seconds=passed_s)

    def stop(self) -> None:
        """Let it be this time until it is set forward."""
        self._start, self._is_stopped = self(), True

    def skip_to(self, moment: datetime) -> None:
        """Let it be this time, unless it is later already."""
        self._start += max(moment - self(), timedelta())


@dataclass
class Day:
    """The warehouse, a user's Dagster over it, and what its schedules have launched."""

    embedded: WarehouseServer
    client: PostHogWarehouseClient
    clock: SetClock
    dagster: Dagster
    wait_until: Callable[..., Any]
    runs: list[dg.ExecuteInProcessResult] = field(default_factory=list)

    def jobs(self, table: str) -> list[Job]:
        """The table's syncs since the day began, oldest first."""
        sources = {schema.name: source.id for source in self.client.list_sources() for schema in source.schemas}
        jobs = self.client.list_jobs(sources[table], schemas=[table], after=DAY)
        return sorted(jobs, key=lambda job: job.created_at)

    def pass_by(self) -> None:
        """Let the day pass: schedules launch their runs, and every half an hour the sensor looks."""
        # the state is as old as the day: ticks from before it would start nothing
        schedules = build_posthog_schedules(
            Tables(self.dagster.snapshot.model_copy(update={"taken_at": DAY}), include_disabled=True)
        )
        moments: dict[datetime, list[dg.ScheduleDefinition]] = {DAY + n * HOUR / 2: [] for n in range(1, 31)}
        moments[HANGS_FROM] = []
        for schedule in schedules:
            assert isinstance(schedule.cron_schedule, list)
            for cron in schedule.cron_schedule:
                for moment in croniter_range(DAY, EVENING, cron):
                    moments.setdefault(moment, []).append(schedule)
        for moment, due in sorted(moments.items(), key=lambda item: item[0]):
            self.clock.skip_to(moment)
            if moment == HANGS_FROM:
                self.embedded.services.behaviours.set_table(self.schema_id(KILLED), SyncBehaviour(ends=False))
            for schedule in due:
                self.tick(schedule, moment)
            if not moment.minute % 30:
                self.dagster.tick()
        self.clock.skip_to(EVENING)

    def tick(self, schedule: dg.ScheduleDefinition, moment: datetime) -> None:
        """What Dagster's daemon does at a schedule's tick."""
        context = dg.build_schedule_context(instance=self.dagster.instance, scheduled_execution_time=moment)
        for request in schedule.evaluate_tick(context).run_requests or ():
            selected = request.asset_selection or ()
            if moment == KILLED_AT and self.dagster.key(KILLED) in selected:
                self.launch_and_kill(request)
            elif self.dagster.key(LOST) in selected:
                self.launch_and_skip(request, to=moment + OWN_SYNC_WITHIN)
            else:
                self.runs.append(self.launch(request))

    def launch_and_skip(self, request: dg.RunRequest, *, to: datetime) -> None:
        """Carry out a run that waits for a sync of PostHog's which does not come."""
        with self.launched(request, once_adopted=FOUND):
            self.clock.skip_to(to)

    def launch(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Carry out a run of the schedule, which looks often."""
        config = {"ops": {op: {"config": own["config"] | FAST} for op, own in request.run_config["ops"].items()}}
        return dg.materialize(
            build_posthog_assets(Tables(self.dagster.snapshot, include_disabled=True)),
            selection=list(request.asset_selection or ()),
            instance=self.dagster.instance,
            resources={DEFAULT_RESOURCE_KEY: self.dagster.resource},
            run_config=config,
            raise_on_error=False,
        )

    def launch_and_kill(self, request: dg.RunRequest) -> None:
        """Carry out a run, and let its sync be killed in the midst of it."""
        with self.launched(request, once_adopted=KILLED):
            self.embedded.services.runner.ask_to_stop(self.schema_id(KILLED), reason=KILLED_BY)
        self.embedded.services.behaviours.reset()

    @contextmanager
    def launched(self, request: dg.RunRequest, *, once_adopted: str) -> Iterator[None]:
        """Carry out a run, from whose adoption of a table's sync on the block is executed."""
        before = self.dagster.adoptions(once_adopted)
        with ThreadPoolExecutor() as meanwhile:
            run = meanwhile.submit(self.launch, request)
            self.wait_until(lambda: self.dagster.adoptions(once_adopted) - before)
            yield
            self.runs.append(run.result())

    def schema_id(self, table: str) -> UUID:
        """The id of a table."""
        return UUID(next(schema.id for schema in self.client.list_schemas() if schema.name == table))


def ticks(table: str) -> list[datetime]:
    """When PostHog is to sync a table on that day."""
    frequency, first = next(tables[table] for tables in TABLES.values() if table in tables)
    start = datetime.combine(DAY, datetime.strptime(first, "%H:%M").time(), tzinfo=UTC)  # noqa: DTZ007  in UTC
    return [start + n * EVERY[frequency] for n in range(24) if start + n * EVERY[frequency] < EVENING]


def names() -> list[str]:
    """All tables."""
    return [name for tables in TABLES.values() for name in tables]


@pytest.fixture
def day(
    tmp_path: Path, postgres_database: Database, instance: dg.DagsterInstance, wait_until: Callable[..., Any]
) -> Iterator[Day]:
    """The evening before: the tables are set up and synced for the first time."""
    clock = SetClock(DAY - timedelta(minutes=20))
    with ExitStack() as undo:
        embedded = WarehouseServer(tmp_path / "home", fixtures=tmp_path / "files", now=clock, poll_every_s=0.02)
        endpoint = embedded.start()
        undo.callback(embedded.stop)
        client = undo.enter_context(PostHogWarehouseClient(endpoint.host, 1, endpoint.api_key, rate_limits=None))
        add_sources(client, tmp_path / "files", postgres_database)
        wait_until(lambda: all(schema.last_synced_at for schema in client.list_schemas()))
        resource = PostHogWarehouseResource(
            host=endpoint.host, project_id="1", api_key=endpoint.api_key, requests_per_minute=0
        )
        yield Day(embedded, client, clock, Dagster(instance, resource), wait_until)


def add_sources(client: PostHogWarehouseClient, files: Path, database: Database) -> None:
    """Three sources whose tables are on, each with its frequency and time of day."""
    for name in TABLES["Postgres"]:
        database.execute(f"create table {name} (id int primary key); insert into {name} values (1), (2), (3)")
    for source_type, tables in TABLES.items():
        schemas = [{"name": name, "should_sync": True, "sync_type": "full_refresh"} for name in tables]
        connection = {name: getattr(database, name) for name in ("host", "port", "database", "user", "password")}
        payload = {"schemas": schemas} | (connection if source_type == "Postgres" else {})
        for name in tables if source_type != "Postgres" else ():
            (files / source_type).mkdir(parents=True, exist_ok=True)
            (files / source_type / f"{name}.jsonl").write_text("".join(json.dumps({"id": n}) + "\n" for n in range(5)))
        client.create_source(source_type, payload)
    for schema in client.list_schemas():
        frequency, time_of_day = next(tables[schema.name] for tables in TABLES.values() if schema.name in tables)
        changes = {"sync_frequency": frequency, "sync_time_of_day": f"{time_of_day}:00"}
        client.update_schema(schema.id, SchemaUpdate.model_validate(changes))


def test_every_tick_has_one_job_and_every_job_one_event(day: Day) -> None:
    """PostHog's own syncs are adopted, the table that it forgot is synced by Dagster, a killed sync shows in red."""
    day.embedded.services.store.delete_schedule(day.schema_id(LOST))
    day.dagster.tick()

    day.pass_by()

    day.dagster.tick()
    jobs = {name: day.jobs(name) for name in names()}
    assert {name: Counter(ticks(name)) for name in names()} == {name: ticks_of(name, jobs[name]) for name in names()}
    every_job = {job.id: 1 for of_table in jobs.values() for job in of_table}
    assert every_job == {job_id: count for job_id, count in reported(day).items() if job_id in every_job}
    assert {LOST: {"dagster"}} | {name: {"adopted"} for name in names() if name != LOST} == starters(day, jobs)
    (killed,) = [job for job in jobs[KILLED] if job.status is not JobStatus.COMPLETED]
    assert Counter({killed.id: 1}) == day.dagster.failures(KILLED)
    assert any(text.endswith(f"{KILLED}: Failed. {KILLED_BY}") for text in red_checks(day, KILLED, SYNC_SUCCEEDED))
    assert 1 == sum(not run.success for run in day.runs)


def test_scenario_7_a_table_is_silently_not_scheduled_any_more(day: Day) -> None:
    """`sync_succeeded` is red once the rows are two intervals old, though PostHog shows nothing wrong."""
    name = "public.orders"
    day.clock.skip_to(DAY + timedelta(minutes=12))
    day.wait_until(lambda: [job.status for job in day.jobs(name)] == [JobStatus.COMPLETED])
    day.embedded.services.store.delete_schedule(day.schema_id(name))
    synced_at = day.jobs(name)[0].created_at
    # however long a tick may take
    day.clock.stop()
    reds = {}
    for minutes in (60, 90, 125, 180):
        day.clock.skip_to(synced_at + timedelta(minutes=minutes))
        day.dagster.tick()
        reds[minutes] = [table for table in names() if red_checks(day, table, SYNC_SUCCEEDED)]
    assert {60: [], 90: [], 125: [name], 180: [name]} == reds
    record = next(schema for schema in day.client.list_schemas() if schema.name == name)
    assert (True, SyncStatus.COMPLETED, None) == (record.should_sync, record.status, record.latest_error)

    day.dagster.materialize(name)

    assert not EventLog(day.dagster.instance).is_red(dg.AssetCheckKey(day.dagster.key(name), SYNC_SUCCEEDED))


def ticks_of(table: str, jobs: Sequence[Job]) -> Counter[datetime]:
    """The ticks that jobs belong to: each to the last one before it began."""
    return Counter(max(tick for tick in ticks(table) if tick <= job.created_at) for job in jobs)


def reported(day: Day) -> Counter[str]:
    """How often each sync has been reported, as completed or as failed."""
    told = (day.dagster.reported, day.dagster.failures, day.dagster.overtaken)
    return sum((how(name) for name in names() for how in told), Counter())


def starters(day: Day, jobs: dict[str, list[Job]]) -> dict[str, set[str]]:
    """Who started the syncs of each table, as the runs' observations say."""
    found: dict[str, set[str]] = {}
    for name in names():
        for record in day.dagster.instance.fetch_observations(day.dagster.key(name), limit=1000).records:
            metadata = record.asset_observation.metadata if record.asset_observation else {}
            assert metadata["posthog/job_id"].value in {job.id for job in jobs[name]}
            found.setdefault(name, set()).add(str(metadata["posthog/triggered_by"].value))
    return found


def red_checks(day: Day, table: str, name: str) -> list[str | None]:
    """What the failed evaluations of a table's check say."""
    return [one.description for one in day.dagster.evaluations(table, name) if not one.passed]
