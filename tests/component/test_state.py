"""The state: refreshed whole or not at all, refused when it cannot be right, and reported when it is old."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from component_projects import as_project
from component_snapshots import TAKEN_AT, project, source, table
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.storage.defs_state.base import set_defs_state_storage
from dagster.components import DefsStateConfigArgs

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.errors import StateNotRefreshedError
from dw_orchestration.operations.takeover import apply_takeover, plan_takeover
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.sensors.drift import STATE_IS_CURRENT, STATE_IS_FRESH, build_drift_sensor, build_state_age_check
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dagster._core.storage.defs_state import DefsStateStorage

    from dw_orchestration.resources.warehouse import WarehouseResource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

DAY = timedelta(days=1)


def nobody() -> PostHogWarehouseResource:
    """A project on a server that is not there; asked once."""
    return PostHogWarehouseResource(
        host="http://127.0.0.1:9", project_id="1", api_key="phx_of_nobody", max_attempts=1, requests_per_minute=0
    )


def component(resource: WarehouseResource, **settings: Any) -> PostHogWarehouseComponent:
    """A component of this warehouse."""
    return PostHogWarehouseComponent(warehouse=resource, **settings)


def add_tables(warehouse: EmbeddedWarehouse, *names: str, source_type: str = "Stripe") -> str:
    """Add a source with these tables; its id."""
    return warehouse.add_source(source_type, tables={name: [{"id": 1}] for name in names}).id


def tables_in(path: Path) -> list[str]:
    """The names of the tables in a state file."""
    return [schema.name for schema in WarehouseSnapshot.read(path).schemas]


@pytest.mark.parametrize(("kept", "is_taken"), [(3, True), (2, True), (1, False), (0, False)])
def test_a_state_that_lost_most_of_its_tables_is_refused(
    embedded_warehouse, tmp_path, kept: int, *, is_taken: bool
) -> None:
    """A state with less than half of the tables of the last one is refused, which stays; unless it is allowed."""
    path = tmp_path / "state.json"
    add_tables(embedded_warehouse, "a", "b", "c", "d")
    component(embedded_warehouse.resource).write_state_to_path(path)
    for schema in WarehouseSnapshot.read(path).schemas[kept:]:
        embedded_warehouse.client.delete_schema(schema.id)

    if is_taken:
        component(embedded_warehouse.resource).write_state_to_path(path)
    else:
        with pytest.raises(StateNotRefreshedError, match="`allow_shrinking: true`"):
            component(embedded_warehouse.resource).write_state_to_path(path)
        assert 4 == len(tables_in(path))
        component(embedded_warehouse.resource, allow_shrinking=True).write_state_to_path(path)
    assert kept == len(tables_in(path))
    assert WarehouseSnapshot.read(path).problem is None


@contextmanager
def code_server(storage: DefsStateStorage) -> Iterator[None]:
    """A new process, as Dagster sets it up before it loads definitions."""
    loading = DefinitionsLoadContext(load_type=DefinitionsLoadType.INITIALIZATION)
    with set_defs_state_storage(storage), DefinitionsLoadContext.scoped(loading):
        yield


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DefsStateStorage]:
    """Dagster's own storage for states, in a folder."""
    folder = tmp_path_factory.mktemp("instance")
    (folder / "dagster.yaml").write_text(
        "defs_state_storage: {module: dagster._core.storage.defs_state.blob_storage_state_storage,"
        f" class: UPathDefsStateStorage, config: {{base_path: {folder.as_uri()}/state}}}}\n"
        "telemetry: {enabled: false}\n"
    )
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance.defs_state_storage


def names(defs: dg.Definitions) -> set[str]:
    """The last parts of the keys of what can be materialized."""
    return {key.path[-1] for key in defs.resolve_asset_graph().materializable_asset_keys}


def test_versioned_states_are_compared(embedded_warehouse, tmp_path, storage) -> None:
    """In Dagster's state storage, too, a state that lost most tables is refused, and the last version serves."""
    add_tables(embedded_warehouse, "a", "b", "c", "d")
    ours = component(as_project(embedded_warehouse), defs_state=DefsStateConfigArgs.versioned_state_storage())
    with code_server(storage):
        asyncio.run(ours.refresh_state(tmp_path))
    first = storage.get_latest_version(ours.defs_state_config.key)
    for schema in embedded_warehouse.snapshot().schemas[1:]:
        embedded_warehouse.client.delete_schema(schema.id)

    with code_server(storage), pytest.raises(StateNotRefreshedError, match="1 tables where there were 4"):
        asyncio.run(ours.refresh_state(tmp_path))

    assert first == storage.get_latest_version(ours.defs_state_config.key)
    with code_server(storage):
        assert {"a", "b", "c", "d"} == names(dg.build_defs_for_component(ours))
    with code_server(storage):
        asyncio.run(replace(ours, allow_shrinking=True).refresh_state(tmp_path))
    with code_server(storage):
        assert {"a"} == names(dg.build_defs_for_component(ours))


def test_the_state_of_the_last_code_server_serves(embedded_warehouse, storage, caplog) -> None:
    """A code server that keeps its state in memory begins with that of the one before, if a better one is refused."""
    add_tables(embedded_warehouse, "a", "b", "c", "d")
    ours = component(
        as_project(embedded_warehouse), name="eu", defs_state=DefsStateConfigArgs.legacy_code_server_snapshots()
    )
    with code_server(storage):
        dg.build_defs_for_component(ours)
    for schema in embedded_warehouse.snapshot().schemas[1:]:
        embedded_warehouse.client.delete_schema(schema.id)

    with code_server(storage), caplog.at_level(logging.WARNING):
        assert {"a", "b", "c", "d"} == names(dg.build_defs_for_component(ours))
    assert "1 tables where there were 4" in caplog.text
    shut_out = replace(ours, warehouse=as_project(embedded_warehouse, api_key="phx_of_nobody"))
    with code_server(storage):
        assert {"a", "b", "c", "d"} == names(dg.build_defs_for_component(shut_out))
    with code_server(storage):
        assert {"a"} == names(dg.build_defs_for_component(replace(ours, allow_shrinking=True)))


def test_a_stored_state_that_is_gone_is_no_measure(embedded_warehouse, tmp_path, storage, caplog) -> None:
    """If the last version cannot be read, a warning names it, and the new one is stored."""
    add_tables(embedded_warehouse, "a")
    ours = component(
        as_project(embedded_warehouse), name="gone", defs_state=DefsStateConfigArgs.versioned_state_storage()
    )
    storage.set_latest_version(ours.defs_state_config.key, "lost")
    with code_server(storage), caplog.at_level(logging.WARNING):
        asyncio.run(ours.refresh_state(tmp_path))
    assert "in version lost, cannot be read from Dagster's state storage" in caplog.text
    assert "lost" != storage.get_latest_version(ours.defs_state_config.key)


def test_an_empty_project_says_so(embedded_warehouse, tmp_path, caplog) -> None:
    """A project without tables is taken for the wrong one: a line states that, in place of the tables."""
    path = tmp_path / "state.json"
    with caplog.at_level(logging.ERROR):
        (only,) = dg.build_defs_for_component(
            component(embedded_warehouse.resource, state_file=path)
        ).resolve_all_asset_specs()
    assert "has no tables in its data warehouse" in (only.description or "")
    assert "has no tables in its data warehouse" in caplog.text
    allowed = component(embedded_warehouse.resource, state_file=path, allow_shrinking=True)
    assert [] == dg.build_defs_for_component(allowed).resolve_all_asset_specs()


def test_another_projects_state_is_no_measure(embedded_warehouse, other_warehouse, tmp_path) -> None:
    """A state of another project neither serves nor counts when a component's project is changed, and is not lost."""
    path = tmp_path / "state.json"
    add_tables(embedded_warehouse, "a", "b", "c", "d")
    add_tables(other_warehouse, "e")
    component(as_project(embedded_warehouse)).write_state_to_path(path)
    component(as_project(other_warehouse)).write_state_to_path(path)
    assert ["e"] == tables_in(path)
    with pytest.raises(StateNotRefreshedError):
        component(nobody()).write_state_to_path(path)
    assert ["e"] == tables_in(path)
    (asset,) = component(nobody()).build_defs_from_state(dg.ComponentTree.for_test().load_context, path).assets or ()
    assert isinstance(asset, dg.AssetSpec)
    assert "and not of this one. Fetch it" in (asset.description or "")


@pytest.mark.parametrize(
    ("variable", "value"), [("SSL_CERT_FILE", "/is/gone.pem"), ("SSL_CERT_DIR", "/is/gone"), ("HTTPS_PROXY", "ftp://p")]
)
def test_a_good_state_serves_in_a_broken_environment(tmp_path, monkeypatch, variable: str, value: str) -> None:
    """A proxy or certificates that cannot be used fail a refresh, which names the variable; the last state loads."""
    path = tmp_path / "state.json"
    ours = component(
        PostHogWarehouseResource(host="https://posthog.test", project_id="1", api_key="phx_key"), state_file=path
    )
    project(source("a", [table("orders")]), host="https://posthog.test", project_id="1").write(path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(StateNotRefreshedError, match=f"{variable}={value}: .* serves"):
        ours.write_state_to_path(path)
    assert dg.build_defs_for_component(ours).resolve_all_asset_specs()


def test_settings_from_the_environment_are_filled_in(embedded_warehouse, tmp_path, monkeypatch) -> None:
    """In Python, `dg.EnvVar` may be used for any setting, and the error for a variable that is not set has its name."""
    add_tables(embedded_warehouse, "Customer")
    path = tmp_path / "state.json"
    endpoint = embedded_warehouse.resource.ensure_running()
    resource = as_project(
        embedded_warehouse, api_key=dg.EnvVar("OUR_KEY"), requests_per_minute=dg.EnvVar.int("OUR_PACE")
    )
    monkeypatch.setenv("OUR_PACE", "0")
    with pytest.raises(StateNotRefreshedError, match=r"^OUR_KEY is not set"):
        component(resource).write_state_to_path(path)
    monkeypatch.setenv("OUR_KEY", endpoint["api_key"])
    component(resource).write_state_to_path(path)
    assert ["Customer"] == tables_in(path)


def test_a_refresh_reaches_a_file_of_ones_own(embedded_warehouse, tmp_path, dg_project, monkeypatch) -> None:
    """What `dg utils refresh-defs-state` does replaces `state_file`, which is otherwise used as it stands."""
    add_tables(embedded_warehouse, "Customer")
    path = tmp_path / "state.json"
    ours = component(embedded_warehouse.resource, state_file=path)
    dg.build_defs_for_component(ours)
    add_tables(embedded_warehouse, "Deal", source_type="Hubspot")
    dg.build_defs_for_component(ours)
    assert ["Customer"] == tables_in(path)
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    asyncio.run(ours.refresh_state(dg_project.root))
    assert ["Deal", "Customer"] == tables_in(path)


def test_a_state_can_be_read_in_a_review(embedded_warehouse, tmp_path) -> None:
    """Sources and tables are sorted, and each setting has its own line."""
    add_tables(embedded_warehouse, "b", "a")
    add_tables(embedded_warehouse, "c", source_type="Hubspot")
    path = tmp_path / "state.json"
    component(embedded_warehouse.resource).write_state_to_path(path)
    assert ["c", "a", "b"] == tables_in(path)
    lines = path.read_text().splitlines()
    assert all(len(re.findall(r'"\s*:', line)) <= 1 for line in lines)
    assert len(lines) > 3 * 5


def test_neither_secrets_nor_connections_are_in_it(embedded_warehouse, tmp_path) -> None:
    """What PostHog knows of the way to a source, passwords among it, is in no state."""
    secret = "hunter2-of-the-source"
    payload = {"client_secret": secret, "schemas": [{"name": "Customer", "sync_type": "full_refresh"}]}
    add_tables(embedded_warehouse, "Customer")
    second = embedded_warehouse.client.create_source("Stripe", payload, prefix="second")
    path = tmp_path / "state.json"
    component(as_project(embedded_warehouse)).write_state_to_path(path)
    embedded_warehouse.client.delete_source(second)
    key = embedded_warehouse.resource.ensure_running()["api_key"]
    text = path.read_text()
    assert [] == [word for word in (secret, "job_inputs", "client_secret", key) if word in text]
    assert {"Customer"} == set(tables_in(path))


# --- what tells that a state is old ---

STATE = project(source("Stripe", [table("Customer")]))


@pytest.mark.parametrize(
    ("age", "problem", "passed"),
    [
        (DAY, None, True),
        (DAY + timedelta(minutes=1), None, False),
        (timedelta(), "The key is wrong.", False),
    ],
)
def test_an_old_state_fails_its_check(age: timedelta, problem: str | None, *, passed: bool) -> None:
    """The state fails when it is older than it may be, or when the last refresh failed; it warns, and says why."""
    state = STATE.model_copy(update={"problem": problem})
    check = build_state_age_check(Tables(state, include_disabled=True), max_age=DAY, now=lambda: TAKEN_AT + age)
    result = check.node_def.compute_fn.decorated_fn()  # type: ignore[attr-defined]
    assert (passed, dg.AssetCheckSeverity.WARN) == (result.passed, result.severity)
    assert "fetched at 2026-11-03 00:00 UTC" in result.description
    assert (problem or "") in result.description


def test_the_sensor_says_when_a_state_becomes_old() -> None:
    """The sensor evaluates both checks, each when its answer changes, and PostHog being down is an answer."""
    moment = TAKEN_AT

    def tick(cursor: str | None) -> tuple[list[tuple[str, bool]], str | None]:
        sensor = build_drift_sensor(Tables(STATE, include_disabled=True), max_age=DAY, now=lambda: moment)
        with dg.build_sensor_context(cursor=cursor, resources={"posthog_warehouse": nobody()}) as context:
            result = sensor.evaluate_tick(context)
        return [(event.check_name, event.passed) for event in result.asset_events], result.cursor  # type: ignore[union-attr]

    first, cursor = tick(None)
    second, cursor = tick(cursor)
    moment += 2 * DAY
    third, cursor = tick(cursor)
    assert [(STATE_IS_CURRENT, False), (STATE_IS_FRESH, True)] == first
    assert ([], [(STATE_IS_FRESH, False)]) == (second, third)


def history_run(ours: PostHogWarehouseComponent) -> dg.ExecuteInProcessResult:
    """A run that updates the sync history, with its checks."""
    job = dg.build_defs_for_component(ours).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey([ours.name, "sync_history"])])


def drift_checks(ours: PostHogWarehouseComponent) -> list[str]:
    """What the check `state_is_current` says in a run."""
    run = history_run(ours)
    found = [each for each in run.get_asset_check_evaluations() if each.check_name == STATE_IS_CURRENT]
    return [str(each.description) for each in found if not each.passed]


def test_a_takeover_is_drift_until_the_state_is_refreshed(embedded_warehouse, tmp_path) -> None:
    """PostHog syncs a taken table every thirty days: what is promised of it is another until the state has that too."""
    add_tables(embedded_warehouse, "Customer")
    ours = component(
        embedded_warehouse.resource,
        name="eu",
        history_database=tmp_path / "history.duckdb",
        state_file=tmp_path / "state.json",
    )
    ours.write_state_to_path(tmp_path / "state.json")
    state = WarehouseSnapshot.read(tmp_path / "state.json")
    apply_takeover(embedded_warehouse.client, plan_takeover(Tables(state), now=TAKEN_AT))

    (drift,) = drift_checks(ours)
    assert drift.startswith("Tables: 1 synced at other times.")
    ours.write_state_to_path(tmp_path / "state.json")
    assert SyncFrequency.THIRTY_DAYS is WarehouseSnapshot.read(tmp_path / "state.json").schemas[0].sync_frequency
    assert [] == drift_checks(ours)

    add_tables(embedded_warehouse, "Deal", source_type="Hubspot")
    (told,) = drift_checks(ours)
    assert told.startswith("Tables: 1 added. Refresh the state")


def test_the_history_is_of_selected_sources(embedded_warehouse, tmp_path) -> None:
    """Sources without a selected table are left out of the history; a table that is disabled now was synced before."""
    add_tables(embedded_warehouse, "Customer", "Invoice")
    add_tables(embedded_warehouse, "Deal", source_type="Hubspot")
    for name in ("Customer", "Invoice", "Deal"):
        embedded_warehouse.sync(name)
    off = next(schema for schema in embedded_warehouse.snapshot().schemas if schema.name == "Invoice")
    embedded_warehouse.client.update_schema(off.id, SchemaUpdate(should_sync=False))
    ours = component(
        embedded_warehouse.resource,
        select=["stripe.*"],
        history_database=tmp_path / "history.duckdb",
        state_file=tmp_path / "state.json",
    )
    (event,) = history_run(ours).asset_materializations_for_node("posthog_warehouse__sync_history")
    assert 2 == event.metadata["jobs_read"].value
