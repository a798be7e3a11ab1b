"""Under which key the state is kept: two projects never share one, and a state is found by who may know little."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_projects import as_project
from dagster._core.storage.defs_state.base import set_defs_state_storage
from dagster.components import DefsStateConfigArgs
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration import LocalWarehouse, PostHogWarehouseComponent, PostHogWarehouseResource

if TYPE_CHECKING:
    from pathlib import Path

    from dw_orchestration.resources.warehouse import WarehouseResource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

SHARED = DefsStateConfigArgs.versioned_state_storage()
BY_NAME = "PostHogWarehouseComponent[posthog_warehouse]"


def key(warehouse: WarehouseResource, *, kept: DefsStateConfigArgs = SHARED, **settings: str) -> str:
    """The key of a component's state; the settings lead to no server, so that a request would be an error."""
    return PostHogWarehouseComponent(warehouse=warehouse, defs_state=kept, **settings).defs_state_config.key  # type: ignore[arg-type]


def named(project_id: str, host: str = "https://eu.posthog.com") -> PostHogWarehouseResource:
    """A project, with no key to it."""
    return PostHogWarehouseResource(project_id=project_id, api_key="", host=host)


HOSTS = st.from_regex(r"(https?://)?[a-zA-Z0-9]([a-zA-Z0-9.-]{0,20}[a-zA-Z0-9])?(:[0-9]{1,5})?/?", fullmatch=True)
WRITTEN_ALIKE = ("https://eu.posthog.com", "http://EU.posthog.com/", "eu.posthog.com", "https://eu.posthog.com:443")
PROJECTS = st.tuples(st.integers(1, 10**6).map(str) | st.sampled_from("12"), st.sampled_from(WRITTEN_ALIKE) | HOSTS)


def server(host: str) -> str:
    """An address, however it is written."""
    return re.sub(r"^https?://|/$", "", host.lower())


def folder(warehouse: WarehouseResource) -> str:
    """What Dagster makes of the key where the storage has files."""
    return re.sub(r"[^A-Za-z0-9._-]", "__", key(warehouse))


@given(PROJECTS, PROJECTS)
def test_two_projects_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Components of one name have one key if, and only if, they are of one project; the key is a legal file name."""
    is_one_project = (one[0], server(one[1])) == (other[0], server(other[1]))
    assert is_one_project == (key(named(*one)) == key(named(*other)))
    assert is_one_project == (folder(named(*one)) == folder(named(*other)))
    assert re.fullmatch(r"PostHogWarehouseComponent\[[\w.%@-]+\]", key(named(*one)), re.ASCII)


def test_the_key_can_be_read() -> None:
    """A person who opens the storage sees whose state it is."""
    assert "PostHogWarehouseComponent[posthog_warehouse-42@eu.posthog.com]" == key(named("42"))
    assert "PostHogWarehouseComponent[eu-42@localhost%3A8000]" == key(named("42", "http://localhost:8000/"), name="eu")


def test_variables_are_filled_in_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose id is known is known without its key; one whose variable is not set has the name alone."""
    warehouse = PostHogWarehouseResource(
        project_id=dg.EnvVar("OUR_PROJECT"), api_key=dg.EnvVar("OUR_KEY"), host="https://eu.posthog.com"
    )
    assert BY_NAME == key(warehouse)
    monkeypatch.setenv("OUR_PROJECT", "42")
    assert key(named("42")) == key(warehouse)


@pytest.mark.parametrize(
    "warehouse", [LocalWarehouse(home="data"), named(""), named("@current")], ids=["embedded", "unset", "current"]
)
def test_without_a_project_the_name_is_the_key(warehouse: WarehouseResource) -> None:
    """Where the settings name no project, the name is all that there is."""
    assert BY_NAME == key(warehouse)


@pytest.mark.parametrize(
    "kept", [DefsStateConfigArgs.local_filesystem(), DefsStateConfigArgs.legacy_code_server_snapshots()]
)
def test_a_state_in_the_projects_folder_is_found_without_settings(kept: DefsStateConfigArgs) -> None:
    """A state that is built into an image, or kept by the code server itself, has the same key for all settings."""
    assert {BY_NAME} == {key(warehouse, kept=kept) for warehouse in (named("42"), named(""))}


def test_a_key_of_ones_own_stays() -> None:
    """Who sets a key has that key."""
    own = DefsStateConfigArgs.versioned_state_storage().model_copy(update={"key": "ours"})
    assert "ours" == key(named("42"), kept=own)


def test_two_code_locations_share_a_storage(
    embedded_warehouse: EmbeddedWarehouse, other_warehouse: EmbeddedWarehouse, tmp_path: Path
) -> None:
    """Two projects under the default name, refreshed into one storage, each load their own tables from there."""
    (tmp_path / "dagster.yaml").write_text(
        "defs_state_storage: {module: dagster._core.storage.defs_state.blob_storage_state_storage,"
        f" class: UPathDefsStateStorage, config: {{base_path: {tmp_path.as_uri()}/state}}}}\n"
        "telemetry: {enabled: false}\n"
    )
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    other_warehouse.add_source("Hubspot", tables={"Deal": [{"id": 1}]})
    locations = [
        PostHogWarehouseComponent(warehouse=as_project(warehouse), defs_state=SHARED)
        for warehouse in (embedded_warehouse, other_warehouse)
    ]
    with (
        dg.DagsterInstance.from_config(str(tmp_path)) as instance,
        set_defs_state_storage(instance.defs_state_storage),
    ):
        for location in locations:
            asyncio.run(location.refresh_state(tmp_path))
        found = [dg.build_defs_for_component(location).resolve_asset_graph() for location in locations]
    assert [{"posthog/stripe/customer"}, {"posthog/hubspot/deal"}] == [
        {each.to_user_string() for each in graph.materializable_asset_keys} for graph in found
    ]
    assert 2 == len(list((tmp_path / "state").iterdir()))
