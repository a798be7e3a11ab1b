"""The embedded warehouse as a process: started, killed, left alone, started twice."""

from __future__ import annotations

import fcntl
import json
import signal
import sqlite3
import ssl
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dw_orchestration.local.process import Idleness, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import WaitUntil
    from tests.local.conftest import Orders, Servers

COMMAND = [sys.executable, "-m", "dw_orchestration.local"]
RESTARTED = "The worker was restarted before this sync finished."


class Process:
    """An embedded warehouse in a separate process."""

    def __init__(self, home: Path, *options: str, wait_until: WaitUntil) -> None:
        self.home = home
        self.wait_until = wait_until
        self.child = subprocess.Popen([*COMMAND, "--home", str(home), *options], stdout=subprocess.PIPE, text=True)
        assert self.child.stdout is not None
        self.first_line = self.child.stdout.readline()
        self.endpoint = json.loads((home / "endpoint.json").read_text())
        self.client = httpx.Client(
            base_url=f"{self.endpoint['host']}/api/projects/{self.endpoint['project_id']}",
            headers={"Authorization": f"Bearer {self.endpoint['api_key']}"},
            timeout=120,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # no certificates to load
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the API, and return its answer."""
        response = self.client.request(method, path, **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def jobs(self, source: str) -> list[dict[str, Any]]:
        """The jobs of a source, newest first."""
        jobs: list[dict[str, Any]] = self.call("GET", f"external_data_sources/{source}/jobs/")
        return jobs

    def schema(self, source: str) -> dict[str, Any]:
        """The only schema of a source."""
        (schema,) = self.call("GET", f"external_data_sources/{source}/")["schemas"]
        return dict(schema)

    def wait_for(self, source: str, status: str) -> dict[str, Any]:
        """Wait until the newest job has a status; that job."""
        self.wait_until(lambda: [job["status"] for job in self.jobs(source)[:1]] == [status])
        return self.jobs(source)[0]

    def end(self, signal_number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal_number)
        status = self.child.wait(timeout=120)
        assert self.child.stdout is not None
        self.child.stdout.close()
        self.client.close()
        return status


@pytest.fixture
def start_process(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Callable[..., Process]]:
    """A way to start processes that end with the test."""
    started: list[Process] = []

    def start(*options: str) -> Process:
        started.append(Process(tmp_path / "home", "--leave-after", "0", *options, wait_until=wait_until))
        return started[-1]

    yield start
    for process in started:
        process.end()


def test_kill_in_the_middle_of_a_sync(start_process: Callable[..., Process], orders: Orders) -> None:
    """After kill -9 the job is Failed, the table is the last good one, and a successor follows by itself."""
    first = start_process()
    body = {"source_type": "Postgres", "payload": orders.payload}
    source = first.call("POST", "external_data_sources/", json=body)["id"]
    first.wait_for(source, "Completed")
    orders.database.execute("DELETE FROM orders WHERE id > 40")
    path = f"external_data_schemas/{first.schema(source)['id']}/reload/"
    with orders.locked():
        first.call("POST", path)
        killed = first.wait_for(source, "Running")
        first.end(signal.SIGKILL)
        second = start_process()
        second.wait_until(lambda: len(second.jobs(source)) == 3)
        assert "Running" == second.jobs(source)[0]["status"]
        newest = second.jobs(source)[1]
        assert (killed["id"], "Failed", RESTARTED) == (newest["id"], newest["status"], newest["latest_error"])
        assert 100 == second.schema(source)["table"]["row_count"]
        assert [] == list((second.home / "staging").glob(f"{killed['id']}*"))
    assert 40 == second.wait_for(source, "Completed")["rows_synced"]
    assert 40 == second.schema(source)["table"]["row_count"]


def test_a_commit_before_the_kill_counts(servers: Servers, invoices: str) -> None:
    """A job that had committed when its process was killed is Completed at the next start, with its figures."""
    server = servers.running[0]
    path = f"external_data_schemas/{server.schema(invoices, 'invoices')['id']}/reload/"
    server.call("POST", path)
    (job,) = server.settle(invoices)
    server.warehouse.stop()
    # what a kill between the two commits leaves: rows in the warehouse, a running job in the state
    with closing(sqlite3.connect(server.home / "state.sqlite", isolation_level=None)) as state:
        state.execute("UPDATE jobs SET status = 'Running', finished_at = NULL, rows_synced = 0")
        state.execute("UPDATE schemas SET status = 'Running', synced = NULL, last_synced_at = NULL")
    again = servers.start()
    (settled,) = again.jobs(invoices)
    schema = again.schema(invoices, "invoices")
    assert (job["id"], "Completed", 3) == (settled["id"], settled["status"], settled["rows_synced"])
    assert ("Completed", job["created_at"], 3) == (
        schema["status"],
        schema["last_synced_at"],
        schema["table"]["row_count"],
    )


def test_terminate_ends_running_syncs(start_process: Callable[..., Process], orders: Orders) -> None:
    """SIGTERM ends the process in good order; a running sync is Failed by then."""
    first = start_process()
    with orders.locked():
        body = {"source_type": "Postgres", "payload": orders.payload}
        source = first.call("POST", "external_data_sources/", json=body)["id"]
        first.wait_for(source, "Running")
        assert 0 == first.end()
    second = start_process()
    assert [("Failed", RESTARTED)] == [(job["status"], job["latest_error"]) for job in second.jobs(source)]


def test_one_process_for_a_home(start_process: Callable[..., Process]) -> None:
    """A second start says that one is running, and ends well; endpoint.json stays the first one's."""
    first = start_process()
    second = subprocess.run(
        [*COMMAND, "--home", str(first.home)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (0, True) == (second.returncode, "running already" in second.stdout)
    assert first.child.pid == json.loads((first.home / "endpoint.json").read_text())["pid"]


def test_endpoint_and_state_are_private(start_process: Callable[..., Process]) -> None:
    """What holds keys and passwords is for the owner's eyes, and no key gets into the log."""
    process = start_process()
    modes = {stat.S_IMODE((process.home / name).stat().st_mode) for name in ("endpoint.json", "state.sqlite")}
    assert {0o600} == modes
    assert process.endpoint["api_key"] not in (process.home / "server.log").read_text()
    assert str(process.home / "warehouse.duckdb") == process.endpoint["database"]


def test_the_key_outlives_a_restart(start_process: Callable[..., Process]) -> None:
    """A client that outlives the server continues with the key it has."""
    first = start_process()
    first.end()
    assert first.endpoint["api_key"] == start_process().endpoint["api_key"]


def test_key_command(start_process: Callable[..., Process]) -> None:
    """`key` prints a key of the given scope, for a server that is running."""
    process = start_process()
    command = [*COMMAND, "key", "--home", str(process.home), "--scope", "external_data_source:read"]
    key = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    answers = [
        process.client.request(method, "external_data_sources/", headers=headers).status_code
        for method in ("GET", "POST")
    ]
    assert [200, 403] == answers


def test_leaves_when_unused(tmp_path: Path, wait_until: WaitUntil) -> None:
    """While a client holds the lease the process stays; without one it ends by itself."""
    home = tmp_path / "home"
    home.mkdir()
    with (home / "lease.lock").open("a") as lease:
        fcntl.flock(lease, fcntl.LOCK_SH)
        process = Process(home, "--leave-after", "0.1", wait_until=wait_until)
        with pytest.raises(subprocess.TimeoutExpired):
            process.child.wait(timeout=1.5)  # at least one look at the lease
    assert 0 == process.child.wait(timeout=120)
    process.end()


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    """The server's side of a lease."""
    with closing(Lease(tmp_path / "lease.lock")) as lease:
        yield lease


def test_idleness_is_measured_on_end(tmp_path: Path, lease: Lease) -> None:
    """Only an unbroken time without clients counts, and at its end new clients wait outside."""
    times = iter([0.0, 14.0, 16.0, 30.0, 31.0])
    idleness = Idleness(lease, limit_s=15, clock=lambda: next(times))
    assert [False, False] == [idleness.is_over() for _ in range(2)]
    with (tmp_path / "lease.lock").open("a") as client:
        fcntl.flock(client, fcntl.LOCK_SH)
        assert False is idleness.is_over()
    assert [False, False, True] == [idleness.is_over() for _ in range(3)]
    with (tmp_path / "lease.lock").open("a") as client, pytest.raises(BlockingIOError):
        fcntl.flock(client, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_zero_means_never(lease: Lease) -> None:
    """With a limit of zero the server never leaves by itself."""
    assert False is Idleness(lease, limit_s=0).is_over()


def test_shop(start_process: Callable[..., Process]) -> None:
    """With the shop the first start syncs five tables at once; a restart finds the shop again."""
    first = start_process("--shop")
    (source,) = first.call("GET", "external_data_sources/")["results"]
    assert ("Postgres", "shop") == (source["source_type"], source["prefix"])
    full = {row["name"]: row for row in first.call("GET", f"external_data_sources/{source['id']}/")["schemas"]}
    expected = {
        "customers": ("incremental", "updated_at", "00:00:00"),
        "products": ("full_refresh", None, "00:00:00"),
        "orders": ("incremental", "updated_at", "00:00:00"),
        "order_lines": ("append", "id", "00:00:00"),
        "page_events": ("append", "id", "00:00:00"),
    }
    settings = ("sync_type", "incremental_field", "sync_time_of_day")
    assert expected == {name: tuple(row[key] for key in settings) for name, row in full.items()}
    assert {"5min"} == {row["sync_frequency"] for row in full.values()}
    first.wait_until(lambda: {job["status"] for job in first.jobs(source["id"])} == {"Completed"})
    assert {f"postgres_shop.{name}" for name in expected} == {
        row["table"]["name"] for row in first.call("GET", f"external_data_sources/{source['id']}/")["schemas"]
    }
    first.end()
    second = start_process("--shop")
    known = len(second.jobs(source["id"]))
    second.call("POST", f"external_data_schemas/{full['products']['id']}/reload/")
    second.wait_until(lambda: len(second.jobs(source["id"])) > known)
    second.wait_until(lambda: {job["status"] for job in second.jobs(source["id"])} == {"Completed"})
