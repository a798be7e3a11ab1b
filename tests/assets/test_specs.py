"""What the UI knows of tables before any run: kinds, groups, tags, metadata, and where the rows come from."""

from __future__ import annotations

import re
from datetime import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from builders import snapshot_of, source_of

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.posthog.enums import AccessMethod, SyncFrequency, SyncStatus, SyncType
from dw_orchestration.posthog.models import Schema, WarehouseTable
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot
    from dw_orchestration.tables.table import Table

LEGAL_TAG = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{0,63}")
ORDERS = Schema(
    id="0193-orders",
    name="public.orders",
    label="All orders",
    should_sync=True,
    sync_type=SyncType.INCREMENTAL,
    incremental_field="updated_at",
    primary_key_columns=("id", "shop"),
    sync_frequency=SyncFrequency.SIX_HOURS,
    sync_time_of_day=time(7, 11),
    table=WarehouseTable(id="t", name="postgres.shop.orders"),
)


def definitions_of(snapshot: WarehouseSnapshot) -> dg.Definitions:
    """The definitions of a snapshot, without a warehouse behind them."""
    resources = {"posthog_warehouse": dg.ResourceDefinition.none_resource()}
    return dg.Definitions(assets=build_posthog_assets(Tables(snapshot, include_disabled=True)), resources=resources)


def spec_of(schema: Schema, **source: str) -> dg.AssetSpec:
    """The spec of the only table of a source."""
    (table,) = list(Tables(snapshot_of(source_of(schema, **source)), include_disabled=True))
    return asset_spec(table)


def test_kinds_and_group_name_the_source() -> None:
    """A table has the kinds `posthog` and its source's type, and is in its source's group."""
    spec = spec_of(ORDERS, source_type="GoogleAds", prefix="shop")
    assert {"posthog", "google_ads"} == spec.kinds
    assert "google_ads_shop" == spec.group_name


def test_metadata_says_how_it_is_synced() -> None:
    """The ids, the settings, the name in queries and the way back to PostHog are there before any run."""
    metadata = spec_of(ORDERS, prefix="shop", source_id="0193-source").metadata
    page = "https://eu.posthog.com/project/1/data-warehouse/sources/managed-0193-source/schemas"
    assert {
        "posthog/schema_id": "0193-orders",
        "posthog/source_id": "0193-source",
        "posthog/source_table": "public.orders",
        "posthog/sync_type": "incremental",
        "posthog/incremental_field": "updated_at",
        "posthog/primary_keys": "id, shop",
        "posthog/link": dg.MetadataValue.url(page),
        "dagster/table_name": "postgres.shop.orders",
        "dagster/storage_kind": "posthog",
    }.items() <= metadata.items()
    assert "6 hours" in metadata["posthog/cadence"]


def test_settings_that_are_not_there_are_left_out() -> None:
    """A table that was never configured has no empty metadata."""
    metadata = spec_of(Schema(id="1", name="orders")).metadata
    assert not {"posthog/sync_type", "posthog/incremental_field", "posthog/primary_keys"} & metadata.keys()
    assert None not in metadata.values()


@pytest.mark.parametrize(
    ("schema", "access", "found"),
    [
        (ORDERS, AccessMethod.WAREHOUSE, "syncable"),
        (ORDERS.model_copy(update={"sync_type": SyncType.CDC}), AccessMethod.WAREHOUSE, "observe_only"),
        (ORDERS.model_copy(update={"sync_type": SyncType.WEBHOOK}), AccessMethod.WAREHOUSE, "observe_only"),
        (ORDERS, AccessMethod.DIRECT, "external"),
        (ORDERS.model_copy(update={"should_sync": False}), AccessMethod.WAREHOUSE, "disabled"),
        (
            ORDERS.model_copy(update={"should_sync": False, "status": SyncStatus.FAILED, "latest_error": "denied"}),
            AccessMethod.WAREHOUSE,
            "disabled_by_posthog",
        ),
    ],
)
def test_each_class_is_shown(schema: Schema, access: AccessMethod, found: str) -> None:
    """A table of any class is an asset; a tag names the class, and the description says why it is not synced."""
    source = source_of(schema).model_copy(update={"access_method": access})
    (table,) = list(Tables(snapshot_of(source), include_disabled=True))
    spec = asset_spec(table)
    assert found == spec.tags["posthog/class"]
    assert (found != "syncable") == ("Dagster cannot sync this table" in (spec.description or ""))


def test_tags_are_legal_however_long_the_names() -> None:
    """Dagster allows 63 characters in a tag: no name, however long, makes an illegal one."""
    spec = spec_of(Schema(id="1", name="x" * 400), source_type="T" * 128, prefix="p" * 100)
    # kinds have rules of their own, which Dagster has checked by now
    own = {name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")}
    assert own
    for name, value in own.items():
        assert LEGAL_TAG.fullmatch(name)
        assert len(value) <= 63


def test_lineage_begins_at_the_source() -> None:
    """Each table has the source's own table upstream, as an external asset that nobody can materialize."""
    graph = definitions_of(snapshot_of(source_of(ORDERS, host="db.example.com"))).resolve_asset_graph()
    table = dg.AssetKey(["posthog", "postgres", "public", "orders"])
    upstream = dg.AssetKey(["postgres", "db_example_com", "public", "orders"])
    assert {upstream} == graph.get(table).parent_keys
    assert not graph.get(upstream).is_materializable
    assert {table} == graph.materializable_asset_keys


@pytest.mark.parametrize("source_type", ["posthog", "Posthog", "PostHog"])
def test_a_source_called_posthog_is_not_upstream_of_itself(source_type: str) -> None:
    """A source type whose name is the first part of our keys does not make tables depend on themselves."""
    graph = definitions_of(snapshot_of(source_of(ORDERS, source_type=source_type))).resolve_asset_graph()
    (table,) = graph.materializable_asset_keys
    (upstream,) = graph.get(table).parent_keys
    assert table != upstream


def test_translated_keys_may_be_those_of_the_source() -> None:
    """Who translates keys to the plain names of the source's tables does not make them depend on themselves."""

    def plain(table: Table) -> dg.AssetSpec:
        return asset_spec(table).replace_attributes(key=dg.AssetKey(["postgres", "shop", "public", "orders"]))

    assets = build_posthog_assets(
        Tables(snapshot_of(source_of(ORDERS, prefix="shop")), include_disabled=True, spec_of=plain)
    )
    resources = {"posthog_warehouse": dg.ResourceDefinition.none_resource()}
    graph = dg.Definitions(assets=assets, resources=resources).resolve_asset_graph()
    assert {dg.AssetKey(["postgres", "shop", "public", "orders"])} == graph.get_all_asset_keys()


def test_two_tables_of_one_origin_share_it() -> None:
    """When two sources read the same table, both of its copies have the one table upstream."""
    north = source_of(ORDERS, prefix=None, source_id="1", host="db")
    south = source_of(ORDERS.model_copy(update={"id": "0193-others"}), prefix=None, source_id="2", host="db")
    with pytest.warns(UserWarning, match="same asset key"):
        graph = definitions_of(snapshot_of(north, south)).resolve_asset_graph()
    parents = [graph.get(key).parent_keys for key in graph.materializable_asset_keys]
    assert [{dg.AssetKey(["postgres", "db", "public", "orders"])}] * 2 == parents


@pytest.mark.parametrize(("step_per", "tables", "steps"), [("source", 50, 20), ("project", 50, 1), ("table", 5, 100)])
def test_many_tables(step_per: str, tables: int, steps: int) -> None:
    """A project of many tables in twenty sources loads, with as many steps as were asked for."""
    sources: list[SourceSnapshot] = [
        source_of(
            *(Schema(id=f"{source:04}-{table:04}", name=f"table_{table}") for table in range(tables)),
            prefix=f"shop_{source}",
            source_id=str(source),
        )
        for source in range(20)
    ]
    assets = build_posthog_assets(Tables(snapshot_of(*sources), include_disabled=True, step_per=step_per))  # type: ignore[arg-type]  # a parameter of the test
    found = [asset for asset in assets if isinstance(asset, dg.AssetsDefinition)]
    assert steps == len(found) == len({asset.op.name for asset in found})
    assert 20 * tables == len({key for asset in found for key in asset.keys})
