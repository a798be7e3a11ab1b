"""The command over the embedded warehouse, in this process and as a separate one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from dw_orchestration.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

CUSTOMERS = [{"id": 1, "name": "Ada", "updated": 1}, {"id": 2, "name": "Grace", "updated": 2}]
CHARGES = [{"id": number, "amount": 5.5} for number in range(3)]


@dataclass(frozen=True)
class Ran:
    """What a command has printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What programs read."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.document["rows"]


@dataclass(frozen=True)
class Dw:
    """The command with an environment."""

    environment: dict[str, str]
    folder: Path

    def __call__(self, *arguments: str, stdin: str | None = None, **environment: str) -> Ran:
        """Run it in this process."""
        result = CliRunner().invoke(app, arguments, env=self.environment | environment, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "dw_orchestration", *arguments],
            env=os.environ | self.environment,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # tests that run in a shell's background would hand down that Ctrl-C is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """The warehouse with the source `stripe_acme`, of which nothing has been synced."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": CUSTOMERS, "Charge": CHARGES})
    return embedded_warehouse


@pytest.fixture
def dw(stripe: EmbeddedWarehouse, tmp_path: Path) -> Dw:
    """The command for the embedded warehouse, reached as a PostHog project is."""
    endpoint = stripe.resource.ensure_running()
    environment = {
        "POSTHOG_HOST": endpoint["host"],
        "POSTHOG_PROJECT_ID": endpoint["project_id"],
        "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
        "COLUMNS": "200",
    }
    return Dw(environment, tmp_path)
