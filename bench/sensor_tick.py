"""Ticks of the job-status sensor over many sources: seconds and requests, first, idle, and with some tables changed.

The ticks run in this process through Dagster's own evaluation; "store" is the writing of their events afterwards, which
Dagster's daemon does. The first part keeps the event log in memory. The second has 400 tables of 20 sources, each with
earlier syncs in the event log, on Postgres as several machines share it. Example:
`python bench/sensor_tick.py --sources 500 --tables 20 --changed 100 --latency-ms 20`.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import dagster as dg
import yaml
from measuring import StandIn, print_table, stand_in

from dw_orchestration import PostHogWarehouseResource
from dw_orchestration.local.shop.postgres import EmbeddedPostgres
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

SYNC_S = 2.0
ON_POSTGRES = {"sources": 20, "tables": 20}
COLUMNS = ("ticks", "evaluation s", "requests", "events", "store s", "cursor kB", "target")


@dataclass
class Measured:
    """What one or more ticks took."""

    ticks: int = 0
    seconds: float = 0.0
    requests: int = 0
    events: int = 0
    stored_s: float = 0.0
    cursor_kb: float = 0.0

    def row(self, name: str, target: str) -> tuple[object, ...]:
        """A row of the table."""
        seconds = (f"{self.seconds:.2f}", self.requests, self.events, f"{self.stored_s:.2f}")
        return (f"{name}: {self.ticks}", *seconds, f"{self.cursor_kb:.1f}", target)


class Site:
    """A project, its sensor, and a Dagster instance."""

    def __init__(self, server: StandIn, instance: dg.DagsterInstance) -> None:
        self.server, self.instance = server, instance
        self.warehouse = PostHogWarehouseResource(
            host=server.host, project_id="1", api_key="phx_bench", requests_per_minute=0
        )
        with self.warehouse.connect() as client:
            snapshot = WarehouseSnapshot.take(client, host=server.host, project_id="1")
        self.tables = Tables(snapshot, include_disabled=True)
        self.sensor = build_job_status_sensor(self.tables)
        self.cursor: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether all sources are known, and nothing was left for the next tick."""
        cursor = SensorCursor.parse(self.cursor)
        known = {table.source.id for table in self.tables} <= cursor.sources.keys()
        return known and cursor.resume_at is None and all(each.shown for each in cursor.sources.values())

    def tick(self, measured: Measured) -> None:
        """Evaluate the sensor once and store its events."""
        before, started = self.server.stats(), time.perf_counter()
        resources = {"posthog_warehouse": self.warehouse}
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources)
        with context:
            result = self.sensor.evaluate_tick(context)
        evaluated = time.perf_counter()
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        measured.ticks += 1
        measured.seconds += evaluated - started
        measured.stored_s += time.perf_counter() - evaluated
        measured.requests += self.server.stats().since(before).counts["other"]
        measured.events += len(result.asset_events)
        measured.cursor_kb = len(self.cursor or "") / 1000

    def ticks(self) -> Measured:
        """Tick until nothing is left."""
        measured = Measured()
        while not measured.ticks or not self.is_done:
            self.tick(measured)
        return measured

    def sync(self, *, sources: int, tables: int) -> int:
        """Sync some tables of some sources, and wait; how many."""
        by_source: dict[str, list[str]] = {}
        for table in self.tables:
            by_source.setdefault(table.source.id, []).append(table.id)
        chosen = [schema for ids in list(by_source.values())[:sources] for schema in ids[:tables]]
        # no table is synced within a minute of its last report: PostHog's shortest interval is five
        time.sleep(60 + SYNC_S)
        with self.warehouse.connect() as client:
            for schema_id in chosen:
                client.reload_schema(schema_id)
        # what has begun within half a minute is left to a run that may have started it
        time.sleep(SYNC_S + 31)
        return len(chosen)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=500)
    parser.add_argument("--tables", type=int, default=20, help="of each source")
    parser.add_argument("--changed", type=int, default=100, help="tables that are synced before the last tick")
    parser.add_argument("--changed-sources", type=int, default=50, help="sources that these tables are of")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before each answer")
    options = parser.parse_args()
    more = {"sync_seconds": SYNC_S, "rate_limit": 0, "latency_ms": options.latency_ms}
    with (
        stand_in(sources=options.sources, tables=options.tables, **more) as server,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        rows = list(in_memory(Site(server, instance), options))
    print_table(COLUMNS, rows)
    with stand_in(**ON_POSTGRES, **more) as server, postgres_instance() as instance:
        rows = list(on_postgres(Site(server, instance)))
    print_table(COLUMNS, rows)


def in_memory(site: Site, options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """The ticks until all is known, one with nothing new, and those after some tables were synced, twice."""
    requests = 1 + -(-options.sources // 100)
    yield site.ticks().row("first", "30 s with store")
    yield site.ticks().row("idle", f"3 s, {requests} requests")
    # the first time, the jobs of these sources from before are reported, too
    for target in ("", f"6 s, {requests + options.changed_sources} requests"):
        count = site.sync(sources=options.changed_sources, tables=options.changed // options.changed_sources)
        yield site.ticks().row(f"{count} of {len(site.tables):,} changed", target)


def on_postgres(site: Site) -> Iterator[tuple[object, ...]]:
    """The same with all tables changed, twice: at first some have no report yet."""
    yield site.ticks().row("first, on Postgres", "")
    for target in ("", "5 s without store"):
        count = site.sync(**ON_POSTGRES)
        yield site.ticks().row(f"{count} of {len(site.tables)} changed, on Postgres", target)


@contextmanager
def postgres_instance() -> Iterator[dg.DagsterInstance]:
    """An instance that keeps its events in an embedded Postgres."""
    with TemporaryDirectory(prefix="bench_sensor_") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        login = server.start()
        try:
            os.environ["BENCH_PASSWORD"] = login.password
            database = {"username": login.user, "password": {"env": "BENCH_PASSWORD"}, "db_name": login.database}
            address = {"hostname": login.host, "port": login.port, "scheme": "postgresql+psycopg2"}
            settings = {"telemetry": {"enabled": False}, "storage": {"postgres": {"postgres_db": database | address}}}
            (Path(folder) / "dagster.yaml").write_text(yaml.safe_dump(settings))
            with dg.DagsterInstance.from_config(folder) as instance:
                yield instance
        finally:
            server.stop()


if __name__ == "__main__":
    main()
