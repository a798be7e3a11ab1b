"""A sync that imports many more rows than usual, or many fewer, causes a warning."""

from collections.abc import Callable

import dagster as dg
import pytest
from warehouse_model import WarehouseModel

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.checks import CheckOutcome, ReportedSyncs, data_as_usual
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.tables.tables import Tables
from tests.sensors.conftest import snapshot_of


@pytest.fixture
def verdict_on(reports_on) -> Callable[..., CheckOutcome]:
    """The check of a sync's rows, after syncs with other rows."""
    model = WarehouseModel(tables=1)
    asset = reports_on(model).assets[0]

    def judge(rows, earlier, *, own_id="another") -> CheckOutcome:
        job = model.start("source0", "s0t0")
        model.finish(job, rows=rows)
        metadata = [
            {
                "posthog/job_id": dg.MetadataValue.text(job.id if number == own_id else f"earlier{number}"),
                "posthog/rows_synced": dg.MetadataValue.int(each),
            }
            for number, each in enumerate(earlier)
        ]
        return data_as_usual(asset, model._job(job), record=None, syncs=ReportedSyncs(tuple(metadata)))

    return judge


@pytest.mark.parametrize(
    ("rows", "earlier", "passed"),
    [
        pytest.param(0, [500] * 4, True, id="nothing_is_usual_yet"),
        pytest.param(0, [500] * 5, False, id="nothing_where_there_always_was_something"),
        pytest.param(250, [500] * 5, True, id="just_half"),
        pytest.param(249, [500] * 5, False, id="less_than_half"),
        pytest.param(1000, [500] * 5, True, id="just_twice"),
        pytest.param(1001, [500] * 5, False, id="more_than_twice"),
        pytest.param(0, [0, 500, 400, 500, 400], True, id="nothing_where_that_happens"),
        pytest.param(100, [0] * 20, True, id="few_rows_in_a_table_that_hardly_changes"),
        pytest.param(101, [0] * 20, False, id="many_rows_in_a_table_that_hardly_changes"),
        pytest.param(90, [100] * 10 + [1_000_000], True, id="usual_rows_after_a_first_sync_of_all"),
        pytest.param(1_000_000, [100] * 10, False, id="resync_itself"),
        pytest.param(100, [1_000_000] + [100] * 10, True, id="usual_rows_after_a_resync"),
        pytest.param(49, [1_000_000] + [100] * 10, False, id="too_few_rows_after_a_resync"),
    ],
)
def test_range_is_from_half_the_fewest_to_twice_the_most(verdict_on, rows, earlier, passed) -> None:
    """One sync of all rows among them makes no later sync unusual, and hides no lack of rows."""
    assert passed == verdict_on(rows, earlier).passed


def test_sync_is_no_measure_of_itself(verdict_on) -> None:
    """A sync that has been reported already, as when a user executes the check, is compared with those before it."""
    verdict = verdict_on(5000, [5000, 500, 500, 500, 500, 500], own_id=0)

    assert (False, 5) == (verdict.passed, verdict.metadata["posthog/syncs_compared"])


def test_numbers_are_said_and_are_numbers(verdict_on) -> None:
    """The sentence has the rows and the range for people, the metadata has them for Dagster's plots."""
    verdict = verdict_on(12_345, [500, 600, 700, 800, 900])

    assert "rows_unusual: 12,345 rows synced; the last 5 syncs imported 500 to 900" == verdict.description
    assert {
        "posthog/rows_synced": 12_345,
        "posthog/syncs_compared": 5,
        "posthog/fewest_rows_synced": 500,
        "posthog/most_rows_synced": 900,
        "posthog/rows_unusual": "12,345 rows synced; the last 5 syncs imported 500 to 900",
    } == verdict.metadata
    assert dg.AssetCheckSeverity.WARN == verdict.severity


def test_event_without_rows_is_left_out(verdict_on) -> None:
    """A user may report materializations of a table too; they are not reports of its syncs."""
    asset = dg.AssetMaterialization("any", metadata={"note": "by hand", "posthog/rows_synced": "many"})

    assert [] == ReportedSyncs((asset.metadata,) * 9).rows_synced(but="job")


def test_sensor_warns_once_and_says_when_it_is_over(reports_on) -> None:
    """What PostHog syncs by itself is checked too: red with the unusual sync, green with the next usual one."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    said = []
    for rows in (500, 510, 490, 505, 500, 5000, 480, 490):
        model.advance(300)
        model.finish(model.start("source0", "s0t0"), rows=rows)
        cursor, work = reports.tick(cursor)
        said.append([event.passed for event in work.events if getattr(event, "check_name", None) == "data_as_usual"])

    assert [[], [], [], [], [], [False], [True], []] == said


def test_every_table_has_the_check() -> None:
    """It needs no cadence: a table that is synced by Dagster alone has usual rows too."""
    model = WarehouseModel(tables=1)

    defs = dg.Definitions(
        assets=build_posthog_assets(Tables(snapshot_of(model), include_disabled=True)),
        resources={"posthog_warehouse": object()},
    )
    names = {key.name for key in defs.resolve_asset_graph().asset_check_keys}

    assert {"sync_succeeded", "data_as_usual"} == names
