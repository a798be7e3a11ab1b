"""What PostHog logged during a sync, for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.posthog.logs import as_text, explaining_lines
from dw_orchestration.posthog.models import Job, LogLine

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import ScriptedServer

START = datetime(2026, 11, 3, 12, tzinfo=UTC)
JOB = Job.model_validate(
    {
        "id": "j1",
        "created_at": START,
        "status": "Failed",
        "schema": {"id": "s1", "name": "orders"},
        "workflow_run_id": "w1",
    }
)


def lines(*levels: str) -> dict[str, Any]:
    """A page of lines, of which the last level is the oldest line."""
    rows = [
        {"timestamp": (START - timedelta(seconds=n)).isoformat(), "level": level, "message": f"line {n}"}
        for n, level in enumerate(levels)
    ]
    return {"count": len(rows), "next": None, "previous": None, "results": rows}


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        (["INFO", "ERROR", "INFO", "WARN"], ["line 3", "line 1"]),
        (["INFO"] * 9, ["line 4", "line 3", "line 2", "line 1", "line 0"]),
        (["ERROR"] * 30, [f"line {n}" for n in range(19, -1, -1)]),
        ([], []),
    ],
)
def test_the_lines_that_explain_a_failure(
    client: PostHogWarehouseClient, server: ScriptedServer, levels: list[str], shown: list[str]
) -> None:
    """Warnings and errors, else the last few lines, the oldest first; one request, by the workflow run."""
    server.answer(lines(*levels))
    assert shown == [line.message for line in explaining_lines(client, JOB)]
    assert (1, ["w1"]) == (len(server.received), server.last.query["instance_id"])


@pytest.mark.parametrize("status", [403, 404])
def test_a_server_without_logs_costs_one_request(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int
) -> None:
    """The lines only add to an error that is known: without them there is no other error."""
    server.answer({"detail": "Not found."}, status=status)
    assert [] == explaining_lines(client, JOB)
    assert 1 == len(server.received)


def test_a_job_without_a_workflow_has_no_lines(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """PostHog finds the lines by the workflow run, and those of all syncs would explain nothing."""
    assert [] == explaining_lines(client, JOB.model_copy(update={"workflow_run_id": None}))
    assert [] == server.received


def test_a_line_is_one_visible_line_of_limited_length() -> None:
    """A message may quote a whole row of the source, with anything in it."""
    line = LogLine.model_validate({"timestamp": START, "level": "error", "message": "bad\n  row \x1b[2J" + "x" * 600})
    text = as_text(line)
    assert text.startswith("12:00:00 ERROR bad row \\x1b[2Jxxx")
    assert text.endswith("x…")
    assert len("12:00:00 ERROR ") + 500 + len("\\x1b") - 1 == len(text)
