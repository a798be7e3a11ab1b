"""Who may read the files of this package."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from builders import snapshot_of
from dagster_duckdb import DuckDBResource
from warehouse import WarehouseProcess

from dw_orchestration.files import make_private_folder, private_files
from dw_orchestration.history.store import HistoryStore
from dw_orchestration.posthog.rate_limit import RateBudget, RateLimits

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def no_umask() -> Iterator[None]:
    """A process whose files everybody may read and write."""
    before = os.umask(0)
    yield
    assert 0 == os.umask(before)


def open_to_others(folder) -> list[str]:
    """What others may read, write or enter."""
    return [str(each) for each in (folder, *folder.rglob("*")) if each.lstat().st_mode & 0o077]


def test_an_embedded_warehouse_is_its_users_alone(tmp_path, no_umask, wait_until) -> None:
    """The folder has 0700 and all in it 0600, with any umask: rows, keys, logs, state and history."""
    home = tmp_path / "home"
    warehouse = WarehouseProcess(home, fixtures=tmp_path / "fixtures")
    try:
        source_id = warehouse.add_files("Hubspot", {"contacts": [{"id": 1}]}, should_sync=True)
        wait_until(lambda: any(job.rows_synced for job in warehouse.client.list_jobs(source_id)))
        warehouse.resource.take_snapshot().write(home / "state_embedded.json")
        with HistoryStore(DuckDBResource(database=str(home / "h.duckdb")), project="p").connection() as connection:
            connection.execute("create table t as select 1")
            during = open_to_others(home)
        key = warehouse.endpoint["api_key"]
        assert key not in repr(warehouse.endpoint) + str(warehouse.endpoint) + repr(warehouse.resource)
        assert {"warehouse.duckdb", "endpoint.json", "start.log", "server.log", "state_embedded.json"} < {
            each.name for each in home.iterdir()
        }
        assert ([], []) == (during, open_to_others(home))
    finally:
        warehouse.stop()
    assert [] == open_to_others(home)


def test_the_count_of_requests_is_its_users_alone(tmp_path, no_umask) -> None:
    """The folder of the rate limits and its database are private; the lock next to it is empty."""
    budget = RateBudget("name", limits=RateLimits(folder=tmp_path / "budget"))
    budget.take()
    assert [str(tmp_path / "budget" / "name.sqlite.lock")] == open_to_others(tmp_path / "budget")
    budget.close()


def test_only_an_empty_folder_is_closed(tmp_path, no_umask) -> None:
    """An empty folder becomes private; one with other files in it may be in use by others."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("shared", "empty", "new"):
        make_private_folder(tmp_path / name)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("shared", "empty", "new")]
    assert [0o777, 0o700, 0o700] == modes


def test_state_in_an_open_folder_has_the_users_umask(tmp_path, no_umask) -> None:
    """An image may be built by one user and run by another: its state stays readable."""
    snapshot_of().write(tmp_path / "open" / "state.json")
    assert 0o666 == (tmp_path / "open" / "state.json").stat().st_mode & 0o777


def test_threads_share_the_umask(tmp_path, no_umask) -> None:
    """Files stay private until the last thread is done, and the umask is then as before."""
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with private_files():
            entered.set()
            leave.wait()
            (tmp_path / "late").touch()

    thread = threading.Thread(target=other)
    with private_files():
        thread.start()
        entered.wait()
    leave.set()
    thread.join()
    (tmp_path / "after").touch()
    assert (0o600, 0o666) == tuple((tmp_path / name).stat().st_mode & 0o777 for name in ("late", "after"))
