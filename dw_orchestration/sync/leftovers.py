"""Cancel what a batch has started and did not live to cancel itself."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import CancelOutcome
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.events import CancelReport, CancelResult
from dw_orchestration.sync.reader import JobReader, Want
from dw_orchestration.sync.table_sync import JUST_BEFORE


@dataclass(frozen=True, kw_only=True)
class StartedJob:
    """A job that some batch has started, as it was noted down then."""

    source_id: str
    schema_id: str
    name: str
    job_id: str
    created_at: datetime


def cancel_leftovers(api: WarehouseApi, jobs: Iterable[StartedJob]) -> Iterator[CancelReport]:
    """Ask PostHog to cancel those of the jobs that still run; their end is not awaited.

    What goes wrong with one is in its report; nothing is raised.
    """
    by_source: dict[str, list[StartedJob]] = defaultdict(list)
    for job in jobs:
        by_source[job.source_id].append(job)
    for source_id, started in by_source.items():
        wants = [Want(name=job.name, after=job.created_at - JUST_BEFORE, job_id=job.job_id) for job in started]
        try:
            shown = JobReader(api, source_id).look(wants)
        except PostHogError as exc:
            yield from (_report(job, CancelResult.NOT_CONFIRMED, f"PostHog does not answer: {exc}") for job in started)
            continue
        for job in started:
            yield _cancel(api, job, [row for row in shown if row.schema_id == job.schema_id and not is_over(row)])


def _cancel(api: WarehouseApi, job: StartedJob, running: Sequence[Job]) -> CancelReport:
    """Cancel it if PostHog would cancel this one and no other: the table's newest."""
    if job.job_id not in {row.id for row in running}:
        return _report(job, CancelResult.ALREADY_FINISHED, "its sync has ended")
    if running[0].id != job.job_id:
        return _report(job, CancelResult.REPLACED, f"PostHog cancels the newest sync alone, {running[0].id}, not ours")
    try:
        outcome = api.cancel_schema(job.schema_id)
    except PostHogError as exc:
        return _report(job, CancelResult.NOT_CONFIRMED, f"PostHog did not take the request: {exc}")
    if outcome is CancelOutcome.NOTHING_RUNNING:
        return _report(job, CancelResult.ALREADY_FINISHED, "its sync has ended")
    return _report(job, CancelResult.CANCELLED, f"its sync {job.job_id} is cancelled")


def _report(job: StartedJob, result: CancelResult, text: str) -> CancelReport:
    return CancelReport(schema_id=job.schema_id, job_id=job.job_id, result=result, text=f"{job.name}: {text}")
