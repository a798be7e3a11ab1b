"""A type checker reads the installed wheel as strictly as it can."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dw_orchestration
from dw_orchestration import testing

if TYPE_CHECKING:
    from conftest import Environment

PROJECT = Path(__file__).with_name("public_api.py")


def test_a_project_type_checks(user: Environment) -> None:
    """Right uses of the public names are right to `mypy --strict`, and wrong ones are errors; no plugin is needed."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=mypy"]
    ended = subprocess.run(
        [*command, f"--python-executable={user.python}", str(PROJECT)],
        cwd=user.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.stdout == "Success: no issues found in 1 source file\n"


def test_the_project_uses_every_public_name() -> None:
    """A new public name has to be used, or its types are seen by nobody."""
    text = PROJECT.read_text()
    names = (*dw_orchestration.__all__, *testing.__all__)

    assert [] == [name for name in names if not re.search(rf"\b{name}\b", text)]
