"""What a job's row says, and the newest job of each table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.jobs import (
    duration_s,
    failed,
    is_over,
    means_cancelled,
    newest_job_per_table,
    table_was_deleted,
    table_was_disabled_or_deleted,
    was_cancelled,
    was_interrupted,
)
from dw_orchestration.posthog.models import Job

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import Received, ScriptedServer

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def row(**traits: Any) -> dict[str, Any]:
    """A completed job of the table `users`, as PostHog returns it."""
    return {
        "id": "j",
        "created_at": CREATED.isoformat(),
        "finished_at": (CREATED + timedelta(minutes=1)).isoformat(),
        "status": "Completed",
        "schema": {"id": "t", "name": "users", "should_sync": True},
        **traits,
    }


def job(**traits: Any) -> Job:
    """The same as a record."""
    return Job.model_validate(row(**traits))


@pytest.mark.parametrize(
    ("error", "cancelled", "interrupted"),
    [
        ("Cancelled", True, False),
        ("cancelled by the source's administrator", False, False),
        ("Sync cancelled by user", True, False),
        ("This sync run was cancelled before it finished. This usually happens when a newer run", True, False),
        ("Sync stopped because syncing was turned off", True, False),
        ("Sync stopped because of an error that retrying would not fix", False, False),
        ("This sync run was interrupted too many times by restarts on PostHog's side", False, True),
        ("The worker was restarted before this sync finished.", False, True),
        ("worker shutting down", False, True),
        ("FATAL: the database system is shutting down, the server was restarted", False, False),
        (None, False, False),
    ],
)
def test_the_error_text_tells_who_ended_a_failed_job(*, error: str | None, cancelled: bool, interrupted: bool) -> None:
    """PostHog has one status for failed, cancelled and interrupted syncs: only the text distinguishes them."""
    failed = job(status="Failed", latest_error=error)

    assert (cancelled, interrupted) == (was_cancelled(failed), was_interrupted(failed))
    assert (False, False) == (was_cancelled(job(latest_error=error)), was_interrupted(job(latest_error=error)))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("Sync stopped because syncing was turned off", True),
        ("Sync stopped because the table was deleted", True),
        ("Sync stopped because of an error that retrying would not fix", False),
        ("Sync cancelled by user", False),
        (None, False),
    ],
)
def test_a_job_whose_table_was_disabled_or_deleted(*, error: str | None, expected: bool) -> None:
    """Only a user's change counts: a table that PostHog disables has the source's error instead."""
    assert expected == table_was_disabled_or_deleted(job(status="Failed", latest_error=error))
    assert not table_was_disabled_or_deleted(job(latest_error=error))


@pytest.mark.parametrize(
    ("status", "finished", "over"),
    [
        ("Running", False, False),
        ("Completed", False, True),
        ("Hibernating", False, False),
        ("Hibernated", True, True),
    ],
)
def test_a_job_is_over_by_its_status_or_its_end(*, status: str, finished: bool, over: bool) -> None:
    """Old rows may be terminal without an end; a status of a newer server is over once there is one."""
    assert over is is_over(job(status=status, finished_at=CREATED if finished else None))


def test_a_cancelled_status_of_a_newer_server_is_a_cancellation() -> None:
    """A server with a Cancelled status needs no text."""
    cancelled = job(status="Cancelled")
    assert (True, False, True) == (was_cancelled(cancelled), failed(cancelled), is_over(cancelled))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("connection refused", True),
        ("Sync cancelled by user", False),
        ("The worker was restarted before this sync finished.", False),
    ],
)
def test_a_job_failed_only_because_of_its_source(error: str, *, expected: bool) -> None:
    """Neither a cancellation nor a restart of PostHog's says anything about the source."""
    assert expected is failed(job(status="Failed", latest_error=error))
    assert not failed(job(latest_error=error))


def test_a_deleted_table_is_distinguished_from_a_disabled_one() -> None:
    """Only the text of the error shows which it was."""
    deleted = job(status="Failed", latest_error="Sync stopped because the table was deleted")
    disabled = job(status="Failed", latest_error="Sync stopped because syncing was turned off")
    assert (True, False) == (table_was_deleted(deleted), table_was_deleted(disabled))
    assert means_cancelled("Sync stopped because syncing was turned off")


@pytest.mark.parametrize(("finished_at", "expected"), [("2026-01-01T00:01:30Z", 90.0), (None, None)])
def test_the_duration_of_a_job(finished_at: str | None, expected: float | None) -> None:
    """It is known once the job has ended."""
    assert expected == duration_s(job(finished_at=finished_at))


def rows_of(count: int) -> list[dict[str, Any]]:
    """Jobs of three tables in turn, newest first; every fourth one failed."""
    return [
        row(
            id=f"j{n}",
            created_at=(CREATED - timedelta(minutes=n)).isoformat(),
            status="Completed" if n % 4 else "Failed",
            schema={"id": f"t{n % 3}", "name": f"table{n % 3}"},
        )
        for n in range(count)
    ]


def serve(server: ScriptedServer, count: int) -> None:
    """Serve so many jobs, at most 50 in an answer."""

    def answer(received: Received) -> list[dict[str, Any]]:
        before = datetime.fromisoformat(received.query["before"][0]) if "before" in received.query else None
        rows = rows_of(count)
        return [each for each in rows if before is None or datetime.fromisoformat(each["created_at"]) < before][:50]

    server.compute = answer


@pytest.mark.parametrize(
    ("count", "expected"), [(0, {}), (2, {"t0": "j0", "t1": "j1"}), (120, {f"t{n}": f"j{n}" for n in range(3)})]
)
def test_the_newest_job_of_each_table(
    client: PostHogWarehouseClient, server: ScriptedServer, count: int, expected: dict[str, str]
) -> None:
    """The newest job of each table comes from one request, however many jobs the source has."""
    serve(server, count)
    found = newest_job_per_table(client, "src1")
    assert expected == {schema_id: job.id for schema_id, job in found.items()}
    assert 1 == len(server.received)


def test_the_newest_job_of_a_kind(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """With a condition, newer jobs that do not meet it do not count."""
    serve(server, 40)
    found = newest_job_per_table(client, "src1", where=lambda job: job.status is JobStatus.COMPLETED)
    assert {"t0": "j3", "t1": "j1", "t2": "j2"} == {schema_id: job.id for schema_id, job in found.items()}


@pytest.mark.parametrize(
    ("until", "max_jobs", "requests", "tables"),
    [
        ({"t1"}, 250, 1, {"t0", "t1"}),
        ({"t0", "t1", "t2"}, 250, 1, {"t0", "t1", "t2"}),
        ({"a table without jobs"}, 250, 3, {"t0", "t1", "t2"}),
        ({"a table without jobs"}, 50, 1, {"t0", "t1", "t2"}),
        (None, 2, 1, {"t0", "t1"}),
    ],
)
def test_reading_stops_as_soon_as_it_may(
    *,
    client: PostHogWarehouseClient,
    server: ScriptedServer,
    until: set[str] | None,
    max_jobs: int,
    requests: int,
    tables: set[str],
) -> None:
    """Reading ends with the last wanted table or the last allowed job, whichever comes first."""
    serve(server, 120)
    assert tables == newest_job_per_table(client, "src1", until=until, max_jobs=max_jobs).keys()
    assert requests == len(server.received)
