"""What the package is from outside: its names, its imports, what it asks for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import dw_orchestration

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = [Requirement(each) for each in (*PROJECT["dependencies"], *EXTRAS["local"], *EXTRAS["cli"])]


def pins(file: str) -> dict[str, Version]:
    """The versions that a file of constraints names."""
    pairs = (line.split("==") for line in (ROOT / file).read_text().splitlines())
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_every_public_name_can_be_imported() -> None:
    """What `__all__` promises is there."""
    assert [] == [name for name in dw_orchestration.__all__ if getattr(dw_orchestration, name, None) is None]


def test_unknown_name_is_an_attribute_error() -> None:
    """A typo in a name raises the usual error of Python."""
    with pytest.raises(AttributeError, match="build_posthog_asset"):
        _ = dw_orchestration.build_posthog_asset


def test_embedded_warehouse_runs_without_dagster() -> None:
    """The server's process has neither Dagster nor httpx in memory."""
    code = "import sys, dw_orchestration.local.server as e; print({'dagster', 'httpx'} & set(sys.modules))"

    assert "set()" == _python("-c", code)


def test_steps_without_a_history_do_without_duckdb() -> None:
    """The process of each step imports the component, and waits for all that this imports."""
    code = "import sys, dw_orchestration.component; print({'duckdb', 'dagster_duckdb', 'typer'} & set(sys.modules))"

    assert "set()" == _python("-c", code)


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt"])
def test_constraints_hold_names_and_versions_alone(file: str) -> None:
    """The pins name no address, and cover what the package asks for."""
    lines = (ROOT / file).read_text().splitlines()

    assert [] == [line for line in lines if "==" not in line or "/" in line]
    assert set() == {canonicalize_name(each.name) for each in OURS} - pins(file).keys()


def test_development_is_pinned() -> None:
    """Every tool of the checks and tests has one version, on every machine."""
    asked = {canonicalize_name(Requirement(each).name) for each in EXTRAS["dev"]}

    assert set() == asked - pins("constraints.txt").keys()


@pytest.mark.parametrize("requirement", OURS, ids=str)
def test_lower_bound_is_what_is_tested(requirement: Requirement) -> None:
    """The oldest version that is allowed is the one that `make test-oldest` installs; each dependency has one."""
    (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
    oldest = pins("constraints-oldest.txt")[canonicalize_name(requirement.name)]

    assert Version(bound).release == oldest.release[: len(Version(bound).release)]
    assert requirement.specifier.contains(pins("constraints.txt")[canonicalize_name(requirement.name)])


def _python(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment)
    return result.stdout.strip()
