"""Several projects in one code location: side by side with different names, and an error if they have the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.errors import SetupError
from dw_orchestration.schedules.overrides import ScheduleOverride

if TYPE_CHECKING:
    from pathlib import Path

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse


@pytest.fixture
def warehouses(
    embedded_warehouse: EmbeddedWarehouse, other_warehouse: EmbeddedWarehouse
) -> tuple[EmbeddedWarehouse, EmbeddedWarehouse]:
    """Two projects that both have a Stripe source with a table of customers."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    other_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}, {"id": 2}]})
    return embedded_warehouse, other_warehouse


def component(warehouse: EmbeddedWarehouse, name: str, folder: Path) -> PostHogWarehouseComponent:
    """A component with everything that it may have."""
    return PostHogWarehouseComponent(
        warehouse=warehouse.resource,
        name=name,
        overrides=[ScheduleOverride(tables=["*customer"], cron="30 7 * * mon-fri")],
        history_database=folder / f"{name}.duckdb",
        state_file=folder / f"{name}.state.json",
    )


def both(warehouses: tuple[EmbeddedWarehouse, EmbeddedWarehouse], folder: Path, *names: str) -> dg.Definitions:
    """The definitions of both projects in one code location."""
    made = [component(warehouse, name, folder) for warehouse, name in zip(warehouses, names, strict=True)]
    return dg.Definitions.merge(*(dg.build_defs_for_component(each) for each in made))


def test_two_projects_load_side_by_side(warehouses, tmp_path) -> None:
    """Names of assets, steps, schedules, sensors and jobs do not meet, though both have the same tables."""
    defs = both(warehouses, tmp_path, "us", "eu")
    dg.Definitions.validate_loadable(defs)
    tables = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert {f"{name}/{key}" for name in ("us", "eu") for key in ("posthog/stripe/customer", "sync_history")} == tables
    assert {"us_stripe", "eu_stripe"} <= {spec.group_name for spec in defs.resolve_all_asset_specs()}
    repository = defs.get_repository_def()
    for name in ("us", "eu"):
        assert repository.has_job(f"{name}_takeover")
        assert {f"{name}_job_status", f"{name}_drift"} <= {each.name for each in repository.sensor_defs}
        assert repository.has_schedule_def(f"{name}_sync_history")


def test_each_run_syncs_in_its_own_project(warehouses, tmp_path) -> None:
    """Materializing one project's table syncs it there, and leaves the other project alone."""
    first, second = warehouses
    defs = both(warehouses, tmp_path, "us", "eu")
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["eu", "posthog", "stripe", "customer"])]
        )
    assert run.success
    assert ([], 1) == (first.jobs("Customer"), len(second.jobs("Customer")))


def test_the_default_name_stands_nowhere(warehouses, tmp_path) -> None:
    """A project with the default name has short keys, and a second one next to it has a prefix."""
    tables = both(warehouses, tmp_path, "posthog_warehouse", "eu").resolve_asset_graph().materializable_asset_keys
    assert {dg.AssetKey(["posthog", "stripe", "customer"]), dg.AssetKey(["eu", "posthog", "stripe", "customer"])} <= (
        set(tables)
    )


def test_a_name_that_cannot_stand_in_names_is_refused(embedded_warehouse) -> None:
    """A name that Dagster would stumble over is refused with what it may be made of."""
    with pytest.raises(SetupError, match=r"`name: eu-west` .* letters, digits and `_`"):
        PostHogWarehouseComponent(warehouse=embedded_warehouse.resource, name="eu-west")
