"""The state file: what it holds, how it is written, and what happens when it cannot be refreshed."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from builders import snapshot_of, source_of
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.errors import SnapshotError, StateNotRefreshedError
from dw_orchestration.posthog.enums import SyncFrequency, SyncType
from dw_orchestration.posthog.models import Schema
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource
from dw_orchestration.tables.snapshot import WarehouseSnapshot

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse import Shelf, WarehouseProcess

SCHEMAS = st.builds(
    Schema,
    id=st.uuids().map(str),
    name=st.text(min_size=1, max_size=10),
    label=st.none() | st.text(max_size=10),
    should_sync=st.booleans(),
    sync_type=st.none() | st.sampled_from(SyncType),
    sync_frequency=st.none() | st.sampled_from(SyncFrequency),
    sync_time_of_day=st.none() | st.times().map(lambda moment: moment.replace(microsecond=0)),
    primary_key_columns=st.none() | st.tuples(st.text(max_size=5)),
)


def nobody(port: int) -> PostHogWarehouseResource:
    """A project on a server that is not there."""
    return PostHogWarehouseResource(
        host=f"http://127.0.0.1:{port}", project_id="1", api_key="phx_of_nobody", requests_per_minute=0
    )


def component(resource: WarehouseResource, state_file: Path) -> PostHogWarehouseComponent:
    """A component that keeps its state in a file."""
    return PostHogWarehouseComponent(warehouse=resource, state_file=state_file)


def keys(defs: dg.Definitions) -> set[str]:
    """The keys of all assets that can be materialized, and of those that only say something."""
    return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}


@given(st.lists(SCHEMAS, max_size=3, unique_by=lambda schema: schema.id))
def test_a_file_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, schemas: list[Schema]) -> None:
    """A snapshot that was written and read is the same."""
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    snapshot = snapshot_of(source_of(*schemas, prefix="shop"))
    snapshot.write(path)
    assert snapshot == WarehouseSnapshot.read(path)


def test_settings_survive(quiet_shelf: Shelf, tmp_path: Path) -> None:
    """What definitions are built from is in the file: sync type, cadence, incremental field, keys."""
    quiet_shelf.snapshot.write(tmp_path / "state.json")
    (source,) = WarehouseSnapshot.read(tmp_path / "state.json").sources
    orders = next(schema for schema in source.schemas if schema.name == "orders")
    assert (SyncType.INCREMENTAL, "updated_at", ("id",), SyncFrequency.SIX_HOURS) == (
        orders.sync_type,
        orders.incremental_field,
        orders.primary_key_columns,
        orders.sync_frequency,
    )


def test_the_file_has_no_secret(quiet_shelf: Shelf, tmp_path: Path) -> None:
    """Neither the source's password nor its other connection settings nor the key of the API are in the file."""
    path = tmp_path / "state.json"
    component(quiet_shelf.warehouse.resource, path).write_state_to_path(path)
    text = path.read_text()
    assert quiet_shelf.prefix in text
    for secret in (
        quiet_shelf.database.password,
        quiet_shelf.warehouse.endpoint["api_key"],
        quiet_shelf.database.database,
    ):
        assert secret not in text
    assert "job_inputs" not in text


def test_a_sync_changes_nothing_in_the_file(shelf: Shelf, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """Two states with a sync between them differ in the time alone, so that a diff shows what somebody changed."""
    before = shelf.warehouse.resource.take_snapshot()
    shelf.materialize("orders", instance=instance)
    after = shelf.warehouse.resource.take_snapshot()
    assert before == after.model_copy(update={"taken_at": before.taken_at})


def test_the_order_is_not_that_of_creation(quiet_shelf: Shelf) -> None:
    """PostHog lists the newest source first; in the file, a new one stands where its type and prefix put it."""
    newest = quiet_shelf.warehouse.add_files("Stripe", {"charges": [{"id": 1}]})
    listed = [source.id for source in quiet_shelf.warehouse.client.list_sources()]
    kept = [source.id for source in quiet_shelf.warehouse.resource.take_snapshot().sources]
    quiet_shelf.warehouse.client.delete_source(newest)
    assert [newest, quiet_shelf.source_id] == [own_id for own_id in listed if own_id in (newest, quiet_shelf.source_id)]
    assert [quiet_shelf.source_id, newest] == [own_id for own_id in kept if own_id in (newest, quiet_shelf.source_id)]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A file that cannot be put in place leaves the last one as it was."""
    path = tmp_path / "state.json"
    snapshot_of().write(path)
    before = path.read_bytes()
    (tmp_path / f"state.json.{os.getpid()}.unfinished").mkdir()
    with pytest.raises(SnapshotError, match="cannot be written"):
        snapshot_of(source_of(Schema(id="1", name="a"))).write(path)
    assert before == path.read_bytes()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 2, "taken_at": "2026-11-03T00:00:00Z", "host": "h"}']
)
def test_an_unreadable_file_names_its_cure(tmp_path: Path, text: str) -> None:
    """A file that is no snapshot, or one of a newer version, is an error that says which file and what to do."""
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(SnapshotError, match=rf"{re.escape(str(path))}.*Delete it, or refresh it"):
        WarehouseSnapshot.read(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """The version is in the file, and a version that is not ours is not read as ours."""
    path = tmp_path / "state.json"
    snapshot_of().write(path)
    document = json.loads(path.read_text())
    assert 1 == document["version"]
    path.write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(SnapshotError):
        WarehouseSnapshot.read(path)


def test_a_refresh_replaces_an_unreadable_file(quiet_shelf: Shelf, tmp_path: Path) -> None:
    """The cure works: a refresh does not stumble over the file that it is to replace."""
    path = tmp_path / "state.json"
    path.write_text("{")
    component(quiet_shelf.warehouse.resource, path).write_state_to_path(path)
    assert quiet_shelf.source_id in {source.id for source in WarehouseSnapshot.read(path).sources}


def test_the_last_good_state_serves(quiet_shelf: Shelf, tmp_path: Path, port: int) -> None:
    """When PostHog is down at a refresh, that fails, and the tables stay, with the reason and the age of the state."""
    path = tmp_path / "state.json"
    down = component(nobody(port), path)
    # the state of the same project, from when its server was there
    good = quiet_shelf.warehouse.resource.take_snapshot().model_copy(
        update={"host": down.warehouse.name, "project_id": "1"}
    )
    good.write(path)
    told = rf"could not be reached(?s:.)* The state of {good.taken_at:%Y-%m-%d %H:%M} UTC serves\."
    with pytest.raises(StateNotRefreshedError, match=told):
        down.write_state_to_path(path)
    kept = WarehouseSnapshot.read(path)
    assert kept.problem is not None
    assert "could not be reached" in kept.problem
    assert good == kept.model_copy(update={"problem": None})
    assert quiet_shelf.key("orders").to_user_string() in keys(dg.build_defs_for_component(down))


def test_without_any_state_one_asset_says_why(warehouse: WarehouseProcess, tmp_path: Path) -> None:
    """When PostHog has never been read, the location loads and its one asset says what is wrong."""
    shut_out = component(warehouse.project(api_key="phx_no_such_key"), tmp_path / "state.json")
    (spec,) = dg.build_defs_for_component(shut_out).resolve_all_asset_specs()
    assert ["posthog_warehouse", "not_connected"] == list(spec.key.path)
    assert "does not accept the API key" in (spec.description or "")


def test_a_location_that_was_set_right_recovers(quiet_shelf: Shelf, tmp_path: Path) -> None:
    """A first refresh that failed is tried again by the next process, not kept as the state."""
    path = tmp_path / "state.json"
    dg.build_defs_for_component(component(quiet_shelf.warehouse.project(api_key="phx_no_such_key"), path))
    defs = dg.build_defs_for_component(component(quiet_shelf.warehouse.resource, path))
    assert quiet_shelf.key("orders").to_user_string() in keys(defs)


def test_a_state_at_hand_is_used_without_asking(warehouse: WarehouseProcess, tmp_path: Path) -> None:
    """Definitions come from the file: loading them makes no request."""
    path = tmp_path / "state.json"
    orders = Schema(id="1", name="orders", should_sync=True, sync_type=SyncType.FULL_REFRESH)
    snapshot_of(source_of(orders)).write(path)
    defs = dg.build_defs_for_component(component(warehouse.resource, path))
    assert "posthog/postgres/orders" in keys(defs)
    assert datetime(2026, 11, 3, tzinfo=UTC) == WarehouseSnapshot.read(path).taken_at
