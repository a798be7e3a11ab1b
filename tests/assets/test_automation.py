"""Automation conditions of tables request them, although Dagster never learns of changes where the rows come from."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_snapshots import OFF, project, source, table

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.posthog.enums import AccessMethod, SyncType
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from dw_orchestration.tables.table import Table

# Dagster's own default selection for this evaluation uses a parameter that it calls beta
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

HALF_PAST = datetime(2026, 11, 3, 0, 30, tzinfo=UTC)
ORDERS = dg.AssetKey(["posthog", "postgres", "shop", "orders"])
ORIGIN = dg.AssetKey(["postgres", "shop", "orders"])
REPORT = dg.AssetKey("report")
HOURLY = dg.AutomationCondition.on_cron("@hourly")
with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):
    DOWNSTREAM = dg.AutomationCondition.any_downstream_conditions()
SHOP = project(source("Postgres", [table("orders")], prefix="shop"))
NOT_FOR_DAGSTER = project(
    source("Postgres", [table("changes", sync_type=SyncType.CDC), table("off", **OFF)], prefix="shop"),
    source("MySQL", [table("in_place")], access_method=AccessMethod.DIRECT),
)


def definitions(
    condition: dg.AutomationCondition, *, report: dg.AutomationCondition | None = None, state=SHOP, **attributes
) -> dg.Definitions:
    """The tables, translated to have a condition, and a report downstream of the orders."""

    def spec_of(table: Table) -> dg.AssetSpec:
        return asset_spec(table).replace_attributes(automation_condition=condition, **attributes)

    downstream = dg.AssetSpec(REPORT, deps=[ORDERS], automation_condition=report)
    reports = dg.multi_asset(specs=[downstream], name="reports")(lambda: None)
    assets = build_posthog_assets(Tables(state, include_disabled=True, spec_of=spec_of))
    return dg.Definitions(assets=[*assets, reports], resources={"posthog_warehouse": object()})


def requested(defs: dg.Definitions) -> list[str]:
    """What is requested at 0:30, 0:50 and 1:10."""
    keys, cursor = [], None
    with dg.DagsterInstance.ephemeral() as instance:
        for minutes in (0, 20, 40):
            now = HALF_PAST + timedelta(minutes=minutes)
            found = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor, evaluation_time=now)
            cursor = found.cursor
            keys += [f"{now:%H:%M} {key.path[-1]}" for key in (ORDERS, REPORT) if found.get_num_requested(key)]
    return keys


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(HOURLY, id="on_cron"),
        pytest.param(HOURLY.with_label("ours"), id="with_a_label"),
        pytest.param(HOURLY & ~dg.AutomationCondition.any_deps_missing(), id="unless_deps_are_missing"),
        pytest.param(HOURLY | DOWNSTREAM, id="or_when_downstream_needs_it"),
    ],
)
def test_a_table_is_requested_at_its_cron(condition: dg.AutomationCondition) -> None:
    """A table is requested once after each tick, because it does not wait for the origin of its rows."""
    assert ["01:10 orders"] == requested(definitions(condition))


def test_a_condition_ignores_the_origin_at_any_depth() -> None:
    """The origin does not block a part of a condition in which Dagster itself lets nothing be ignored."""
    present = dg.AutomationCondition.all_deps_match(~dg.AutomationCondition.missing()).newly_true()
    assert ["00:30 orders"] == requested(definitions(present))


@pytest.mark.parametrize("name", ["on_missing", "eager"])
def test_a_table_that_becomes_missing_is_requested(name: str) -> None:
    """A table whose events were wiped is requested, although its origin never has any."""
    defs = definitions(getattr(dg.AutomationCondition, name)())
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(ORDERS))
        cursor = dg.evaluate_automation_conditions(defs=defs, instance=instance).cursor
        instance.wipe_assets([ORDERS])
        assert 1 == dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor).get_num_requested(
            ORDERS
        )


@pytest.mark.parametrize(
    ("condition", "report"),
    [
        pytest.param(HOURLY, dg.AutomationCondition.eager(), id="eager"),
        pytest.param(HOURLY, HOURLY, id="on_cron"),
        pytest.param(DOWNSTREAM, HOURLY, id="any_downstream_conditions"),
        pytest.param(DOWNSTREAM | HOURLY, dg.AutomationCondition.eager(), id="any_downstream_conditions_or_on_cron"),
    ],
)
def test_what_is_downstream_is_requested_with_its_table(
    condition: dg.AutomationCondition, report: dg.AutomationCondition
) -> None:
    """An asset downstream is requested together with the table, whichever of them decides when."""
    assert ["01:10 orders", "01:10 report"] == requested(definitions(condition, report=report))


def test_an_asset_upstream_that_a_user_names_is_waited_for() -> None:
    """Only the origin is ignored: a table waits for the dependencies that a translation gives it."""
    assert [] == requested(definitions(HOURLY, deps=[ORIGIN, "export"]))


def test_the_origin_stays_upstream() -> None:
    """A table with a condition still shows where its rows come from, unless assets downstream decide for it."""
    ancestors = {
        name: definitions(condition, report=HOURLY).resolve_asset_graph().get(ORDERS).parent_keys
        for name, condition in (("on_cron", HOURLY), ("downstream", DOWNSTREAM))
    }
    assert {"on_cron": {ORIGIN}, "downstream": set()} == ancestors


def test_tables_that_dagster_cannot_sync_have_no_condition() -> None:
    """Nothing requests a table that a run could only skip or fail; Dagster would try again at each tick."""
    specs = definitions(HOURLY, state=NOT_FOR_DAGSTER).resolve_all_asset_specs()
    assert {"changes", "off", "in_place"} <= {spec.key.path[-1] for spec in specs}
    assert [] == [spec.key for spec in specs if spec.automation_condition is not None]
