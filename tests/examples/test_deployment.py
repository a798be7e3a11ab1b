"""The files of `examples/deployment` load and fit together; a machine without containers can show no more."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml
from dagster_celery.executor import celery_executor
from dagster_k8s.job import construct_dagster_k8s_job
from storages import PASSWORD, database_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from storages import PostgresStorages

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

FOLDER = Path(__file__).parents[2] / "examples" / "deployment"
COMPONENT = "src/warehouse_project/defs/posthog/defs.yaml"
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {"token": "none"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "current-context": "none",
}


def settings(name: str) -> Any:
    """What a file has."""
    return yaml.safe_load((FOLDER / name).read_text())


SERVICES: dict[str, Any] = settings("compose.yaml")["services"]


def of_helm() -> dict[str, Any]:
    """The `dagster.yaml` that the chart makes of the values: its parts that the values set."""
    values = settings("values.yaml")
    postgres = values["postgresql"]
    login = {
        "scheme": postgres["postgresqlScheme"],
        "hostname": {"env": "DAGSTER_PG_HOST"},
        "port": 5432,
        "username": postgres["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "db_name": postgres["postgresqlDatabase"],
    }
    return {"storage": {"postgres": {"postgres_db": login}}, **values["additionalInstanceConfig"]}


def cronjob_container() -> Any:
    """The one that refreshes the state on Kubernetes."""
    (container,) = settings("state-cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return container


def variables_in(node: Any) -> Iterator[str]:
    """The environment variables that settings of Dagster's name."""
    if isinstance(node, dict):
        if set(node) == {"env"}:
            yield node["env"]
        for each in node.values():
            yield from variables_in(each)
    elif isinstance(node, list):
        for each in node:
            yield from variables_in(each)


@dataclass
class Site:
    """A place where the settings of `dagster.yaml` are used, with the embedded Postgres and state in a folder."""

    home: Path
    login: Any

    @contextmanager
    def instance(self, given: Mapping[str, Any]) -> Iterator[dg.DagsterInstance]:
        """The instance of these settings, on this machine."""
        here = json.loads(json.dumps(given))
        postgres = here["storage"]["postgres"]["postgres_db"]
        # what a test cannot have is the name of the host, and the port that goes with it
        postgres |= {"port": self.login.port}
        postgres |= {
            name: value
            for name, value in (("username", self.login.user), ("db_name", self.login.database))
            if isinstance(postgres[name], str)
        }
        here["defs_state_storage"]["config"]["base_path"] = (self.home / "state").as_uri()
        if "run_launcher" in here:
            (self.home / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
            here["run_launcher"]["config"] |= {
                "load_incluster_config": False,
                "kubeconfig_file": str(self.home / "kubeconfig"),
            }
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(here))
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance


@pytest.fixture
def site(
    embedded_warehouse: EmbeddedWarehouse,
    postgres_storages: PostgresStorages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """The environment that the files ask for, and one table in PostHog."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    endpoint = embedded_warehouse.resource.ensure_running()
    with postgres_storages.new() as storage:
        login = database_of(storage, postgres_storages.server)
        environment = {
            "DAGSTER_PG_HOST": login.host,
            "DAGSTER_PG_USERNAME": login.user,
            "DAGSTER_PG_PASSWORD": os.environ[PASSWORD],
            "DAGSTER_PG_DB": login.database,
            "DAGSTER_K8S_NAMESPACE": "dagster",
            "POSTHOG_HOST": endpoint["host"],
            "POSTHOG_PROJECT_ID": endpoint["project_id"],
            "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
            "DW_ORCHESTRATION_REQUEST_BUDGET": login.dsn,
            "CELERY_BROKER": "redis://localhost:1/0",
            "CELERY_BACKEND": "redis://localhost:1/1",
            "CELERY_SETTINGS": str(FOLDER / "celery.yaml"),
            "DAGSTER_HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(FOLDER / "src"), os.environ.get("PYTHONPATH")])),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Site(tmp_path, login)


@pytest.mark.parametrize("name", ["dagster.yaml", "dagster-kubernetes.yaml", "values.yaml"])
def test_events_are_kept_in_postgres(site: Site, name: str) -> None:
    """An instance with the settings stores an event: with another scheme, each one would fail."""
    with site.instance(of_helm() if name == "values.yaml" else settings(name)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("a"))
        assert instance.get_latest_materialization_event(dg.AssetKey("a")) is not None
        assert ("postgresql+psycopg2", True) == (
            instance.event_log_storage.postgres_url.partition(":")[0],
            instance.defs_state_storage is not None,
        )


def test_definitions_have_the_refreshed_state(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the service `state` stores it, and every process loads it: with a broker, steps go to Celery."""
    command = SERVICES["state"]["command"]
    assert cronjob_container()["command"] == command
    with site.instance(settings("dagster.yaml")):
        program, *arguments = command
        program = str(Path(sys.executable).with_name(program))
        ended = subprocess.run([program, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert 0 == ended.returncode, ended.stdout + ended.stderr
    monkeypatch.syspath_prepend(str(FOLDER / "src"))
    module = importlib.import_module("warehouse_project.definitions")
    # outside of the instance, as in a worker of Celery: Dagster finds no storage for the state there
    repository = module.defs().get_repository_def()
    monkeypatch.delenv("CELERY_BROKER")
    on_one_machine = module.executor()
    key = dg.AssetKey(["posthog", "stripe", "customer"])
    assert key in repository.asset_graph.materializable_asset_keys
    assert "celery_of_this_project" == repository.get_implicit_global_asset_job_def().executor_def.name
    assert dg.multi_or_in_process_executor is on_one_machine
    (step,) = {repository.assets_defs_by_key[key]}
    assert "512Mi" in step.op.tags["dagster-k8s/config"]


def test_pods_of_runs_have_their_size_and_the_key(site: Site) -> None:
    """The job that the launcher makes of a scheduled run has the requests of `run_tags`, and the secret's variables."""
    component = settings(COMPONENT)["attributes"]
    component["run_tags"]["dagster-k8s/config"]["container_config"]["resources"]["requests"]["memory"] = "1Gi"
    tags = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in component["run_tags"].items()
    }
    with site.instance(settings("dagster-kubernetes.yaml")) as instance:
        launcher = instance.run_launcher
        sizes = {}
        for name, its_tags in (("scheduled", tags), ("by hand", {})):
            run = dg.DagsterRun(job_name="sync", run_id=name, tags=its_tags)
            context = launcher.get_container_context_for_run(run)
            config = context.get_k8s_job_config(None, launcher)
            made = construct_dagster_k8s_job(
                config, ["dagster"], "sync", user_defined_k8s_config=context.run_k8s_config, pod_name="sync"
            ).to_dict()
            (container,) = made["spec"]["template"]["spec"]["containers"]
            sizes[name] = container["resources"]["requests"]["memory"]
            sources = [each["secret_ref"]["name"] for each in container["env_from"] if each["secret_ref"]]
            assert ["posthog"] == sources
            assert "DAGSTER_PG_PASSWORD" in {each["name"] for each in container["env"]}
    assert {"scheduled": "1Gi", "by hand": "512Mi"} == sizes


def test_celery_settings_are_the_executors() -> None:
    """The executor takes what the workers are started with, and Redis repeats no step that may still be waiting."""
    config = settings("celery.yaml")["execution"]["config"]
    assert celery_executor.configured(config, name="ours").get_config_field() is not None
    longest = settings(COMPONENT)["attributes"]["run_tags"]["dagster/max_runtime"]
    assert longest <= config["config_source"]["broker_transport_options"]["visibility_timeout"]


def test_services_have_what_their_files_name() -> None:
    """Each environment variable, volume, service, port and file that one file names is there in another."""
    compose = settings("compose.yaml")
    named = {*variables_in([settings("dagster.yaml"), settings("celery.yaml")])}
    named |= set(re.findall(r"env(?:\.|\(')(\w+)", (FOLDER / COMPONENT).read_text()))
    assert {"POSTHOG_HOST", "POSTHOG_PERSONAL_API_KEY", "DAGSTER_PG_PASSWORD", "CELERY_BROKER"} <= named
    assert set() == named - compose["x-dagster"]["environment"].keys()
    for service in SERVICES.values():
        assert set() == {*service.get("depends_on", {})} - SERVICES.keys()
        assert set() == {each.partition(":")[0] for each in service.get("volumes", [])} - compose["volumes"].keys()
    (server,) = settings("workspace.yaml")["load_from"]
    command = SERVICES[server["grpc_server"]["host"]]["command"]
    assert str(server["grpc_server"]["port"]) == command[command.index("-p") + 1]
    copied = re.findall(r"^COPY (.*) \S+$", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    files = {name for line in copied for name in line.split()}
    assert set() == {name for name in files if not (FOLDER / name).exists()}
    assert {word for each in SERVICES.values() for word in each.get("command", []) if word.endswith(".yaml")} <= files


def test_no_file_has_a_secret() -> None:
    """What is secret comes from the environment, and is required there."""
    compose = (FOLDER / "compose.yaml").read_text()
    for name in ("DAGSTER_PG_PASSWORD", "POSTHOG_PERSONAL_API_KEY"):
        assert f"{name}: ${{{name}:?set it in the environment}}" in compose
    texts = {
        path.name: path.read_text() for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert [] == [name for name, text in texts.items() if re.search(r"(?i)password: *[a-z0-9]|phx_\w", text)]


def test_helm_values_name_the_same_secrets() -> None:
    """The chart gives the code location and its runs the key, and everything the password of Postgres."""
    values, container = settings("values.yaml"), cronjob_container()
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert deployment["includeConfigInLaunchedRuns"]["enabled"]
    assert [each["name"] for each in deployment["envSecrets"]] == [
        each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each
    ]
    (password,) = [each for each in container["env"] if each["name"] == "DAGSTER_PG_PASSWORD"]
    assert values["global"]["postgresqlSecretName"] == password["valueFrom"]["secretKeyRef"]["name"]
    assert container["image"] == f"{deployment['image']['repository']}:{deployment['image']['tag']}"


@pytest.mark.parametrize("service", [name for name, each in SERVICES.items() if "command" in each])
def test_commands_exist(service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The program of a service knows the options that it is given."""
    program, *words = SERVICES[service]["command"]
    ours = words[: words.index("--")] if "--" in words else words
    subcommands = list(itertools.takewhile(lambda word: not word.startswith("-"), ours))
    (script,) = entry_points(group="console_scripts", name=program)
    monkeypatch.setattr(sys, "argv", [program, *subcommands, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        script.load()()
    told = capsys.readouterr().out
    assert [] == [word for word in ours if word.startswith("-") and not re.search(rf"[\s,]{word}[\s,=]", told)]
