"""The environments that the wheel is installed in, used from outside of the checkout."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# what the tests' own environment says about Python, Dagster and PostHog is none of a user's
FOREIGN = ("COV_", "DAGSTER_", "DW_ORCHESTRATION_", "POSTHOG_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel, and the folder that its programs are started in."""

    python: Path
    folder: Path

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Run a program of the environment; what it printed. It has to end well."""
        ended = self.start(*command, cwd=cwd, **variables)
        assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}"
        return ended.stdout

    def start(self, *command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, however it ends."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        path = f"{self.python.parent}{os.pathsep}{kept['PATH']}"
        return subprocess.run(
            [str(self.python.with_name(command[0])), *command[1:]],
            cwd=cwd or self.folder,
            env=kept | {"PATH": path, "VIRTUAL_ENV": str(self.python.parents[1])} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that was built last."""
    found = sorted((ROOT / "dist").glob("*.whl"))
    assert found, "There is no wheel yet: make installed"
    return found[-1]


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Has the wheel with its extra `local`, and what Dagster's users develop with."""
    return _environment("user", tmp_path_factory)


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Has the wheel without any extra."""
    return _environment("core", tmp_path_factory)


def _environment(name: str, folders: pytest.TempPathFactory) -> Environment:
    python = ROOT / ".venv" / name / "bin" / "python"
    assert python.exists(), "The wheel is not installed yet: make installed"
    return Environment(python, folders.mktemp(name))
