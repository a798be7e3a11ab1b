"""The sync history of the `dg` project around the current folder, as `history_database` of its components names it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dw_orchestration.cli.connection import variable
from dw_orchestration.history.database import is_address
from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPONENT_FILES = ("defs.yaml", "component.yaml")


class _Env:
    """`env` in templates: `env.NAME` and `env('NAME', 'default')`."""

    def __getitem__(self, name: str) -> str:
        if (value := variable(name)) is None:
            raise KeyError(name)
        return value

    def __call__(self, name: str, default: str = "") -> str:
        return variable(name) or default


def history_of_project() -> str | None:
    """The database of the project here or in a folder above; None if its files name none.

    Raises:
        UsageError: There are several, or a template of the only one cannot be filled in here.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if _is_of_dg(folder)), None)
    found = {database: file for file in _component_files(root) for database in _histories(file)} if root else {}
    if len(found) > 1:
        names = ", ".join(f"{database} ({file})" for database, file in found.items())
        raise UsageError(f"This project has several sync histories: {names}. Name one of them with --history.")
    return next(iter(found), None)


def _is_of_dg(folder: Path) -> bool:
    """Whether it is the folder of a project or workspace of `dg`."""
    if (folder / "dg.toml").exists():
        return True
    try:
        return "dg" in tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return False


def _component_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        # environments, caches and packages of others
        folders[:] = sorted(
            name for name in folders if not name.startswith((".", "_")) and not _is_foreign(folder, name)
        )
        yield from (Path(folder, name) for name in COMPONENT_FILES if name in files)


def _is_foreign(folder: str, name: str) -> bool:
    return name == "node_modules" or Path(folder, name, "pyvenv.cfg").exists()


def _histories(file: Path) -> Iterator[str]:
    """What the components of a file name. A file that is not valid is for `dg check yaml`."""
    import yaml

    try:
        components = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return
    project = next(folder for folder in file.parents if _is_of_dg(folder))
    for component in components:
        attributes: Any = component.get("attributes") if isinstance(component, dict) else None
        # `warehouse` is required of ours, of any class
        if isinstance(attributes, dict) and "warehouse" in attributes and attributes.get("history_database"):
            name = _filled_in(str(attributes["history_database"]), file, project)
            yield name if is_address(name) else str(project / Path(name).expanduser())


def _filled_in(text: str, file: Path, project: Path) -> str:
    from jinja2 import StrictUndefined, Template, TemplateError

    try:
        return str(Template(text, undefined=StrictUndefined).render(env=_Env(), project_root=project))
    except TemplateError as error:
        raise UsageError(
            f"`history_database: {text}` in {file} cannot be filled in here ({error}). Name the database"
            " with --history."
        ) from None
