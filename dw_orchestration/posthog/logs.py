"""The lines that PostHog logged during a sync, and which of them explain how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.posthog.enums import LogLevel
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.text import visible

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Job, LogLine

TELLING = frozenset({LogLevel.WARN, LogLevel.ERROR})
LINES_READ = 100
# of the lines that explain something, and of the last ones if none does
TELLING_LINES_SHOWN = 20
LAST_LINES_SHOWN = 5
# A line may quote a whole row of the source.
LINE_LENGTH = 500


def explaining_lines(client: PostHogWarehouseClient, job: Job) -> list[LogLine]:
    """The warnings and errors of a sync, else its last lines; the oldest first. One request.

    Empty if PostHog does not return them: an older server has none, and the key or the network may not allow it. The
    lines only add to an error that is known already.
    """
    if job.workflow_run_id is None:
        return []
    try:
        lines = client.list_logs(job.schema_id, run_id=job.workflow_run_id, limit=LINES_READ)
    except PostHogError:
        return []
    telling = [line for line in lines if line.level in TELLING]
    return list(reversed(telling[:TELLING_LINES_SHOWN] or lines[:LAST_LINES_SHOWN]))


def as_text(line: LogLine) -> str:
    """A line as people read it: visible, and cut to 500 characters."""
    return visible(f"{line.timestamp:%H:%M:%S} {line.level} {_cut(line.message)}")


def _cut(message: str) -> str:
    flat = " ".join(message.split())
    return flat if len(flat) <= LINE_LENGTH else f"{flat[: LINE_LENGTH - 1]}…"
