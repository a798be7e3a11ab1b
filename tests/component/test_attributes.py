"""What a user sets in `defs.yaml`, and its effect in Dagster."""

from __future__ import annotations

import logging
import re
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml
from component_snapshots import GIVEN_UP, OFF, project, source, table
from dagster.components.resolved.errors import ResolutionException
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from warehouse_model import WarehouseModel

from dw_orchestration import PostHogSyncConfig, PostHogWarehouseComponent
from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.component.attributes import TableAttributes
from dw_orchestration.errors import SetupError
from dw_orchestration.operations.jobs import RESYNC
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.schedules.schedules import SchedulingMode
from dw_orchestration.sensors.job_status import Tick
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOP = project(
    source("Postgres", [table("public.orders"), table("Größe (m²)"), table("off", **OFF)], prefix="shop"),
    source("Stripe", [table("Customer")]),
)
WAREHOUSE = "warehouse: {project_id: '1', api_key: phx_of_nobody}\n"


def component(
    attributes: str = "",
    *,
    warehouse: str = WAREHOUSE,
    kind: type[PostHogWarehouseComponent] = PostHogWarehouseComponent,
) -> PostHogWarehouseComponent:
    """The component that the attributes in YAML make, in a project in the current folder."""
    given = kind.model().model_validate(yaml.safe_load(warehouse + attributes))
    return kind.load(given, dg.ComponentTree.for_test().load_context)


def definitions(attributes: str = "") -> dg.Definitions:
    """The definitions of the shop's tables, loaded and found to fit together."""
    defs = component(attributes).build_defs_from_snapshot(SHOP)
    dg.Definitions.validate_loadable(defs)
    return defs


def spec(attributes: str, key: str) -> dg.AssetSpec:
    """The spec of one of the shop's tables."""
    return definitions(attributes).resolve_assets_def(key.split("/")).specs_by_key[dg.AssetKey(key.split("/"))]


def steps(attributes: str = "") -> list[dg.AssetsDefinition]:
    """The steps that sync the shop's tables."""
    return [each for each in definitions(attributes).assets or [] if isinstance(each, dg.AssetsDefinition)]


def undescribed(node: Any) -> Iterator[str]:
    """The properties of a JSON schema that have no description."""
    if isinstance(node, dict):
        for name, field in node.get("properties", {}).items():
            if not field.get("description"):
                yield name
        for each in node.values():
            yield from undescribed(each)
    elif isinstance(node, list):
        for each in node:
            yield from undescribed(each)


def test_every_attribute_says_what_it_is_for() -> None:
    """Editors and `dg` show each attribute, at every depth, with a description."""
    model = PostHogWarehouseComponent.get_model_cls()
    assert model is not None
    assert [] == list(undescribed(model.model_json_schema()))


def test_the_defaults_of_a_file_are_those_of_python() -> None:
    """What is left out in YAML is as it is in Python."""
    in_python = PostHogWarehouseComponent(
        warehouse=PostHogWarehouseResource(project_id="1", api_key="phx_of_nobody"),
        defs_state=(in_yaml := component()).defs_state,
    )
    assert in_python == in_yaml


@pytest.mark.parametrize("mode", SchedulingMode)
def test_scheduling_is_a_mode(mode: SchedulingMode) -> None:
    """The mode that is written is the mode that schedules are built by, and not just its name."""
    assert mode is component(f"scheduling: {mode}").scheduling
    schedules = list(definitions(f"scheduling: {mode}").schedules or [])
    assert (mode is SchedulingMode.OBSERVE) == (schedules == [])


@pytest.mark.parametrize(
    "wrong",
    [
        "scheduling: drvie",
        "step_per: tabel",
        "auto_heal: -1",
        "job_status_interval_s: 0",
        "max_state_age_days: 0",
        "checks: [not_stael]",
        "select: [{}]",
        "sync: {start_timeout_s: -1}",
        "sync: {sync_mode: resync}",
        "sync: {confirm_resync: [orders]}",
        "retry_policy: {backoff: expo}",
        "name: eu-west",
        "schedulling: drive",
    ],
)
def test_a_slip_of_the_pen_is_refused(wrong: str) -> None:
    """A value that there is not ends in an error when the file is read, and is not taken for the default."""
    with pytest.raises((ValidationError, ResolutionException)):
        component(wrong)


def test_a_template_may_stand_for_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values may come from the environment, and are then checked like others."""
    monkeypatch.setenv("HEAL", "3")
    monkeypatch.setenv("MODE", "observe")
    made = component("auto_heal: '{{ env.HEAL }}'\nscheduling: '{{ env.MODE }}'\n")
    assert (3, SchedulingMode.OBSERVE) == (made.auto_heal, made.scheduling)
    monkeypatch.setenv("MODE", "watch")
    with pytest.raises(ResolutionException, match="watch"):
        component("scheduling: '{{ env.MODE }}'\n")


KEY = "phx_that_is_written_out"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("project_id: 12345", {"project_id": "12345"}),
        ("project_id: '0012345'", {"project_id": "0012345"}),
        ("project_id: '@current'", {"project_id": "@current"}),
        ("project_id: 1\n  read_only: true", {"read_only": True}),
        ("project_id: 1\n  read_only: '{{ env.FLAG }}'", {"read_only": True}),
        ("project_id: 1\n  read_only: 'no'", {"read_only": False}),
        ("project_id: 1\n  read_only: '{{ env.NOT_SET }}'", {"read_only": None}),
        ("project_id: 1\n  requests_per_minute: '{{ env.PACE }}'", {"requests_per_minute": 60}),
        ("project_id: 1\n  requests_per_minute: '60'", {"requests_per_minute": 60}),
        ("project_id: 1\n  request_timeout_s: 5", {"request_timeout_s": 5.0}),
        ("project_id: 1\n  host: 'https://{{ env.REGION }}.posthog.com'", {"host": "https://eu.posthog.com"}),
    ],
)
def test_a_warehouse_takes_what_yaml_makes(
    written: str, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers without quotes, numbers and booleans in quotes or from the environment: each setting has its own type."""
    for name, value in {"FLAG": "true", "PACE": "60", "REGION": "eu"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NOT_SET", raising=False)
    document = f"warehouse:\n  api_key: {KEY}\n  {written}\n"
    assert [] == refused_by_schema(document)
    made = component("", warehouse=document).warehouse
    assert expected == {name: getattr(made, name) for name in expected}


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("op: {pool: '12345'}", ("op", {"pool": "12345"})),
        ("op: {pool: 12345}", ("op", {"pool": "12345"})),
        ("auto_heal: '3'", ("auto_heal", 3)),
        ("freshness: 'off'", ("freshness", False)),
        ("include_disabled: '{{ env.FLAG }}'", ("include_disabled", True)),
        ("max_state_age_days: '0.5'", ("max_state_age_days", 0.5)),
        ("select: [2024]", ("select", ["2024"])),
        ("select: \"{{ env.TABLES.split(',') }}\"", ("select", ["a", "b"])),
        ("op: {pool: 7, tags: {a: 1}}", ("op", {"pool": "7", "tags": {"a": 1}})),
        ("sync: {wait: 'false', start_timeout_s: '9'}", ("sync", {"wait": False, "start_timeout_s": 9.0})),
        ("retry_policy: {max_retries: '2', delay: '{{ env.DELAY }}'}", ("retry_policy", dg.RetryPolicy(2, 30))),
        ("run_tags: {dagster/max_runtime: 60}", ("run_tags", {"dagster/max_runtime": 60})),
        ("run_tags: {team: '{{ env.TABLES }}'}", ("run_tags", {"team": "a,b"})),
        ("run_tags:", ("run_tags", {})),
        ("sync:", ("sync", {})),
    ],
)
def test_attributes_take_what_yaml_makes(
    attribute: str, expected: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for all attributes, and the schema for editors and `dg check yaml` agrees."""
    for name, value in {"FLAG": "1", "TABLES": "a,b", "DELAY": "30"}.items():
        monkeypatch.setenv(name, value)
    assert [] == refused_by_schema(WAREHOUSE + attribute)
    name, value = expected
    assert value == getattr(component(attribute), name)


def refused_by_schema(document: str) -> list[str]:
    """What `dg check yaml` and editors say about attributes."""
    validator = Draft202012Validator(PostHogWarehouseComponent.model().model_json_schema())
    return [error.message for error in validator.iter_errors(yaml.safe_load(document))]


@pytest.mark.parametrize(
    ("wrong", "told", "by_schema"),
    [
        ("step_per: tables", "step_per: Input should be 'source', 'project' or 'table', and not 'tables'", True),
        ("scheduling: ensured", "scheduling: Input should be 'observe', 'ensure' or 'drive', and not 'ensured'", True),
        ("scheduling: '{{ env.MODE }}'", "scheduling: Input should be 'observe'", False),
        ("select: [{sync_type: cdcc}]", "select.0.sync_type: Input should be", True),
        ("select: [{}]", "select.0: A selector needs a condition", False),
        ("sync: {on_termination: leaf}", "sync.on_termination: Input should be 'cancel' or 'leave'", True),
        ("sync: {if_runing: attach}", "sync.if_runing: there is no such setting", True),
        ("retry_policy: {delay_s: 5}", "retry_policy.delay_s: there is no such setting", True),
        ("retry_policy: {jitter: ful}", "retry_policy.jitter: Input should be 'full' or 'plus_minus'", True),
        ("op: {name: ours}", "op.name: there is no such setting", True),
        ("auto_heal: many", "auto_heal: Input should be a valid integer", True),
        ("freshness: maybe", "freshness: Input should be a valid boolean", True),
        ("overrides: [{tables: [a]}]", "overrides.0.cron: Field required", True),
        ("translation: {grup_name: a}", "translation.grup_name: there is no such setting", True),
        ("select: Charge", "select: give a list, and not 'Charge'", True),
        ("schedulling: drive", "schedulling: there is no such attribute", True),
    ],
)
def test_a_wrong_value_is_told_by_its_place(
    wrong: str,
    told: str,
    by_schema: bool,  # noqa: FBT001  one of the cases
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line with the place, and what would be right; the schema finds what it can without the environment."""
    monkeypatch.setenv("MODE", "watch")
    with pytest.raises(ResolutionException) as caught:
        component(wrong)
    assert told in str(caught.value)
    assert 1 == len(str(caught.value).splitlines())
    found = refused_by_schema(WAREHOUSE + wrong)
    assert by_schema == bool(found)
    assert not any("given schemas" in text for text in found)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (f"{{api_key: {KEY}}}", "warehouse.project_id: Field required"),
        (f"{{project_id: 1, api_kye: {KEY}}}", "warehouse.api_key: Field required"),
        (f"{{project_id: [1], api_key: {KEY}}}", "warehouse.project_id: Input should be a valid string"),
        (f"{{project_id: 1, api_key: [{KEY}]}}", "warehouse.api_key: Input should be a valid string"),
        (
            f"{{project_id: 1, api_key: {KEY}, read_only: perhaps}}",
            "warehouse.read_only: Input should be a valid boolean",
        ),
        (f"{{project_id: 1, api_key: '{KEY}{{{{ misspelt }}}}'}}", "there is no template variable `misspelt`"),
        (f"{{home: data, api_key: {KEY}}}", "warehouse.api_key: there is no such setting"),
        (f"[{KEY}]", "give the settings of a PostHog project"),
        (f"\napi_key: {KEY}", "api_key: there is no such attribute"),
    ],
)
def test_no_error_has_a_key(wrong: str, told: str) -> None:
    """Neither the error of loading nor what the schema finds has a key that is written out, wherever it was put."""
    document = f"warehouse: {wrong}\n"
    with pytest.raises(ResolutionException) as caught:
        component("", warehouse=document)
    assert told in str(caught.value)
    texts = [*refused_by_schema(document), "".join(traceback.format_exception(caught.value))]
    assert [] == [text for text in texts if KEY in text and not text.startswith("[")]


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ("translation: {key: 'raw/{{ schema_name }}'}", "there is no template variable `schema_name`"),
        ("translation: {key: '{{ schema_name }}'}", "there is no template variable `schema_name`"),
        ("translation: {tags: {a: '{{ table.shema.name }}'}}", "a Table has no `shema`, but cadence"),
        ("translation: {deps: '{{ spec.dep }}'}", "an AssetSpec has no `dep`, but"),
        ("translation: {description: 'of {{ dg.Nothing }}'}", "a DgScope has no `Nothing`"),
        ("translation: '{{ nothing(spec) }}'", "there is no template variable `nothing`"),
        ("translation: {group_name: '{{ prefix | lowr }}'}", "invalid template: No filter named 'lowr'"),
        ("history_database: '{{ hom }}/history.duckdb'", "there is no template variable `hom`"),
        ("history_database: '{{ env.NOT_SET }}/history.duckdb'", "the environment variable `NOT_SET` is not set"),
        ("op: {pool: 'a_{{ pol }}'}", "there is no template variable `pol`"),
        ("select: ['{{ source }}.*']", "there is no template variable `source`"),
        ("sync: {start_timeout_s: '{{ timeout }}'}", "there is no template variable `timeout`"),
    ],
)
def test_a_misspelt_variable_is_told(attributes: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a template is, a variable that there is not is an error that names it and those that there are."""
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ResolutionException) as caught:
        definitions(attributes)
    assert told in str(caught.value)
    assert ("invalid" in told) or (" env" in str(caught.value))
    assert ("translation" in attributes) == (" source_type, spec, table." in str(caught.value)) or "invalid" in told


def test_a_default_replaces_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`default` is how a template says that a variable may be missing."""
    monkeypatch.delenv("NOT_SET", raising=False)
    made = component("op: {pool: \"{{ env.NOT_SET | default('a') }}\", description: \"{{ nothing | default('b') }}\"}")
    assert {"pool": "a", "description": "b"} == made.op
    assert {"pool": None} == component("op: {pool: '{{ env.NOT_SET }}'}").op


@pytest.mark.parametrize("name", ["123", "None", "1e5", "True", "[1]", "{{ spec }}", "{% x %}"])
def test_a_tables_name_stays_text(name: str) -> None:
    """What a template makes of PostHog's text is text: no number, no list, and no template to be filled in again."""
    shop = project(source("Stripe", [table(name)]))
    made = component("translation: {description: '{{ name }}', group_name: 'a'}").build_defs_from_snapshot(shop)
    (described,) = [each for each in made.resolve_all_asset_specs() if each.group_name == "a"]
    assert name == described.description


def test_only_selected_tables_are_anywhere(tmp_path: Path) -> None:
    """A selection holds for assets, schedules and sensors alike."""
    defs = definitions(f"select: ['stripe.*']\nhistory_database: {tmp_path / 'history.duckdb'}\n")
    tables = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert {"posthog/stripe/customer", "posthog_warehouse/sync_history"} == tables
    names = {each.name.split("_every_")[0] for each in defs.schedules or []}
    assert {"posthog_warehouse_sync_history", "stripe"} == names


def test_what_is_off_can_be_shown() -> None:
    """Disabled tables are assets on request, with the reason in their description."""
    off = spec("include_disabled: true", "posthog/postgres/shop/off")
    assert "disabled in PostHog" in (off.description or "")
    assert not any("off" in key.path for key in definitions().resolve_asset_graph().get_all_asset_keys())


def test_what_posthog_queries_in_place_is_external() -> None:
    """A table without anything to sync can be seen, and is no part of "Materialize all"."""
    queried = source("Postgres", [table("stock", **OFF)], prefix="live", access_method=AccessMethod.DIRECT)
    defs = component().build_defs_from_snapshot(project(*SHOP.sources, queried))
    dg.Definitions.validate_loadable(defs)
    graph, stock = defs.resolve_asset_graph(), dg.AssetKey(["posthog", "postgres", "live", "stock"])
    assert (True, False) == (graph.has(stock), stock in graph.materializable_asset_keys)


def test_a_table_that_posthog_disabled_has_its_error_in_the_description() -> None:
    """The page of an asset shows no failure that is newer than its last materialization, but always the description."""
    snapshot = project(source("Stripe", [table("Charge", **GIVEN_UP)]))
    (spec,) = (each for each in component().build_defs_from_snapshot(snapshot).resolve_all_asset_specs() if each.deps)
    assert (spec.description or "").endswith("The latest error: Connection refused")


def test_a_selector_for_nothing_warns_and_loads(caplog: pytest.LogCaptureFixture) -> None:
    """A selector without a table is reported with what there is, and breaks nothing."""
    with caplog.at_level(logging.WARNING):
        definitions("exclude: ['strip.*']")
    assert "'strip.*'" in caplog.text
    assert "There are postgres_shop.Größe (m²), postgres_shop.off, postgres_shop.public.orders" in caplog.text


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("strip.*", "The selection takes none of the 4 tables. There are postgres_shop."),
        ("*.off", "All selected tables (1) are disabled in PostHog."),
    ],
)
def test_a_selection_of_nothing_says_so(select: str, told: str) -> None:
    """If no table is left, one asset says why, where the tables would be."""
    (only,) = definitions(f"select: ['{select}']").resolve_all_asset_specs()
    assert "not_connected" == only.key.path[-1]
    assert told in (only.description or "")


TRANSLATION = """
translation:
  key: "raw/{{ source_type | lower }}/{{ path }}"
  group_name: "ingest_{{ prefix or 'rest' }}"
  owners: ["team:data"]
  tags: {domain: "{{ source_type }}"}
  metadata: {every: "{{ table.cadence.describe() }}"}
  description: "{{ name }}: {{ spec.description }}"
  automation_condition: "{{ dg.AutomationCondition.cron_tick_passed('@daily') }}"
"""


def test_templates_make_the_asset() -> None:
    """Templates see the table and the asset as it would be; tags and metadata are added, the rest is replaced."""
    orders = spec(TRANSLATION, "raw/postgres/public/orders")
    assert ("ingest_shop", ["team:data"]) == (orders.group_name, list(orders.owners))
    assert {"domain": "Postgres", "posthog/class": "syncable"}.items() <= orders.tags.items()
    assert {"posthog/source_table": "public.orders"}.items() <= orders.metadata.items()
    assert orders.metadata["every"].startswith("every 6 h")
    assert (orders.description or "").startswith("public.orders: `public.orders` of Postgres (shop)")
    assert dg.AutomationCondition.cron_tick_passed("@daily") == orders.automation_condition


def test_assets_upstream_are_chosen_for_some_sources() -> None:
    """One of the user's own replaces the table at the source, which then is nowhere; other sources keep theirs."""
    choice = "translation: {deps: \"{{ ['app_db/' ~ path] if source_type == 'Postgres' else spec.deps }}\"}"
    own = dg.AssetSpec(["app_db", "public", "orders"])
    defs = dg.Definitions.merge(definitions(choice), dg.Definitions(assets=[own]))
    graph = defs.resolve_asset_graph()
    orders, customer = (
        dg.AssetKey(["posthog", *path.split("/")]) for path in ("postgres/shop/public/orders", "stripe/customer")
    )
    assert {own.key} == graph.get(orders).parent_keys
    assert {dg.AssetKey(["stripe", "stripe", "customer"])} == graph.get(customer).parent_keys
    assert dg.AssetKey(["postgres", "shop", "public", "orders"]) not in graph.get_all_asset_keys()


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_example_of_an_automation_condition_requests_tables() -> None:
    """The example in the description of `automation_condition` requests each table at the end of a day."""
    (example,) = re.findall(r"`({{.+?}})`", TableAttributes.model_fields["automation_condition"].description or "")
    defs = definitions(f'translation: {{automation_condition: "{example}"}}')
    requested, cursor = [], None
    with dg.DagsterInstance.ephemeral() as instance:
        for day in (3, 4):
            now = datetime(2026, 11, day, 0, 10, tzinfo=UTC)
            found = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor, evaluation_time=now)
            requested.append(found.total_requested)
            cursor = found.cursor
    assert [0, 3] == requested


def test_a_prefix_stands_before_the_key_as_it_is() -> None:
    """`key_prefix` alone leaves the rest of the key alone."""
    assert spec("translation: {key_prefix: raw}", "raw/posthog/stripe/customer").owners == []


def test_an_override_in_python_gets_the_translated_spec() -> None:
    """`get_asset_spec` is the one method to override, and what it is given has been translated."""

    class Ours(PostHogWarehouseComponent):
        def get_asset_spec(self, table: Any) -> dg.AssetSpec:
            translated = super().get_asset_spec(table)
            return translated.replace_attributes(group_name=f"{translated.group_name}_of_ours")

    specs = component(TRANSLATION, kind=Ours).build_defs_from_snapshot(SHOP).resolve_all_asset_specs()
    assert {"ingest_shop_of_ours", "ingest_rest_of_ours"} <= {each.group_name for each in specs}


def test_keys_that_dagster_does_not_take_are_told_with_their_table() -> None:
    """A translation to an impossible key names the table and the way out."""
    with pytest.raises(SetupError, match=r"Invalid asset key .*Größe \(m²\).*`\{\{ path \}\}`"):
        definitions("translation: {key: 'raw/{{ name }}'}")


def test_steps_have_their_settings() -> None:
    """Retries, pool, tags and description are those of every step, with the names that Dagster has for them."""
    for step in steps(
        "retry_policy: {max_retries: 2, delay: 5, backoff: exponential}\n"
        "op: {pool: posthog, tags: {dagster/priority: 60}, description: Syncs}\n"
    ):
        assert dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL) == step.op.retry_policy
        assert ("posthog", {"dagster/priority": "60"}) == (step.op.pool, step.op.tags)
        assert "Syncs" == step.op.description


def test_every_run_that_is_requested_has_the_tags(tmp_path: Path) -> None:
    """Each schedule, each job, and a table that is healed: a limit that one of them lacks is noticed too late.

    A mapping is passed as JSON, as Dagster and its launchers read it.
    """
    files = f"history_database: {tmp_path}/history.duckdb\n"
    files += "overrides: [{tables: ['*'], cron: '0 0 * * *'}]\n"
    tags = "run_tags: {dagster/max_runtime: 60, dagster-k8s/config: {container_config: {resources: {}}}}"
    expected = {"dagster/max_runtime": "60", "dagster-k8s/config": '{"container_config": {"resources": {}}}'}
    made, midnight = component(files + tags), datetime(2026, 11, 4, tzinfo=UTC)
    repository = made.build_defs_from_snapshot(SHOP).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        requested = [
            request
            for schedule in repository.schedule_defs
            for request in schedule.evaluate_tick(
                dg.build_schedule_context(instance, scheduled_execution_time=midnight, repository_def=repository)
            ).run_requests
        ]
        tables = Tables(SHOP, run_tags=made.run_tags)
        healing = Tick(WarehouseModel(), tables, EventLog(instance), forgotten=[tables[0]])
        requested += healing.run_requests()
    jobs = [job for job in repository.get_all_jobs() if job.name.startswith("posthog_warehouse_")]
    assert (4, len([each for each in (*OPERATIONS, RESYNC) if each.has_job])) == (len(requested), len(jobs))
    for each in (*requested, *jobs):
        assert expected.items() <= each.tags.items()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            "op: {tags: {dagster/max_runtime: 60}}",
            "dagster/max_runtime has no effect on a step.*put it into `run_tags`",
        ),
        ("op: {tags: {ecs/cpu: '256', a: b}}", "ecs/cpu has no effect on a step"),
        ("run_tags: {dagster-celery/priority: 1}", "has no effect on a run.*put it into `op: tags`"),
    ],
)
def test_a_tag_in_the_wrong_place_is_told(wrong: str, told: str) -> None:
    """What Dagster reads of runs alone does nothing on a step, and the other way round."""
    with pytest.raises(ResolutionException, match=told):
        component(wrong)
    name, value = next(iter(yaml.safe_load(wrong).items()))
    if name == "op":
        with pytest.raises(SetupError, match=told):
            build_posthog_assets(Tables(SHOP), op=value)


def test_defaults_of_runs_are_in_the_launchpad() -> None:
    """What `sync` sets is the default of the run's config; the rest keeps its own, and a run can set all of it."""
    (step, *_) = steps("sync: {start_timeout_s: 900, on_termination: leave}")
    fields = step.op.config_schema.config_type.fields  # type: ignore[union-attr]
    own = PostHogSyncConfig()
    assert (900.0, "leave", own.stall_timeout_s) == tuple(
        fields[name].default_value for name in ("start_timeout_s", "on_termination", "stall_timeout_s")
    )
    assert set(PostHogSyncConfig.model_fields) == set(fields)


@pytest.mark.parametrize("per_run", [{"sync_mode": "resync"}, {"accept_jobs_since": "2026-01-01"}])
def test_there_is_no_default_for_what_a_run_decides(per_run: dict[str, Any]) -> None:
    """Neither a resync nor an accepted job can be made the default, in Python either."""
    with pytest.raises(SetupError, match=next(iter(per_run))):
        build_posthog_assets(Tables(SHOP, include_disabled=True), sync_defaults=PostHogSyncConfig(**per_run))


def test_a_table_has_two_checks() -> None:
    """Each check of a table costs time to load and rows in the event log: one reports failures, one warns."""
    keys = definitions("").resolve_asset_graph().asset_check_keys
    assert {("customer", "sync_succeeded"), ("customer", "data_as_usual")} == {
        (key.asset_key.path[-1], key.name) for key in keys if key.asset_key.path[-1] == "customer"
    }


def test_freshness_is_chosen() -> None:
    """Each table has a freshness policy unless it is disabled."""
    assert spec("", "posthog/stripe/customer").freshness_policy is not None
    assert spec("freshness: false", "posthog/stripe/customer").freshness_policy is None


def test_the_job_status_sensor_targets_the_tables_and_what_is_downstream() -> None:
    """It requests runs for syncs that no run waits for, and with `auto_heal` for forgotten tables."""
    ours, key = definitions(), dg.AssetKey(["posthog", "stripe", "customer"])
    others = dg.Definitions(assets=[dg.AssetSpec("after", deps=[key]), dg.AssetSpec("other")])
    sensor = next(each for each in ours.sensors or [] if each.name == "posthog_warehouse_job_status")
    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.asset_selection is not None
    targets = sensor.asset_selection.resolve(dg.Definitions.merge(ours, others).resolve_asset_graph())
    assert {key, dg.AssetKey("after")} == targets & {key, dg.AssetKey("after"), dg.AssetKey("other")}


def test_job_status_sensor_has_an_interval_and_can_be_left_out() -> None:
    """Several locations over one project need one sensor, and a large project may have it tick less often."""
    seconds = [
        {sensor.name: sensor.minimum_interval_seconds for sensor in definitions(text).sensors or []}.get(
            "posthog_warehouse_job_status"
        )
        for text in ("", "job_status_interval_s: 120", "job_status_sensor: false")
    ]
    assert [30, 120, None] == seconds


def test_paths_are_relative_to_the_project(tmp_path: Path) -> None:
    """A relative folder or file is one of the project's, wherever the process was started; others stay."""
    made = component(
        "history_database: history.duckdb\n", warehouse=f"warehouse: {{home: data, fixtures: {tmp_path}}}\n"
    )
    root = dg.ComponentTree.for_test().load_context.project_root
    assert isinstance(made.warehouse, LocalWarehouse)
    assert (str(root / "data"), str(tmp_path)) == (made.warehouse.home, made.warehouse.fixtures)
    assert root / "history.duckdb" == made.history_database


@pytest.mark.parametrize("address", ["md:warehouse", "motherduck:", "postgres:host=db dbname=d", "ducklake:lake.db"])
def test_an_address_of_the_history_is_no_path(address: str) -> None:
    """What DuckDB opens or attaches stays as it is written."""
    made = component(f"history_database: '{address}'\n")
    assert address == made.history_database
    assert address == made.resources()["posthog_warehouse_sync_history"].database


@pytest.mark.parametrize(
    "address",
    ["md:w?motherduck_token=hunter2", "postgres:host=db password=hunter2", "postgres:postgresql://me:hunter2@db/d"],
)
def test_a_secret_in_the_address_of_the_history_is_refused(address: str) -> None:
    """Dagster would store and show it; the error names the variables, and not the secret."""
    with pytest.raises(Exception, match="`PGPASSWORD`") as error:
        component(f"history_database: '{address}'\n")
    assert "hunter2" not in str(error.value)


def test_an_embedded_warehouse_may_have_no_shop() -> None:
    """The settings of the embedded warehouse reach it."""
    embedded = component("", warehouse="warehouse: {home: data, shop: false, start_timeout_s: 5}\n").warehouse
    assert isinstance(embedded, LocalWarehouse)
    assert (False, 5.0) == (embedded.shop, embedded.start_timeout_s)


def test_an_override_in_python_can_do_more_than_sync(embedded_warehouse: Any) -> None:
    """`execute` is what a step does: what is added or changed there is what Dagster gets."""

    class Ours(PostHogWarehouseComponent):
        def execute(self, context: Any, config: Any, tables: Any, *, warehouse: Any) -> Iterator[Any]:
            for result in super().execute(context, config, tables, warehouse=warehouse):
                if isinstance(result, dg.MaterializeResult):
                    yield result._replace(metadata={**(result.metadata or {}), "ours": 1})

    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    ours = Ours(warehouse=embedded_warehouse.resource).build_defs_from_snapshot(embedded_warehouse.snapshot())
    result = ours.resolve_implicit_global_asset_job_def().execute_in_process()
    (event,) = result.get_asset_materialization_events()
    assert {"ours", "posthog/job_id"} <= event.materialization.metadata.keys()
