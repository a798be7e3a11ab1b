"""One tick of the job-status sensor over many sources: seconds and requests, first, idle, and with some tables changed.

The ticks run in this process through Dagster's own evaluation, with the event log in memory; "store" is the writing of
their events afterwards. Example: `python bench/sensor_tick.py --sources 500 --tables 20 --changed 100 --latency-ms 20`.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

import dagster as dg
from measuring import StandIn, print_table, stand_in

from dw_orchestration import PostHogWarehouseResource, build_job_status_sensor
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

SYNC_S = 2.0


def tick(
    sensor: dg.SensorDefinition, cursor: str | None, *, instance: dg.DagsterInstance, warehouse: object, server: StandIn
) -> tuple[str | None, tuple[object, ...]]:
    """Evaluate the sensor once and store its events; the next cursor, and what it took."""
    before, started = server.stats(), time.perf_counter()
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"posthog_warehouse": warehouse})
    with context:
        result = sensor.evaluate_tick(context)
    seconds = time.perf_counter() - started
    stored = time.perf_counter()
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    requests = server.stats().since(before).counts
    figures = (f"{seconds:.2f}", requests["other"], len(result.asset_events), f"{time.perf_counter() - stored:.2f}")
    return result.cursor, (*figures, f"{len(result.cursor or '') / 1e6:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=500)
    parser.add_argument("--tables", type=int, default=20, help="of each source")
    parser.add_argument("--changed", type=int, default=100, help="tables that are synced before the last tick")
    parser.add_argument("--changed-sources", type=int, default=50, help="sources that these tables are of")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before each answer")
    options = parser.parse_args()
    plan = {"sources": options.sources, "tables": options.tables, "sync_seconds": SYNC_S, "rate_limit": 0}
    with stand_in(**plan, latency_ms=options.latency_ms) as server:
        rows = measure(server, options)
    print_table(("tick", "seconds", "requests", "events", "store s", "cursor MB"), rows)
    print(f"target for the last: at most 10 s and {6 + options.changed_sources} requests")


def measure(server: StandIn, options: argparse.Namespace) -> list[tuple[object, ...]]:
    """The ticks until all is known, one with nothing new, and one after some tables were synced."""
    warehouse = PostHogWarehouseResource(host=server.host, project_id="1", api_key="phx_bench", requests_per_minute=0)
    with warehouse.connect() as client:
        snapshot = WarehouseSnapshot.take(client, host=server.host, project_id="1")
    # a long tick is allowed while the sensor learns of everything: what is asked is the tick afterwards
    learning = build_job_status_sensor(Tables(snapshot, include_disabled=True), tick_budget_s=3600)
    sensor = build_job_status_sensor(Tables(snapshot, include_disabled=True))
    instance, rows, cursor = dg.DagsterInstance.ephemeral(), [], None
    given = {"instance": instance, "warehouse": warehouse, "server": server}
    started, count = time.perf_counter(), 0
    while cursor is None or '"resume_at":null' not in cursor or '"status"' in cursor:
        cursor, _ = tick(learning, cursor, **given)
        count += 1
    rows.append((f"first {count}", f"{time.perf_counter() - started:.1f} in all", "", "", "", ""))
    cursor, idle = tick(sensor, cursor, **given)
    rows.append(("idle", *idle))
    assets = Tables(snapshot, include_disabled=True)
    by_source: dict[str, list[str]] = {}
    for asset in assets:
        by_source.setdefault(asset.source.id, []).append(asset.id)
    each = options.changed // options.changed_sources
    chosen = [schema for ids in list(by_source.values())[: options.changed_sources] for schema in ids[:each]]
    with warehouse.connect() as client:
        for schema_id in chosen:
            client.reload_schema(schema_id)
    time.sleep(SYNC_S + 3)
    _, changed = tick(sensor, cursor, **given)
    rows.append((f"{len(chosen)} of {len(assets):,} changed, {datetime.now(tz=UTC):%H:%M}", *changed))
    return rows


if __name__ == "__main__":
    main()
