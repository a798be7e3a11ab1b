"""A sync that imports all rows again, because a full refresh was due, is reported as one."""

from datetime import timedelta

import dagster as dg
from warehouse_model import WarehouseModel

from dw_orchestration.sensors.cursor import SensorCursor


def test_the_first_sync_when_a_full_refresh_is_due_is_marked(reports_on) -> None:
    """It counts from an hour before the due time; the syncs before and after it are ordinary ones."""
    model = WarehouseModel(tables=1)
    model.next_full_refresh_at = model.now + timedelta(hours=8)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    marked, red = [], []
    for rows, row_count in [*[(500, 100_000)] * 6, (40_000, 40_000), (480, 40_000), (490, 40_000)]:
        model.advance(3601)
        # the rows that were deleted at the source are in the table until the full refresh
        model.row_count = row_count
        model.finish(model.start("source0", "s0t0"), rows=rows)
        cursor, work = reports.tick(cursor)
        (sync,) = [event for event in work.events if isinstance(event, dg.AssetMaterialization)]
        marked.append("posthog/full_refresh" in sync.metadata)
        red += [event.check_name for event in work.events if getattr(event, "passed", True) is False]

    assert [False] * 6 + [True] + [False] * 2 == marked
    # neither the many rows of the full refresh, nor that the table has fewer rows than before, is unusual
    assert [] == red


def test_a_full_refresh_that_a_dead_run_recorded_is_marked(reports_on) -> None:
    """What a run knew before its sync is not lost with the run."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    run_id, job = reports.new_run(), model.start("source0", "s0t0")
    reports.adopt(job, run_id, full_refresh=True)
    model.advance(60)
    model.finish(job)
    reports.end_run(run_id, success=False)

    _, work = reports.tick(cursor)

    (sync,) = [event for event in work.events if isinstance(event, dg.AssetMaterialization)]
    assert True is sync.metadata["posthog/full_refresh"].value
