"""Cancelling what a batch left behind that is gone."""

from datetime import timedelta

import pytest
from sync_model import CANCELLED, START, Run, Table, World, one_table, problem

from dw_orchestration.posthog.enums import CancelOutcome
from dw_orchestration.posthog.errors import ServerError
from dw_orchestration.sync.cancel import StartedJob, cancel_started_jobs
from dw_orchestration.sync.events import CancelReport, CancelResult


def running(world: World, table: Table) -> StartedJob:
    """A sync that has begun, as a batch would have noted it down."""
    world.start(table)
    world.sleep(10)
    row = world.rows_of(table)[-1]
    source_id = next(source_id for source_id, tables in world.sources.items() if table in tables)
    return StartedJob(
        source_id=source_id,
        schema_id=table.id,
        name=table.name,
        job_id=row.id,
        created_at=START + timedelta(seconds=row.created_at),
    )


def results(world: World, *jobs: StartedJob) -> list[CancelResult]:
    """The result for each."""
    return [report.result for report in cancel_started_jobs(world, jobs)]


def test_a_running_job_is_cancelled() -> None:
    """PostHog is asked once, and its end is not awaited."""
    world, table = one_table()
    job = running(world, table)

    assert [
        CancelReport(
            schema_id="t",
            job_id=job.job_id,
            result=CancelResult.CANCELLED,
            text=f"users: its sync {job.job_id} is cancelled",
        )
    ] == list(cancel_started_jobs(world, [job]))

    assert world.rows_of(table)[-1].finished_at is None
    world.sleep(10)
    assert (CANCELLED, 1) == (world.rows_of(table)[-1].error, world.cancels["t"])


def test_a_job_that_has_ended_is_left_alone() -> None:
    """The batch may have cancelled it before it went."""
    world, table = one_table(Run(duration_s=20))
    job = running(world, table)
    world.sleep(60)

    assert ([CancelResult.ALREADY_FINISHED], {}) == (results(world, job), dict(world.cancels))


def test_a_newer_sync_is_not_cancelled_in_its_place() -> None:
    """PostHog cancels a table's newest job: when that is another one, nothing is cancelled."""
    world, table = one_table()
    job = running(world, table)
    world.past(table, ago_s=1, took_s=None)

    assert ([CancelResult.REPLACED], {}) == (results(world, job), dict(world.cancels))


def test_a_job_that_is_not_there_any_more_counts_as_ended() -> None:
    """The newest sync of the table is another one, which began after ours was deleted."""
    world, table = one_table()
    job = running(world, table)
    world.rows.clear()

    assert ([CancelResult.ALREADY_FINISHED], {}) == (results(world, job), dict(world.cancels))


def test_a_job_that_ends_at_that_moment_counts_as_ended() -> None:
    """Between the look and the request it may have ended by itself."""
    world, table = one_table()
    job = running(world, table)
    world.cancel_schema = lambda _: CancelOutcome.NOTHING_RUNNING  # type: ignore[method-assign]

    assert [CancelResult.ALREADY_FINISHED] == results(world, job)


@pytest.mark.parametrize("operation", ["list_jobs s", "cancel_schema"])
def test_trouble_with_one_source_keeps_nothing_from_the_others(operation: str) -> None:
    """An unreachable source is reported, and the other source's sync is cancelled."""
    world, table = one_table()
    other = Table("other", "orders", runs=table.runs.copy())
    world.add("s2", other)
    jobs = [running(world, table), running(world, other)]
    world.faults[operation].append(ServerError(problem(502)))

    assert [CancelResult.NOT_CONFIRMED, CancelResult.CANCELLED] == results(world, *jobs)


def test_the_tables_of_a_source_are_read_together() -> None:
    """One request for all that a terminated run has left at a source, and one for each to cancel."""
    world = World()
    tables = [Table(f"t{n}", f"table_{n}", usual_run=Run(duration_s=3600)) for n in range(20)]
    for table in tables:
        world.add("s", table)
    jobs = [running(world, table) for table in tables]

    assert [CancelResult.CANCELLED] * 20 == results(world, *jobs)
    assert {"list_jobs": 1, "cancel_schema": 20} == dict(world.calls)
