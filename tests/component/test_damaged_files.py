"""Files that are damaged, of another version, or in a folder that cannot be written: one asset states it."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from component_projects import as_project
from component_snapshots import project, source, table

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.definitions import definitions_for
from dw_orchestration.errors import SetupError, StateNotRefreshedError
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource
from dw_orchestration.schedules import ScheduleOverride
from dw_orchestration.tables.snapshot import WarehouseSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from component_projects import DgProject

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

GOOD = project(source("Stripe", [table("Customer")]))
USED_BY_DAGSTER = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")


def eu_project(**settings: Any) -> PostHogWarehouseResource:
    """The project of the good state, which is unreachable."""
    given = {"host": "https://eu.posthog.com", "project_id": "1", "api_key": "phx_of_nobody"}
    return PostHogWarehouseResource(**given | settings)


def a_directory(path: Path) -> None:
    """What a mount without its source leaves."""
    path.mkdir()


def text(content: str | bytes) -> Callable[[Path], object]:
    """A way to put these bytes into a file."""
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


DAMAGES = {
    "emptied": text(""),
    "cut off": text('{\n "version": 1,\n "taken_at": "2026-11'),
    "garbage": text(b"\x00\xff\xfe garbage \x80"),
    "another version": text('{"version": 2, "taken_at": "2026-11-03T00:00:00Z", "host": "h", "project_id": "1"}'),
    "a list": text("[]"),
    "a directory": a_directory,
}


def what_it_says(defs: dg.Definitions) -> str:
    """The description of the one asset in place of the tables."""
    (only,) = defs.resolve_all_asset_specs()
    assert "not_connected" == only.key.path[-1]
    return only.description or ""


def with_a_sensor_of_the_users(defs: dg.Definitions, *keys: str) -> dg.Definitions:
    """The definitions next to a sensor that needs their resources."""

    @dg.sensor(name="ours", required_resource_keys=set(keys), target="*")
    def ours() -> None:
        return None

    return dg.Definitions.merge(defs, dg.Definitions(sensors=[ours]))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_takes_one_component_down(tmp_path: Path, damage: str) -> None:
    """A state that cannot be read is an asset that names the file and the cure, and the file is kept."""
    path = tmp_path / "state.json"
    DAMAGES[damage](path)
    before = path.read_bytes() if path.is_file() else None
    defs = dg.build_defs_for_component(PostHogWarehouseComponent(warehouse=eu_project(), state_file=path))
    told = what_it_says(defs)
    assert str(path) in told
    assert "Delete it, or refresh it" in told or "Make it a file" in told
    assert before == (path.read_bytes() if path.is_file() else None)
    dg.Definitions.validate_loadable(with_a_sensor_of_the_users(defs, "posthog_warehouse"))


def test_an_unusable_attribute_shows_the_sentence_alone(embedded_warehouse: EmbeddedWarehouse, tmp_path: Path) -> None:
    """The page of the code location shows the frames of an error: of this package, the one that Dagster calls."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    override = ScheduleOverride(tables=["*"], cron="61 * * * *")
    ours = PostHogWarehouseComponent(
        warehouse=embedded_warehouse.resource, state_file=tmp_path / "state.json", overrides=[override]
    )

    with pytest.raises(SetupError, match=r"Invalid cron '61 \* \* \* \*'") as caught:
        dg.build_defs_for_component(ours)

    frames = [
        frame.name
        for frame in traceback.extract_tb(caught.tb)
        if "dw_orchestration/component" in frame.filename or "dw_orchestration/tables" in frame.filename
    ]
    assert ["build_defs"] == frames


@pytest.mark.parametrize("damage", ["emptied", "another version"])
def test_a_damaged_state_is_fetched_again_in_development(
    embedded_warehouse: EmbeddedWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """`dagster dev` and `dg dev` fetch a state that cannot be read; where that fails, the file is kept."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    path = tmp_path / "state.json"
    DAMAGES[damage](path)
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    before = path.read_bytes()
    shut_out = as_project(embedded_warehouse, api_key="phx_of_nobody")
    assert str(path) in what_it_says(
        dg.build_defs_for_component(PostHogWarehouseComponent(warehouse=shut_out, state_file=path))
    )
    assert before == path.read_bytes()
    ours = PostHogWarehouseComponent(warehouse=embedded_warehouse.resource, state_file=path)
    keys = {spec.key.to_user_string() for spec in dg.build_defs_for_component(ours).resolve_all_asset_specs()}
    assert "posthog/stripe/customer" in keys
    assert ["Customer"] == [schema.name for schema in WarehouseSnapshot.read(path).schemas]


@pytest.mark.parametrize(
    "state",
    [
        None,
        project(problem="The key is wrong."),
        project(source("Stripe", [table("Customer")]), project_id="2"),
        project(source("Stripe", [table("Customer", should_sync=False)])),
    ],
    ids=["no state", "a failed fetch", "another project's", "no table"],
)
def test_the_resources_are_always_there(tmp_path: Path, state: WarehouseSnapshot | None) -> None:
    """A sensor of the user's own that needs a resource of the component loads, whichever tables there are."""
    path = None
    if state is not None:
        path = tmp_path / "state"
        state.write(path)
    ours = PostHogWarehouseComponent(warehouse=eu_project(), history_database=tmp_path / "history.duckdb")
    defs = ours.build_defs_from_state(dg.ComponentTree.for_test().load_context, path)
    assert "No tables: " in what_it_says(defs)
    dg.Definitions.validate_loadable(
        with_a_sensor_of_the_users(defs, "posthog_warehouse", "posthog_warehouse_sync_history")
    )


@pytest.mark.parametrize("missing", ["POSTHOG_PROJECT_ID", "POSTHOG_PERSONAL_API_KEY"])
def test_the_default_location_has_its_resources_without_its_settings(tmp_path: Path, missing: str) -> None:
    """The resources of the default code location are there when a variable is missing, too."""
    settings = {"POSTHOG_PROJECT_ID": "1", "POSTHOG_PERSONAL_API_KEY": "phx_x", "DW_ORCHESTRATION_HOME": str(tmp_path)}
    del settings[missing]
    defs = definitions_for(settings)
    assert missing in what_it_says(defs)
    dg.Definitions.validate_loadable(
        with_a_sensor_of_the_users(defs, "posthog_warehouse", "posthog_warehouse_sync_history")
    )


@pytest.mark.parametrize("in_development", [True, False])
def test_a_home_that_cannot_be_made_is_named(tmp_path: Path, *, in_development: bool) -> None:
    """Without a state and without a folder for it, the default code location names the folder and its variable."""
    (tmp_path / "home").write_text("a file in the place of the folder")
    settings = {"DW_ORCHESTRATION_HOME": str(tmp_path / "home")}
    defs = definitions_for(settings | ({"DAGSTER_IS_DEV_CLI": "1"} if in_development else {}))
    told = next(each.description for each in defs.resolve_all_asset_specs() if each.key.path[-1] == "not_connected")
    assert str(tmp_path / "home") in (told or "")
    assert "DW_ORCHESTRATION_HOME" in (told or "")


def test_a_good_state_serves_where_it_cannot_be_replaced(
    embedded_warehouse: EmbeddedWarehouse,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a folder that cannot be written, as in an image, the state in it serves, and a line names the folder."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    endpoint = embedded_warehouse.resource.ensure_running()
    path = tmp_path / f"state_{endpoint['project_id']}.json"
    as_project(embedded_warehouse).take_snapshot().write(path)
    path.with_name(f"{path.name}.{os.getpid()}.unfinished").mkdir()
    before = path.read_bytes()
    # the key is read from the process where it is used
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", endpoint["api_key"])
    defs = definitions_for(
        {
            "POSTHOG_HOST": endpoint["host"],
            "POSTHOG_PROJECT_ID": endpoint["project_id"],
            "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
            "DW_ORCHESTRATION_HOME": str(tmp_path),
            "DAGSTER_IS_DEV_CLI": "1",
        }
    )
    assert "posthog/stripe/customer" in {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert f"{path} cannot be written" in caplog.text
    assert "UTC serves." in caplog.text
    assert before == path.read_bytes()


@USED_BY_DAGSTER
@pytest.mark.parametrize("in_development", [True, False])
def test_a_projects_states_in_a_locked_folder(
    dg_project: DgProject, monkeypatch: pytest.MonkeyPatch, *, in_development: bool
) -> None:
    """Where Dagster cannot make the folder of its states, the project loads, and an asset names the path."""
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    if in_development:
        monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    (dg_project.defs / ".local_defs_state").write_text("a file in the place of the folder")
    dg_project.write(
        "posthog",
        "type: dw_orchestration.PostHogWarehouseComponent\n"
        "attributes: {warehouse: {project_id: '1', api_key: phx_x, host: 'http://127.0.0.1:9', max_attempts: 1}}\n",
    )
    told = what_it_says(dg.load_from_defs_folder(path_within_project=dg_project.root))
    assert str(dg_project.defs / ".local_defs_state") in told


# --- whose state it is ---

UNSET = dg.EnvVar("POSTHOG_VARIABLE_THAT_IS_NOT_SET")


@pytest.mark.parametrize(
    ("warehouse", "state", "serves"),
    [
        (eu_project(project_id=UNSET, api_key=UNSET), GOOD, True),
        (eu_project(project_id="", api_key=""), GOOD, True),
        (eu_project(host=UNSET, project_id=UNSET, api_key=UNSET), GOOD, True),
        (eu_project(host="", project_id="1", api_key=UNSET), GOOD, True),
        (eu_project(host="", project_id="2", api_key=UNSET), GOOD, False),
        (
            eu_project(host=UNSET, project_id=UNSET, api_key=UNSET),
            project(*GOOD.sources, host="embedded warehouse"),
            False,
        ),
        (eu_project(host="https://us.posthog.com", project_id=UNSET, api_key=UNSET), GOOD, False),
        (eu_project(host="https://us.posthog.com", project_id="@current", api_key=UNSET), GOOD, False),
        (LocalWarehouse(home="nowhere"), GOOD, False),
        (LocalWarehouse(home=UNSET), GOOD, False),
        (LocalWarehouse(home=UNSET), project(*GOOD.sources, host="embedded warehouse"), True),
    ],
)
def test_what_is_known_decides_whose_state_it_is(
    tmp_path: Path, warehouse: WarehouseResource, state: WarehouseSnapshot, *, serves: bool
) -> None:
    """A state serves without settings, but not where the kind of warehouse, the host or the project is another one."""
    state.write(tmp_path / "state")
    ours = PostHogWarehouseComponent(warehouse=warehouse)
    defs = ours.build_defs_from_state(dg.ComponentTree.for_test().load_context, tmp_path / "state")
    keys = {spec.key.path[-1] for spec in defs.resolve_all_asset_specs()}
    assert serves == ("customer" in keys)
    assert serves != ("not_connected" in keys)


def test_a_failed_refresh_of_an_unreadable_file_says_both(tmp_path: Path) -> None:
    """A file that cannot be read is not replaced by the reason why it could not be fetched again."""
    path = tmp_path / "state.json"
    path.write_text("{")
    ours = PostHogWarehouseComponent(warehouse=eu_project(host="http://127.0.0.1:9", max_attempts=1), state_file=path)
    with pytest.raises(StateNotRefreshedError):
        ours.write_state_to_path(path)
    assert "{" == path.read_text()
