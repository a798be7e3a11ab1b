"""A sync is visible whole or not at all, with every fault."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest

from dw_orchestration.local.syncing import SourceError, SyncCancelled, SyncResult, TargetTable, Warehouse, run_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Lab

# A process that syncs one table and says how far it is; to be killed.
SYNCING_PROCESS = """
import json, sys, threading
from pathlib import Path
from dw_orchestration.local.syncing import SyncRequest, TargetTable, Warehouse, connector_for, run_sync

task = json.load(sys.stdin)
folder = Path(task["folder"])
request = SyncRequest(**task["request"] | {"target": TargetTable(**task["request"]["target"])})
warehouse = Warehouse(folder / "warehouse.duckdb", staging=folder / "staging")
connector = connector_for("Postgres", task["inputs"], fixtures=folder)
said = lambda rows: print(rows, flush=True)
run_sync(request, connector, warehouse, on_progress=said, cancelled=threading.Event())
print("done", flush=True)
"""
HOLDING_PROCESS = """
import sys, duckdb
with duckdb.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
STUCK_S = 60
SLOW_VIEW = f"create view slow as select *, case when i > {{rows}} then pg_sleep({STUCK_S})::text end as w from big"


@pytest.fixture
def big(postgres_database: Any) -> Any:
    """A database with a table of 300,000 rows."""
    postgres_database.execute("create table big as select i, md5(i::text) as v from generate_series(1, 300000) i")
    return postgres_database


@pytest.fixture
def holding(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the warehouse file until its input is closed."""
    lab.folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING_PROCESS, str(lab.file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


@contextmanager
def started(lab: Lab, table: str) -> Iterator[Future[SyncResult]]:
    """Sync in another thread; a sync that is still running at the end is cancelled."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(lab.sync, table)
        finally:
            lab.cancelled.set()


def cancel_soon(lab: Lab, table: str) -> float:
    """Cancel a sync that is stuck, and return how long it took to stop."""
    with started(lab, table) as running:
        with pytest.raises(TimeoutError):
            running.result(timeout=1.5)
        lab.cancelled.set()
        asked = time.monotonic()
        with pytest.raises(SyncCancelled):
            running.result(timeout=120)
        return time.monotonic() - asked


@pytest.mark.parametrize("rows", [0, 250_000])
def test_cancelling_stops_a_stuck_query(lab: Lab, big: Any, rows: int, wait_until: Any) -> None:
    """A sync stops when it is cancelled, though Postgres sends nothing."""
    big.execute("create table slow as select 1 as i")
    lab.sync("slow")
    big.execute("drop table slow; " + SLOW_VIEW.format(rows=rows))
    assert cancel_soon(lab, "slow") < STUCK_S / 2
    assert [(1,)] == lab.query("select i from lab.slow")
    assert [] == lab.leftovers()
    running = "select query from pg_stat_activity where query like 'COPY%' and state = 'active'"
    wait_until(lambda: big.execute(running) == [])


def test_cancelling_stops_the_wait_for_a_locked_table(lab: Lab, big: Any) -> None:
    """A sync that waits for a lock in Postgres can be cancelled."""
    with psycopg.connect(big.dsn) as other:
        other.execute("lock table big")
        assert cancel_soon(lab, "big") < STUCK_S / 2


def test_cancelling_stops_the_wait_for_the_file(lab: Lab, big: Any, holding: subprocess.Popen[str]) -> None:
    """A sync that waits for another process to let go of the warehouse file can be cancelled."""
    assert cancel_soon(lab, "big") < STUCK_S / 2


def test_a_sync_waits_for_the_file(lab: Lab, big: Any, holding: subprocess.Popen[str]) -> None:
    """While another process reads the warehouse a sync waits; then it continues."""
    with started(lab, "big") as running:
        with pytest.raises(TimeoutError):
            running.result(timeout=1)
        holding.communicate()
        assert 300_000 == running.result(timeout=120).row_count


def test_a_file_that_is_never_free_is_reported(lab: Lab, holding: subprocess.Popen[str]) -> None:
    """After its time the wait ends with an error that may be tried again."""
    impatient = Warehouse(lab.file, staging=lab.folder / "staging", busy_timeout_s=0.1)
    with pytest.raises(SourceError, match="Another process kept the warehouse file") as caught:
        impatient.describe(TargetTable("lab", "big"))
    assert not caught.value.permanent


def test_the_file_is_free_while_rows_are_read(lab: Lab, big: Any, wait_until: Any) -> None:
    """Reading a slow source does not keep others from the warehouse."""
    lab.sync("big")
    lab.progress.clear()
    big.execute(SLOW_VIEW.format(rows=250_000))
    with started(lab, "slow") as running:
        wait_until(lambda: lab.progress)
        with duckdb.connect(str(lab.file)) as reader:
            assert [(300_000,)] == reader.execute("select count(*) from lab.big").fetchall()
        lab.cancelled.set()
        with pytest.raises(SyncCancelled):
            running.result(timeout=120)


def test_a_source_that_breaks_off_leaves_the_last_table(lab: Lab, big: Any) -> None:
    """An error in the middle of a table publishes nothing, and says what Postgres said."""
    big.execute("create view part as select 1 as i")
    lab.sync("part")
    big.execute("create or replace view part as select 1 / (290000 - i) as i from big")
    with pytest.raises(SourceError, match="Reading table 'part' failed: division by zero"):
        lab.sync("part")
    assert [(1,)] == lab.query("select i from lab.part")
    assert [] == lab.leftovers()


def test_a_lost_connection_may_be_tried_again(lab: Lab, big: Any, wait_until: Any) -> None:
    """A server that goes away in the middle is no permanent failure."""
    big.execute(SLOW_VIEW.format(rows=250_000))
    with started(lab, "slow") as running:
        wait_until(lambda: lab.progress)
        big.execute("select pg_terminate_backend(pid) from pg_stat_activity where query like 'COPY%'")
        with pytest.raises(SourceError, match="Reading table 'slow' failed") as caught:
            running.result(timeout=120)
    assert not caught.value.permanent


def test_a_committed_job_is_known_and_not_repeated(lab: Lab, big: Any) -> None:
    """A job that was committed is found by its id, and running it again adds nothing."""
    request = lab.request("big", sync_type="append", incremental_field="i", incremental_field_type="integer")
    assert lab.warehouse.published(request.job_id) is None
    for _ in range(2):
        result = run_sync(
            request, lab.connector, lab.warehouse, on_progress=lab.progress.append, cancelled=lab.cancelled
        )
        assert result == lab.warehouse.published(request.job_id)
    assert 300_000 == result.row_count


def test_the_notes_of_jobs_are_bounded(lab: Lab, postgres_database: Any) -> None:
    """The last 1000 jobs are remembered, and the file does not grow without limit."""
    postgres_database.execute("create table t (i int)")
    lab.sync("t")
    with duckdb.connect(str(lab.file)) as connection:
        connection.execute("insert into _dw.published select 1 + i, 'old', 't', 0, 0, '[]' from range(1, 1500) r(i)")
    last = lab.sync("t")
    assert [(1000, 502, 1501)] == lab.query("select count(*), min(number), max(number) from _dw.published")
    assert last == lab.warehouse.published(last.job_id)


def test_several_syncs_run_at_once(lab: Lab, big: Any) -> None:
    """Threads sync different tables side by side, each whole."""
    tables = [f"view_{n}" for n in range(4)]
    for n, table in enumerate(tables):
        big.execute(f"create view {table} as select * from big where i % 4 = {n}")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lab.sync, tables))
    assert [75_000] * 4 == [result.row_count for result in results]
    assert [(300_000,)] == lab.query(
        "select count(*) from (" + " union all ".join(f"from lab.{t}" for t in tables) + ")"
    )


def test_a_table_dropped_during_its_sync_is_not_half_filled(lab: Lab, big: Any) -> None:
    """Rows behind a cursor are not published into a table that was deleted meanwhile."""
    merge = {"sync_type": "append", "incremental_field": "i", "incremental_field_type": "integer"}
    lab.sync("big", **merge)
    big.execute("insert into big select i, 'new' from generate_series(300001, 400000) i")
    dropping = threading.Event()

    def drop(rows: int) -> None:
        if not dropping.is_set():
            dropping.set()
            lab.warehouse.drop(TargetTable("lab", "big"))

    with pytest.raises(SourceError, match="deleted or replaced while it was syncing"):
        run_sync(lab.request("big", **merge), lab.connector, lab.warehouse, on_progress=drop, cancelled=lab.cancelled)
    assert 400_000 == lab.sync("big", **merge).row_count


@pytest.mark.parametrize(
    "delay_s", [None, 0.2, *(pytest.param(late, marks=pytest.mark.thorough) for late in (0.0, 0.8, 3.2))]
)
def test_kill_9_leaves_a_whole_table(
    lab: Lab, big: Any, job_inputs: dict[str, Any], tmp_path: Path, delay_s: float | None
) -> None:
    """Killed while reading (None) or around its commit, a sync has happened or it has not."""
    merge = {"sync_type": "incremental", "incremental_field": "i", "incremental_field_type": "integer"}
    lab.sync("big", **merge, primary_keys=("i",))
    big.execute("insert into big select i, 'new' from generate_series(300001, 600000) i; update big set v = 'new'")
    request = lab.request("big", **merge, primary_keys=("i",), reset=True)
    task = {"folder": str(lab.folder), "inputs": job_inputs, "request": asdict(request)}
    with subprocess.Popen(
        [sys.executable, "-c", SYNCING_PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(task))
        process.stdin.close()
        read = int(process.stdout.readline())
        while delay_s is not None and read < 600_000:
            read = int(process.stdout.readline())
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay_s or 0)
        process.kill()

    result = lab.warehouse.published(request.job_id)
    expected = [(300_000, 0, "300000")] if result is None else [(600_000, 600_000, "600000")]
    assert expected == lab.query(
        "select count(*), count(*) filter (v = 'new'), (select value from _dw.cursors) from lab.big"
    )
    lab.warehouse.clean_staging()
    assert 600_000 == lab.sync("big", reset=True).row_count
