"""Metadata with types: what is written is what is read."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from builders import snapshot_of, source_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dw_orchestration import SyncMetadata, TableMetadata
from dw_orchestration.assets import asset_spec, build_posthog_assets
from dw_orchestration.assets.spec import asset_key, table_metadata
from dw_orchestration.posthog.enums import AccessMethod, SyncFrequency, SyncStatus, SyncType
from dw_orchestration.posthog.models import Schema, WarehouseTable
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing import fails

if TYPE_CHECKING:
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

KEY = dg.AssetKey(["posthog", "stripe", "customer"])
DAILY: dict[str, Any] = {"sync_frequency": SyncFrequency.ONE_DAY, "sync_time_of_day": time(7, 11), "should_sync": True}
SCHEMAS = {
    "syncable": Schema(
        id="1",
        name="public.orders",
        sync_type=SyncType.INCREMENTAL,
        incremental_field="updated_at",
        primary_key_columns=("id", "shop"),
        table=WarehouseTable(id="t", name="postgres.orders"),
        **DAILY,
    ),
    "observe_only": Schema(id="2", name="public.audit", sync_type=SyncType.CDC, **DAILY),
    "external": Schema(id="3", name="stock"),
    "disabled": Schema(id="4", name="public.visits", sync_type=SyncType.FULL_REFRESH),
    "disabled_by_posthog": Schema(
        id="5", name="public.x", sync_type=SyncType.XMIN, status=SyncStatus.FAILED, latest_error="denied"
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_class_of_table_is_read_as_it_was_written(name: str) -> None:
    """The metadata of a spec is what was put into it, before and after Dagster has taken it."""
    access = AccessMethod.DIRECT if name == "external" else AccessMethod.WAREHOUSE
    state = snapshot_of(source_of(SCHEMAS[name]).model_copy(update={"access_method": access}))
    (table,) = list(Tables(state, include_disabled=True))
    written = table_metadata(table)
    assert (name, SCHEMAS[name].id) == (table.schema_class.value, written.schema_id)
    assert written == TableMetadata.of(asset_spec(table).metadata)
    resources = {"posthog_warehouse": dg.ResourceDefinition.none_resource()}
    graph = dg.Definitions(
        assets=build_posthog_assets(Tables(state, include_disabled=True)), resources=resources
    ).resolve_asset_graph()
    assert written == TableMetadata.of(graph.get(asset_key(table)).metadata)


def texts() -> st.SearchStrategy[str | None]:
    """Any text, or none."""
    return st.none() | st.text()


def moments() -> st.SearchStrategy[datetime | None]:
    """A moment as exact as Dagster keeps it, or none."""
    whole = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  Hypothesis adds the time zone
    return st.none() | whole.map(lambda moment: moment.replace(microsecond=0))


@given(
    st.builds(
        SyncMetadata,
        job_id=st.text(),
        triggered_by=st.sampled_from(["dagster", "adopted", "posthog", None]),
        error=texts(),
        synced_as_of=moments(),
        duration_s=st.none() | st.floats(0, 1e6),
        rows_synced=st.none() | st.integers(0, 10**12),
        column_schema=st.none() | st.just(dg.TableSchema(columns=[dg.TableColumn("id", "integer")])),
        link=texts(),
    )
)
def test_a_sync_is_read_as_it_was_written(sync: SyncMetadata) -> None:
    """All known fields of a sync come back from its event, and the others stay unknown."""
    event = dg.AssetMaterialization(asset_key=KEY, metadata=sync.to_metadata())
    assert sync == SyncMetadata.of(sync.to_metadata()) == SyncMetadata.of(event.metadata)


def test_what_a_run_writes_is_read_with_types(embedded_warehouse: EmbeddedWarehouse) -> None:
    """The materialization, the note of the wait and the check of a real run describe one sync, in Python's types."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}, {"id": 2}]})
    assets = build_posthog_assets(Tables(embedded_warehouse.snapshot(), include_disabled=True))
    job = dg.Definitions(assets=assets, resources={"posthog_warehouse": embedded_warehouse.resource})
    with dg.DagsterInstance.ephemeral() as instance:
        run = job.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)
        (synced,) = embedded_warehouse.jobs("Customer")
        (event,) = run.get_asset_materialization_events()
        told = SyncMetadata.of(event.materialization.metadata)
        assert (synced.id, "dagster", 2, 2) == (told.job_id, told.triggered_by, told.rows_synced, told.row_count)
        assert synced.created_at == told.synced_as_of == told.last_updated_timestamp
        assert synced.finished_at is not None
        assert (synced.finished_at - synced.created_at).total_seconds() == pytest.approx(told.duration_s, abs=1e-3)
        assert ["id"] == [column.name for column in told.column_schema.columns if not column.name.startswith("_")]
        (note,) = instance.fetch_observations(KEY, limit=5).records
        waited = SyncMetadata.of(note.asset_observation.metadata)
    assert (synced.id, synced.created_at, None) == (waited.job_id, waited.job_created_at, waited.rows_synced)
    (check,) = [each for each in run.get_asset_check_evaluations() if each.check_name == "sync_succeeded"]
    assert (synced.id, "Completed", None) == (
        (checked := SyncMetadata.of(check.metadata)).job_id,
        checked.status,
        checked.error,
    )


def test_a_failed_sync_says_why(embedded_warehouse: EmbeddedWarehouse) -> None:
    """The check of a sync that failed has PostHog's reason, as text."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    embedded_warehouse.behave("Customer", fails("Stripe is down"))
    assets = build_posthog_assets(Tables(embedded_warehouse.snapshot(), include_disabled=True))
    defs = dg.Definitions(assets=assets, resources={"posthog_warehouse": embedded_warehouse.resource})
    run = defs.resolve_implicit_global_asset_job_def().execute_in_process(raise_on_error=False)
    (check,) = [each for each in run.get_asset_check_evaluations() if each.check_name == "sync_succeeded"]
    told = SyncMetadata.of(check.metadata)
    assert ("Failed", "Stripe is down") == (told.status, told.error)


def test_what_others_add_is_passed_over() -> None:
    """Keys of a user's own are in nobody's way."""
    assert SyncMetadata(job_id="1") == SyncMetadata.of({"posthog/job_id": "1", "ours": 1, "posthog/ours": "x"})


@pytest.mark.parametrize("wrong", [{}, {"posthog/job_id": "1", "posthog/rows_synced": "many"}])
def test_what_tells_of_no_sync_is_an_error(wrong: dict[str, Any]) -> None:
    """An event that has no sync, or a value of another type, is not taken for one."""
    with pytest.raises(ValidationError, match="posthog/"):
        SyncMetadata.of(wrong)
