"""What the tests of the component share: two projects to connect to, and a `dg` project to do it in."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from component_projects import DgProject
from dagster_dg_cli.cli import cli

from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(scope="session")
def other_warehouse_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWarehouse]:
    """A second embedded warehouse, which has nothing to do with the first."""
    folder = tmp_path_factory.mktemp("other_warehouse")
    resource = LocalWarehouse(home=str(folder / "home"), shop=False, fixtures=str(folder / "fixtures"))
    resource.ensure_running()
    yield resource
    resource.stop()


@pytest.fixture
def other_warehouse(other_warehouse_process: LocalWarehouse) -> Iterator[EmbeddedWarehouse]:
    """The second warehouse, empty."""
    with EmbeddedWarehouse(other_warehouse_process) as warehouse:
        yield warehouse


@pytest.fixture
def dg_project(tmp_path: Path) -> DgProject:
    """A project without components."""
    return DgProject.make(tmp_path / "my-project")


@pytest.fixture
def dg_here(dg_project: DgProject, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`dg` in this process, which has imported Dagster already: for commands that leave nothing behind."""
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    monkeypatch.chdir(dg_project.root)
    # the command sets it for good, and it makes Dagster refresh states
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")

    def run(*arguments: str) -> Result:
        with warnings.catch_warnings():
            # it imports every plugin of Dagster's that is installed, whose warnings are not ours
            warnings.simplefilter("ignore")
            return CliRunner().invoke(cli, arguments)

    return run
