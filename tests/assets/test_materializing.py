"""Materializing tables makes the warehouse sync them, and the events say what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.assets.job.asset_layer import AssetLayer
from storages import ON_EACH_STORAGE
from warehouse import Shelf, events, execute, log_of

from dw_orchestration.assets import build

if TYPE_CHECKING:
    from dagster._core.definitions.dependency import NodeHandle

TABLES = ("customers", "orders", "products")
MATERIALIZED = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION)


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetMaterialization]:
    """The materializations of a run by the last part of their key."""
    found = events(result, dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {event.asset_key.path[-1]: event.materialization for event in found if event.asset_key}


def number(materialization: dg.AssetMaterialization, name: str) -> object:
    """A number in the metadata; text that looks like one would not be plotted."""
    value = materialization.metadata[name]
    assert isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue)
    return value.value


def test_row_counts_are_those_of_the_database(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """After materializing all tables, Postgres, DuckDB and the metadata have the same numbers of rows."""
    result = shelf.materialize(*TABLES, instance=instance)
    assert result.success
    found = materializations(result)
    assert set(TABLES) == set(found)
    for name in TABLES:
        ((source,),) = execute(shelf.database, f"select count(*) from {name}")
        ((target,),) = shelf.warehouse.rows(f"select count(*) from postgres_{shelf.prefix}.{name}")
        assert source == target == number(found[name], "dagster/row_count")


def test_metadata_says_which_sync_it_was(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A materialization carries its job, its times as numbers, the table's name, and the job as data version."""
    result = shelf.materialize("customers", instance=instance)
    found = materializations(result)["customers"]
    job = shelf.newest("customers")
    assert job.id == found.metadata["posthog/job_id"].value
    assert job.id == (found.tags or {})["dagster/data_version"]
    assert "dagster" == found.metadata["posthog/triggered_by"].value
    assert job.rows_synced == number(found, "posthog/rows_synced")
    assert job.finished_at is not None
    assert (job.finished_at - job.created_at).total_seconds() == pytest.approx(
        number(found, "posthog/duration_s"), abs=1e-3
    )
    assert number(found, "posthog/queue_s") is not None
    record = shelf.record("customers")
    assert record.table is not None
    assert record.table.name == found.metadata["dagster/table_name"].value


def test_metadata_has_the_columns(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """The column schema is that of the synced table."""
    found = materializations(shelf.materialize("orders", instance=instance))["orders"]
    schema = found.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    record = shelf.record("orders")
    assert record.table is not None
    assert {"id", "total", "updated_at"} <= {column.name for column in schema.columns}
    assert [(column.name, column.type) for column in record.table.columns] == [
        (column.name, column.type) for column in schema.columns
    ]


def test_the_next_sync_brings_what_is_new(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """An incremental table's second materialization reads the changed rows, and counts all."""
    shelf.materialize("orders", instance=instance)
    execute(shelf.database, "update orders set total = 0, updated_at = now() where id >= 38")
    execute(shelf.database, "insert into orders (id, total) values (41, 1), (42, 2)")
    found = materializations(shelf.materialize("orders", instance=instance))["orders"]
    assert 5 == number(found, "posthog/rows_synced")
    assert 42 == number(found, "dagster/row_count")
    zeros = shelf.warehouse.rows(f"select id from postgres_{shelf.prefix}.orders where total = 0 order by id")
    assert [(38,), (39,), (40,)] == zeros


def test_a_subset_syncs_nothing_else(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """Selecting two tables of three starts exactly two syncs, and materializes exactly those."""
    before = shelf.counts()
    result = shelf.materialize("customers", "products", instance=instance)
    assert result.success
    assert {"customers", "products"} == set(materializations(result))
    assert {"customers": 1, "products": 1} == shelf.counts() - before


def test_keys_are_not_collected_for_each_output(
    shelf: Shelf, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster would collect all keys of a step for each pair of its tables, minutes with a thousand of them."""
    collect, materialized = AssetLayer.get_selected_entity_keys_for_node, []

    def collected(layer: AssetLayer, node: NodeHandle) -> object:
        materialized.append(len(instance.event_log_storage.get_event_records(MATERIALIZED)))
        return collect(layer, node)

    monkeypatch.setattr(AssetLayer, "get_selected_entity_keys_for_node", collected)
    assert shelf.materialize(*TABLES, instance=instance).success
    assert {0} == set(materialized)


def test_steps_of_one_process_share_the_collected_keys(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """Each step would wrap what the one before has kept, deeper than Python can call with a thousand steps."""
    keep, kept = build._keep_keys_of_nodes, []

    def keep_twice(context: dg.AssetExecutionContext) -> None:
        for _ in range(2):
            keep(context)
            kept.append(context.job_def.asset_layer.get_selected_entity_keys_for_node)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_keep_keys_of_nodes", keep_twice)
        assert shelf.materialize("customers", instance=instance).success
    first, second = kept
    assert first is second


def test_the_check_passes(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """Each synced table passes its check `sync_succeeded`, with its job."""
    result = shelf.materialize("customers", "orders", instance=instance)
    checks = {
        check.asset_key.path[-1]: check
        for check in result.get_asset_check_evaluations()
        if check.check_name == "sync_succeeded"
    }
    assert {"customers", "orders"} == set(checks)
    for name, check in checks.items():
        assert check.passed
        assert shelf.newest(name).id == check.metadata["posthog/job_id"].value


@ON_EACH_STORAGE
def test_unusual_rows_are_warned_of(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """The rows of a run's sync are compared with the table's last syncs, as Dagster has them; the table is synced."""
    for number in range(5):
        metadata = {"posthog/job_id": f"earlier{number}", "posthog/rows_synced": 500}
        event = dg.AssetMaterialization(shelf.key("customers"), metadata=metadata)
        instance.report_runless_asset_event(event)
    result = shelf.materialize("customers", instance=instance)
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "data_as_usual"]
    rows = shelf.newest("customers").rows_synced
    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    assert f"{rows} rows synced; the last 5 syncs imported 500 to 500" == check.metadata["posthog/rows_unusual"].value
    assert result.success


def test_assets_downstream_run_in_the_same_run(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """An asset that depends on a table runs after it, in the same run, on the rows just synced."""
    execute(shelf.database, "insert into customers values (8, 'the newest')")

    @dg.asset(deps=[shelf.key("customers")])
    def newest_customer() -> dg.MaterializeResult[None]:
        rows = shelf.warehouse.rows(f"select name from postgres_{shelf.prefix}.customers order by id desc limit 1")
        return dg.MaterializeResult(metadata={"name": rows[0][0]})

    result = shelf.materialize("customers", instance=instance, others=[newest_customer])
    assert "the newest" == materializations(result)["newest_customer"].metadata["name"].value


def test_a_running_sync_is_joined(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A sync that is running when its table is materialized is adopted: no second one is started."""
    before = shelf.counts()
    with shelf.locked("orders"):
        shelf.warehouse.client.reload_schema(shelf.record("orders").id)
        job = shelf.wait_until(lambda: shelf.running("orders"))
        result = shelf.materialize("orders", instance=instance, wait=False)
    assert result.success
    assert not materializations(result)
    (observation,) = events(result, dg.DagsterEventType.ASSET_OBSERVATION)
    metadata = observation.asset_observation_data.asset_observation.metadata
    assert (job.id, "adopted") == (metadata["posthog/job_id"].value, metadata["posthog/triggered_by"].value)
    shelf.settle()
    assert {"orders": 1} == shelf.counts() - before
    assert "is reported when it has ended" in log_of(result, instance)
