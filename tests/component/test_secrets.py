"""The API key and the passwords of sources are nowhere that Dagster shows or stores."""

from __future__ import annotations

import gzip
import json
import logging
import sqlite3
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml
from component_projects import as_project
from deployment import Deployment

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dw_orchestration.local.shop.postgres import DatabaseLogin
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

LOCATION = """
import os

import dagster as dg

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.definitions import definitions_for

in_yaml = PostHogWarehouseComponent.resolve_from_yaml('''
name: in_yaml
state_file: {state}
warehouse:
  host: "{{{{ env.POSTHOG_HOST | default('https://eu.posthog.com') }}}}"
  project_id: "{{{{ env.POSTHOG_PROJECT_ID }}}}"
  api_key: "{{{{ env.OTHER_KEY | default(env.POSTHOG_PERSONAL_API_KEY) }}}}"
  request_budget: "{{{{ env.DW_ORCHESTRATION_REQUEST_BUDGET }}}}"
''')
# the default location comes first: it fetches the state of both
defs = dg.Definitions.merge(definitions_for(os.environ), dg.build_defs_for_component(in_yaml))
"""
RESOURCES = """query Resources($selector: RepositorySelector!) {
  allTopLevelResourceDetailsOrError(repositorySelector: $selector) {
    ... on ResourceDetailsList { results { name configuredValues { key value type }
      configFields { name isSecret defaultValueAsJson } } } } }"""
LAUNCHPAD = """query Launchpad($selector: PipelineSelector!) { runConfigSchemaOrError(selector: $selector) {
  ... on RunConfigSchema { rootDefaultYaml
    allConfigTypes { ... on CompositeConfigType { fields { name defaultValueAsJson } } } } } }"""
JOBS = ("__ASSET_JOB", "posthog_warehouse_create_source", "posthog_warehouse_cancel_syncs", "in_yaml_cancel_syncs")
# another process for the one step would take three seconds
IN_PROCESS = {"config": {"in_process": {}}}
PASSWORD = "a_password_that_is_nowhere"


@dataclass
class Site:
    """Both ways to a resource on a real webserver, and the key that is nowhere."""

    deployment: Deployment
    warehouse: EmbeddedWarehouse
    home: Path
    key: str

    def launchpad(self, job: str) -> dict[str, Any]:
        """What the launchpad has for a job before anybody types."""
        found = self.deployment.ask(LAUNCHPAD, selector={**self.deployment.repository, "pipelineName": job})
        schema: dict[str, Any] = found["runConfigSchemaOrError"]
        return schema

    def kept(self) -> str:
        """Every cell of every table and every file that Dagster and we have written, uncompressed."""
        return "\n".join(text for path in self.home.rglob("*") if path.is_file() for text in _texts(path))


def _texts(path: Path) -> Iterator[str]:
    if not path.read_bytes().startswith(b"SQLite format 3"):
        yield _readable(path.read_bytes())
        return
    with sqlite3.connect(path) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            for row in database.execute(f'select * from "{table}"'):
                yield from (_readable(cell) if isinstance(cell, bytes) else str(cell) for cell in row)


def _readable(content: bytes) -> str:
    for unpack in (zlib.decompress, gzip.decompress):
        try:
            return unpack(content).decode(errors="replace")
        except (zlib.error, OSError):
            continue
    return content.decode(errors="replace")


@pytest.fixture
def site(
    embedded_warehouse: EmbeddedWarehouse,
    wait_until: Callable[..., Any],
    tmp_path: Path,
    free_port: Callable[[], int],
) -> Iterator[Site]:
    """The default code location and a component of YAML, in one deployment."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    endpoint = embedded_warehouse.resource.ensure_running()
    location = tmp_path / "location.py"
    location.write_text(LOCATION.format(state=tmp_path / "state" / f"state_{endpoint['project_id']}.json"))
    settings = {
        "POSTHOG_HOST": endpoint["host"],
        "POSTHOG_PROJECT_ID": endpoint["project_id"],
        "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
        "SHOP_PASSWORD": PASSWORD,
        # nothing listens there, and no run may fail for that
        "DW_ORCHESTRATION_REQUEST_BUDGET": f"redis://me:{PASSWORD}@127.0.0.1:{free_port()}/0",
        "DW_ORCHESTRATION_HOME": str(tmp_path / "state"),
    }
    deployment = Deployment(tmp_path, location=location, port=free_port(), env=settings, wait=wait_until)
    try:
        deployment.wait_until_loaded()
        yield Site(deployment, embedded_warehouse, tmp_path, endpoint["api_key"])
    finally:
        deployment.stop()


def test_no_secret_is_shown_or_stored(site: Site, postgres_server: DatabaseLogin) -> None:
    """Not in the UI, not in the launchpad, and after runs in no cell of Dagster's storage: neither keys nor passwords.

    What the launchpad prefills can be launched, and a password that is typed is refused before it is stored.
    """
    details = site.deployment.ask(RESOURCES, selector=site.deployment.repository)
    resources = details["allTopLevelResourceDetailsOrError"]["results"]
    shown = {
        each["name"]: {value["key"]: (value["type"], value["value"]) for value in each["configuredValues"]}
        for each in resources
    }
    for name in ("posthog_warehouse", "in_yaml"):
        assert ("ENV_VAR", "POSTHOG_PERSONAL_API_KEY") == shown[name]["api_key"]
        fields = {field["name"]: field for each in resources if each["name"] == name for field in each["configFields"]}
        assert fields["api_key"]["isSecret"]
        assert ("ENV_VAR", "DW_ORCHESTRATION_REQUEST_BUDGET") == shown[name]["request_budget"]
        assert fields["request_budget"]["isSecret"]
    prefilled = {job: site.launchpad(job) for job in JOBS}
    assert site.key not in json.dumps([details, prefilled])

    # one run with each of the two resources
    runs = [site.deployment.launch(dg.AssetKey(["posthog", "stripe", "customer"]), config={"execution": IN_PROCESS})]
    config = yaml.safe_load(prefilled["in_yaml_cancel_syncs"]["rootDefaultYaml"])
    assert {"in_yaml_cancel_syncs_step": {"config": {"dry_run": False, "tables": []}}} == config["ops"]
    config |= {"ops": {"in_yaml_cancel_syncs_step": {"config": {"tables": ["*"]}}}, "execution": IN_PROCESS}
    runs.append(site.deployment.launch_job("in_yaml_cancel_syncs", config=config))
    connection = {"host": postgres_server.host, "port": postgres_server.port, "user": "nobody", "database": "shop"}
    for password in (PASSWORD, {"env": "SHOP_PASSWORD"}):
        payload = connection | {"password": password}
        op = {"config": {"source_type": "Postgres", "payload": payload}}
        config = {"ops": {"posthog_warehouse_create_source_step": op}, "execution": IN_PROCESS}
        answer = site.deployment.try_to_launch("posthog_warehouse_create_source", config=config)
        if password == PASSWORD:
            assert answer["message"].startswith("password is written out, and Dagster stores the configuration of runs")
            assert [] == answer["stack"]
            assert PASSWORD not in answer["message"]
        else:
            assert dg.DagsterRunStatus.FAILURE is site.deployment.end_of(answer["run"]["runId"])
    assert [dg.DagsterRunStatus.SUCCESS] * 2 == [site.deployment.end_of(run) for run in runs]

    kept = site.kept()
    assert "The request budget in Redis cannot be used" in kept
    assert "POSTHOG_PERSONAL_API_KEY" in kept
    assert "SHOP_PASSWORD" in kept
    assert site.key not in kept
    assert PASSWORD not in kept


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # Dagster's
@pytest.mark.parametrize(
    ("written", "env", "expected"),
    [
        ("{{ env.KEY }}", {"KEY": "phx_1"}, "KEY"),
        ("{{ env.KEY }}", {}, "KEY"),
        ("{{env.KEY}}", {"KEY": "phx_1"}, "KEY"),
        ("{{ env('KEY') }}", {"KEY": "phx_1"}, "KEY"),
        ("{{ env.KEY | default('x') }}", {"KEY": "phx_1"}, "KEY"),
        ("{{ env('KEY', 'x') }}", {"KEY": "phx_1"}, "KEY"),
        ("{{ env.OTHER or env.KEY }}", {"KEY": "phx_1"}, "KEY"),
        ("{{ env.OTHER | default(env.KEY) }}", {"KEY": "phx_1", "OTHER": "phx_2"}, "OTHER"),
    ],
)
def test_a_template_of_one_variable_is_read_where_it_is_needed(
    written: str, env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is one variable of the environment, with a default or without, stays that variable."""
    for name in ("KEY", "OTHER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    document = yaml.safe_dump({"warehouse": {"project_id": 1, "api_key": written}})
    warehouse = PostHogWarehouseComponent.resolve_from_yaml(document).warehouse
    assert isinstance(warehouse, PostHogWarehouseResource)
    assert isinstance(warehouse.api_key, dg.EnvVar)
    assert expected == warehouse.api_key.env_var_name


def test_a_literal_key_is_reported_when_definitions_load(caplog: pytest.LogCaptureFixture) -> None:
    """The warning says where the key is seen and what to use instead, without the key, once per project.

    The address of the request budget is treated in the same way, because it contains a password.
    """
    with caplog.at_level(logging.WARNING):
        for key in ("phx_of_nobody", dg.EnvVar("A_KEY_FROM_ELSEWHERE")):
            resource = PostHogWarehouseResource(project_id="70001", api_key=key, request_budget=key)
            assert "phx_of_nobody" not in repr(resource)
            for _ in range(2):
                dg.Definitions.validate_loadable(dg.Definitions(resources={"posthog_warehouse": resource}))
    told, of_budget = [record.getMessage() for record in caplog.records if "written out" in record.getMessage()]
    assert 'dg.EnvVar("DW_ORCHESTRATION_REQUEST_BUDGET")' in of_budget
    assert "phx_of_nobody" not in of_budget
    assert "project 70001" in told
    assert "snapshots in the run storage" in told
    assert 'dg.EnvVar("POSTHOG_PERSONAL_API_KEY")' in told
    assert "phx_of_nobody" not in told


@pytest.mark.parametrize(
    ("host", "is_told"),
    [
        ("http://posthog.one.test", True),
        ("http://10.0.0.7:8000", True),
        ("HTTP://posthog.two.test/", True),
        ("https://posthog.three.test", False),
        ("http://localhost:8010", False),
        ("http://127.0.0.1:8010", False),
        ("http://[::1]:8010", False),
    ],
)
def test_a_key_that_is_sent_in_clear_is_reported(host: str, is_told: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001 - one of the cases
    """`http://` to another machine is a warning when definitions load; on this machine it is fine."""
    resource = PostHogWarehouseResource(project_id="1", host=host, api_key=dg.EnvVar("A_KEY_FROM_ELSEWHERE"))
    with caplog.at_level(logging.WARNING):
        dg.Definitions.validate_loadable(dg.Definitions(resources={"posthog_warehouse": resource}))
    told = [record.getMessage() for record in caplog.records if "in clear, so that everybody" in record.getMessage()]
    assert is_told == bool(told)
    assert all("Use https://" in text for text in told)


def test_variables_are_read_outside_of_runs(
    embedded_warehouse: EmbeddedWarehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every way to use a resource gets the values of its variables, and never their names."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    endpoint = embedded_warehouse.resource.ensure_running()
    variables = {"host": "OUR_HOST", "project_id": "OUR_PROJECT", "api_key": "OUR_KEY"}
    for setting, variable in variables.items():
        monkeypatch.setenv(variable, endpoint[setting])  # type: ignore[literal-required]  # three of its keys
    resource = as_project(embedded_warehouse, **{name: dg.EnvVar(each) for name, each in variables.items()})
    snapshot = resource.take_snapshot()
    assert ["Customer"] == [schema.name for schema in snapshot.schemas]
    assert (endpoint["host"], endpoint["host"]) == (snapshot.host, resource.name)
    assert resource.is_origin_of(snapshot)
    with resource.connect() as client:
        assert endpoint["host"] == client.host

    monkeypatch.setenv("OUR_HOME", str(tmp_path))
    assert tmp_path / "warehouse.duckdb" == LocalWarehouse(home=dg.EnvVar("OUR_HOME")).database
