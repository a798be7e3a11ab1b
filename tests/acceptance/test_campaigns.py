"""Small versions of the campaigns in `bench/`, whose scripts exit with 1 if anything was lost or doubled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
BENCH = Path(__file__).parents[2] / "bench"


def run(script: str, *arguments: str) -> str:
    """Run a script to its good end; what it printed."""
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout
    return done.stdout


def test_kills_in_the_middle_of_syncs_cost_nothing() -> None:
    """After SIGKILL of a step, no row and no event is missing or doubled."""
    printed = run("kill_campaign.py", "--kills", "1", "--victims", "step")
    assert ["step"] == [line.split()[0] for line in printed.splitlines() if line.endswith(" s")]


def test_damaged_files_cost_nothing() -> None:
    """A damaged file is restored, or is one error whose cure works."""
    printed = run("damaged_files.py", "--files", "endpoint.json", "--damages", "garbage")
    assert "{'recovered': 1}" in printed
