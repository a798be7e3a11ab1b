"""The component in the hands of `dg`: scaffolded, checked, listed, refreshed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster.components import ScaffoldRequest

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.component.scaffolder import ScaffoldParams, WarehouseScaffolder
from dw_orchestration.errors import SetupError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result
    from component_projects import DgProject

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

TYPE = "dw_orchestration.PostHogWarehouseComponent"
BY_ENVIRONMENT = f"""
type: {TYPE}
attributes:
  warehouse:
    project_id: "{{{{ env.POSTHOG_PROJECT_ID }}}}"
    api_key: "{{{{ env.POSTHOG_PERSONAL_API_KEY }}}}"
    host: "{{{{ env.POSTHOG_HOST }}}}"
    max_attempts: 1
"""
USED_BY_DAGSTER = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")


@pytest.fixture
def environment(embedded_warehouse: EmbeddedWarehouse) -> dict[str, str]:
    """The variables that name a project with two tables."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}], "Invoice": [{"id": 1}]})
    endpoint = embedded_warehouse.resource.ensure_running()
    return {
        "POSTHOG_HOST": endpoint["host"],
        "POSTHOG_PROJECT_ID": endpoint["project_id"],
        "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
    }


def ended_well(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, which ended well."""
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_from_a_scaffold_to_a_state_that_serves(
    dg_project: DgProject, dg_here: Callable[..., Result], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `dg scaffold` writes works as it is; a failed refresh prints the reason, and the last good state stays.

    One test for the way of a project from its beginning, because each command takes seconds.
    """
    host, key = environment["POSTHOG_HOST"], environment["POSTHOG_PERSONAL_API_KEY"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for command in (("scaffold", "defs", TYPE, "posthog", "--host", host), ("utils", "refresh-defs-state")):
        done = dg_here(*command)
        assert 0 == done.exit_code, done.output
    (path,) = (dg_project.defs / ".local_defs_state").rglob("state")
    good = json.loads(path.read_text())
    assert ["Customer", "Invoice"] == [schema["name"] for schema in good["sources"][0]["schemas"]]

    wrong_key = environment | {"POSTHOG_PERSONAL_API_KEY": "phx_no_such_key"}
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_no_such_key")
    failed = dg_here("utils", "refresh-defs-state")
    assert failed.exit_code != 0
    assert "does not accept the API key" in failed.output
    kept = json.loads(path.read_text())
    assert "does not accept the API key" in kept.pop("problem")
    assert good == kept

    checked = ended_well(dg_project.dg("check", "defs", **wrong_key))
    assert "does not accept the API key" in checked
    assert "UTC serves." in checked
    files = [each for each in dg_project.root.rglob("*") if each.is_file()]
    assert not any(key.encode() in each.read_bytes() for each in files)


@pytest.mark.parametrize(
    ("params", "warehouse"),
    [
        ({}, {"project_id": "{{ env.POSTHOG_PROJECT_ID }}", "api_key": "{{ env.POSTHOG_PERSONAL_API_KEY }}"}),
        ({"project_id": "1"}, {"project_id": "1", "api_key": "{{ env.POSTHOG_PERSONAL_API_KEY }}"}),
        ({"embedded": "data"}, {"home": "data"}),
    ],
)
def test_the_scaffold_follows_its_options(tmp_path: Path, params: dict[str, str], warehouse: dict[str, str]) -> None:
    """The project comes from the options or from the environment, and the key never from an option."""
    request = ScaffoldRequest(
        type_name=TYPE,
        target_path=tmp_path,
        scaffold_format="yaml",
        project_root=None,
        params=ScaffoldParams.model_validate(params),
    )
    WarehouseScaffolder().scaffold(request)
    written = yaml.safe_load((tmp_path / "defs.yaml").read_text())
    assert {"type": TYPE, "attributes": {"warehouse": warehouse}} == written
    PostHogWarehouseComponent.model().model_validate(written["attributes"])


def test_what_is_wrong_is_told_by_its_line(dg_project: DgProject, dg_here: Callable[..., Result]) -> None:
    """`dg check yaml` points at the attribute that it does not understand."""
    wrong = BY_ENVIRONMENT.replace("max_attempts: 1", "max_attempts: 0")
    dg_project.write("posthog", wrong + "  schedulling: drive\n  select:\n    - sync_type: cdcc\n")
    checked = dg_here("check", "yaml")
    assert checked.exit_code != 0
    for line, word in (
        (8, "0 is less than the minimum"),
        (9, "'schedulling' was unexpected"),
        (11, "'cdcc' is not one of"),
    ):
        assert re.search(rf"defs\.yaml:{line} .*{re.escape(word)}", checked.output), checked.output


@USED_BY_DAGSTER
@pytest.mark.parametrize(
    ("attribute", "place", "told"),
    [
        ("scheduling: drvie", "scheduling", "'observe', 'ensure' or 'drive'"),
        ("op: {pool: 'a_{{ pol }}'}", "op.pool", "there is no template variable `pol`"),
        ("schedulling: drive", "schedulling", "there is no such attribute"),
    ],
)
def test_what_a_template_becomes_is_checked_by_its_line(
    dg_project: DgProject, monkeypatch: pytest.MonkeyPatch, attribute: str, place: str, told: str
) -> None:
    """A mistake that only loading can find is reported with its line too, and with what would be right."""
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    dg_project.write("posthog", BY_ENVIRONMENT + f"  {attribute}\n")
    with pytest.raises(Exception, match="Error while loading component") as caught:
        dg.load_from_defs_folder(path_within_project=dg_project.root)
    cause = str(caught.value.__cause__)
    assert re.search(rf"defs\.yaml:9 - attributes\.{place}: ", cause), cause
    assert told in cause


def test_it_is_listed_with_what_it_is(dg_here: Callable[..., Result]) -> None:
    """The list of components has it, with a description."""
    listed = json.loads(dg_here("list", "components", "--json").output)["items"]
    (ours,) = (each for each in listed if each["key"] == TYPE)
    assert ours["summary"].startswith("Every table of a PostHog project's data warehouse as an asset")


@USED_BY_DAGSTER
def test_a_project_loads_whatever_posthog_says(
    dg_project: DgProject,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With no state, with a wrong key, or with both, the project loads, and shows its tables or the reason."""
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    dg_project.write("posthog", BY_ENVIRONMENT)

    def shown() -> str:
        defs = dg.load_from_defs_folder(path_within_project=dg_project.root)
        told = " ".join(f"{spec.key.to_user_string()}: {spec.description}" for spec in defs.resolve_all_asset_specs())
        # Markdown that could become more than words is code
        return told.replace("`", "")

    def with_key(key: str) -> str:
        monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", key)
        return shown()

    assert "There is no state yet. Fetch it with dg utils refresh-defs-state." in shown()
    # as `dg` and `dagster dev` do, which refresh states as they load
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    assert "not_connected: No tables: PostHog does not accept the API key" in with_key("phx_no_such_key").replace(
        "`", ""
    )
    assert "posthog/stripe/customer" in with_key(environment["POSTHOG_PERSONAL_API_KEY"])
    assert "posthog/stripe/customer" in with_key("phx_no_such_key")
    assert "UTC serves." in caplog.text
    dg_project.write("posthog", BY_ENVIRONMENT + "  defs_state: {management_type: LEGACY_CODE_SERVER_SNAPSHOTS}\n")
    assert "not_connected: No tables: PostHog does not accept the API key" in shown()


@USED_BY_DAGSTER
@pytest.mark.filterwarnings("ignore:Multiple components have the same defs state key")
def test_two_of_one_name_are_told_apart_in_words(dg_project: DgProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two components that forgot their names are an error that says what to write, and nothing is fetched before."""
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    for name in ("one", "two"):
        dg_project.write(name, BY_ENVIRONMENT)
    with pytest.raises(Exception, match="Error while building definitions") as caught:
        dg.load_from_defs_folder(path_within_project=dg_project.root)
    assert isinstance(caught.value.__cause__, SetupError)
    assert "2 components have the name 'posthog_warehouse'" in str(caught.value.__cause__)
    assert not (dg_project.defs / ".local_defs_state").exists()
