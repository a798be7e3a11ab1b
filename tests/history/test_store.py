"""Where the history is: files that one process at a time may write, and databases behind DuckDB."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from dw_orchestration.errors import SetupError
from dw_orchestration.history.store import HistoryStore
from dw_orchestration.posthog.models import Job, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import DatabaseLogin

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
STRIPE = Source(id="stripe", source_type="Stripe", prefix="main", schemas=())
HOLDS_IT = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def job(*, status: str = "Running") -> Job:
    """A job of a table."""
    return Job.model_validate(
        {"id": "j", "created_at": NOW, "status": status, "rows_synced": 5, "schema": {"id": "t", "name": "t"}}
    )


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the file open until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_IT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "open\n" == process.stdout.readline()
        yield process


def end(process: subprocess.Popen[str]) -> None:
    """Let it close the file."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def test_two_writers_wait_for_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A writer waits until the other process has closed the file; one line names that process."""
    path = tmp_path / "history.duckdb"
    with another_process(path) as other:
        store = HistoryStore(DuckDBResource(database=str(path)), project="p", sleep=lambda _: end(other))
        store.save(STRIPE, [job()], read_at=NOW)
    assert NOW == store.known("stripe", unfinished_since=NOW - timedelta(days=1)).newest
    (line,) = caplog.messages
    assert f"{path} is in use" in line
    assert f"PID {other.pid}" in line


def test_a_writer_that_waits_too_long_names_the_other(tmp_path: Path) -> None:
    """After a bounded time there is one error, with the other process as DuckDB names it."""
    path, slept_s = tmp_path / "history.duckdb", []
    with another_process(path) as other:
        store = HistoryStore(DuckDBResource(database=str(path)), project="p", wait_s=10, sleep=slept_s.append)
        with pytest.raises(SetupError, match=rf"still in use after 10 s: .*PID {other.pid}.* End the other process"):
            store.save(STRIPE, [job()], read_at=NOW)
        end(other)
    assert 10 == sum(slept_s)


def kept(store: HistoryStore) -> list[tuple[str, str]]:
    """The jobs of a history, with their status."""
    with store.connection() as connection:
        return connection.execute("select job_id, status from sync_history").fetchall()


def keeps_the_latest(store: Callable[[], HistoryStore]) -> None:
    """Save a job three times, the last time as it was read before the second; each time with a new connection."""
    for status, read_at in [("Running", NOW), ("Completed", NOW + timedelta(hours=1)), ("Running", NOW)]:
        store().save(STRIPE, [job(status=status)], read_at=read_at)
    assert [("j", "Completed")] == kept(store())


def test_an_attached_database_keeps_the_history(tmp_path: Path) -> None:
    """An address that DuckDB attaches is the default database of the connection."""
    resource = DuckDBResource(database=f"duckdb:{tmp_path / 'history.duckdb'}")
    keeps_the_latest(lambda: HistoryStore(resource, project="p"))
    with duckdb.connect(tmp_path / "history.duckdb") as connection:
        assert [(1,)] == connection.execute("select count(*) from sync_history").fetchall()


def test_postgres_keeps_the_history(postgres_server: DatabaseLogin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres behind DuckDB does too, with the password in the environment alone."""
    try:
        duckdb.connect().execute("load postgres")
    except duckdb.Error:
        pytest.skip("DuckDB's extension for Postgres is not installed for this version of DuckDB")
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    address = f"host={postgres_server.host} port={postgres_server.port} user={postgres_server.user}"
    resource = DuckDBResource(database=f"postgres:{address} dbname={postgres_server.database}")
    keeps_the_latest(lambda: HistoryStore(resource, project="p"))


def test_an_address_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """One sentence has the address, DuckDB's reason and what to check."""
    address = f"duckdb:{tmp_path}/no such folder/history.duckdb"
    with pytest.raises(SetupError, match=r"The sync history at duckdb:.* cannot be used \(.*\)\. Check the address"):
        kept(HistoryStore(DuckDBResource(database=address), project="p"))
