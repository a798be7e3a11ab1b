"""Damaged files of the embedded warehouse, and its process killed under a client that waits."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from dw_orchestration.errors import LocalWarehouseError
from dw_orchestration.local.server import WarehouseServer
from dw_orchestration.local.store import Store
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.local.conftest import Servers


@pytest.fixture(scope="module")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWarehouse]:
    """An embedded warehouse with a table of two rows, synced once."""
    folder = tmp_path_factory.mktemp("damaged")
    resource = LocalWarehouse(home=str(folder / "home"), shop=False, fixtures=str(folder / "fixtures"))
    warehouse = EmbeddedWarehouse(resource)
    warehouse.reset()
    warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}, {"id": 2}]})
    warehouse.sync("Customer")
    yield warehouse
    warehouse.client.close()
    resource.stop()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x00\xffgarbage" * 1000),
    "a list": lambda path: path.write_text("[]"),
    "of another version": lambda path: path.write_text('{"url": "http://127.0.0.1:1"}'),
    "gone": lambda path: path.unlink(),
}


def kill(resource: LocalWarehouse) -> int:
    """End the process without a warning; its id."""
    pid = resource.ensure_running()["pid"]
    os.kill(pid, signal.SIGKILL)
    # until then the system has not closed its lock
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_a_damaged_endpoint_is_written_again(customers: EmbeddedWarehouse) -> None:
    """The process that runs restores the file that shows where it is; a new client waits for that."""
    before = customers.resource.ensure_running()
    for damage in DAMAGES.values():
        damage(customers.resource.database.with_name("endpoint.json"))
        assert before == customers.resource.ensure_running()


def test_a_client_that_waits_starts_it_again(customers: EmbeddedWarehouse) -> None:
    """After a kill, the next request of a client starts the process again, at the same address and with its key."""
    before = customers.resource.ensure_running()
    killed = kill(customers.resource)
    assert "Completed" == customers.jobs("Customer")[-1].status
    after = customers.resource.ensure_running()
    assert killed != after["pid"]
    assert (before["host"], before["api_key"]) == (after["host"], after["api_key"])


def test_a_killed_process_is_not_taken_for_the_one_that_starts(customers: EmbeddedWarehouse) -> None:
    """While another process holds the lock, and does not listen yet, the address of a killed one does not count."""
    customers.resource.ensure_running()
    pid = kill(customers.resource)
    with (customers.resource.database.with_name("server.lock")).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pid == json.loads(customers.resource.database.with_name("endpoint.json").read_text())["pid"]
        assert customers.resource._process._running() is None


def test_a_client_follows_to_another_port_and_key(customers: EmbeddedWarehouse) -> None:
    """Where the address and the key of the last process are lost, a client continues with the new one's."""
    kill(customers.resource)
    endpoint = customers.resource.database.with_name("endpoint.json")
    endpoint.write_text(json.dumps({"host": "http://127.0.0.1:x", "api_key": "phx_nobody"}))
    assert "Completed" == customers.jobs("Customer")[-1].status


def test_a_damaged_endpoint_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    """The process ends on request, although the file that names it was damaged."""
    resource = LocalWarehouse(home=str(tmp_path), shop=False)
    resource.ensure_running()
    DAMAGES["garbage"](tmp_path / "endpoint.json")
    resource.stop()
    assert resource._process._running() is None


@pytest.mark.parametrize("name", ["endpoint.json", "server.lock", "lease.lock", "start.log", "state.sqlite"])
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    """A directory where a file belongs is one line with its path."""
    (tmp_path / name).mkdir()
    resource = LocalWarehouse(home=str(tmp_path), shop=False)
    with pytest.raises(LocalWarehouseError, match=r"cannot be used|cannot use") as caught:
        resource.ensure_running()
    assert str(tmp_path / name) in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_an_emptied_state_database_is_named(tmp_path: Path) -> None:
    """A state database that lost everything is not taken for a new one while there are synced tables."""
    (tmp_path / "state.sqlite").touch()
    (tmp_path / "warehouse.duckdb").touch()
    with pytest.raises(sqlite3.DatabaseError, match="it is empty, although tables have been synced"):
        WarehouseServer(tmp_path).start()


@pytest.mark.parametrize("damage", ["garbage", "cut off", "another version"])
def test_a_damaged_state_database_is_refused(tmp_path: Path, damage: str) -> None:
    """A state database that cannot be used is found at the start, and is kept."""
    path = tmp_path / "state.sqlite"
    Store(path).close()
    match damage:
        case "garbage":
            path.write_bytes(b"garbage" * 1000)
        case "cut off":
            path.write_bytes(path.read_bytes()[:10_000])
        case _:
            with closing(sqlite3.connect(path)) as state:
                state.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises((sqlite3.DatabaseError, RuntimeError)):
        Store(path)
    assert before == path.read_bytes()


@pytest.mark.parametrize("damage", ["garbage", "cut off", "another version", "a directory"])
def test_a_damaged_warehouse_file_is_named(servers: Servers, invoices: str, damage: str) -> None:
    """A warehouse file that is damaged fails the sync with the file and the cure, which works."""
    server = servers.running[0]
    reload = f"external_data_schemas/{server.schema(invoices, 'invoices')['id']}/reload/"
    server.call("POST", reload)
    assert ["Completed"] == [job["status"] for job in server.settle(invoices)]
    server.warehouse.stop()
    # as a kill leaves it
    with closing(sqlite3.connect(server.home / "state.sqlite", isolation_level=None)) as state:
        state.execute("UPDATE jobs SET status = 'Running', finished_at = NULL")
    path = server.home / "warehouse.duckdb"
    match damage:
        case "garbage":
            path.write_bytes(b"garbage" * 10_000)
        case "cut off":
            path.write_bytes(path.read_bytes()[:5_000])
        case "another version":
            good = path.read_bytes()
            path.write_bytes(good[:12] + (9999).to_bytes(8, "little") + good[20:])
        case _:
            path.unlink()
            path.mkdir()
    again = servers.start()
    again.call("POST", reload)
    told = f"The warehouse file {path} cannot be used. Restore it from a backup, or move it away"
    jobs = again.settle(invoices)
    assert ["Failed", "Failed"] == [job["status"] for job in jobs]
    assert [told, told] == [job["latest_error"][: len(told)] for job in jobs]
    path.rename(path.with_name("moved_away"))
    again.call("POST", reload)
    assert "Completed" == again.settle(invoices)[0]["status"]
    assert [(3,)] == again.rows("SELECT count(*) FROM stripe.invoices")
