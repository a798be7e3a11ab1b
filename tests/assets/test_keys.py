"""Every name that PostHog allows gives a separate asset, whose key stays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from builders import snapshot_of, source_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.errors import SetupError
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.names import identifier, snake, unique_names
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dw_orchestration.tables.snapshot import WarehouseSnapshot
    from dw_orchestration.tables.table import Table

# No name at PostHog is empty or has a null character; all else is possible, in spreadsheet tabs for example.
NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=40)
# Few letters, so that names meet again and again once they are made legal.
MEETING_NAMES = st.text("aA b.-_ä", min_size=1, max_size=5)
PREFIXES = st.none() | st.from_regex(r"[A-Za-z_]{0,3}[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True)
TYPES = st.sampled_from(["Postgres", "GoogleAds", "MSSQL", "Stripe", "PostHog", "Posthog", "posthog"]) | NAMES


@st.composite
def snapshots(draw: st.DrawFn, names: st.SearchStrategy[str]) -> WarehouseSnapshot:
    """Up to three sources of up to five tables, all with different ids."""
    sources = []
    for _ in range(draw(st.integers(1, 3))):
        schemas = [
            Schema(id=str(draw(st.uuids())), name=name) for name in draw(st.lists(names, max_size=5, unique=True))
        ]
        source_id, source_type, prefix = str(draw(st.uuids())), draw(TYPES), draw(PREFIXES)
        sources.append(source_of(*schemas, source_type=source_type, prefix=prefix, source_id=source_id))
    return snapshot_of(*sources)


def keys_of(tables: Sequence[Table]) -> list[list[str]]:
    """The tables' keys as paths."""
    return [list(table.key_path) for table in tables]


def quietly(snapshot: WarehouseSnapshot) -> list[Table]:
    """The tables, without the warnings about equal keys."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(Tables(snapshot, include_disabled=True))


@given(snapshots(NAMES))
@settings(max_examples=40)
def test_any_name_gives_definitions_that_dagster_loads(snapshot: WarehouseSnapshot) -> None:
    """No name that PostHog allows can keep the code location from loading."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assets = build_posthog_assets(Tables(snapshot, include_disabled=True))
        resource = dg.ResourceDefinition.none_resource()
        defs = dg.Definitions(assets=assets, resources={"posthog_warehouse": resource})
        dg.Definitions.validate_loadable(defs)
    materializable = defs.resolve_asset_graph().materializable_asset_keys
    assert len(snapshot.schemas) == len(materializable)


@given(snapshots(MEETING_NAMES))
def test_no_two_tables_share_an_identifier(snapshot: WarehouseSnapshot) -> None:
    """Two tables never have keys that Dagster cannot distinguish."""
    assert len(snapshot.schemas) == len({identifier(table.key_path) for table in quietly(snapshot)})


@given(snapshots(MEETING_NAMES), st.text(max_size=5))
def test_a_label_is_no_part_of_a_key(snapshot: WarehouseSnapshot, label: str) -> None:
    """Relabelling tables in PostHog changes no key."""
    relabelled = [
        source.model_copy(
            update={"schemas": tuple(schema.model_copy(update={"label": label}) for schema in source.schemas)}
        )
        for source in snapshot.sources
    ]
    assert keys_of(quietly(snapshot)) == keys_of(quietly(snapshot_of(*relabelled)))


@given(snapshots(MEETING_NAMES))
def test_the_order_of_the_list_is_no_part_of_a_key(snapshot: WarehouseSnapshot) -> None:
    """For every order in which PostHog lists the sources, each table keeps its key."""
    there = {table.schema.id: table.key for table in quietly(snapshot)}
    back = {table.schema.id: table.key for table in quietly(snapshot_of(*reversed(snapshot.sources)))}
    assert there == back


@given(NAMES)
def test_a_part_of_a_key_is_a_plain_word(name: str) -> None:
    """A name becomes ASCII lower snake case, without borders that look like Dagster's own `__`."""
    word = snake(name)
    assert word
    assert set("abcdefghijklmnopqrstuvwxyz0123456789_") >= set(word)
    assert "__" not in f"x{word}x".strip("x")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Customer", ["customer"]),
        ("public.users", ["public", "users"]),
        ("sales..orders.", ["sales", "orders"]),
        ("...", ["u2e_u2e_u2e"]),
        ("import", ["import"]),
        ("Größe (m²)", ["grosse_m2"]),
        ("📦 Lager", ["lager"]),
        ("📦", ["u1f4e6"]),
        ("HTTPRequests2xx", ["http_requests2xx"]),
        ("a/b c", ["a_b_c"]),
    ],
)
def test_what_names_become(name: str, path: list[str]) -> None:
    """Dots make parts; everything else becomes words."""
    (table,) = Tables(snapshot_of(source_of(Schema(id="1", name=name), prefix="Shop")), include_disabled=True)
    assert ["posthog", "postgres", "shop", *path] == list(table.key_path)


def test_tables_that_look_alike_get_a_part_of_their_id() -> None:
    """Tables with the same key get the end of their id, and the warnings name both."""
    one = Schema(id="01930000-0000-7000-8000-0000aaaaaaaa", name="Big Orders")
    two = Schema(id="01930000-0000-7000-8000-0000bbbbbbbb", name="big-orders")
    with pytest.warns(UserWarning, match="same asset key") as caught:
        tables = list(Tables(snapshot_of(source_of(one, two)), include_disabled=True))
    assert [["posthog", "postgres", "big_orders_aaaaaaaa"], ["posthog", "postgres", "big_orders_bbbbbbbb"]] == keys_of(
        tables
    )
    for warning in caught:
        assert all(schema.name in str(warning.message) and schema.id in str(warning.message) for schema in (one, two))


def test_a_table_that_is_named_like_another_with_its_id() -> None:
    """A table whose key equals another one's longer key gets another key as well."""
    one = Schema(id="01930000-0000-7000-8000-0000aaaaaaaa", name="orders")
    two = Schema(id="01930000-0000-7000-8000-0000bbbbbbbb", name="Orders")
    impostor = Schema(id="01930000-0000-7000-8000-0000cccccccc", name="orders_aaaaaaaa")
    assert 3 == len({identifier(table.key_path) for table in quietly(snapshot_of(source_of(one, two, impostor)))})


def test_the_same_table_in_two_sources() -> None:
    """Two sources of one type keep their tables apart by their prefixes, and without prefixes by the tables' ids."""
    orders, others = Schema(id="a" * 8, name="orders"), Schema(id="b" * 8, name="orders")
    named = snapshot_of(
        source_of(orders, prefix="north", source_id="1"), source_of(others, prefix="south", source_id="2")
    )
    assert [["posthog", "postgres", "north", "orders"], ["posthog", "postgres", "south", "orders"]] == keys_of(
        list(Tables(named, include_disabled=True))
    )
    unnamed = snapshot_of(source_of(orders, source_id="1"), source_of(others, source_id="2"))
    assert [
        ["posthog", "postgres", "orders_aaaaaaaa"],
        ["posthog", "postgres", "orders_bbbbbbbb"],
    ] == keys_of(quietly(unnamed))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "a_x1"]), st.uuids()), unique_by=lambda pair: pair[1]))
def test_names_of_steps_and_schedules_are_unique(pairs: list[tuple[str, object]]) -> None:
    """However often a name occurs, each bearer gets its own, and a name that is unique stays as it is."""
    names = unique_names([name for name, _ in pairs], [str(own_id) for _, own_id in pairs])
    assert len(pairs) == len(set(names))
    for name, (before, _) in zip(names, pairs, strict=True):
        assert name == before or [other for other, _ in pairs].count(before) > 1


def test_a_translation_must_keep_keys_apart() -> None:
    """A translation that gives two tables one key is refused, with both their names."""

    def same_key(table: Table) -> dg.AssetSpec:
        return asset_spec(table).replace_attributes(key="everything")

    source = source_of(Schema(id="1", name="orders"), Schema(id="2", name="customers"))
    with pytest.raises(SetupError, match=r"customers .*orders |orders .*customers "):
        build_posthog_assets(Tables(snapshot_of(source), include_disabled=True, spec_of=same_key))
