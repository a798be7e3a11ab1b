"""Fifty sources of one table each, 20 s a sync, in one run: this package, dagster-fivetran and dagster-airbyte.

All in `dagster dev` with the default executor, each against a stand-in of its API. This package makes a step of each
source, its default, and one of the whole project; the others make one of each connector, which is all they can. For the
others, give the folder with their own measurement (`bench_fan.py`, `common.py`) in `--peers`; without it only this
package is measured. They take some eleven minutes each. Example: `python bench/against_peers.py --peers ../peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fan_out import FanOut, measure
from measuring import print_table, stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = {"fivetran": "dagster-fivetran 0.29.27", "airbyte": "dagster-airbyte 0.29.27"}
PACKAGES = (
    "dagster==1.13.27",
    "dagster-webserver==1.13.27",
    "dagster-graphql==1.13.27",
    "dagster-fivetran==0.29.27",
    "dagster-airbyte==0.29.27",
    "starlette",
    "uvicorn",
    "responses",
    "requests",
)
# Their own measurement of one of them, with as many tables as ours and the default concurrency.
MEASURE_PEER = """
import json, sys
import bench_fan, common
class Server(common.Mock):
    def config(self, **settings):
        super().config(**{**settings, "tables": int(sys.argv[2])})
print(json.dumps(bench_fan.peer(Server(), sys.argv[1], None)))
"""
HEADS = ("", "ended", "run s", "tables", "requests", "most syncs at once", "extra processes", "extra memory MB")
Row = tuple[object, ...]


def ours(args: argparse.Namespace, *, step_per: str) -> Row:
    """Measure this package; requests are those of the run, as for the others."""
    plan = {"sources": args.sources, "tables": args.tables, "sync_seconds": args.seconds}
    with stand_in(**plan) as server:
        found = measure(server, step_per=step_per, whole=False, within_s=3600)
    return (f"dw_orchestration, a step per {step_per}", *_figures(found))


def _figures(found: FanOut) -> Row:
    counts = found.asked.counts
    return (
        found.run.status,
        f"{found.run.seconds:.1f}",
        len(found.run.materialized),
        counts["reload"] + counts["other"],
        found.asked.most_at_once,
        found.memory.processes,
        f"{found.memory.pss_mb:.0f}",
    )


def peer(args: argparse.Namespace, kind: str, *, python: Path, folder: Path) -> Row:
    """Measure one of the others with its own measurement, in a separate process and environment."""
    environment = {
        **os.environ,
        "PEERS_FAN_N": str(args.sources),
        "PEERS_FAN_SYNC_S": str(args.seconds),
        "PEERS_RESULTS": str(folder / "results"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(python), "-c", MEASURE_PEER, kind, str(args.tables)]
    ended = subprocess.run(command, cwd=args.peers, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(ended.stdout.splitlines()[-1])
    names = ("status", "run_s", "materializations", "requests", "most_remote_syncs_at_once")
    extra = (found["extra_processes_peak"], found["extra_memory_mb_peak"])
    return (PEERS[kind], *(found[name] for name in names), *extra)


def peers_python(args: argparse.Namespace, *, folder: Path) -> Path:
    """The given interpreter, or one of a new environment with the others in it."""
    if args.peers_python:
        return args.peers_python
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=50)
    parser.add_argument("--tables", type=int, default=1, help="of each source")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a sync takes")
    parser.add_argument(
        "--step-per",
        nargs="+",
        default=["source", "project"],
        choices=["project", "source", "table"],
        help="of this package",
    )
    parser.add_argument("--peers", type=Path, help="the folder with the others' measurement")
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has them; by default one is made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        for row in measurements(args, folder=folder):
            rows.append(row)
            print_table(HEADS, rows)


def measurements(args: argparse.Namespace, *, folder: Path) -> Iterator[Row]:
    """A row for each, as they end: they take long."""
    for step_per in args.step_per:
        yield ours(args, step_per=step_per)
    if args.peers:
        python = peers_python(args, folder=folder)
        for kind in PEERS:
            yield peer(args, kind, python=python, folder=folder)


if __name__ == "__main__":
    main()
