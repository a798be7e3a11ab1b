"""The jobs of a table, and how few requests it takes to read them."""

from datetime import timedelta
from typing import Any

from sync_model import START

from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.jobs import JobHistory


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
