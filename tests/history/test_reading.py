"""The history holds every job, and a pass reads no more than it lacks."""

from contextlib import closing
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dw_orchestration.history.reading import FOLLOWED_FOR, bring_up_to_date
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.limits import LATE_ROWS

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# one for the list of sources, one for the jobs of each of the two
AT_LEAST = 3


def ids(rows_of, history) -> set[str]:
    """The ids of all jobs stored."""
    return {job_id for (job_id,) in rows_of(history, "select job_id from sync_history")}


def test_first_pass_goes_back_as_many_days_as_asked_for(project, history, rows_of) -> None:
    """All jobs of the span are stored, however many answers they take, and none from before it."""
    invoices = project.jobs("invoices", 130, newest=HOUR, every=5 * HOUR)
    contacts = project.jobs("contacts", 2, newest=HOUR, every=HOUR)
    project.job("customers", ago=31 * DAY)

    reading, requests = project.read_into(history)

    assert invoices | contacts == ids(rows_of, history)
    assert 132 == reading.jobs
    assert AT_LEAST + 2 == requests


def test_second_pass_reads_only_what_came_since(project, history, rows_of) -> None:
    """A pass costs one request per source when fewer than fifty jobs have come."""
    stored = project.jobs("invoices", 130, newest=10 * HOUR, every=HOUR)
    project.read_into(history)
    new = project.jobs("invoices", 3, newest=HOUR, every=HOUR)

    reading, requests = project.read_into(history)

    assert stored | new == ids(rows_of, history)
    # the newest stored one is read again, because others may have become visible beside it
    assert 3 + 1 == reading.jobs
    assert AT_LEAST == requests


def test_running_job_is_followed_to_its_end(project, history, rows_of) -> None:
    """A job that ran when it was stored is read again, although younger jobs were stored with it."""
    running = project.job("customers", ago=20 * HOUR, lasted_s=None, rows=1)
    project.jobs("invoices", 100, newest=MINUTE, every=5 * MINUTE)
    project.read_into(history)
    one_job = f"select status, rows_synced, duration_s from sync_history where job_id = '{running}'"
    before = rows_of(history, one_job)
    project.finish(running, rows=7)

    _, requests = project.read_into(history)
    _, requests_afterwards = project.read_into(history)

    assert [("Running", 1, None)] == before
    assert [("Completed", 7, 72000.0)] == rows_of(history, one_job)
    assert AT_LEAST + 1 == requests
    assert AT_LEAST == requests_afterwards


def test_running_jobs_of_one_tick_are_read_again_together(project, history) -> None:
    """Sixty tables that began together cost two requests, not sixty."""
    for number in range(60):
        project.job("invoices", ago=20 * HOUR + number * timedelta(milliseconds=500), lasted_s=None)
    project.job("invoices", ago=MINUTE)
    project.read_into(history)

    _, requests = project.read_into(history)

    assert AT_LEAST + 2 == requests


def test_job_that_never_ends_is_given_up(project, history) -> None:
    """A row that its worker left behind is asked for no longer than an import can take."""
    project.job("invoices", ago=FOLLOWED_FOR + DAY, lasted_s=None)
    project.job("invoices", ago=MINUTE)
    project.read_into(history)

    _, requests = project.read_into(history)

    assert AT_LEAST == requests


def test_job_that_becomes_visible_late_is_stored(project, history, rows_of) -> None:
    """Workers write side by side: a job may appear after one that was created later."""
    project.job("invoices", ago=HOUR)
    project.read_into(history)
    late = project.job("customers", ago=HOUR + LATE_ROWS - MINUTE)

    project.read_into(history)

    assert late in ids(rows_of, history)


def test_long_pause_leaves_no_hole(project, history, rows_of, now) -> None:
    """A pass continues from the newest stored job, even if that is longer ago than a first pass would go back."""
    stored = project.job(ago=60 * DAY)
    project.read_into(history, now=now - 60 * DAY)
    missed = project.job(ago=45 * DAY)

    project.read_into(history)

    assert {stored, missed} == ids(rows_of, history)


def test_interrupted_pass_leaves_no_hole(project, history, rows_of, gone, now) -> None:
    """The newest jobs are read first: a pass that breaks off stores none of them, so the next one reads them all."""
    jobs = project.jobs("invoices", 120, newest=HOUR, every=HOUR)
    broken = gone(project.source_of("invoices"), after_pages=2)
    key = project.endpoint.api_key
    client = PostHogWarehouseClient(project.endpoint.host, 1, key, rate_limits=None, http_transport=broken)
    with closing(client) as api:
        reading = bring_up_to_date(api, history, days=30, now=now)
    after_the_broken_pass = ids(rows_of, history)

    project.read_into(history)

    assert ["Stripe (main)"] == list(reading.problems)
    assert set() == after_the_broken_pass
    assert jobs == ids(rows_of, history)


def test_later_reading_wins(project, history, rows_of, now) -> None:
    """Of two passes at once, the one that read earlier must not undo what the other stored."""
    job_id = project.job(ago=HOUR, lasted_s=None)
    source_id = project.source_of("invoices")
    (running,) = project.client.list_jobs(source_id)
    project.finish(job_id, rows=9)
    (completed,) = project.client.list_jobs(source_id)
    source = project.client.get_source(source_id)

    history.save(source, [completed], read_at=now)
    history.save(source, [running], read_at=now - MINUTE)

    assert [("Completed", 9)] == rows_of(history, "select status, rows_synced from sync_history")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from(["invoices", "customers", "contacts"])),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("pass"), st.just(0)),
    ),
    max_size=15,
)


@given(steps=STEPS, gap_minutes=st.sampled_from([1, 7, 600]))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_history_is_what_the_warehouse_has(*, project, history_of, rows_of, tmp_path, steps, gap_minutes) -> None:
    """Whenever jobs begin, end and are read, after a last pass each is in the history as the API shows it."""
    project.forget_jobs()
    (tmp_path / "law.duckdb").unlink(missing_ok=True)
    history = history_of(file="law.duckdb")
    running: list[str] = []
    for number, (step, what) in enumerate(steps):
        if step == "begin":
            ago = timedelta(minutes=gap_minutes) * (len(steps) - number)
            running.append(project.job(what, ago=ago, lasted_s=None))
        elif step == "end" and running:
            project.finish(running.pop(what % len(running)), rows=number)
        elif step == "pass":
            project.read_into(history)

    project.read_into(history)

    shown = {
        (job.id, str(job.status), job.rows_synced)
        for source_id in project.sources.values()
        for job in project.client.list_jobs(source_id)
    }
    assert shown == set(rows_of(history, "select job_id, status, rows_synced from sync_history"))
