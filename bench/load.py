"""Loading definitions: seconds and requests to fetch the state, and to build definitions from it.

Each size runs in fresh processes: one fetches the state from the stand-in and writes it down, another builds from the
file; imports are not counted. The second must make no request. Example: `python bench/load.py --sizes 50x20 500x20`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
from measuring import StandIn, print_table, stand_in

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.snapshot import WarehouseSnapshot


def take(warehouse: PostHogWarehouseResource, path: Path) -> dict[str, float]:
    """Fetch the state and write it down."""
    started = time.perf_counter()
    warehouse.take_snapshot().write(path)
    return {"seconds": time.perf_counter() - started, "file_mb": path.stat().st_size / 1e6}


def build(warehouse: PostHogWarehouseResource, path: Path) -> dict[str, float]:
    """Build definitions from the state, and have Dagster resolve them as a code server does."""
    started = time.perf_counter()
    snapshot = WarehouseSnapshot.read(path)
    definitions = PostHogWarehouseComponent(warehouse=warehouse).build_defs_from_snapshot(snapshot)
    built = time.perf_counter()
    graph = dg.Definitions.merge(definitions).resolve_asset_graph()
    definitions.get_repository_def().load_all_definitions()
    return {
        "seconds": built - started,
        "resolve_seconds": time.perf_counter() - built,
        "assets": len(graph.materializable_asset_keys),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


STEPS = {"take": take, "build": build}


def in_fresh_process(step: str, server: StandIn, path: Path) -> dict[str, float]:
    """Run one of the steps in a process that has done nothing else, and count its requests."""
    before = server.stats()
    command = [sys.executable, __file__, "--step", step, "--host", server.host, "--file", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    requests = server.stats().since(before).counts
    return json.loads(ended.stdout.splitlines()[-1]) | {"requests": requests["other"] + requests["reload"]}


def measure(size: str, *, latency_ms: float) -> tuple[object, ...]:
    """A line of the table for one size, such as `50x20`."""
    sources, tables = map(int, size.split("x"))
    plan = {"sources": sources, "tables": tables, "latency_ms": latency_ms}
    with tempfile.TemporaryDirectory() as folder, stand_in(**plan) as server:
        path = Path(folder) / "state.json"
        taken = in_fresh_process("take", server, path)
        built = in_fresh_process("build", server, path)
    return (
        f"{sources * tables:,} in {sources}",
        f"{taken['seconds']:.2f}",
        taken["requests"],
        f"{taken['file_mb']:.1f}",
        f"{built['seconds']:.2f}",
        f"{built['resolve_seconds']:.2f}",
        built["requests"],
        f"{built['peak_mb']:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["50x20", "500x20"], help="sources x tables of each")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each answer of the stand-in")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        warehouse = PostHogWarehouseResource(host=args.host, project_id="1", api_key="phx_bench")
        print(json.dumps(STEPS[args.step](warehouse, args.file)))
        return
    heads = ("tables in sources", "fetch s", "requests", "file MB", "build s", "resolve s", "requests", "peak MB")
    print_table(heads, [measure(size, latency_ms=args.latency_ms) for size in args.sizes])


if __name__ == "__main__":
    main()
