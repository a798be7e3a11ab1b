"""Jobs: their list, their ends, and what keeps one from starting."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dw_orchestration.local.rows import Job, StartedBy, Status
from dw_orchestration.local.worker import RowCounter, held_back_until

if TYPE_CHECKING:
    from tests.conftest import Clock
    from tests.local.conftest import Orders, Server, Servers


def schema_path(server: Server, source: str, name: str = "orders") -> str:
    """The path of a schema."""
    return f"external_data_schemas/{server.schema(source, name)['id']}/"


def wait_running(server: Server, source: str) -> dict[str, Any]:
    """Wait until the newest job runs; that job."""
    return (
        server.wait_until(lambda: next((job for job in server.jobs(source)[:1] if job["status"] == "Running"), None))
        or {}
    )


def past_job(server: Server, schema: dict[str, Any], source: str, at: datetime, **fields: Any) -> Job:
    """Put an ended job into the state."""
    values = {"status": Status.COMPLETED, "finished_at": at, "started_by": StartedBy.SCHEDULE} | fields
    job = Job(id=uuid4(), source_id=source, schema_id=schema["id"], created_at=at, workflow_run_id=uuid4(), **values)
    server.services.store.insert(job)
    return job


def test_a_job(server: Server, invoices: str) -> None:
    """A finished job shows what it read, when, and for which schema."""
    server.call("POST", schema_path(server, invoices, "invoices") + "reload/")
    (job,) = server.settle(invoices)
    assert ("Completed", 3, None) == (job["status"], job["rows_synced"], job["latest_error"])
    assert {"id", "name", "label", "should_sync", "last_synced_at", "sync_type"} == set(job["schema"])
    assert job["finished_at"] >= job["created_at"]
    assert (None, []) == (job["created_by"], job["destination_ids"])


def test_fifty_at_most(server: Server, invoices: str, clock: Clock) -> None:
    """The list holds the newest 50 jobs; `before` and `after` are strict, and lead to the older ones."""
    schema = server.schema(invoices, "invoices")
    jobs = [past_job(server, schema, invoices, clock() + timedelta(minutes=n)) for n in range(60)]
    newest_first = [str(job.id) for job in reversed(jobs)]
    page = server.jobs(invoices)
    assert newest_first[:50] == [job["id"] for job in page]
    older = server.jobs(invoices, before=page[-1]["created_at"])
    assert newest_first[50:] == [job["id"] for job in older]
    newer = server.jobs(invoices, after=page[2]["created_at"])
    assert newest_first[:2] == [job["id"] for job in newer]


def test_jobs_of_some_schemas(server: Server, invoices: str, clock: Clock) -> None:
    """`schemas` is repeated and takes names; a list with commas finds nothing."""
    for name in ("invoices", "customers"):
        past_job(server, server.schema(invoices, name), invoices, clock())
    found = [
        len(server.jobs(invoices, schemas=names))
        for names in (["invoices"], ["invoices", "customers"], ["invoices,customers"])
    ]
    assert [1, 2, 0] == found


@pytest.mark.parametrize("name", ["after", "before"])
def test_times_that_are_none(quiet_server: Server, name: str) -> None:
    """A value that is not an ISO time is a 400 with that reason."""
    source = quiet_server.json("GET", "external_data_sources/")["results"][0]["id"]
    response = quiet_server.call("GET", f"external_data_sources/{source}/jobs/", params={name: "yesterday"})
    detail = "after and before must be ISO 8601 timestamps."
    assert (400, detail) == (response.status_code, response.json()["detail"])


def test_jobs_of_a_deleted_schema_stay(server: Server, invoices: str) -> None:
    """A job outlives its schema."""
    path = schema_path(server, invoices, "invoices")
    server.call("POST", path + "reload/")
    server.settle(invoices)
    server.call("DELETE", path)
    assert ["invoices"] == [job["schema"]["name"] for job in server.jobs(invoices)]


def test_a_trigger_while_running_is_dropped(server: Server, orders: Orders) -> None:
    """A second reload while a sync runs is a 200 and makes no second job."""
    with orders.locked():
        source = server.create("Postgres", orders.payload)
        running = wait_running(server, source)
        path = schema_path(server, source)
        assert [200, 200] == [server.call("POST", path + "reload/").status_code for _ in range(2)]
    assert [running["id"]] == [job["id"] for job in server.settle(source)]


def test_runs_queue_for_workers(servers: Servers, orders: Orders) -> None:
    """With one worker the second table says Running, but has no job until the first is done."""
    server = servers.start(threads=1)
    orders.database.execute("CREATE TABLE refunds (id int)")
    both = [{"name": name, "sync_type": "full_refresh", "should_sync": True} for name in ("orders", "refunds")]
    with orders.locked():
        source = server.create("Postgres", orders.payload | {"schemas": both})
        wait_running(server, source)
        assert ("Running", 1) == (server.schema(source, "refunds")["status"], len(server.jobs(source)))
    assert ["Completed", "Completed"] == [job["status"] for job in server.settle(source)]


def test_cancel(server: Server, orders: Orders) -> None:
    """A cancelled job is Failed before the answer comes, the old table stays, and the sync is really over."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    orders.database.execute("DELETE FROM orders")
    path = schema_path(server, source)
    with orders.locked():
        server.call("POST", path + "reload/")
        wait_running(server, source)
        response = server.call("POST", path + "cancel/")
        job = server.jobs(source)[0]
        assert {} == server.services.runner._runs
    assert (200, b"") == (response.status_code, response.content)
    assert ("Failed", "Sync cancelled by user") == (job["status"], job["latest_error"])
    schema = server.schema(source, "orders")
    assert ("Failed", "Sync cancelled by user") == (schema["status"], schema["latest_error"])
    assert [(100,)] == server.rows("SELECT count(*) FROM postgres.orders")


def test_cancel_when_nothing_runs(server: Server, invoices: str) -> None:
    """Without a running job there is nothing to cancel."""
    response = server.call("POST", schema_path(server, invoices, "invoices") + "cancel/")
    assert (400, {"detail": "No running sync to cancel."}) == (response.status_code, response.json())


def test_cancel_in_the_queue(servers: Servers, orders: Orders) -> None:
    """A schema that says Running without a job gets the status of its last job, or Failed; and no job follows."""
    server = servers.start(threads=1)
    orders.database.execute("CREATE TABLE refunds (id int)")
    both = [{"name": name, "sync_type": "full_refresh", "should_sync": True} for name in ("orders", "refunds")]
    with orders.locked():
        source = server.create("Postgres", orders.payload | {"schemas": both})
        wait_running(server, source)
        response = server.call("POST", schema_path(server, source, "refunds") + "cancel/")
        expected = {"detail": "No sync was running. The sync status has been updated."}
        assert (200, expected) == (response.status_code, response.json())
        assert "Failed" == server.schema(source, "refunds")["status"]
    assert ["orders"] == [job["schema"]["name"] for job in server.settle(source)]


@pytest.mark.parametrize(
    ("method", "body", "text"),
    [
        ("PATCH", {"should_sync": False}, "Sync stopped because syncing was turned off"),
        ("DELETE", None, "Sync stopped because the table was deleted"),
    ],
)
def test_turning_off_ends_the_run(server: Server, orders: Orders, method: str, body: Any, text: str) -> None:
    """Turning a table off or deleting it ends its run, and the job says why."""
    with orders.locked():
        source = server.create("Postgres", orders.payload)
        wait_running(server, source)
        assert server.call(method, schema_path(server, source), json=body).is_success
        server.wait_until(lambda: server.jobs(source)[0]["status"] == "Failed")
    assert text == server.jobs(source)[0]["latest_error"]


def test_resync_replaces_the_run(server: Server, orders: Orders) -> None:
    """A resync ends the current run and starts one from scratch."""
    with orders.locked():
        source = server.create("Postgres", orders.payload)
        first = wait_running(server, source)
        server.call("POST", schema_path(server, source) + "resync/")
    newest, oldest = server.settle(source)
    assert (first["id"], "Failed", "Completed") == (oldest["id"], oldest["status"], newest["status"])


def test_a_source_that_refuses_for_good(server: Server, orders: Orders, clock: Clock) -> None:
    """An error that will not pass turns the table off and pauses its schedule; the text stays until a good run."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    orders.database.execute("ALTER TABLE orders RENAME TO moved")
    server.call("POST", schema_path(server, source) + "reload/")
    (failed, _) = server.settle(source)
    schema = server.schema(source, "orders")
    assert ("Failed", "Failed", False) == (failed["status"], schema["status"], schema["should_sync"])
    assert failed["latest_error"] == schema["latest_error"]
    schedule = server.services.store.schedule(schema["id"])
    assert schedule is not None
    assert schedule.paused
    orders.database.execute("ALTER TABLE moved RENAME TO orders")
    server.call("POST", schema_path(server, source) + "reload/")
    server.settle(source)
    assert None is server.schema(source, "orders")["latest_error"]


def test_streak_holds_a_run_back(server: Server, invoices: str, clock: Clock) -> None:
    """After five failures a run within ten minutes leaves no job, and the status comes back; a resync runs."""
    schema = server.schema(invoices, "invoices")
    path = schema_path(server, invoices, "invoices")
    for minute in range(5):
        at = clock() - timedelta(minutes=5 - minute)
        past_job(server, schema, invoices, at, status=Status.FAILED, counts_in_streak=True)
    server.call("POST", path + "reload/")
    assert 5 == len(server.settle(invoices))
    assert "Failed" == server.schema(invoices, "invoices")["status"]
    server.call("POST", path + "resync/")
    assert 6 == len(server.settle(invoices))


def failures(count: int, **fields: Any) -> list[Job]:
    """Failed jobs, newest first, the newest at noon."""
    noon = datetime(2026, 11, 3, 12, tzinfo=UTC)
    ids = {name: uuid4() for name in ("id", "source_id", "schema_id", "workflow_run_id")}
    values = {"status": Status.FAILED, "counts_in_streak": True, "started_by": StartedBy.SCHEDULE} | ids | fields
    times = [noon - timedelta(minutes=n) for n in range(count)]
    return [Job(created_at=at, finished_at=at, **values) for at in times]


@pytest.mark.parametrize(("count", "minutes"), [(4, None), (5, 10), (6, 20), (7, 40), (8, 60), (9, 60), (50, 60)])
def test_streak_gap(count: int, minutes: int | None) -> None:
    """The gap after the last failure is ten minutes from the fifth on, and doubles up to an hour."""
    noon = datetime(2026, 11, 3, 12, tzinfo=UTC)
    expected = None if minutes is None else noon + timedelta(minutes=minutes)
    assert expected == held_back_until(failures(count))


def test_what_ends_a_streak() -> None:
    """A good run ends a streak, a reset begins a new one, and other ends neither count nor end it."""
    good, reset = failures(1, status=Status.COMPLETED), failures(1, was_reset=True)
    other = failures(3, counts_in_streak=False)
    assert None is held_back_until(failures(4) + good + failures(4))
    assert None is held_back_until(failures(3) + reset + failures(4))
    assert None is not held_back_until(failures(3) + other + failures(2))


def test_progress_is_written_sparingly() -> None:
    """However often batches come, the count is written at most twice a second."""
    now = 0.0
    written: list[int] = []
    progress = RowCounter(written.append, clock=lambda: now)
    for step in range(1, 101):
        now = step / 50
        progress(step)
    assert [25, 50, 75, 100] == written


def test_rows_are_counted_while_they_come(server: Server, orders: Orders) -> None:
    """A running job's rows grow before it ends."""
    orders.database.execute(
        "CREATE VIEW slow AS SELECT n, repeat('x', 40000) AS wide, pg_sleep(0.0005) IS NULL AS nap"
        " FROM generate_series(1, 1500) n"
    )
    choice = [{"name": "slow", "sync_type": "full_refresh", "should_sync": True}]
    source = server.create("Postgres", orders.payload | {"schemas": choice})
    seen = server.wait_until(lambda: [job for job in server.jobs(source) if job["rows_synced"]])
    assert "Running" == seen[0]["status"]
    assert 1500 == server.settle(source)[0]["rows_synced"]


def test_ends_are_final(server: Server, invoices: str, clock: Clock) -> None:
    """Of many that end a job at the same time one wins, and its word stays."""
    schema = server.schema(invoices, "invoices")
    job = past_job(server, schema, invoices, clock(), status=Status.RUNNING, finished_at=None)
    store, won = server.services.store, []
    ends = [job.model_copy(update={"status": Status.FAILED, "latest_error": str(n)}) for n in range(8)]

    def end(mine: Job) -> None:
        if store.finish_job(mine):
            won.append(mine.latest_error)

    threads = [threading.Thread(target=end, args=(mine,)) for mine in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [server.jobs(invoices)[0]["latest_error"]] == won
