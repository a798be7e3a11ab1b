"""Many tables of one source in one run: requests, time from a sync's end to its asset's event, memory.

Runs in a real `dagster dev` (webserver, daemon, code server, default executor, SQLite), launched over GraphQL, against
the stand-in with PostHog's limit of 480 requests a minute. Requests are counted by the stand-in, from the run's launch
to its end. Example: `python bench/fan_out.py --tables 100 --seconds 60`.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import psutil
from dagster_dev import FinishedRun, dagster_dev
from measuring import Memory, StandIn, Stats, print_table, stand_in

SPARE_S = 900


@dataclass(frozen=True)
class FanOut:
    """One run: what it wrote, what it asked, what it took.

    Attributes:
        run: The run.
        asked: What the stand-in saw of it.
        memory: Of the processes below `dagster dev`.
        load_requests: Requests to load the code location, before the run.
    """

    run: FinishedRun
    asked: Stats
    memory: Memory
    load_requests: int

    @property
    def delays_s(self) -> list[float]:
        """From each job's end to its asset's event, shortest first."""
        ends = self.asked.job_ends
        return sorted(at - ends[job] for job, at in self.run.materialized.items())

    @property
    def step_mb(self) -> float:
        """The most memory of a step's process."""
        return max((self.memory.rss_mb.get(pid, 0.0) for pid in self.run.step_pids), default=0.0)


def measure(server: StandIn, *, step_per: str, whole: bool, within_s: float) -> FanOut:
    """Sync every table of a stand-in in one run."""
    environment = {
        "BENCH_HOST": server.host,
        "BENCH_STEP_PER": step_per,
        "BENCH_WHOLE": "yes" if whole else "no",
    }
    with dagster_dev("fan_out_defs.py", environment=environment) as dev:
        loaded = server.stats()
        with Memory(psutil.Process(dev.process.pid)).sampled() as memory:
            run = dev.finish(dev.launch(), within_s=within_s)
            asked = server.stats().since(loaded)
    return FanOut(run, asked, memory, loaded.counts["other"])


def report(found: FanOut, *, tables: int) -> None:
    """Print each figure, and its target if it has one."""
    delays = found.delays_s or [float("nan")]
    is_small = tables <= 100
    counts = found.asked.counts
    rows = [
        ("run", found.run.status, "SUCCESS"),
        ("run, seconds", f"{found.run.seconds:.1f}", ""),
        ("tables materialized", len(found.run.materialized), tables),
        ("materializations", found.run.materializations, tables),
        ("triggers", counts["reload"], f"<= {tables}"),
        ("triggers dropped", counts["dropped"], "0"),
        ("other requests", counts["other"], "<= 60" if is_small else "<= 300"),
        ("answers 429", counts["throttled"], "0"),
        ("requests to load, before the run", found.load_requests, ""),
        ("most syncs at once", found.asked.most_at_once, ""),
        ("end to event, median s", f"{statistics.median(delays):.2f}", "<= 3" if is_small else ""),
        ("end to event, 95th percentile s", f"{delays[int(0.95 * (len(delays) - 1))]:.2f}", ""),
        ("end to event, most s", f"{delays[-1]:.2f}", ""),
        ("step's process, most RSS MB", f"{found.step_mb:.0f}", "< 250" if is_small else ""),
        ("events of the run", found.run.events, ""),
        ("events a table", f"{found.run.table_events / tables:.1f}", "<= 8"),
    ]
    print_table(["", "measured", "target"], rows)
    print_table(["request", "times"], [(kind, n) for kind, n in sorted(counts.items()) if " " in kind])
    if found.run.failure:
        print(found.run.failure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="that a sync takes")
    parser.add_argument("--spread", type=float, default=0.0, help="0.5: syncs take from half to one and a half of it")
    parser.add_argument("--history", type=int, default=3, help="completed syncs of each table before the run")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each answer of the stand-in")
    parser.add_argument("--whole", action="store_true", help="with sensors and schedules, which ask too")
    args = parser.parse_args()
    options = {"tables": args.tables, "sync_seconds": args.seconds, "spread": args.spread, "history": args.history}
    with stand_in(sources=1, latency_ms=args.latency_ms, rate_limit=480, **options) as server:
        found = measure(server, step_per="source", whole=args.whole, within_s=args.tables + args.seconds + SPARE_S)
    report(found, tables=args.tables)


if __name__ == "__main__":
    main()
