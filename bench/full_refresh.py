"""Full refresh and merge, against a plain copy of the same table: seconds and peak memory.

Each measurement runs in a fresh process, the kinds in turn. Example: `python bench/full_refresh.py --rows 1000000`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import psycopg
from adbc_driver_postgresql import dbapi

from dw_orchestration.local.shop.postgres import DatabaseLogin, EmbeddedPostgres
from dw_orchestration.local.syncing import SyncRequest, TargetTable, Warehouse, connector_for, run_sync

MEASURE = "--measure"
TABLES = {
    "wide": """
        create table wide as select i::bigint as id, (i % 1000)::int as customer, 'name ' || i as name,
            (i * 1.01)::numeric(12,2) as amount, i % 2 = 0 as paid, i * 0.5::float8 as score,
            date '2020-01-01' + (i % 1000)::int as due,
            timestamptz '2024-01-01' + i * interval '1 second' as updated_at
        from generate_series(1, {rows}) i""",
    "narrow": "create table narrow as select i::bigint as id, (i % 7)::int as v from generate_series(1, {rows}) i",
}
INDEXES = {
    "wide": "alter table wide add primary key (id); create index on wide (updated_at)",
    "narrow": "alter table narrow add primary key (id)",
}


@dataclass(frozen=True)
class Measurement:
    """What one process did."""

    kind: str
    table: str
    rows: int
    seconds: float
    peak_mb: float


def bare_copy(connection: DatabaseLogin, *, table: str, folder: Path) -> int:
    """Copy a table with ADBC and DuckDB alone, both as they come."""
    with dbapi.connect(connection.dsn) as source, source.cursor() as cursor:
        cursor.execute(f"select * from {table}")
        stream = cursor.fetch_record_batch()
        with duckdb.connect(str(folder / f"bare_{table}.duckdb")) as target:
            target.register("stream", stream)
            target.execute("create or replace table copied as select * from stream")
            return int(target.execute("select count(*) from copied").fetchall()[0][0])


def sync(connection: DatabaseLogin, *, table: str, folder: Path, kind: str) -> int:
    """Sync a table as the embedded warehouse does."""
    inputs = asdict(connection) | {"schema": "public"}
    cursor = "updated_at" if table == "wide" else "id"
    request = SyncRequest(
        job_id=f"{kind}-{time.time_ns()}",
        table=table,
        target=TargetTable("bench", table),
        sync_type="full_refresh" if kind == "full refresh" else "incremental",
        incremental_field=cursor,
        incremental_field_type="timestamp",
        primary_keys=("id",),
        lookback_seconds=None,
        enabled_columns=None,
        reset=kind == "first merge",
    )
    warehouse = Warehouse(folder / "warehouse.duckdb", staging=folder / "staging")
    connector = connector_for("Postgres", inputs, fixtures=folder)
    result = run_sync(request, connector, warehouse, on_progress=lambda _: None, cancelled=threading.Event())
    return result.rows_synced


def measure(kind: str, table: str, connection: DatabaseLogin, folder: Path) -> Measurement:
    """Do one thing and take its time and memory; to be called in a separate process."""
    started = time.perf_counter()
    if kind == "bare copy":
        rows = bare_copy(connection, table=table, folder=folder)
    else:
        rows = sync(connection, table=table, folder=folder, kind=kind)
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measurement(kind, table, rows, seconds, peak_mb)


def in_fresh_process(kind: str, table: str, connection: DatabaseLogin, folder: Path) -> Measurement:
    """Run `measure` in a process that has done nothing else."""
    task = json.dumps({"kind": kind, "table": table, "folder": str(folder), "connection": asdict(connection)})
    ended = subprocess.run([sys.executable, __file__, MEASURE], input=task, capture_output=True, text=True, check=True)
    return Measurement(**json.loads(ended.stdout))


def change_rows(connection: DatabaseLogin, *, rows: int) -> None:
    """Touch rows all over the wide table, each at its own time, later than all others."""
    with psycopg.connect(connection.dsn, autocommit=True) as source:
        source.execute(
            "update wide set score = score + 1, updated_at = clock_timestamp()"
            " where id in (select id from wide order by random() limit %s)",
            [rows],
        )


def report(measurements: list[Measurement], *, sizes: dict[str, int]) -> None:
    """Print the median of each kind, next to the plain copy of the same table."""
    print(f"{'table':8}{'what':14}{'rows':>12}{'bytes':>15}{'seconds':>9}{'ratio':>7}{'peak MB':>9}")
    bare: dict[str, float] = {}
    for kind, table in dict.fromkeys((m.kind, m.table) for m in measurements):
        group = [m for m in measurements if (m.kind, m.table) == (kind, table)]
        seconds = statistics.median(m.seconds for m in group)
        bare.setdefault(table, seconds)
        rows, peak_mb = group[-1].rows, max(m.peak_mb for m in group)
        ratio = seconds / bare[table]
        print(f"{table:8}{kind:14}{rows:12,}{sizes[table]:15,}{seconds:9.2f}{ratio:7.2f}{peak_mb:9.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table with 8 columns")
    parser.add_argument("--changes", type=int, default=100_000, help="rows changed before each merge")
    parser.add_argument("--narrow-rows", type=int, default=0, help="rows of a table with 2 columns, for memory")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = EmbeddedPostgres(folder / "postgres")
        try:
            run(server.start(), folder=folder, args=args)
        finally:
            server.stop()


def run(connection: DatabaseLogin, *, folder: Path, args: argparse.Namespace) -> None:
    """Make the tables, measure in turn, report."""
    wanted = {"wide": args.rows} | ({"narrow": args.narrow_rows} if args.narrow_rows else {})
    sizes = {}
    with psycopg.connect(connection.dsn, autocommit=True) as source:
        for table, rows in wanted.items():
            source.execute(TABLES[table].format(rows=rows).encode())
            source.execute(INDEXES[table].encode())
            source.execute(b"vacuum analyze")
            sizes[table] = source.execute("select pg_table_size(%s::regclass)", [table]).fetchall()[0][0]
    measurements = []
    for _ in range(args.rounds):
        measurements += [
            in_fresh_process(kind, table, connection, folder)
            for table in wanted
            for kind in ("bare copy", "full refresh", "first merge")
        ]
        change_rows(connection, rows=args.changes)
        measurements.append(in_fresh_process("merge", "wide", connection, folder))
    report(measurements, sizes=sizes)


if __name__ == "__main__":
    if MEASURE in sys.argv:
        task = json.load(sys.stdin)
        measured = measure(task["kind"], task["table"], DatabaseLogin(**task["connection"]), Path(task["folder"]))
        print(json.dumps(asdict(measured)))
    else:
        main()
