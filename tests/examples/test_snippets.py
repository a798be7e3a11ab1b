"""The snippets in the documentation work unchanged."""

from __future__ import annotations

import importlib
import json
import re
import smtplib
import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partialmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml
from slack_sdk import WebClient

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing import fails, runs_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
COMPONENTS = sorted(path.name for path in SNIPPETS.glob("*.yaml") if path.read_text().startswith("type: dw_"))
BY_FUNCTION = "by_function.yaml"
CHARGE = dg.AssetKey(["posthog", "stripe", "acme", "charge"])
CHARGES = [{"id": 1, "amount": 5}, {"id": 2, "amount": 7}]


@pytest.fixture
def stripe(embedded_warehouse, monkeypatch) -> EmbeddedWarehouse:
    """A warehouse with a Stripe and a Hubspot source, and an environment that names it for every project."""
    tables = {"Charge": CHARGES, "Customer": [{"id": 1}], "Invoice": [{"id": 1}]}
    embedded_warehouse.add_source("Stripe", prefix="acme", tables=tables)
    embedded_warehouse.add_source("Hubspot", tables={"contacts": [{"id": 1}], "deals": [{"id": 1}]})
    endpoint = embedded_warehouse.resource.ensure_running()
    for name in ("POSTHOG", "POSTHOG_US", "POSTHOG_EU"):
        monkeypatch.setenv(f"{name}_PROJECT_ID", endpoint["project_id"])
        monkeypatch.setenv(f"{name}_API_KEY", endpoint["api_key"])
    monkeypatch.setenv("POSTHOG_HOST", endpoint["host"])
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", endpoint["api_key"])
    return embedded_warehouse


def component(name: str) -> PostHogWarehouseComponent:
    """The component of a snippet."""
    attributes = yaml.safe_load((SNIPPETS / name).read_text())["attributes"]
    model = PostHogWarehouseComponent.model().model_validate(attributes)
    return PostHogWarehouseComponent.resolve_from_model(dg.ResolutionContext.default(), model)


def module(name: str) -> dict[str, Any]:
    """The names of a snippet in Python, run as it stands."""
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile((SNIPPETS / name).read_text(), name, "exec", dont_inherit=True), names)  # noqa: S102 - what is shown is what is run
    return names


def keys(defs: dg.Definitions) -> set[str]:
    """The keys of the synced tables."""
    return {
        key.to_user_string() for each in defs.assets or () if isinstance(each, dg.AssetsDefinition) for key in each.keys
    }


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name != BY_FUNCTION])
def test_component_makes_definitions(stripe, name) -> None:
    """The settings are understood, name tables that are there, and make a code location that Dagster takes."""
    defs = component(name).build_defs_from_snapshot(stripe.snapshot())

    defs.get_repository_def().load_all_definitions()
    assert any(key.endswith("charge") for key in keys(defs))


def test_keys_are_those_that_dbt_gives_sources(stripe) -> None:
    """With the translation of the page, tables have the keys of dbt's sources: the source's name and the table's."""
    defs = component("dbt_keys.yaml").build_defs_from_snapshot(stripe.snapshot())

    assert {"stripe_acme/charge", "hubspot/deals"} <= keys(defs)


def test_choice_of_tables(stripe) -> None:
    """The tables that the page chooses become assets, in the group and with the tags that it gives them."""
    defs = component("tables.yaml").build_defs_from_snapshot(stripe.snapshot())

    expected = {"posthog/stripe/acme/charge", "posthog/stripe/acme/customer", "posthog/hubspot/contacts"}
    assert expected == keys(defs)
    specs = {spec.key.path[-1]: spec for spec in defs.resolve_all_asset_specs() if spec.key.path[0] == "posthog"}
    assert ("ingest_stripe", "acme") == (specs["charge"].group_name, specs["charge"].tags["domain"])
    assert ("ingest_hubspot", "core") == (specs["contacts"].group_name, specs["contacts"].tags["domain"])


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_choice_by_a_function(stripe, tmp_path, monkeypatch) -> None:
    """The function next to a component's file selects its tables, in a project that Dagster loads."""
    folder = tmp_path / "src" / "chosen" / "defs" / "posthog"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "chosen"\n'
    )
    (folder / "defs.yaml").write_text((SNIPPETS / BY_FUNCTION).read_text())
    (folder / "template_vars.py").write_text((SNIPPETS / "template_vars.py").read_text())
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    stripe.client.update_schema(stripe.schema("deals").id, SchemaUpdate(sync_frequency=SyncFrequency.ONE_DAY))

    chosen = dg.ComponentTree.for_project(tmp_path).load_component("posthog")
    assert isinstance(chosen, PostHogWarehouseComponent)
    found = keys(chosen.build_defs_from_snapshot(stripe.snapshot()))
    assert {"customer", "charge", "invoice", "contacts"} == {key.rpartition("/")[2] for key in found}


def test_several_projects_load_side_by_side(stripe) -> None:
    """Two projects with the same tables make one code location."""
    parts = [
        component(name).build_defs_from_snapshot(stripe.snapshot()) for name in ("several_us.yaml", "several_eu.yaml")
    ]

    together = dg.Definitions.merge(*parts)
    together.get_repository_def().load_all_definitions()
    assert {"us/posthog/stripe/acme/charge", "eu/posthog/stripe/acme/charge"} <= keys(together)


def test_executor_preloads_modules(stripe) -> None:
    """The executor goes with the component's definitions, and its modules can be imported."""
    tables = component("posthog.yaml").build_defs_from_snapshot(stripe.snapshot())

    job = dg.Definitions.merge(module("forkserver.py")["defs"], tables).resolve_implicit_global_asset_job_def()
    config = job.executor_def.apply_config_mapping({"config": {}}).value["config"]
    for name in config["start_method"]["forkserver"]["preload_modules"]:
        importlib.import_module(name)


def test_subclass_gives_owners(stripe) -> None:
    """A subclass of the component decides in Python."""
    ours = module("owners.py")["OurWarehouse"](warehouse=stripe.resource)

    defs = ours.build_defs_from_snapshot(stripe.snapshot())
    owners = {
        spec.key.path[-1]: spec.owners for spec in defs.resolve_all_asset_specs() if spec.key.path[0] == "posthog"
    }
    assert (["team:finance"], ["team:data"]) == (owners["charge"], owners["customer"])


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_automation_syncs_on_weekdays(stripe) -> None:
    """The cron of an automation condition requests each table on a Friday and a Monday, and its run syncs them."""
    synced_on_weekdays = replace(component("automation.yaml"), warehouse=stripe.resource)
    defs = synced_on_weekdays.build_defs_from_snapshot(stripe.snapshot())
    requested, cursor = [], None
    with dg.DagsterInstance.ephemeral() as instance:
        for day in (5, 6, 7, 8, 9):  # from a Thursday to a Monday, just after seven in Berlin
            now = datetime(2026, 11, day, 6, 1, tzinfo=UTC)
            found = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor, evaluation_time=now)
            cursor = found.cursor
            requested.append(found.get_num_requested(CHARGE))
        job = defs.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance, asset_selection=[CHARGE]).success

    assert [0, 1, 0, 0, 1] == requested


@dataclass
class Receiver:
    """Slack, a webhook and a mail server, each with just what an alert needs."""

    posted: list[dict[str, Any]] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)

    def serve_http(self) -> ThreadingHTTPServer:
        """Answer each message as Slack does."""
        posted = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"ok": true}')

            def log_message(self, *_: object) -> None:
                pass

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def serve_mail(self) -> ThreadingTCPServer:
        """Take one mail in each connection."""
        mails = self.mails

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 ready\r\n")
                answers = {b"EHLO": b"250-ready\r\n250 AUTH PLAIN", b"AUTH": b"235 ok", b"QUIT": b"221 bye"}
                for line in self.rfile:
                    command = line[:4].upper()
                    if command == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                    self.wfile.write(answers.get(command, b"250 ok") + b"\r\n")

        return ThreadingTCPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def receiver(monkeypatch) -> Iterator[Receiver]:
    """What receives the alerts, in the places of Slack, of the webhook and of the mail server."""
    receiver = Receiver()
    with receiver.serve_http() as http, receiver.serve_mail() as mail:
        for server in (http, mail):
            Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
        address = f"http://127.0.0.1:{http.server_port}/"
        connect = partialmethod(WebClient.__init__, base_url=address)
        monkeypatch.setattr(WebClient, "__init__", connect)
        monkeypatch.setattr(smtplib, "SMTP_SSL", lambda *_, **__: smtplib.SMTP(*mail.server_address))
        monkeypatch.setenv("ALERT_WEBHOOK", address)
        monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
        yield receiver
        http.shutdown()
        mail.shutdown()


def test_alert_tells_of_a_sync_of_posthog_once(stripe, receiver) -> None:
    """A sync that PostHog started and that fails is one message with PostHog's reason, in whichever table."""
    tables = Tables(stripe.snapshot(), include_disabled=True)
    defs = dg.Definitions.merge(
        dg.Definitions(build_posthog_assets(tables), resources={"posthog_warehouse": stripe.resource}),
        module("alerts.py")["defs"],
    )
    reports = build_job_status_sensor(tables, run_grace=timedelta())
    alerts = defs.get_repository_def().get_sensor_def("slack_on_failed_syncs")
    seen, cursor, reported = [], None, None
    with dg.DagsterInstance.ephemeral() as instance:
        for round_ in ("begin", "fail", "nothing new"):
            if round_ == "fail":
                for table in ("Charge", "deals"):
                    stripe.behave(table, fails("the source is down", times=1))
                    stripe.sync(table)
            context = dg.build_sensor_context(
                instance=instance, cursor=reported, resources={"posthog_warehouse": stripe.resource}
            )
            tick = reports.evaluate_tick(context)
            reported = tick.cursor
            for event in tick.asset_events:
                instance.report_runless_asset_event(event)
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, definitions=defs, resources=defs.resources
            )
            cursor = alerts.evaluate_tick(context).cursor
            seen.append(len(receiver.posted))

    assert [0, 1, 1] == seen
    (message,) = receiver.posted
    assert "#data" == message["channel"]
    assert all(name in message["text"] for name in ("posthog/stripe/acme/charge: ", "posthog/hubspot/deals: "))
    assert 2 == message["text"].count("the source is down")


def test_alerts_tell_of_a_run(stripe, receiver) -> None:
    """A failed run reaches Slack, a mailbox and a webhook, with the reason for each table."""
    alerts = module("alerts.py")
    stripe.behave("Charge", fails("Stripe is <down>", times=1))
    with dg.DagsterInstance.ephemeral() as instance:
        defs = dg.Definitions(
            build_posthog_assets(Tables(stripe.snapshot(), include_disabled=True)),
            resources={"posthog_warehouse": stripe.resource},
        )
        run = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, raise_on_error=False, asset_selection=[CHARGE]
        )
        (failed,) = (event for event in run.all_events if event.is_run_failure)
        context = dg.build_run_status_sensor_context("alerts", failed, instance, run.dagster_run).for_run_failure()
        for name in ("slack_on_failed_runs", "webhook_on_failed_runs", "mail_on_failed_runs"):
            alerts[name](context)

    slack, webhook = receiver.posted
    assert "Stripe is <down>" in slack["text"]
    assert "Stripe is <down>" in webhook["why"]
    (mail,) = receiver.mails
    assert "Stripe is &lt;down&gt;" in mail


def test_key_from_the_environment_reaches_the_sensor(stripe) -> None:
    """A resource that names environment variables works in a tick, where nothing but Dagster resolves them."""
    stripe.sync("Charge")
    sensor = build_job_status_sensor(Tables(stripe.snapshot(), include_disabled=True), run_grace=timedelta())
    resources = {"posthog_warehouse": module("resource.py")["WAREHOUSE"]}
    with dg.DagsterInstance.ephemeral() as instance:
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, resources=resources))

    assert [CHARGE] == [event.asset_key for event in tick.asset_events if isinstance(event, dg.AssetMaterialization)]


def test_synced_tables_are_read(stripe, monkeypatch, tmp_path) -> None:
    """Assets read what was synced, at once or in batches, through the warehouse's resource."""
    stripe.sync("Charge")
    monkeypatch.chdir(tmp_path)
    assets = module("read_tables.py")["defs"].assets
    defs = dg.Definitions(assets=assets, resources={"posthog_warehouse": stripe.resource})

    run = defs.resolve_implicit_global_asset_job_def().execute_in_process()

    assert (12.0, 2) == (run.output_for_node("revenue"), run.output_for_node("charges"))


def test_definitions_in_python(stripe, monkeypatch, tmp_path) -> None:
    """The step with a body syncs its tables, its schedule starts that step, and the op returns what was synced."""
    monkeypatch.setenv("DW_ORCHESTRATION_HOME", str(tmp_path))
    assert {"posthog/stripe/acme/charge"} <= keys(module("python_one_call.py")["defs"])
    shown = module("python.py")
    defs = shown["defs"]()
    everything = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    job = defs.resolve_implicit_global_asset_job_def()
    selected = [dg.AssetKey(["raw", "stripe", "acme", "charge"]), "revenue"]
    run = job.execute_in_process(asset_selection=[dg.AssetKey.from_coercible(each) for each in selected])

    assert {"vendors/stripe_acme", "raw/hubspot/deals", "revenue"} <= everything.keys()
    assert "vendors/hubspot" not in everything
    assert 12.0 == run.output_for_node("revenue")
    assert (1, 0) == (len(stripe.jobs("Charge")), len(stripe.jobs("Customer")))
    month_end = defs.resolve_job_def("month_end").execute_in_process()
    assert 2 == month_end.output_for_node("refresh_charges")
    assert [] == shown["incremental_tables"]()


def test_client_alone(stripe, capsys) -> None:
    """Without Dagster, the client lists the disabled tables."""
    schema = stripe.schema("Invoice")
    stripe.client.update_schema(schema.id, SchemaUpdate(should_sync=False))

    module("client.py")

    assert "Invoice is disabled. Last error: none" in capsys.readouterr().out


def test_payload_of_a_source_is_the_same_in_a_shell_and_in_the_launchpad() -> None:
    """The file for `dw source create` and the config of the job create the same source."""
    ((config,),) = [
        each.values() for each in yaml.safe_load((SNIPPETS / "create_source.yaml").read_text())["ops"].values()
    ]

    assert json.loads((SNIPPETS / "create_source.json").read_text()) == config["payload"]


def test_source_is_created_once(stripe, monkeypatch) -> None:
    """The client creates a source with the frequency that the page sets, and not a second time."""
    monkeypatch.setenv("STRIPE_KEY", "sk_test")
    module("create_source.py")
    module("create_source.py")

    (created,) = (source for source in stripe.client.list_sources() if source.prefix == "eu")
    enabled = [schema for schema in stripe.client.get_source(created.id).schemas if schema.should_sync]
    assert [("Invoice", SyncFrequency.ONE_HOUR)] == [(schema.name, schema.sync_frequency) for schema in enabled]


def test_maintenance_is_among_the_jobs(stripe) -> None:
    """Each job that the page on maintenance lists is in the code location of a component."""
    repository = component("posthog.yaml").build_defs_from_snapshot(stripe.snapshot()).get_repository_def()

    # the takeover's job needs a file
    wanted = {f"posthog_warehouse_{each.name}" for each in OPERATIONS if each.has_job and each.name != "takeover"}
    assert wanted <= {job.name for job in repository.get_all_jobs()}


def test_run_config_of_a_resync(stripe) -> None:
    """The config names the step and its table, and is what the step takes."""
    job = dg.Definitions(
        build_posthog_assets(Tables(stripe.snapshot(), include_disabled=True)),
        resources={"posthog_warehouse": stripe.resource},
    ).resolve_implicit_global_asset_job_def()

    assert dg.validate_run_config(job, yaml.safe_load((SNIPPETS / "resync.yaml").read_text()))


@pytest.mark.parametrize("name", ["create_source", "resync_tables"])
def test_run_config_of_a_job(stripe, name) -> None:
    """The config that is shown for a job is what the job takes."""
    jobs = {job.name: job for job in build_maintenance_jobs(Tables(stripe.snapshot(), include_disabled=True))}
    defs = dg.Definitions(jobs=list(jobs.values()), resources={"posthog_warehouse": stripe.resource})
    job = defs.resolve_job_def(f"posthog_warehouse_{name}")

    assert dg.validate_run_config(job, yaml.safe_load((SNIPPETS / f"{name}.yaml").read_text()))


def test_examples_of_users_tests_pass() -> None:
    """The tests that pages show pass as they stand."""
    tests = [str(path) for path in SNIPPETS.glob("test_*.py")]
    count = sum(path.read_text().count("\ndef test_") for path in SNIPPETS.glob("test_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    ended = subprocess.run(command, cwd=SNIPPETS, capture_output=True, text=True, check=False)

    assert f"{count} passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize("deployment", [None, "production"])
def test_only_production_starts_syncs(stripe, monkeypatch, deployment) -> None:
    """Without a word, a deployment has no schedules, and a run sends nothing; production has both."""
    if deployment:
        monkeypatch.setenv("DEPLOYMENT", deployment)
    defs = component("staging.yaml").build_defs_from_snapshot(stripe.snapshot())
    schedules = defs.get_repository_def().schedule_defs

    assert (deployment == "production") == bool(schedules)
    if not deployment:
        job = defs.resolve_implicit_global_asset_job_def()
        run = job.execute_in_process(asset_selection=[CHARGE], raise_on_error=False)
        (failed,) = (event for event in run.all_events if event.is_step_failure)
        assert "Set `read_only: false`" in failed.step_failure_data.user_failure_data.description
        assert [] == stripe.jobs("Charge")


def test_migration_keeps_the_keys_from_before(stripe) -> None:
    """The templates give the keys of an ELT integration: of dagster-fivetran, and of dagster-airbyte."""
    fivetran, airbyte = (
        component(name).build_defs_from_snapshot(stripe.snapshot()) for name in ("migrate.yaml", "migrate_airbyte.yaml")
    )

    assert {"acme/charge", "hubspot/deals"} <= keys(fivetran)
    assert {"acmecharge", "deals"} <= keys(airbyte)


def test_op_by_hand_and_the_job_that_replaces_it(stripe, monkeypatch) -> None:
    """The op succeeds when PostHog has taken the request; the job when the table is synced."""
    shown = module("migrate.py")
    monkeypatch.setenv("CHARGE_ID", stripe.schema("Charge").id)
    stripe.behave("Charge", runs_for(2))
    shown["reload_charges"]()
    assets = build_posthog_assets(Tables(stripe.snapshot(), include_disabled=True))
    defs = dg.Definitions(assets, jobs=[shown["charges_job"]], resources={"posthog_warehouse": stripe.resource})

    assert defs.resolve_job_def("charges").execute_in_process().success
    # the run has joined the sync that the op started
    assert ["Completed"] == [job.status for job in stripe.jobs("Charge")]


def test_names_of_tables(stripe) -> None:
    """Each name and pattern that the page shows names the table of its example, alone or among others."""
    tables = Tables(stripe.snapshot())
    page = (SNIPPETS.parent / "tables.md").read_text().partition("## Naming tables")[2].partition("\n- ")[0]
    shown = [name for name in re.findall(r"`([^`]+)`", page.partition("| --- |")[2]) if "..." not in name]

    assert len(shown) > 5
    for name in shown:
        assert "stripe_acme.Customer" in {table.name for table in tables.matching([name])}, name
