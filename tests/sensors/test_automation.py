"""Downstream assets with `AutomationCondition.eager()` follow the syncs that the sensor reports."""

import dagster as dg
import pytest
from warehouse_model import WarehouseModel

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.tables.tables import Tables
from tests.sensors.conftest import snapshot_of

# Dagster's own default selection for this evaluation uses a parameter that it calls beta
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")


def definitions(model) -> dg.Definitions:
    """The model's tables with one asset downstream of the first, built again as a reload does."""
    assets = build_posthog_assets(Tables(snapshot_of(model), include_disabled=True))
    first = next(asset for asset in assets if isinstance(asset, dg.AssetsDefinition)).keys

    @dg.asset(deps=sorted(first)[:1], automation_condition=dg.AutomationCondition.eager())
    def report() -> None: ...

    return dg.Definitions(assets=[*assets, report], resources={"posthog_warehouse": object()})


def sync(model, reports, *, by_a_run: bool) -> None:
    """A sync of the table, which PostHog runs by itself or a run follows and reports."""
    job = model.start("source0", "s0t0")
    if not by_a_run:
        model.finish(job)
        return
    run_id = reports.new_run()
    reports.adopt(job, run_id)
    model.finish(job)
    reports.materialize(job, run_id)
    reports.end_run(run_id, success=True)


@pytest.mark.parametrize("by_a_run", [False, True], ids=["by_posthog", "by_a_run"])
@pytest.mark.parametrize("reload", [False, True], ids=["same_definitions", "reloaded_between"])
def test_eager_asset_is_requested_once_for_each_reported_sync(reports_on, reload, by_a_run) -> None:
    """A sync that PostHog ran by itself counts like a run's, once, also after a reload."""
    model = WarehouseModel(tables=1)
    reports = reports_on(model)
    cursor, _ = reports.tick(SensorCursor())
    defs, requested, automation = definitions(model), [], None
    automation = dg.evaluate_automation_conditions(defs=defs, instance=reports.instance).cursor
    for with_sync in (True, False, True, False):
        model.advance(300)
        if with_sync:
            sync(model, reports, by_a_run=by_a_run)
        cursor, _ = reports.tick(cursor)
        defs = definitions(model) if reload else defs
        result = dg.evaluate_automation_conditions(defs=defs, instance=reports.instance, cursor=automation)
        automation = result.cursor
        requested.append(result.get_num_requested(dg.AssetKey("report")))
        if requested[-1]:
            dg.materialize([defs.resolve_assets_def("report")], instance=reports.instance, selection=["report"])

    assert [1, 0, 1, 0] == requested
