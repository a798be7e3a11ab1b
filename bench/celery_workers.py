"""Two workers of Celery in separate homes: a run of 20 sources, a termination, a killed worker; how each ends.

Uses the files of `examples/deployment`: its component, its `dagster.yaml` and its `celery.yaml`. A `dagster dev`
(webserver, daemon, code server) and each worker have their own HOME, TMPDIR and DAGSTER_HOME, as on three machines.
They share what such machines share: the embedded Postgres, Redis, the folder of the state (a bucket), and the
stand-in. Exits with 1 if a sync was lost, reported twice or left running. Needs `redis-server`, on Debian by
`apt-get install redis-server`.
Example: `python bench/celery_workers.py --sources 20 --seconds 45`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import yaml
from dagster_dev import ENDED, DagsterDev, dagster_dev, free_port
from measuring import HERE, StandIn, print_table, stand_in

from dw_orchestration.local.shop.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EXAMPLE = HERE.parent / "examples" / "deployment"
DEFINITIONS = EXAMPLE / "src" / "warehouse_project" / "definitions.py"
TABLES = 3
GIVE_UP_S = 1800.0
# with one worker of two processes, all sources of a run take half their number times a sync, and what it takes to load
SPARE_S = 180
HEADS = ("", "run", "after", "syncs", "cancelled", "reported", "missing", "twice", "left running", "settled after")


@dataclass
class Machines:
    """The processes, and what a run of theirs does."""

    dev: DagsterDev
    server: StandIn
    workers: list[subprocess.Popen[bytes]]
    longest_s: float

    def complete(self) -> tuple[object, ...]:
        """A run that nothing happens to."""
        return self._watched("undisturbed", lambda _: None)

    def terminated(self) -> tuple[object, ...]:
        """A run that a user terminates while its syncs are running."""
        return self._watched("terminated", self.dev.terminate)

    def killed(self) -> tuple[object, ...]:
        """A run that loses one of the two workers, with the steps that it executes. Its time ends it."""
        return self._watched("worker killed", lambda _: _kill(self.workers[0]), max_runtime=f"{self.longest_s:.0f}")

    def _watched(self, name: str, disturb: Callable[[str], None], **tags: str) -> tuple[object, ...]:
        before = self.server.stats()
        run_id = self.dev.launch(**tags)
        # both workers are waiting for syncs
        wait_until(lambda: len(self.server.stats().since(before).job_starts) >= 4 * TABLES)
        began = time.monotonic()
        disturb(run_id)
        wait_until(lambda: self._ends(run_id)[-1] in ENDED)
        ended_s = time.monotonic() - began
        wait_until(lambda: self._is_settled(before))
        settled_s = time.monotonic() - began
        # a report that is one too many would come with the next ticks
        time.sleep(75)
        asked, cancelled = self.server.stats().since(before), self._cancelled()
        reports = self._reports()
        completed = [job for job in asked.job_starts if job not in cancelled]
        return (
            name,
            ", ".join(status.value for status in self._ends(run_id)),
            f"{ended_s:.0f} s",
            len(asked.job_starts),
            len(cancelled & asked.job_starts.keys()),
            sum(reports[job] > 0 for job in completed),
            sum(reports[job] == 0 for job in completed),
            sum(reports[job] > 1 for job in asked.job_starts),
            len(asked.job_starts) - len(asked.job_ends),
            f"{settled_s:.0f} s",
        )

    def _is_settled(self, before: object) -> bool:
        asked, reports, cancelled = self.server.stats().since(before), self._reports(), self._cancelled()
        running = asked.job_starts.keys() - asked.job_ends.keys()
        return not running and all(reports[job] or job in cancelled for job in asked.job_ends)

    def _reports(self) -> Counter[str]:
        """How often each sync was reported: a run repeats what the sensor has reported before it."""
        found: Counter[str] = Counter()
        for key in self.dev.instance.all_asset_keys():
            for record in self.dev.instance.fetch_materializations(key, 5000, ascending=True).records:
                job_id = str(record.asset_materialization.metadata["posthog/job_id"].value)
                found[job_id] += job_id not in found or not record.run_id
        return found

    def _cancelled(self) -> set[str]:
        return set(self.server.stats().cancelled)

    def _ends(self, run_id: str) -> list[dg.DagsterRunStatus]:
        """The status of a run, and of the one that Dagster's run retries launch for it."""
        (record,) = self.dev.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
        run = record.dagster_run
        if run.status is not dg.DagsterRunStatus.FAILURE or run.tags.get("dagster/will_retry") == "false":
            return [run.status]
        retry = run.tags.get("dagster/auto_retry_run_id")
        return [run.status, *(self._ends(retry) if retry else [dg.DagsterRunStatus.QUEUED])]

    def shares(self) -> list[tuple[str, int]]:
        """How many steps each worker has begun."""
        found: Counter[str] = Counter()
        for run in self.dev.instance.get_runs():
            for entry in self.dev.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
                metadata = entry.dagster_event.engine_event_data.metadata
                if "Celery worker" in metadata:
                    found[str(metadata["Celery worker"].value)] += 1
        return sorted(found.items())


def wait_until(predicate: Callable[[], object]) -> None:
    """Ask until the answer is true.

    Raises:
        SystemExit: It is not, after half an hour.
    """
    deadline = time.monotonic() + GIVE_UP_S
    while not predicate():
        if time.monotonic() > deadline:
            raise SystemExit(f"Still not so after {GIVE_UP_S:.0f} s: {predicate}")
        time.sleep(1)


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """End a worker and its processes without a warning; its session is its own."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@contextmanager
def redis() -> Iterator[str]:
    """A Redis that stores nothing, at the address that is given."""
    program, port = shutil.which("redis-server"), str(free_port())
    if program is None:
        raise SystemExit("There is no redis-server. On Debian: apt-get install redis-server")
    process = subprocess.Popen(
        [program, "--port", port, "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def settings(folder: Path, *, port: int) -> str:
    """The example's `dagster.yaml` on this machine: another port, and a folder in place of the volume."""
    given = yaml.safe_load((EXAMPLE / "dagster.yaml").read_text())
    given["storage"]["postgres"]["postgres_db"]["port"] = port
    given["defs_state_storage"]["config"]["base_path"] = (folder / "state").as_uri()
    # a run that has lost a worker ends by its time alone: check that often
    given["run_monitoring"]["poll_interval_seconds"] = 10
    return yaml.safe_dump(given)


def worker(name: str, folder: Path, *, dagster_yaml: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A worker of two processes in its own home."""
    home = folder / name
    for each in ("", "tmp", "dagster"):
        (home / each).mkdir()
    (home / "dagster" / "dagster.yaml").write_text(dagster_yaml)
    own = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "DAGSTER_HOME": str(home / "dagster")}
    program = str(Path(sys.executable).with_name("dagster-celery"))
    arguments = [
        "worker",
        "start",
        "-n",
        name,
        "-A",
        "dagster_celery.app",
        "-y",
        "celery.yaml",
        "--",
        "--concurrency=2",
    ]
    with (home / "worker.log").open("wb") as log:
        return subprocess.Popen(
            [program, *arguments], cwd=EXAMPLE, env=environment | own, stdout=log, stderr=log, start_new_session=True
        )


@contextmanager
def machines(folder: Path, server: StandIn, *, longest_s: float) -> Iterator[Machines]:
    """A `dagster dev` and two workers, on all that they share."""
    with ExitStack() as undo:
        postgres = EmbeddedPostgres(folder / "postgres")
        login = postgres.start()
        undo.callback(postgres.stop)
        broker = undo.enter_context(redis())
        ours = {
            "DAGSTER_PG_HOST": login.host,
            "DAGSTER_PG_USERNAME": login.user,
            "DAGSTER_PG_PASSWORD": login.password,
            "DAGSTER_PG_DB": login.database,
            "CELERY_BROKER": f"{broker}/0",
            "CELERY_BACKEND": f"{broker}/1",
            "CELERY_SETTINGS": str(EXAMPLE / "celery.yaml"),
            "DW_ORCHESTRATION_REQUEST_BUDGET": f"{broker}/2",
            "POSTHOG_HOST": server.host,
            "POSTHOG_PROJECT_ID": "1",
            "POSTHOG_PERSONAL_API_KEY": "phx_bench",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        # this process reads the same storage; all of them import the example
        paths = [str(EXAMPLE / "src"), os.environ.get("PYTHONPATH", "")]
        os.environ.update(ours, PYTHONPATH=os.pathsep.join(filter(None, paths)))
        dagster_yaml = settings(folder, port=login.port)
        dev = undo.enter_context(
            dagster_dev(str(DEFINITIONS), environment={**ours, "HOME": str(folder)}, settings=dagster_yaml)
        )
        workers = []
        for name in ("one", "two"):
            process = worker(name, folder, dagster_yaml=dagster_yaml, environment={**os.environ})
            undo.callback(_kill, process)
            workers.append(process)
        yield Machines(dev, server, workers, longest_s)


def main() -> None:
    """Run, disturb, and print."""
    # the processes have separate sessions, so they would outlive this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=45.0, help="that a sync takes")
    parser.add_argument("--cases", nargs="+", default=["complete", "terminated", "killed"])
    options = parser.parse_args()
    plan = {"sources": options.sources, "tables": TABLES, "sync_seconds": options.seconds, "history": 3}
    with (
        tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder,
        stand_in(**plan, rate_limit=480) as server,
        machines(Path(folder), server, longest_s=options.sources / 2 * options.seconds + SPARE_S) as ours,
    ):
        rows = []
        for each in options.cases:
            rows.append(getattr(ours, each)())
            print_table(HEADS, rows[-1:])
        print_table(("worker", "steps"), ours.shares())
        counts = server.stats().counts
        print(f"{counts['reload']} triggers, {counts['other']} other requests, {counts['throttled']} answers 429")
    print_table(HEADS, rows)
    sys.exit(1 if any(sum(row[6:9]) for row in rows) else 0)


if __name__ == "__main__":
    main()
