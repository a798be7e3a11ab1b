"""A table that PostHog imports again as a whole every few days: what people see before, during and after that sync."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from warehouse import log_of

from dw_orchestration import PostHogSyncConfig, SyncMetadata, TableMetadata
from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.local.server import WarehouseServer
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

INTERVAL = timedelta(days=30)
KEY = dg.AssetKey(["posthog", "stripe", "invoices"])


class Clock:
    """The warehouse's clock: behind the real one by as much as a test says."""

    behind = INTERVAL

    def __call__(self) -> datetime:
        """Its time."""
        return datetime.now(UTC) - self.behind


@pytest.fixture
def clock() -> Clock:
    """A clock that is one interval behind, so that what is saved now is due now."""
    return Clock()


@pytest.fixture
def warehouse(tmp_path, clock) -> Iterator[PostHogWarehouseResource]:
    """A warehouse with a table of three rows that follows its `id`."""
    folder = tmp_path / "fixtures" / "Stripe"
    folder.mkdir(parents=True)
    (folder / "invoices.jsonl").write_text("".join(json.dumps({"id": number}) + "\n" for number in (1, 2, 3)))
    embedded = WarehouseServer(tmp_path / "home", fixtures=folder.parent, poll_every_s=None, now=clock)
    endpoint = embedded.start()
    with closing(PostHogWarehouseClient(endpoint.host, 1, endpoint.api_key, rate_limits=None)) as client:
        table = {"name": "invoices", "sync_type": "append", "incremental_field": "id"}
        client.create_source("Stripe", {"schemas": [table | {"incremental_field_type": "integer"}]})
        yield PostHogWarehouseResource(
            host=endpoint.host, project_id="1", api_key=endpoint.api_key, requests_per_minute=0
        )
    embedded.stop()


def materialize(warehouse, instance, state, **config) -> tuple[dg.ExecuteInProcessResult, SyncMetadata]:
    """A run of the table, and the metadata of its sync."""
    config = PostHogSyncConfig(poll_min_s=0.1, poll_max_s=0.2, **config)
    assets = build_posthog_assets(Tables(state))
    result = dg.materialize(
        assets,
        selection=[KEY],
        resources={"posthog_warehouse": warehouse},
        instance=instance,
        run_config={"ops": {"sync_stripe": {"config": config.model_dump(exclude_none=True)}}},
    )
    (event,) = result.asset_materializations_for_node("sync_stripe")
    return result, SyncMetadata.of(event.metadata)


@pytest.fixture
def state(warehouse, instance) -> WarehouseSnapshot:
    """The state of the table, which has been imported once and whose full refresh is due in half an hour."""
    with closing(warehouse.client()) as client:
        (schema,) = client.list_schemas()
        client.update_schema(schema.id, SchemaUpdate(should_sync=True, sync_frequency="24hour"))
        materialize(warehouse, instance, warehouse.take_snapshot())
        client.update_schema(schema.id, SchemaUpdate(full_refresh_interval_days=INTERVAL.days))
    return warehouse.take_snapshot()


def test_a_full_refresh_is_announced_and_marked_once(warehouse, clock, instance, state) -> None:
    """The run says it before the sync, the materialization has the mark, and the sync after it is an ordinary one."""
    (table,) = Tables(state)
    due_at = table.schema.next_full_refresh_at
    shown = TableMetadata.of(build_spec(state).metadata)
    assert (INTERVAL.days, due_at) == (shown.full_refresh_interval_days, shown.next_full_refresh_at)

    clock.behind = timedelta(0)
    result, full = materialize(warehouse, instance, state)
    _, after = materialize(warehouse, instance, state)

    assert f"a full refresh is due at {due_at:%F %T} UTC" in log_of(result, instance)
    assert ((3, True), (0, None)) == ((full.rows_synced, full.full_refresh), (after.rows_synced, after.full_refresh))
    assert full.next_full_refresh_at > due_at
    assert {True} == {check.passed for check in result.get_asset_check_evaluations()}


def test_a_sync_before_it_is_due_is_an_ordinary_one(warehouse, clock, instance, state) -> None:
    """More than an hour before the due time, a sync reads only what is new, and nothing is announced."""
    clock.behind = timedelta(hours=2)

    result, sync = materialize(warehouse, instance, state)

    assert (0, None) == (sync.rows_synced, sync.full_refresh)
    assert "full refresh" not in log_of(result, instance)


def test_a_resync_is_a_full_refresh_too(warehouse, instance, state) -> None:
    """A run that asks for all rows marks its sync in the same way."""
    _, sync = materialize(warehouse, instance, state, sync_mode="resync", confirm_resync=["invoices"])
    assert (3, True) == (sync.rows_synced, sync.full_refresh)


def build_spec(state) -> dg.AssetSpec:
    """The spec of the table's asset."""
    definitions = dg.Definitions(assets=build_posthog_assets(Tables(state)), resources={"posthog_warehouse": object()})
    return definitions.resolve_assets_def(KEY).get_asset_spec(KEY)
