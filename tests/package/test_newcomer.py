"""A newcomer's first project: the unchanged commands of the tutorial, with the wheel and no checkout."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from conftest import Environment

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
TABLES = {"customers", "order_lines", "orders", "page_events", "products"}
# pip finds everything installed already, or fails; the project is built with what is there
INSTALL = ["--no-index", "--no-build-isolation"]


def commands() -> Iterator[list[str]]:
    """The commands of the tutorial's part on creating a project."""
    (part,) = re.findall(r"^## 2\..*?(?=^## )", TUTORIAL.read_text(), flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"```shell\n(.*?)```", part, flags=re.DOTALL):
        yield from filter(None, (shlex.split(line, comments=True) for line in block.splitlines()))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Dagster keeps what it has seen."""
    folder = tmp_path_factory.mktemp("dagster_home")
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return folder


@pytest.fixture(scope="module")
def project(user: Environment, home: Path) -> tuple[Path, Mapping[str, str]]:
    """The project after all of the commands, and what each of them printed."""
    variables = {"DAGSTER_HOME": str(home), "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0", "COLUMNS": "400"}
    user.run("create-dagster", "project", "shop-project", "--no-uv-sync", cwd=user.folder, **variables)
    folder = user.folder / "shop-project"
    printed = {}
    for words in commands():
        if words[0] == "create-dagster" or words[0] == "cd":
            continue
        more = INSTALL if words[:2] == ["pip", "install"] else []
        printed[shlex.join(words)] = user.run(*words, *more, cwd=folder, **variables)
    return folder, printed


def test_the_tutorial_leads_from_nothing_to_rows(project: tuple[Path, Mapping[str, str]], home: Path) -> None:
    """Every command of the tutorial ends well; then each table's asset is materialized with the rows that it has."""
    folder, printed = project
    keys = {name: dg.AssetKey(["posthog", "postgres", "shop", name]) for name in TABLES}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        events = {name: instance.get_latest_materialization_event(key) for name, key in keys.items()}
    with duckdb.connect(str(folder / ".dw_orchestration" / "warehouse.duckdb"), read_only=True) as warehouse:
        ((products,),) = warehouse.execute("select count(*) from postgres_shop.products").fetchall()
        ((orders,),) = warehouse.execute("select count(*) from postgres_shop.orders").fetchall()

    counted = {
        name: event.asset_materialization.metadata["dagster/row_count"].value
        for name, event in events.items()
        if event is not None and event.asset_materialization is not None
    }
    assert counted.keys() == TABLES
    assert products == counted["products"]
    # the shop sells on, and the warehouse may have synced once more by itself
    assert 0 < int(str(counted["orders"])) <= orders
    assert [] == [key.to_user_string() for key in keys.values() if key.to_user_string() not in printed["dg list defs"]]


@pytest.mark.parametrize("step", ["pip install", "dg scaffold defs", "dg check yaml", "dg list defs", "dg launch"])
def test_the_tutorial_has_every_step(step: str) -> None:
    """Everything that a newcomer has to do is a command in the tutorial."""
    assert any(shlex.join(words).startswith(step) for words in commands())


def test_a_slip_is_told_by_its_line(project: tuple[Path, Mapping[str, str]], user: Environment) -> None:
    """A wrong attribute fails `dg check yaml`, which names the file, the line and the attribute."""
    folder, _ = project
    settings = folder / "src" / "shop_project" / "defs" / "warehouse" / "defs.yaml"
    right = settings.read_text()
    settings.write_text(f"{right.rstrip()}\n  sheduling: observe\n")
    ended = user.start("dg", "check", "yaml", cwd=folder)
    settings.write_text(right)

    line = settings.read_text().rstrip().count("\n") + 2
    assert ended.returncode == 1
    assert f"defs.yaml:{line}" in ended.stdout
    assert "sheduling" in ended.stdout
