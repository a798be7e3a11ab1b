"""What SIGKILL costs in the middle of syncs: rows lost or doubled, jobs left Running, events missing or doubled.

Three tables (full refresh, merged, appended) get more rows in each round, and a run syncs them while a real Dagster
daemon reports. The victim is killed at a random moment: the embedded warehouse's process while the run waits for it,
the process of the run's step, or the daemon with its code server. A killed run is executed again, a failed one too.
Exits with 1 if anything was lost or doubled.
Example: `python bench/kill_campaign.py --kills 10 --victims warehouse step daemon`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from measuring import HERE, print_table

from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing.behaviours import runs_for
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCATION = HERE / "killed_defs.py"
BY_ID = {"incremental_field": "id", "incremental_field_type": "integer", "primary_key_columns": ["id"]}
TABLES = {
    "refreshed": ("Stripe", "full_refresh", {}),
    "merged": ("Hubspot", "incremental", BY_ID),
    "appended": ("Zendesk", "append", BY_ID),
}
SYNC_S = 1.0
GIVE_UP_S = 300.0
HEADS = (
    "victim", "kills", "rows lost", "rows doubled", "jobs left Running", "runs taken up", "completed syncs",
    "events missing", "events doubled", "longest recovery",
)  # fmt: skip


@dataclass
class Score:
    """What one kind of victim has cost."""

    kills: int = 0
    lost: int = 0
    doubled: int = 0
    left_running: int = 0
    taken_up: int = 0
    longest_s: float = 0.0
    jobs: set[str] = field(default_factory=set)


@dataclass
class Campaign:
    """The processes that are killed, and what they work on."""

    home: Path
    warehouse: EmbeddedWarehouse
    instance: dg.DagsterInstance
    rng: random.Random
    rows_each_round: int
    rows: int = 0
    daemon: subprocess.Popen[bytes] | None = None

    def grow(self) -> None:
        """Give every table more rows, and let its syncs take their time."""
        self.rows += self.rows_each_round
        for name in TABLES:
            self.warehouse.set_rows(
                name, [{"id": number, "text": f"row {number}"} for number in range(1, self.rows + 1)]
            )
        self.slow_down()

    def slow_down(self) -> None:
        """Let syncs last long enough to be hit; a new process of the warehouse has forgotten it."""
        self.warehouse.resource.ensure_running()
        self.warehouse.reset()
        for name in TABLES:
            self.warehouse.behave(name, runs_for(SYNC_S))

    def start_run(self, parent: str | None = None) -> subprocess.Popen[bytes]:
        """Start a run in a separate process, which its step runs in too."""
        log = (self.home / "runs.log").open("ab")
        command = [sys.executable, str(LOCATION), *([parent] if parent else [])]
        return subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log, cwd=self.home)

    def start_daemon(self) -> None:
        """Start the daemon, with the code server that it starts."""
        log = (self.home / "daemon.log").open("ab")
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-f", str(LOCATION)]
        self.daemon = subprocess.Popen(
            command, env=self._environment(), stdout=log, stderr=log, cwd=self.home, start_new_session=True
        )

    def kill_daemon(self) -> None:
        """End the daemon and its code server without a warning."""
        if self.daemon is not None:
            os.killpg(self.daemon.pid, signal.SIGKILL)
            self.daemon.wait()

    def running(self) -> int:
        """How many jobs are Running."""
        return sum(job.status is JobStatus.RUNNING for name in TABLES for job in self.warehouse.jobs(name))

    def completed(self) -> set[str]:
        """The ids of all syncs that completed."""
        jobs = [job for name in TABLES for job in self.warehouse.jobs(name)]
        return {job.id for job in jobs if job.status is JobStatus.COMPLETED}

    def reports(self) -> Counter[tuple[str, str]]:
        """How often the end of each sync is in the event log, by its id and the run's; the sensor's have none.

        That of a sync which a later one has overtaken is a note. A run repeats as its result what the sensor has
        reported.
        """
        keys = [asset_key(table) for table in Tables(self.warehouse.snapshot(), include_disabled=True)]
        found = [each for key in keys for each in self.instance.fetch_materializations(key, 5000).records]
        found += [each for key in keys for each in self.instance.fetch_observations(key, 5000).records]
        events = [(each.asset_materialization or each.asset_observation, each.run_id) for each in found]
        return Counter((str(event.metadata["posthog/job_id"].value), run) for event, run in events if _is_end(event))

    def reported(self) -> set[str]:
        """The syncs whose end is in the event log."""
        return {job for job, _ in self.reports()}

    def round(self, victim: str, score: Score) -> None:
        """One kill, and all that it takes until the tables are complete again."""
        before = self.completed()
        self.grow()
        known = {job.id for name in TABLES for job in self.warehouse.jobs(name)}
        run = self.start_run()
        wait_until(lambda: {job.id for name in TABLES for job in self.warehouse.jobs(name)} - known)
        time.sleep(self.rng.uniform(0.0, 2.0 * SYNC_S))
        killed_at = time.monotonic()
        self._kill(victim, run)
        score.kills += 1
        if run.wait(GIVE_UP_S) != 0:
            score.taken_up += 1
            self._take_up()
        wait_until(lambda: not self.running())
        score.longest_s = max(score.longest_s, time.monotonic() - killed_at)
        score.left_running += self.running()
        for name in TABLES:
            ids = [row["id"] for row in self.warehouse.rows(name)]
            score.lost += self.rows - len(set(ids))
            score.doubled += len(ids) - len(set(ids))
        score.jobs |= self.completed() - before

    def _kill(self, victim: str, run: subprocess.Popen[bytes]) -> None:
        match victim:
            case "warehouse":
                os.kill(self.warehouse.resource.ensure_running()["pid"], signal.SIGKILL)
            case "step":
                run.kill()
            case _:
                self.kill_daemon()
                self.start_daemon()

    def _take_up(self) -> None:
        """Execute the run again until it succeeds."""
        for _ in range(3):
            (record, *_) = self.instance.get_run_records(limit=1)
            if self.start_run(record.dagster_run.run_id).wait(GIVE_UP_S) == 0:
                return
        raise SystemExit(f"The run does not recover; see {self.home / 'runs.log'}")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DAGSTER_HOME": str(self.home), "CAMPAIGN": str(self.home)}


def _is_end(event: dg.AssetMaterialization | dg.AssetObservation) -> bool:
    return isinstance(event, dg.AssetMaterialization) or "posthog/status" in event.metadata


def wait_until(predicate: Callable[[], object], *, within_s: float = GIVE_UP_S) -> bool:
    """Ask until the answer is true; whether it was in time."""
    deadline = time.monotonic() + within_s
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def campaign(home: Path, *, seed: int, rows: int) -> Iterator[Campaign]:
    """The warehouse with its tables synced once, a Dagster instance, and a daemon."""
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with ExitStack() as undo:
        resource = LocalWarehouse(home=str(home / "warehouse"), shop=False, fixtures=str(home / "fixtures"))
        undo.callback(resource.stop)
        warehouse = EmbeddedWarehouse(resource)
        undo.callback(warehouse.client.close)
        warehouse.reset()
        for name, (source_type, sync_type, settings) in TABLES.items():
            first = [{"id": number, "text": f"row {number}"} for number in range(1, rows + 1)]
            warehouse.add_source(source_type, tables={name: first}, sync_type=sync_type, **settings)
            warehouse.sync(name)
        warehouse.snapshot().write(home / "state.json")
        instance = undo.enter_context(dg.DagsterInstance.from_config(str(home)))
        rng = random.Random(seed)  # noqa: S311  moments of kills
        ours = Campaign(home, warehouse, instance, rng, rows, rows=rows)
        ours.start_daemon()
        undo.callback(ours.kill_daemon)
        # the sensor begins with the newest sync of each table
        wait_until(lambda: len(ours.reported()) == len(TABLES))
        yield ours


def measure(home: Path, options: argparse.Namespace) -> bool:
    """Kill each victim as often as asked for, let the daemon catch up, and print; whether it cost nothing."""
    scores = {victim: Score() for victim in options.victims}
    with campaign(home, seed=options.seed, rows=options.rows) as ours:
        for victim, score in scores.items():
            for number in range(options.kills):
                ours.round(victim, score)
                print(f"{victim} {number + 1}/{options.kills}", file=sys.stderr, flush=True)
        everything = ours.completed()
        wait_until(lambda: everything <= ours.reported(), within_s=120)
        reports = ours.reports()
    print_table(HEADS, [_line(victim, score, reports) for victim, score in scores.items()])
    return not any(any((s.lost, s.doubled, s.left_running, *_events(s, reports))) for s in scores.values())


def _events(score: Score, reports: Counter[tuple[str, str]]) -> tuple[int, int]:
    """How many events are missing, and how many are there twice."""
    missing = score.jobs - {job for job, _ in reports}
    return len(missing), sum(count - 1 for (job, _), count in reports.items() if job in score.jobs)


def _line(victim: str, score: Score, reports: Counter[tuple[str, str]]) -> tuple[object, ...]:
    costs = (score.kills, score.lost, score.doubled, score.left_running, score.taken_up, len(score.jobs))
    return (victim, *costs, *_events(score, reports), f"{score.longest_s:.1f} s")


def main() -> None:
    """Kill, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each victim")
    parser.add_argument("--victims", nargs="+", default=["warehouse", "step", "daemon"])
    parser.add_argument("--rows", type=int, default=2_000, help="that each table gets in each round")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measure(Path(folder), options) else 1)


if __name__ == "__main__":
    main()
