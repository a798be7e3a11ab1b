"""Loading definitions: what it costs to fetch the state and to build definitions from it, next to bare Dagster.

Bare Dagster has the same assets, written in Python: as many steps, tables and origins with the same kind of keys, tags,
metadata and freshness policies, but no checks, schedules, sensors or jobs. Each measurement is a fresh process; imports
are not counted. `load` is what a code server does: build, make the repository, load all of it. `step` is what Dagster
does in the process of a step before the step begins (and does twice there): reconstruct the definitions and plan the
step. Both are CPU seconds, the least of several rounds in turn. Loading must make no request.

Example: `python bench/load.py --sizes 100x20 500x20 50x200`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
from measuring import StandIn, print_table, stand_in

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.snapshot import WarehouseSnapshot

# how this file, as the code location of a step's process, learns what it has to define
WHAT = "DW_ORCHESTRATION_BENCH_LOAD"


def take(what: dict[str, str]) -> dict[str, float]:
    """Fetch the state and write it down."""
    path, warehouse = Path(what["file"]), _warehouse(what)
    started = time.perf_counter()
    warehouse.take_snapshot().write(path)
    return {"seconds": time.perf_counter() - started, "file_mb": path.stat().st_size / 1e6}


def load(what: dict[str, str]) -> dict[str, float]:
    """Build the definitions and load them as a code server does."""
    started = time.process_time()
    definitions = definitions_of(what)
    built = time.process_time()
    repository = definitions.get_repository_def()
    made = time.process_time()
    repository.load_all_definitions()
    ended = time.process_time()
    return {
        "build": built - started,
        "repository": made - built,
        "load_all": ended - made,
        "seconds": ended - started,
        "assets": len(repository.asset_graph.get_all_asset_keys()),
    } | _memory()


def step(what: dict[str, str]) -> dict[str, float]:
    """Reconstruct the definitions and plan a step for one table, as the process of the step does."""
    # not public: what Dagster's executors call
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._core.execution.api import create_execution_plan

    os.environ[WHAT] = json.dumps(what)
    (key,) = _keys(0, 1)
    started = time.process_time()
    repository = ReconstructableRepository.for_file(__file__, "defs")
    job = repository.get_reconstructable_job("__ASSET_JOB").get_subset(asset_selection={key})
    create_execution_plan(job)
    return {"seconds": time.process_time() - started} | _memory()


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of a step's process."""
    return definitions_of(json.loads(os.environ[WHAT]))


def definitions_of(what: dict[str, str]) -> dg.Definitions:
    """What is measured."""
    if what["side"] == "bare":
        return bare(*map(int, what["size"].split("x")))
    snapshot = WarehouseSnapshot.read(Path(what["file"]))
    return PostHogWarehouseComponent(warehouse=_warehouse(what)).build_defs_from_snapshot(snapshot)


def bare(sources: int, tables: int) -> dg.Definitions:
    """The same assets without this package."""
    return dg.Definitions(
        assets=[each for source in range(sources) for each in _bare_source(source, tables)],
        resources={"warehouse": dg.ResourceDefinition.hardcoded_resource(None)},
    )


def _bare_source(source: int, tables: int) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    late = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=12))
    keys = _keys(source, tables)
    origins = [dg.AssetKey(["postgres", *key.path[2:]]) for key in keys]
    specs = [
        dg.AssetSpec(
            key,
            deps=[origin],
            description=f"`{key.path[-1]}` of Postgres ({key.path[2]}), synced by PostHog.",
            group_name=f"postgres_shop_{source:04}",
            kinds={"posthog", "postgres"},
            tags={"posthog/class": "syncable"},
            metadata={
                "posthog/schema_id": f"id of {key.path[-1]} in {source}",
                "posthog/source_id": f"id of {source}",
                "posthog/source_table": key.path[-1],
                "posthog/sync_type": "full_refresh",
                "posthog/cadence": "every 6 hours from 01:11 UTC",
                "posthog/link": dg.MetadataValue.url(f"https://example.com/sources/{source}"),
                "dagster/table_name": f"postgres.{key.path[-1]}",
                "dagster/storage_kind": "posthog",
            },
            freshness_policy=late,
            skippable=True,
        )
        for key, origin in zip(keys, origins, strict=True)
    ]

    @dg.multi_asset(
        name=f"sync_postgres_shop_{source:04}",
        specs=specs,
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={"warehouse"},
    )
    def sync(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        yield from (dg.MaterializeResult(asset_key=key) for key in context.selected_asset_keys)

    above = [
        dg.AssetSpec(
            origin,
            description=f"`{origin.path[-1]}` in Postgres ({origin.path[1]}), where the rows come from.",
            group_name=f"postgres_shop_{source:04}_source",
            kinds={"postgres"},
        )
        for origin in origins
    ]
    return [sync, *above]


def _keys(source: int, tables: int) -> list[dg.AssetKey]:
    return [dg.AssetKey(["posthog", "postgres", f"shop_{source:04}", f"table_{table:05}"]) for table in range(tables)]


def _warehouse(what: dict[str, str]) -> PostHogWarehouseResource:
    return PostHogWarehouseResource(host=what["host"], project_id="1", api_key=dg.EnvVar("POSTHOG_BENCH_KEY"))


def _memory() -> dict[str, float]:
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


PARTS = {"take": take, "load": load, "step": step}


def in_fresh_process(part: str, what: dict[str, str]) -> dict[str, float]:
    """Measure one part in a process that has done nothing else."""
    command = [sys.executable, __file__, "--part", part, "--what", json.dumps(what)]
    environment = os.environ | {"POSTHOG_BENCH_KEY": "phx_bench"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(ended.stdout.splitlines()[-1])


def measure(size: str, *, latency_ms: float, rounds: int) -> list[tuple[object, ...]]:
    """The lines of the table for one size, such as `50x20`: bare Dagster and this package."""
    sources, tables = map(int, size.split("x"))
    with (
        tempfile.TemporaryDirectory() as folder,
        stand_in(sources=sources, tables=tables, latency_ms=latency_ms) as server,
    ):
        what = {"size": size, "host": server.host, "file": str(Path(folder) / "state.json")}
        taken = in_fresh_process("take", what)
        print(f"{size}: state fetched in {taken['seconds']:.1f} s, {_requests(server)} requests,", end=" ")
        print(f"{taken['file_mb']:.1f} MB", flush=True)
        before = _requests(server)
        found = {
            (side, part): [in_fresh_process(part, what | {"side": side})]
            for side in ("bare", "ours")
            for part in ("load", "step")
        }
        for _ in range(rounds - 1):
            for (side, part), each in found.items():
                each.append(in_fresh_process(part, what | {"side": side}))
        if before != _requests(server):
            raise SystemExit("Loading made a request.")
    best = {at: min(each, key=lambda one: one["seconds"]) for at, each in found.items()}
    return [_line(size, side, best) for side in ("bare", "ours")]


def _line(size: str, side: str, best: dict[tuple[str, str], dict[str, float]]) -> tuple[object, ...]:
    loaded, stepped = best[side, "load"], best[side, "step"]
    ratios = [each["seconds"] / best["bare", part]["seconds"] for part, each in (("load", loaded), ("step", stepped))]
    return (
        f"{size} {side}",
        int(loaded["assets"]),
        *(f"{loaded[name]:.2f}" for name in ("build", "repository", "load_all", "seconds")),
        f"{ratios[0]:.2f}",
        f"{loaded['peak_mb']:.0f}",
        f"{stepped['seconds']:.2f}",
        f"{ratios[1]:.2f}",
        f"{stepped['peak_mb']:.0f}",
    )


def _requests(server: StandIn) -> int:
    counts = server.stats().counts
    return counts["other"] + counts["reload"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["100x20", "500x20", "50x200"], help="sources x tables of each")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each answer of the stand-in")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--what", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(PARTS[args.part](args.what)))
        return
    lines = [line for size in args.sizes for line in measure(size, latency_ms=args.latency_ms, rounds=args.rounds)]
    heads = "size", "assets", "build s", "repository s", "load all s", "load s", "ratio", "peak MB", "step s", "ratio"
    print_table((*heads, "peak MB"), lines)


if __name__ == "__main__":
    main()
