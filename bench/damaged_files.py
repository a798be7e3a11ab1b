"""What a damaged file costs: each file that this package or the embedded warehouse keeps, damaged in each way.

Each case starts from a copy of a home with a synced table, a state, a sync history and a rate budget.
The file is truncated, emptied, replaced by garbage, by another version or by a directory, or made unreadable. Then the
definitions are loaded and the table and the history are materialized. Outcomes:

    served      nothing noticed
    recovered   the file was written again
    one error   each step that fails has one sentence that names the file; the cure is to move it away
    TRACEBACK   anything else

Rows are counted at the end. It exits with 1 if any were lost or doubled, after a traceback, or if a cure fails.
Example: `python bench/damaged_files.py --files state.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
from measuring import print_table

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.rate_limit import RateLimits
from dw_orchestration.resources.embedded_process import EmbeddedProcess
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

FILES = (
    "state.json", "sync_history.duckdb", "rate/budget.sqlite", "endpoint.json",
    "state.sqlite", "state.sqlite-wal", "warehouse.duckdb", "staging", "server.lock", "lease.lock", "server.log",
    "start.log", "endpoint.draft",
)  # fmt: skip
DAMAGES = ("truncated", "emptied", "garbage", "version", "unreadable", "directory")
ROWS = 5
KEY = "posthog/stripe/customer"


@dataclass(frozen=True)
class Use:
    """What an attempt to use everything came to.

    Attributes:
        errors: The errors, one sentence each.
        is_traceback: Whether one of them is from outside this package.
    """

    errors: tuple[str, ...]
    is_traceback: bool


class Home:
    """A folder with everything in it."""

    def __init__(self, folder: Path, fixtures: Path) -> None:
        self.folder = folder
        self.fixtures = fixtures

    @property
    def resource(self) -> LocalWarehouse:
        """Its embedded warehouse."""
        return LocalWarehouse(home=str(self.folder), shop=False, fixtures=str(self.fixtures), start_timeout_s=30)

    def component(self) -> PostHogWarehouseComponent:
        """The component that uses its files."""
        return PostHogWarehouseComponent(
            warehouse=self.resource,
            state_file=self.folder / "state.json",
            history_database=self.folder / "sync_history.duckdb",
        )

    def make(self) -> None:
        """Sync a table, and let everything else write its file."""
        self.add_source()
        if (use := self.use()).errors:
            raise SystemExit(f"The home does not work before any damage: {use.errors}")
        self.resource.stop()

    def add_source(self) -> None:
        """Add the source, sync its table and fetch the state."""
        warehouse = EmbeddedWarehouse(self.resource)
        warehouse.reset()
        shutil.rmtree(self.fixtures, ignore_errors=True)
        warehouse.add_source("Stripe", tables={"Customer": [{"id": number} for number in range(ROWS)]})
        warehouse.sync("Customer")
        warehouse.client.close()
        self.component().write_state_to_path(self.folder / "state.json")

    def use(self) -> Use:
        """Load the definitions, materialize the table and the history, and count a request; what went wrong."""
        errors: list[str] = []
        is_traceback = False
        try:
            defs = dg.build_defs_for_component(self.component())
            specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
            if KEY not in specs:
                (only,) = specs.values()
                return Use((only.description or "",), is_traceback=False)
            for key in (KEY, "posthog_warehouse/sync_history"):
                errors += _materialize(defs, key)
            self._request()
        except Exception as error:  # noqa: BLE001  what a campaign counts
            is_traceback = not type(error).__module__.startswith("dw_orchestration")
            errors.append(f"{type(error).__name__}: {error}")
        return Use(tuple(errors), is_traceback or any("Traceback" in each or "?!" in each for each in errors))

    def rows(self) -> tuple[int, int]:
        """How many rows the table has, and how many different ones; none if it is not there."""
        try:
            with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
                found = connection.execute("SELECT count(*), count(DISTINCT id) FROM stripe.customer").fetchone()
        except duckdb.Error:
            return 0, 0
        return found or (0, 0)

    def _request(self) -> None:
        endpoint = EmbeddedProcess(self.folder, shop=False, fixtures=self.fixtures).ensure_running()
        limits = RateLimits(per_minute=100, per_hour=1000, folder=self.folder / "rate")
        where = endpoint["host"], endpoint["project_id"], endpoint["api_key"]
        with PostHogWarehouseClient(*where, rate_limits=limits) as client:
            list(client.list_sources())
        for file in (self.folder / "rate").glob("*.sqlite"):
            if file.name != "budget.sqlite":
                self.budget = file


def _materialize(defs: dg.Definitions, key: str) -> list[str]:
    """Materialize an asset; the sentence of its failure, marked where it is from outside it."""
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(key.split("/"))], raise_on_error=False
        )
    failures = [event.step_failure_data for event in result.all_node_events if event.is_step_failure]
    return [
        each.user_failure_data.description or "" if each.user_failure_data else f"?! {each.error}" for each in failures
    ]


def damage(path: Path, kind: str) -> None:
    """Damage a file, or put a damaged one in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    old = path.read_bytes() if path.exists() else b""
    match kind:
        case "truncated":
            path.write_bytes(old[: len(old) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(os.urandom(max(len(old), 4096)))
        case "version":
            _other_version(path, old)
        case "unreadable":
            path.write_bytes(old)
            path.chmod(0)
        case _:
            path.unlink(missing_ok=True)
            path.mkdir()


def _other_version(path: Path, old: bytes) -> None:
    if path.name == "state.sqlite":
        with contextlib.closing(sqlite3.connect(path)) as state:
            state.execute("PRAGMA user_version = 99")
    elif old[8:12] == b"DUCK":
        # the version of the storage is in the eight bytes that follow
        path.write_bytes(old[:12] + (9999).to_bytes(8, "little") + old[20:])
    elif path.suffix == ".json" and old:
        path.write_text(json.dumps({**json.loads(old), "version": 99}))
    else:
        path.write_text('{"version": 99}')


def measure(options: argparse.Namespace) -> list[tuple[object, ...]]:
    """The cases, one row each."""
    lines: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        good = Home(Path(folder, "good"), Path(folder, "fixtures"))
        good.make()
        (good.budget).rename(good.folder / "rate" / "budget.sqlite")
        for name in options.files:
            for kind in options.damages:
                started = time.monotonic()
                home = Home(Path(folder, f"{name.replace('/', '_')}-{kind}"), good.fixtures)
                shutil.copytree(good.folder, home.folder, ignore=shutil.ignore_patterns("*.lock"))
                lines.append((*case(home, name, kind, budget=good.budget.name), f"{time.monotonic() - started:.0f} s"))
                print(*lines[-1], sep=" | ", file=sys.stderr, flush=True)
    return lines


def case(home: Home, name: str, kind: str, *, budget: str) -> tuple[object, ...]:
    """Damage one file of a home, use it, apply the cure if there was an error, and use it again."""
    path = home.folder / (f"rate/{budget}" if name == "rate/budget.sqlite" else name)
    (home.folder / "rate" / "budget.sqlite").rename(home.folder / "rate" / budget)
    damage(path, kind)
    before = _content(path)
    use = home.use()
    outcome, cured = "served" if before == _content(path) else "recovered", "-"
    if use.errors:
        is_named = all(path.name in each for each in use.errors)
        outcome = "one error" if is_named and not use.is_traceback else "TRACEBACK"
        _stop(home)
        if path.exists():
            path.rename(home.folder / "moved_away")
        if name == "state.sqlite":
            home.add_source()  # the cure says that it begins without sources
        again = home.use()
        cured = "works" if not again.errors else f"FAILS: {again.errors[0][:60]}"
    _stop(home)
    rows, distinct = home.rows()
    return (
        name,
        kind,
        outcome,
        cured,
        ROWS - distinct,
        rows - distinct,
        (use.errors or ("",))[0][:100].replace("\n", " "),
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _stop(home: Home) -> None:
    with contextlib.suppress(Exception):
        home.resource.stop()


def _as_a_user() -> None:
    """Start again without root's right to read everything: permissions would mean nothing."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv and "CAMPAIGN_AS_USER" not in os.environ:
        os.environ["CAMPAIGN_AS_USER"] = "1"
        rights = "-dac_override,-dac_read_search"
        command = ["--bounding-set", rights, "--inh-caps", rights, sys.executable, *sys.argv]
        os.execv(setpriv, [setpriv, *command])  # noqa: S606  our own script


def main() -> None:
    """Damage, use and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", default=FILES, choices=FILES, metavar="FILE", help=", ".join(FILES))
    parser.add_argument("--damages", nargs="+", default=DAMAGES, choices=DAMAGES)
    options = parser.parse_args()
    _as_a_user()
    lines = measure(options)
    print_table(("file", "damage", "outcome", "after the cure", "lost", "doubled", "error", "took"), lines)
    outcomes = [str(line[2]) for line in lines]
    print({outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))})
    sys.exit(
        1 if any(line[2] == "TRACEBACK" or line[3] not in ("-", "works") or line[4] or line[5] for line in lines) else 0
    )


if __name__ == "__main__":
    main()
