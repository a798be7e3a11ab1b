"""Partitions that a user gives to tables: PostHog knows none, so one sync serves all that a run selects."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_snapshots import project, source, table

from dw_orchestration.assets import asset_spec, build_posthog_assets
from dw_orchestration.schedules import build_posthog_schedules
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

if TYPE_CHECKING:
    from component_projects import DgProject

    from dw_orchestration import Table
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

KEY = dg.AssetKey(["posthog", "stripe", "acme", "charge"])
DAYS = dg.DailyPartitionsDefinition("2026-11-01")
RANGE = {"dagster/asset_partition_range_start": "2026-11-01", "dagster/asset_partition_range_end": "2026-11-05"}
PARTITIONED = """
type: dw_orchestration.PostHogWarehouseComponent
template_vars_module: .template_vars
attributes:
  warehouse: {project_id: "1", api_key: phx_of_nobody}
  state_file: state.json
  translation: {partitions_def: "{{ days }}"}
"""
VARIABLES = """
import dagster as dg

@dg.template_var
def days():
    return dg.DailyPartitionsDefinition("2026-11-01")
"""


def daily(each: Table) -> dg.AssetSpec:
    """A table's asset with a partition for each day."""
    return asset_spec(each).replace_attributes(partitions_def=DAYS)


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A source of one table that has never been synced."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": [{"id": 1}]})
    return embedded_warehouse


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tags": RANGE}, {f"2026-11-0{day}" for day in range(1, 6)}),
        ({"partition_key": "2026-11-03"}, {"2026-11-03"}),
        # as a schedule launches it
        ({}, set()),
    ],
    ids=["backfill", "one partition", "none"],
)
def test_one_sync_serves_all_partitions_of_a_run(stripe, instance, settings, expected) -> None:
    """A backfill is one run with one sync, whose rows all of its partitions have."""
    before = len(stripe.jobs("Charge"))
    result = dg.materialize(
        build_posthog_assets(Tables(stripe.snapshot(), include_disabled=True, spec_of=daily)),
        instance=instance,
        resources={DEFAULT_RESOURCE_KEY: stripe.resource},
        **settings,
    )

    assert result.success
    assert expected == instance.get_materialized_partitions(KEY)
    assert before + 1 == len(stripe.jobs("Charge"))


def test_a_sync_of_posthogs_own_is_of_no_partition(stripe, instance) -> None:
    """The sensor reports it as the table's, once: nobody has said which partition it is for."""
    snapshot, job = stripe.snapshot(), stripe.sync("Charge")
    sensor = build_job_status_sensor(Tables(snapshot, include_disabled=True, spec_of=daily), run_grace=timedelta())
    context = dg.build_sensor_context(instance=instance, resources={DEFAULT_RESOURCE_KEY: stripe.resource})
    for event in sensor.evaluate_tick(context).asset_events:
        instance.report_runless_asset_event(event)

    (record,) = instance.fetch_materializations(KEY, limit=10).records
    assert (job.id, None) == (record.asset_materialization.metadata["posthog/job_id"].value, record.partition_key)
    assert set() == instance.get_materialized_partitions(KEY)


def test_partitioned_tables_have_their_schedules() -> None:
    """What starts syncs asks for tables, partitioned or not."""
    snapshot = project(source("Stripe", [table("Charge", sync_frequency="1hour")]))
    (schedule,) = build_posthog_schedules(Tables(snapshot, include_disabled=True, spec_of=daily))
    defs = dg.Definitions(
        assets=build_posthog_assets(Tables(snapshot, include_disabled=True, spec_of=daily)),
        schedules=[schedule],
        resources={DEFAULT_RESOURCE_KEY: object()},
    )

    dg.Definitions.validate_loadable(defs)


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_a_file_names_partitions_by_a_template_variable(dg_project: DgProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """In YAML, a template variable of the user's own module is the definition."""
    project(source("Stripe", [table("Charge")])).write(dg_project.root / "state.json")
    dg_project.write("posthog", PARTITIONED).with_name("template_vars.py").write_text(VARIABLES)
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    defs = dg.load_from_defs_folder(path_within_project=dg_project.defs)
    key = dg.AssetKey(["posthog", "stripe", "charge"])

    assert DAYS == defs.resolve_asset_graph().get(key).partitions_def
