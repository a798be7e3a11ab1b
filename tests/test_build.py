"""Definitions in Python: what one call makes of a project, and what users add to it."""

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from component_snapshots import OFF, project, source, table
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType

from dw_orchestration import (
    PostHogSyncConfig,
    PostHogTranslator,
    PostHogWarehouseComponent,
    PostHogWarehouseResource,
    Table,
    WarehouseResource,
    asset_key_for,
    build_posthog_definitions,
    errors,
    load_posthog_asset_specs,
    posthog_assets,
)
from dw_orchestration.resources.state import load_state
from dw_orchestration.testing import EmbeddedWarehouse, fails

WAREHOUSE = PostHogWarehouseResource(project_id="1", api_key=dg.EnvVar("POSTHOG_KEY"))
CUSTOMER = dg.AssetKey(["posthog", "stripe", "acme", "customer"])
SHOP = project(
    source("Stripe", [table("Customer"), table("Charge"), table("Event", **OFF)], prefix="acme"),
    source("Postgres", [table("orders")], prefix="shop"),
)
ROWS = [{"id": 1}, {"id": 2}]


class Raw(PostHogTranslator):
    """Keys of the user's own; rows of Stripe come from nowhere, and those of the shop from one asset."""

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        return super().get_asset_spec(table).replace_attributes(key=["raw", table.schema.name])

    def get_upstream_spec(self, table: Table) -> dg.AssetSpec | None:
        if table.source.source_type == "Stripe":
            return None
        return dg.AssetSpec("the_shop", group_name="ours")


def keys(defs: dg.Definitions) -> set[str]:
    """All keys."""
    return {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


def names(defs: dg.Definitions) -> set[str]:
    """The names of all that has one."""
    repository = defs.get_repository_def()
    repository.load_all_definitions()
    return {each.name for each in (*repository.get_all_jobs(), *repository.schedule_defs, *repository.sensor_defs)} | {
        key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()
    }


def test_one_call_makes_what_the_component_makes(tmp_path: Path) -> None:
    """The function and the component have the same arguments, and make the same of them."""
    settings: dict[str, Any] = {"name": "eu", "select": ["stripe_acme.*"], "history_database": tmp_path / "h.duckdb"}
    component = PostHogWarehouseComponent(warehouse=WAREHOUSE, **settings)
    defs = build_posthog_definitions(WAREHOUSE, state=SHOP, **settings)

    assert names(component.build_defs_from_snapshot(SHOP)) == names(defs)
    assert {"eu", "eu_sync_history"} == set(defs.resources or {})


@pytest.mark.parametrize("was_enabled", [True, False])
def test_python_looks_for_no_garbage_in_the_meantime(*, was_enabled: bool) -> None:
    """It is as before afterwards, also after an error."""
    seen = []

    class Watching(PostHogTranslator):
        def get_asset_spec(self, table: Table) -> dg.AssetSpec:
            seen.append(gc.isenabled())
            return super().get_asset_spec(table).replace_attributes(key="same")

    before = gc.isenabled()
    (gc.enable if was_enabled else gc.disable)()
    try:
        with pytest.raises(errors.SetupError, match="same asset key"):
            build_posthog_definitions(WAREHOUSE, state=SHOP, translator=Watching())
        assert was_enabled == gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()
    assert {False} == set(seen)


def test_a_name_is_a_legal_key_of_a_resource() -> None:
    """Dagster takes identifiers as keys of resources; another name is refused with what it may be."""
    with pytest.raises(errors.SetupError, match=r"`name: 1st` .* no digit first"):
        build_posthog_definitions(WAREHOUSE, state=SHOP, name="1st")


def test_functions_select_tables() -> None:
    """A function takes a table or leaves it, wherever a name or a pattern does."""

    def is_of_stripe(table: Table) -> bool:
        return table.source.source_type == "Stripe"

    chosen = load_posthog_asset_specs(WAREHOUSE, state=SHOP, select=[is_of_stripe], exclude=["Charge"])
    assert [CUSTOMER] == [spec.key for spec in chosen]


def test_the_path_of_a_state_may_be_a_text(tmp_path: Path) -> None:
    """As of a history, in all functions and in the component."""
    file = tmp_path / "state.json"
    SHOP.write(file)
    component = PostHogWarehouseComponent(warehouse=WAREHOUSE, state_file=str(file))  # type: ignore[arg-type]
    made = [build_posthog_definitions(WAREHOUSE, state=str(file)), component.build_defs_from_file(component.state_file)]
    assert [True, True] == [CUSTOMER in defs.resolve_asset_graph().get_all_asset_keys() for defs in made]
    assert CUSTOMER == asset_key_for("acme.Customer", WAREHOUSE, state=str(file))


def test_a_translator_decides_about_tables_and_their_upstream() -> None:
    """It gives other keys, leaves the table at the source out, or puts another asset in its place."""
    defs = build_posthog_definitions(WAREHOUSE, state=SHOP, translator=Raw())
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}

    assert {"raw/Customer", "raw/Charge", "raw/orders", "the_shop"} == specs.keys()
    assert "ours" == specs["the_shop"].group_name
    upstream = {key: [dep.asset_key.to_user_string() for dep in spec.deps] for key, spec in specs.items()}
    assert {"raw/Customer": [], "raw/Charge": [], "raw/orders": ["the_shop"], "the_shop": []} == upstream


def test_an_upstream_asset_is_there_for_a_table_that_depends_on_it() -> None:
    """A translation that gives a table other assets upstream, or none, leaves its origin out."""

    class Alone(PostHogWarehouseComponent):
        def get_asset_spec(self, table: Table) -> dg.AssetSpec:
            return super().get_asset_spec(table).replace_attributes(deps=[])

    alone = Alone(warehouse=WAREHOUSE).build_defs_from_snapshot(SHOP)
    assert {"posthog"} == {key.partition("/")[0] for key in keys(alone)}


@pytest.mark.parametrize("name", ["stripe_acme.Customer", "acme.Customer", "customer", "id-of-Customer"])
def test_a_name_has_a_key(name: str) -> None:
    """The key is found by every name that users type, and is the translator's if there is one."""
    assert CUSTOMER == asset_key_for(name, WAREHOUSE, state=SHOP)
    assert dg.AssetKey(["raw", "Customer"]) == asset_key_for(name, WAREHOUSE, state=SHOP, translator=Raw())


def test_a_name_without_a_table_has_no_key() -> None:
    """A typo is an error when the definitions load, and not an asset that is never materialized."""
    with pytest.raises(errors.UnknownNameError, match=r"Did you mean stripe_acme\.Customer"):
        asset_key_for("acme.Custmer", WAREHOUSE, state=SHOP)


# --- steps of a user's own ---


def of_stripe(**settings: Any) -> dg.AssetsDefinition:
    """A step of the user's own for the tables of Stripe."""

    @posthog_assets(WAREHOUSE, state=SHOP, select=["stripe_acme.*"], **settings)
    def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
        yield from posthog_warehouse.sync(context)

    return stripe


@pytest.mark.parametrize("select", [(), ["shop.orders"]], ids=["all", "others"])
def test_a_step_of_ones_own_replaces_the_default_one(select: list[str]) -> None:
    """Its tables are in no other step, and are in the schedules and sensors as all others are."""
    stripe = of_stripe(translator=Raw())
    defs = build_posthog_definitions(WAREHOUSE, state=SHOP, select=select, assets=[stripe])
    graph = defs.resolve_asset_graph()
    ops = {key.path[-1]: defs.resolve_assets_def(key).op.name for key in graph.materializable_asset_keys}

    assert {"Customer": "stripe", "Charge": "stripe", "orders": "sync_postgres_shop"} == ops
    assert {"stripe_acme_every_6h", "postgres_shop_every_6h"} == {each.name for each in defs.schedules or ()}


def test_a_schedule_configures_a_step_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick gives the step of its tables what one sync for each tick needs, and the step takes it."""
    defs = build_posthog_definitions(WAREHOUSE, state=SHOP, assets=[of_stripe()])
    schedule = defs.resolve_schedule_def("stripe_acme_every_6h")
    six_hours = [datetime(2026, 11, 4, hour, minute, tzinfo=UTC) for hour in range(6) for minute in range(60)]
    ticks = (dg.build_schedule_context(scheduled_execution_time=moment) for moment in six_hours)
    requests = [request for tick in ticks for request in schedule.evaluate_tick(tick).run_requests or ()]

    assert {("stripe",)} == {tuple(request.run_config["ops"]) for request in requests}
    monkeypatch.setenv("POSTHOG_KEY", "phx_of_the_test")
    job = defs.resolve_job_def(schedule.job_name)
    assert all(dg.validate_run_config(job, dict(request.run_config)) for request in requests)


def test_what_a_run_alone_decides_is_no_default() -> None:
    """The defaults and the op of a user's step are checked as those of all steps are."""
    with pytest.raises(errors.SetupError, match="sync_mode can only be set in the config of a run"):
        of_stripe(sync=PostHogSyncConfig(sync_mode="resync"))
    with pytest.raises(errors.SetupError, match="`op` has no setting pools"):
        of_stripe(op={"pools": "stripe"})


def test_a_step_without_tables_is_refused() -> None:
    """A selection that takes no table is an error with the tables that there are."""
    with pytest.raises(errors.SetupError, match=r"`nothing` has no table .* There are postgres_shop\.orders"):

        @posthog_assets(WAREHOUSE, state=SHOP, select=["hubspot.*"])
        def nothing(context: dg.AssetExecutionContext) -> None: ...


@pytest.fixture
def acme(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with two tables."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": ROWS, "Charge": ROWS})
    return embedded_warehouse


def run(
    acme: EmbeddedWarehouse, body: Callable[..., Iterator[Any]], *, tables: tuple[str, ...] = (), **config: Any
) -> dg.ExecuteInProcessResult:
    """Materialize tables, by default all, by a step of the user's own."""
    state = acme.snapshot()
    step = posthog_assets(acme.resource, state=state, sync=PostHogSyncConfig(poll_min_s=0.1))(body)
    defs = build_posthog_definitions(acme.resource, state=state, assets=[step])
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[asset_key_for(name, acme.resource, state=state) for name in tables] or None,
        run_config={"ops": {"stripe": {"config": config}}},
        raise_on_error=False,
    )


def test_a_body_does_things_before_and_after_the_sync(acme: EmbeddedWarehouse) -> None:
    """What is before the sync happens before it, what is after it reads the rows; a subset is synced as such."""
    seen: list[Any] = []

    def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
        seen.append(len(acme.jobs("Customer")))
        yield from posthog_warehouse.sync(context)
        seen.append(posthog_warehouse.query("select count(*) as n from {table}", table="Customer").to_pylist())

    ended = run(acme, stripe, tables=("Customer",))

    assert ended.success
    assert [0, [{"n": 2}]] == seen
    assert (1, 0) == (len(acme.jobs("Customer")), len(acme.jobs("Charge")))
    (event,) = ended.asset_materializations_for_node("stripe")
    assert 2 == event.metadata["posthog/rows_synced"].value
    assert {"sync_succeeded", "data_as_usual"} == {each.check_name for each in ended.get_asset_check_evaluations()}


def test_a_body_ends_with_a_failed_sync(acme: EmbeddedWarehouse) -> None:
    """A table that fails fails the step, after the others have their results and before what follows the sync."""
    acme.behave("Charge", fails("the key was revoked"))
    seen = []

    def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
        yield from posthog_warehouse.sync(context)
        seen.append("after")

    ended = run(acme, stripe)

    assert (False, []) == (ended.success, seen)
    assert [CUSTOMER] == [event.asset_key for event in ended.asset_materializations_for_node("stripe")]
    assert "the key was revoked" in str(ended.failure_data_for_node("stripe"))


def test_keys_that_were_changed_later_are_not_synced_silently(acme: EmbeddedWarehouse) -> None:
    """A step whose keys were changed after it was built fails: it would be green and have synced nothing."""

    @posthog_assets(acme.resource, state=acme.snapshot())
    def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
        yield from posthog_warehouse.sync(context)

    changed = stripe.with_attributes(asset_key_replacements={CUSTOMER: dg.AssetKey("ours")})
    ended = dg.materialize([changed], resources={"posthog_warehouse": acme.resource}, raise_on_error=False)

    assert not ended.success
    assert "Change keys in a translator" in str(ended.failure_data_for_node("stripe"))
    assert [] == acme.jobs("Customer")


def test_a_sync_outside_of_its_step_says_where_it_belongs(acme: EmbeddedWarehouse) -> None:
    """The names of the decorator and of the method for other code are in the error."""

    @dg.asset
    def other(context: dg.AssetExecutionContext) -> None:
        list(acme.resource.sync(context))

    with pytest.raises(errors.UsageError, match=r"`posthog_assets`\. Elsewhere, use `sync_and_wait`"):
        dg.materialize([other])


# --- the state ---


@pytest.fixture
def as_in_a_code_server() -> Iterator[Callable[[DefinitionsLoadType], None]]:
    """Begins a load of definitions as Dagster does."""
    before = DefinitionsLoadContext._instance
    yield lambda load_type: DefinitionsLoadContext.set(DefinitionsLoadContext(load_type))
    DefinitionsLoadContext._instance = before


@pytest.fixture
def real_project(acme: EmbeddedWarehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PostHogWarehouseResource:
    """A project whose settings are all in the environment."""
    endpoint = acme.resource.ensure_running()
    for name in ("host", "project_id", "api_key"):
        monkeypatch.setenv(f"OUR_{name}", endpoint[name])
    monkeypatch.setenv("DW_ORCHESTRATION_HOME", str(tmp_path / "home"))
    own = {name: dg.EnvVar(f"OUR_{name}") for name in ("host", "project_id", "api_key")}
    return PostHogWarehouseResource(**own, requests_per_minute=dg.EnvVar.int("OUR_LIMIT"))


def test_settings_from_the_environment_reach_posthog(
    real_project: PostHogWarehouseResource, acme: EmbeddedWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that a resource does outside of a run uses the variables' values, and not their names."""
    monkeypatch.setenv("OUR_LIMIT", "0")
    assert acme.snapshot().schemas == real_project.take_snapshot().schemas
    assert CUSTOMER == asset_key_for("acme.Customer", real_project)
    acme.sync("Customer")
    assert [{"n": 2}] == real_project.query("select count(*) as n from {table}", table="Customer").to_pylist()
    monkeypatch.delenv("OUR_api_key")
    with pytest.raises(errors.SetupError, match="OUR_api_key is not set in the environment"):
        real_project.take_snapshot()


def test_each_load_fetches_the_state_once(
    acme: EmbeddedWarehouse, as_in_a_code_server: Callable[[DefinitionsLoadType], None]
) -> None:
    """All functions of a load see the same tables; the next load has the new ones, and runs read those of the last."""
    found = []
    for load_type in (DefinitionsLoadType.INITIALIZATION, DefinitionsLoadType.INITIALIZATION):
        as_in_a_code_server(load_type)
        found.append(len(load_posthog_asset_specs(acme.resource)))
        acme.add_source("Hubspot", prefix=f"n{len(found)}", tables={f"t{len(found)}": ROWS})
        found.append(len(load_posthog_asset_specs(acme.resource)))
    as_in_a_code_server(DefinitionsLoadType.RECONSTRUCTION)
    found.append(len(load_posthog_asset_specs(acme.resource)))

    assert [2, 2, 3, 3, 3] == found


def test_the_last_good_state_serves(real_project: PostHogWarehouseResource, monkeypatch: pytest.MonkeyPatch) -> None:
    """While PostHog cannot be read the tables stay; without any state, one asset says why, and specs are an error."""
    monkeypatch.setenv("OUR_LIMIT", "0")
    before = keys(build_posthog_definitions(real_project))
    monkeypatch.setenv("OUR_api_key", "phx_of_nobody")
    assert before == keys(build_posthog_definitions(real_project))
    assert {"other/not_connected"} == keys(build_posthog_definitions(real_project, name="other"))
    with pytest.raises(errors.StateNotRefreshedError, match="does not accept the API key"):
        load_posthog_asset_specs(real_project, name="other")


def test_a_file_is_used_as_it_stands(acme: EmbeddedWarehouse, tmp_path: Path) -> None:
    """A path names a file that is fetched if it is absent, and not again."""
    first = load_state(acme.resource, tmp_path / "state.json", name="ours")
    acme.add_source("Hubspot", tables={"contacts": ROWS})
    assert first == load_state(acme.resource, tmp_path / "state.json", name="ours")
