"""Projects to connect to, and projects to do it in."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dw_orchestration.resources.warehouse import PostHogWarehouseResource

if TYPE_CHECKING:
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

PYPROJECT = """
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "{name}"
registry_modules = ["{name}.components.*"]
"""
DEFINITIONS = """
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def as_project(warehouse: EmbeddedWarehouse, **settings: object) -> PostHogWarehouseResource:
    """An embedded warehouse as a PostHog project, with other settings where they are given."""
    endpoint = warehouse.resource.ensure_running()
    own = {name: endpoint[name] for name in ("host", "project_id", "api_key")}
    return PostHogWarehouseResource(**own | {"requests_per_minute": 0} | settings)


@dataclass(frozen=True)
class DgProject:
    """A project as Dagster's own generator lays it out, and the `dg` command in it."""

    root: Path
    name: str

    @property
    def defs(self) -> Path:
        """The folder of its components."""
        return self.root / "src" / self.name / "defs"

    def write(self, name: str, text: str) -> Path:
        """Write a component's `defs.yaml`."""
        path = self.defs / name / "defs.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def dg(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `dg`, with what it prints in one text."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "DAGSTER_"))}
        settings = {"PYTHONPATH": str(self.root / "src"), "DAGSTER_HOME": str(self.root / "home"), "COLUMNS": "200"}
        return subprocess.run(
            [str(Path(sys.executable).with_name("dg")), *arguments],
            cwd=self.root,
            env=plain | settings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    @classmethod
    def make(cls, root: Path) -> Self:
        """A project without components, with its own name: Python keeps what it has imported."""
        project = cls(root, name=f"project_{uuid.uuid4().hex}")
        package = project.defs.parent
        for folder in (package, package / "defs", package / "components"):
            folder.mkdir(parents=True)
            (folder / "__init__.py").touch()
        (package / "definitions.py").write_text(DEFINITIONS)
        (project.root / "pyproject.toml").write_text(PYPROJECT.format(name=project.name))
        (project.root / "home").mkdir()
        (project.root / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        return project
