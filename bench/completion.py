"""How long a run holds its slot, with `wait: false` and with `wait: true`, for the same syncs.

With `wait: false`, the first run ends when the syncs have started, and the job-status sensor requests another run when
they have ended, for all that it finds in one tick. All of them run in a real `dagster dev` (daemon, sensors, SQLite)
against the stand-in.
Example: `python bench/completion.py --tables 20 --seconds 60`.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import dagster as dg
from dagster_dev import DagsterDev, FinishedRun, dagster_dev
from measuring import StandIn, print_table, stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping

SPARE_S = 300


def measure(
    server: StandIn, *, wait: bool, tables: int, within_s: float
) -> tuple[list[FinishedRun], list[float], Mapping[str, int]]:
    """The runs for one sync of every table, the seconds of their steps, and the requests."""
    environment = {
        "BENCH_HOST": server.host,
        "BENCH_STEP_PER": "source",
        "BENCH_WHOLE": "yes",
        "BENCH_WAIT": "yes" if wait else "no",
    }
    with dagster_dev("fan_out_defs.py", environment=environment) as dev:
        before = server.stats()
        run_id = dev.launch()
        runs, steps_s = [dev.finish(run_id, within_s=within_s)], [_step_s(dev, run_id)]
        deadline = time.monotonic() + within_s
        while sum(len(run.materialized) for run in runs) < tables:
            later_id = _next_run(dev, known=len(runs), deadline=deadline)
            runs.append(dev.finish(later_id, within_s=within_s))
            steps_s.append(_step_s(dev, later_id))
        return runs, steps_s, server.stats().since(before).counts


def _next_run(dev: DagsterDev, *, known: int, deadline: float) -> str:
    while time.monotonic() < deadline:
        runs = dev.instance.get_runs()
        if len(runs) > known:
            return runs[-known - 1].run_id
        time.sleep(1)
    raise TimeoutError("A sync was reported by no run.")


def _step_s(dev: DagsterDev, run_id: str) -> float:
    """From the first step's start to the last one's end: without the start of processes."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
    times = [entry.timestamp for entry in dev.instance.all_logs(run_id, of_type=kinds)]
    return max(times) - min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=20, help="of one source")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a sync takes")
    args = parser.parse_args()
    rows = []
    for wait in (True, False):
        with stand_in(sources=1, tables=args.tables, sync_seconds=args.seconds, history=1, rate_limit=480) as server:
            runs, steps_s, counts = measure(server, wait=wait, tables=args.tables, within_s=args.seconds + SPARE_S)
        for number, (run, step_s) in enumerate(zip(runs, steps_s, strict=True), start=1):
            rows.append(
                (
                    f"wait: {str(wait).lower()}, run {number}",
                    run.status,
                    f"{run.seconds:.1f}",
                    f"{step_s:.1f}",
                    len(run.materialized),
                    counts["reload"] if number == 1 else 0,
                )
            )
    print_table(["", "status", "slot, s", "of it in the step, s", "materialized", "triggers"], rows)


if __name__ == "__main__":
    main()
