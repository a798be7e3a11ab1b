"""Tables that PostHog keeps up to date by a stream or a webhook: seen, reported and checked, but never in a run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from component_snapshots import project, source, table

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.checks import check_keys
from dw_orchestration.posthog.enums import SyncType
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from dw_orchestration.tables.snapshot import WarehouseSnapshot
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

CUSTOMER, INVOICE = (dg.AssetKey(["posthog", "stripe", name]) for name in ("customer", "invoice"))


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with two tables."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}, {"id": 2}], "Invoice": [{"id": 1}]})
    return embedded_warehouse


def streamed(snapshot: WarehouseSnapshot, *names: str) -> WarehouseSnapshot:
    """The snapshot with webhooks for some of the tables, of which the embedded warehouse knows nothing."""
    sources = [
        one.model_copy(
            update={
                "schemas": tuple(
                    each.model_copy(update={"sync_type": SyncType.WEBHOOK}) if each.name in names else each
                    for each in one.schemas
                )
            }
        )
        for one in snapshot.sources
    ]
    return snapshot.model_copy(update={"sources": tuple(sources)})


def definitions(warehouse: EmbeddedWarehouse, **settings: Any) -> dg.Definitions:
    """The definitions of a warehouse in which invoices arrive by webhook."""
    made = PostHogWarehouseComponent(warehouse=warehouse.resource, **settings)
    defs = made.build_defs_from_snapshot(streamed(warehouse.snapshot(), "Invoice"))
    dg.Definitions.validate_loadable(defs)
    return defs


@pytest.mark.parametrize("step_per", ["source", "project", "table"])
def test_materialize_all_takes_the_others_and_is_green(stripe: EmbeddedWarehouse, step_per: str) -> None:
    """The run of everything syncs what can be synced; the table is there, but in no step."""
    defs = definitions(stripe, step_per=step_per)
    graph = defs.resolve_asset_graph()
    assert ({CUSTOMER}, True) == (set(graph.materializable_asset_keys), graph.has(INVOICE))
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=sorted(graph.materializable_asset_keys)
    )
    assert result.success
    assert ([1], []) == ([len(stripe.jobs("Customer"))], stripe.jobs("Invoice"))


def test_lineage_and_description_are_those_of_a_table(stripe: EmbeddedWarehouse) -> None:
    """It has its origin upstream and says why it is not synced from here."""
    graph = definitions(stripe).resolve_asset_graph()
    assert {dg.AssetKey(["stripe", "stripe", "invoice"])} == graph.get(INVOICE).parent_keys
    assert "its changes arrive by change data capture or webhook" in (graph.get(INVOICE).description or "")
    assert set(check_keys(INVOICE)) == set(graph.get(INVOICE).check_keys)


def test_a_check_is_executed_by_itself(stripe: EmbeddedWarehouse) -> None:
    """The checks read what PostHog shows, each when it is selected, and start no sync."""
    job = stripe.sync("Invoice")
    checks = dg.AssetSelection.checks(dg.AssetCheckKey(INVOICE, "sync_succeeded"))
    defs = dg.Definitions.merge(definitions(stripe), dg.Definitions(jobs=[dg.define_asset_job("look", checks)]))
    (found,) = defs.resolve_job_def("look").execute_in_process().get_asset_check_evaluations()
    assert ("sync_succeeded", "stripe.Invoice: Completed") == (found.check_name, found.description)
    assert [job.id] == [each.id for each in stripe.jobs("Invoice")]


def test_the_sensor_reports_its_syncs(stripe: EmbeddedWarehouse) -> None:
    """What PostHog imported by itself is a materialization, though no run could have made it."""
    job = stripe.sync("Invoice")
    sensor = build_job_status_sensor(
        Tables(streamed(stripe.snapshot(), "Invoice"), include_disabled=True), auto_heal=1, run_grace=timedelta()
    )
    resources = {"posthog_warehouse": stripe.resource}
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, resources=resources, definitions=definitions(stripe)) as context,
    ):
        result = sensor.evaluate_tick(context)
    (event,) = [each for each in result.asset_events if isinstance(each, dg.AssetMaterialization)]
    assert (INVOICE, job.id) == (event.asset_key, event.metadata["posthog/job_id"].value)


@pytest.mark.parametrize(
    ("step_per", "steps"),
    [("source", {"check_stripe", "check_postgres"}), ("project", {"check_posthog_warehouse"}), ("table", 3)],
)
def test_checks_are_grouped_as_steps_are(step_per: Any, steps: set[str] | int) -> None:
    """One process checks the tables of a source, of the project or one table, as it would sync them."""
    webhook = {"sync_type": SyncType.WEBHOOK}
    state = project(
        source("Stripe", [table("a", **webhook), table("b", **webhook)]), source("Postgres", [table("c", **webhook)])
    )
    found = [
        each.node_def.name
        for each in build_posthog_assets(Tables(state, include_disabled=True, step_per=step_per))
        if isinstance(each, dg.AssetChecksDefinition)
    ]
    assert steps in (set(found), len(found))


def test_a_project_of_streams_alone_loads() -> None:
    """Where nothing can be synced from here, there is neither a step nor a schedule."""
    nobody = PostHogWarehouseResource(project_id="1", api_key="phx_of_nobody")
    state = project(source("Postgres", [table("orders", sync_type=SyncType.CDC)], prefix="shop"))
    defs = PostHogWarehouseComponent(warehouse=nobody).build_defs_from_snapshot(state)
    dg.Definitions.validate_loadable(defs)
    assert (set(), []) == (set(defs.resolve_asset_graph().materializable_asset_keys), list(defs.schedules or []))
