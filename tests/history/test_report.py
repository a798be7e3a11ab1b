"""What the history reports: figures of all syncs and of each table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil, floor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dw_orchestration.history.report import HistoryReport, report_metadata, report_of
from dw_orchestration.posthog.models import Job, Source

STRIPE = Source(id="stripe", source_type="Stripe", prefix="main", schemas=())
POSTGRES = Source(id="postgres", source_type="Postgres", schemas=())
NUMBERS = count()
DAY = timedelta(days=1)


def job(
    table: str = "invoices",
    *,
    created_at: datetime,
    status: str = "Completed",
    lasted_s: float | None = 10.0,
    rows: int | None = 5,
    billable: bool | None = None,
) -> Job:
    """A job of a table; without a duration it has no end."""
    return Job.model_validate(
        {
            "id": f"job{next(NUMBERS)}",
            "created_at": created_at,
            "finished_at": None if lasted_s is None else created_at + timedelta(seconds=lasted_s),
            "status": status,
            "rows_synced": rows,
            "billable": billable,
            "schema": {"id": f"id of {table}", "name": table},
        }
    )


def report_on(history, *jobs: Job, now: datetime) -> HistoryReport:
    """The report when these are Stripe's jobs."""
    history.save(STRIPE, jobs, read_at=now)
    return report_of(history, now=now)


def quantile(values: list[float], share: float) -> float | None:
    """The value below which this share of the values lies, between its two neighbours in proportion."""
    if not values:
        return None
    place = (len(values) - 1) * share
    low, high = sorted(values)[floor(place)], sorted(values)[ceil(place)]
    return low + (high - low) * (place - floor(place))


def test_empty_history_has_a_report(history, now) -> None:
    """Before the first sync there are zeros, and no durations and no table."""
    metadata = report_metadata(report_of(history, now=now))

    assert {
        "jobs_stored": 0,
        "dagster/row_count": 0,
        "syncs_30_days": 0,
        "rows_30_days": 0,
        "failures_30_days": 0,
    } == metadata


JOBS = st.lists(
    st.builds(
        job,
        st.sampled_from(["invoices", "customers"]),
        created_at=st.datetimes(datetime(2026, 9, 20), datetime(2026, 11, 3, 12), timezones=st.just(UTC)),  # noqa: DTZ001  the zone is the strategy's to add
        status=st.sampled_from(["Completed", "Completed", "Completed", "Failed", "Billing limits", "Running", "New"]),
        lasted_s=st.integers(0, 86_400) | st.none(),
        rows=st.none() | st.integers(0, 10**9),
        billable=st.sampled_from([None, True, False]),
    ),
    max_size=25,
)


def test_durations_are_those_of_completed_syncs(history, now) -> None:
    """Of a hundred syncs of 1 to 100 s, half take at most 50.5 s and 95 of them at most 95.05 s."""
    completed = [job(created_at=now - DAY, lasted_s=seconds) for seconds in range(1, 101)]
    at_once = [job(created_at=now - DAY, lasted_s=0, status="Billing limits") for _ in range(50)]

    total = report_on(history, *completed, *at_once, now=now).total

    assert (50.5, 95.05) == (total.duration_median_s, total.duration_p95_s)


@given(jobs=JOBS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_figures_are_those_of_a_count_by_hand(history_of, tmp_path, now, jobs) -> None:
    """Rows, failures, median and 95th percentile are the same as when they are counted one by one."""
    (tmp_path / "law.duckdb").unlink(missing_ok=True)
    report = report_on(history_of(file="law.duckdb"), *jobs, now=now)

    recent = [each for each in jobs if each.created_at >= now - 30 * DAY]
    assert len(jobs) == report.jobs_stored
    assert_counted(recent, report.total)
    for table in report.tables:
        assert_counted([each for each in recent if each.table.name == table.table], table)
    assert {each.table.name for each in recent} == {table.table for table in report.tables}


def assert_counted(jobs: list[Job], figures) -> None:
    """Compare figures with a count of their jobs."""
    ended = [each for each in jobs if each.finished_at or each.status in {"Completed", "Failed", "Billing limits"}]
    completed = [each for each in jobs if each.status == "Completed"]
    durations = [(each.finished_at - each.created_at).total_seconds() for each in completed if each.finished_at]
    assert len(jobs) == figures.syncs
    assert sum(each.rows_synced or 0 for each in jobs if each.billable is not False) == figures.rows
    assert sum(each.status != "Completed" for each in ended) == figures.failures
    assert max((each.created_at for each in completed), default=None) == figures.last_sync
    # the report rounds to milliseconds
    assert pytest.approx(quantile(durations, 0.5), abs=0.001) == figures.duration_median_s
    assert pytest.approx(quantile(durations, 0.95), abs=0.001) == figures.duration_p95_s


def test_table_with_most_rows_comes_first(history, now) -> None:
    """The table of tables begins with what is billed most, and names source and table."""
    history.save(POSTGRES, [job("orders", created_at=now - DAY, rows=70)], read_at=now)
    report = report_on(
        history,
        job("invoices", created_at=now - DAY, rows=100, lasted_s=4),
        job("invoices", created_at=now, rows=1, status="Failed"),
        job("customers", created_at=now - DAY, rows=8),
        now=now,
    )

    records = [record.data for record in report_metadata(report)["tables_30_days"].records]

    assert ["invoices", "orders", "customers"] == [record["table"] for record in records]
    assert {
        "source": "Stripe (main)",
        "table": "invoices",
        "rows": 101,
        "syncs": 2,
        "failures": 1,
        "median_s": 4.0,
        "p95_s": 4.0,
        "last_sync": "2026-11-02 12:00 UTC",
    } == records[0]
    assert "Postgres" == records[1]["source"]


def test_renamed_table_stays_one(history, now) -> None:
    """Syncs of one table count together, under the name that it had last."""
    old = job("invoices", created_at=now - 2 * DAY, rows=1)
    renamed = old.model_copy(
        update={
            "id": "later",
            "created_at": now - DAY,
            "table": old.table.model_copy(update={"name": "bills"}),
        }
    )

    report = report_on(history, old, renamed, now=now)

    assert [("bills", 2, 2)] == [(table.table, table.rows, table.syncs) for table in report.tables]


def test_projects_that_share_a_file_are_kept_apart(history_of, now) -> None:
    """A project's figures are its own, also if the file holds others."""
    one, other = history_of("one"), history_of("other")
    other.save(STRIPE, [job(created_at=now, rows=100)], read_at=now)

    report = report_on(one, job(created_at=now, rows=1), now=now)

    assert (1, 1) == (report.jobs_stored, report.total.rows)
