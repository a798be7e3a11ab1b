"""The jobs of a table, and how few requests it takes to read them."""

from datetime import timedelta
from typing import Any

from sync_model import START, Table, World

from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.jobs import JobHistory, JobQuery, JobReader


def job(**traits: Any) -> Job:
    """A completed job of the table `t`."""
    row: dict[str, Any] = {
        "id": "j",
        "created_at": START,
        "finished_at": START + timedelta(minutes=1),
        "status": "Completed",
        "schema": {"id": "t", "name": "users", "should_sync": True},
    }
    return Job.model_validate(row | traits)


def test_the_usual_duration_is_the_median_of_the_completed_jobs() -> None:
    """Failed and unfinished jobs do not count for the usual duration of a sync."""
    history = JobHistory()
    assert history.usual_s() is None
    for n, took in enumerate([10, 20, 90]):
        history.add([job(id=f"{n}", finished_at=START + timedelta(seconds=took))])
    history.add([job(id="f", status="Failed"), job(id="r", status="Running", finished_at=None)])
    history.add([job(id="old", finished_at=None)])

    assert 20 == history.usual_s()
    assert 50 == history.usual_s(excluding=job(id="1"))
    assert history.get(None) is None


def test_old_jobs_are_worth_no_request_in_a_search_for_new_ones() -> None:
    """Forty tables that were all synced an hour ago, and again now: their new jobs are in the first answer."""
    world = World()
    tables = [Table(f"t{n}", f"table_{n}") for n in range(40)]
    world.add("s", *tables)
    for table in tables:
        world.past(table, ago_s=3600)
        world.past(table, ago_s=30, took_s=None)
    long_ago, lately = START - timedelta(hours=2), START - timedelta(minutes=2)

    for expected_after, requests in [(lately, 1), (START - timedelta(hours=1, minutes=1), 2), (None, 2)]:
        reader = JobReader(world, "s")
        queries = [JobQuery(name=t.name, after=long_ago, job_id=None, expected_after=expected_after) for t in tables]
        found = reader.read(queries)
        assert requests == reader.cost
        assert 40 == len({job.id for job in found if job.status == "Running"})
