"""A copy of the examples, all on one embedded warehouse with the shop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration import LocalWarehouse
from tests.posthog.conftest import server  # noqa: F401  a PostHog with scripted answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.tables.snapshot import WarehouseSnapshot

ROOT = Path(__file__).parents[2]
HOME = ".dw_orchestration"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Examples:
    """The copied folder, and how an example is run in it."""

    folder: Path
    warehouse: LocalWarehouse

    def materialize(self, example: str, module: str) -> dict[str, Any]:
        """Materialize everything of an example in a separate process, and return the result."""
        printed = self.run(example, "python", str(Path(__file__).with_name("materialize.py")), module)
        said: dict[str, Any] = json.loads(printed.splitlines()[-1])
        assert said["success"], printed
        found: dict[str, Any] = said["assets"]
        return found

    def run(self, example: str, program: str, *arguments: str) -> str:
        """Run a program of this environment in an example's folder; what it printed."""
        environment = os.environ | {
            "DAGSTER_HOME": "",
            "PYTHONPATH": os.pathsep.join(["src", *filter(None, [os.environ.get("PYTHONPATH")])]),
            # dagster-dbt looks for dbt there
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        }
        folder, command = self.folder / example, [str(PROGRAMS / program), *arguments]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    """The examples with one warehouse for all, since each start of a shop takes seconds."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "examples", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HOME, "target"))
    warehouse = LocalWarehouse(home=str(folder / "home"))
    endpoint = warehouse.ensure_running()
    for example in ("component", "python", "dbt"):
        (folder / example / HOME).symlink_to(folder / "home")
    yield Examples(folder, warehouse)
    os.kill(endpoint["pid"], signal.SIGTERM)
    os.waitpid(endpoint["pid"], 0)


@pytest.fixture(scope="session")
def shop_state(examples: Examples) -> WarehouseSnapshot:
    """The state of the shop's warehouse."""
    return examples.warehouse.take_snapshot()
