"""Which columns at the source the columns of a synced table come from, as the events say it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest
from builders import snapshot_of, source_of
from hypothesis import given
from hypothesis import strategies as st
from warehouse import Shelf, events, execute

from dw_orchestration.assets.lineage import MOST_COLUMNS, column_lineage, normalised
from dw_orchestration.assets.metadata import SyncMetadata
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

ORIGIN = dg.AssetKey(["postgres", "shop", "orders"])


def origins(synced: list[str], at_source: list[str] | None, *, key: dg.AssetKey | None = None) -> dict[str, str] | None:
    """The column at the source by the synced column, for a table of such columns; None without lineage."""
    record = Schema.model_validate(
        {
            "id": "1",
            "name": "orders",
            "table": {"id": "t", "name": "shop.orders", "columns": [{"name": name} for name in synced]},
            "available_columns": at_source and [{"name": name, "data_type": "text"} for name in at_source],
        }
    )
    (table,) = Tables(snapshot_of(source_of(record, prefix="shop")), include_disabled=True)
    lineage = column_lineage(replace(table, key_path=tuple(key.path)) if key else table, record)
    if lineage is None:
        return None
    assert {ORIGIN} == {dep.asset_key for deps in lineage.deps_by_column.values() for dep in deps}
    return {name: dep.column_name for name, (dep,) in lineage.deps_by_column.items()}


@pytest.mark.parametrize(
    ("synced", "at_source", "expected"),
    [
        pytest.param(["id", "total"], ["id", "total"], {"id": "id", "total": "total"}, id="same_names"),
        pytest.param(["created_at"], ["createdAt"], {"created_at": "createdAt"}, id="normalised"),
        pytest.param(["createdAt"], ["createdAt"], {"createdAt": "createdAt"}, id="kept_as_it_is"),
        pytest.param(["id", "_ph_debug", "_dlt_id"], ["id", "_ph_debug", "_dlt_id"], {"id": "id"}, id="posthogs_own"),
        pytest.param(
            ["created_at", "_created_at"],
            ["createdAt", "created_at"],
            {"created_at": "created_at"},
            id="two_of_one_name",
        ),
        pytest.param(["user_id"], ["userId", "userID"], None, id="could_be_either"),
        pytest.param(["id", "gone"], ["id", "new"], {"id": "id"}, id="dropped_at_the_source"),
        pytest.param(["id"], None, None, id="source_columns_unknown"),
        pytest.param(["id"], [], None, id="source_without_columns"),
    ],
)
def test_only_what_is_known_is_claimed(synced, at_source, expected) -> None:
    """A column has the origin whose name it has, or whose name PostHog turns into its own; a guess is left out."""
    assert expected == origins(synced, at_source)


def test_wide_tables_have_no_lineage() -> None:
    """Each column takes some two hundred bytes of every event."""
    names = [f"column_{number}" for number in range(MOST_COLUMNS)]
    assert MOST_COLUMNS == len(origins(names, names) or {})
    assert None is origins([*names, "one_more"], [*names, "one_more"])


@pytest.mark.parametrize(
    ("deps", "origin"),
    [
        (["app/orders"], ["app/orders"]),
        (["app/orders", "app/more"], []),
        ([], []),
        (["app/orders", "postgres/shop/orders"], ["postgres/shop/orders"]),
    ],
)
def test_columns_come_from_the_asset_that_a_user_puts_upstream(deps: list[str], origin: list[str]) -> None:
    """If it is a single one: of several, it is unknown whose columns they are, except for the table at the source."""
    columns = {
        "table": {"id": "t", "name": "orders", "columns": [{"name": "id"}]},
        "available_columns": [{"name": "id"}],
    }
    record = Schema.model_validate({"id": "1", "name": "orders", **columns})
    spec = dg.AssetSpec("orders", deps=[dg.AssetKey.from_user_string(dep) for dep in deps])
    (table,) = Tables(snapshot_of(source_of(record, prefix="shop")), include_disabled=True, spec_of=lambda _: spec)
    lineage = column_lineage(table, record)
    found = [dep.asset_key.to_user_string() for dep in lineage.deps_by_column["id"]] if lineage else []
    assert origin == found


def test_table_is_not_its_own_origin() -> None:
    """A translation may give a table the key that its origin has."""
    assert None is origins(["id"], ["id"], key=ORIGIN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("createdAt", "created_at"),
        ("HTTPServer", "http_server"),
        ("userID", "user_id"),
        ("  Spaced Out  ", "spaced_out"),
        ("net-amount", "net_amount"),
        ("a+b*c@d|e", "axbxcadle"),
        ("2fa", "_2fa"),
        ("total_", "totalx"),
        ("a__b", "a_b"),
        ("_id", "_id"),
        ("größe", "gr_e"),
    ],
)
def test_names_are_normalised_as_posthog_does(name, expected) -> None:
    """PostHog's tables have dlt's snake case, which is not that of asset keys."""
    assert expected == normalised(name)


@given(st.text(min_size=1).filter(lambda name: name.strip()))
def test_normalised_name_is_a_plain_one(name) -> None:
    """For all column names in a source, the synced one has small letters, digits and single underscores."""
    found = normalised(name)
    assert found
    assert all(letter == "_" or letter.isdecimal() or "a" <= letter <= "z" for letter in found)
    assert "__" not in found


def lineage_of(result: dg.ExecuteInProcessResult) -> SyncMetadata:
    """What the only materialization of a run says."""
    (event,) = events(result, dg.DagsterEventType.ASSET_MATERIALIZATION)
    return SyncMetadata.of(event.materialization.metadata)


def test_run_says_where_the_columns_come_from(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """The columns of the database are named with the external asset of the table there."""
    execute(shelf.database, 'alter table customers add column "signedUp" date')
    shelf.warehouse.client.refresh_schemas(shelf.source_id)
    lineage = lineage_of(shelf.materialize("customers", instance=instance)).column_lineage
    assert lineage is not None
    origin = dg.AssetKey(["postgres", shelf.prefix, "customers"])
    # PostHog writes names in snake case
    names = {"id": "id", "name": "name", "signed_up": "signedUp"}
    expected = {column: [dg.TableColumnDep(origin, name)] for column, name in names.items()}
    assert expected == dict(lineage.deps_by_column)


def test_state_has_no_columns_of_the_source(shelf: Shelf, tmp_path) -> None:
    """They change at the source, where nobody changed anything in PostHog, and definitions need none of them."""
    assert shelf.record("orders").available_columns
    shelf.snapshot.write(tmp_path / "state.json")
    assert "available_columns" not in (tmp_path / "state.json").read_text()
    assert datetime.now(UTC) > WarehouseSnapshot.read(tmp_path / "state.json").taken_at
