"""The API keeps what its OpenAPI document promises, for all requests."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.conftest import Server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "response_schema_conformance",
    "content_type_conformance",
)


def run_schemathesis(server: Server, folder: Path, *options: str, known: dict[str, str]) -> str:
    """Send requests made from the document, with some parameters known; what came of it."""
    config = folder / "schemathesis.toml"
    values = "\n".join(f'"path.{name}" = "{value}"' for name, value in known.items())
    config.write_text(f"[parameters]\n{values}\n")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
            *("--url", str(server.client.base_url)),
            *("--header", f"Authorization: {server.client.headers['Authorization']}"),
            *("--checks", ",".join(CHECKS), "--suppress-health-check", "all", "--seed", "1"),
            *("--generation-database", ":memory:", "--warnings", "missing_test_data"),
            *options,
            str(server.client.base_url.join("/api/schema/")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=folder,
    )
    assert 0 == result.returncode, result.stdout[-5000:] + result.stderr[-2000:]
    return result.stdout


KNOWN = ("--phases", "coverage,fuzzing", "--max-examples", "5")


@pytest.mark.thorough
def test_nothing_undocumented_comes_out(server: Server, invoices: str, tmp_path: Path) -> None:
    """Sent at random, no request causes a server error, or an answer that the document does not describe."""
    begun = {"query": {"kind": "HogQLQuery", "query": "select 1"}, "refresh": "force_async"}
    known = {
        "project_id": "@current",
        "query_id": server.json("POST", "query/", json=begun)["query_status"]["id"],
        "source_id": invoices,
        "schema_id": server.schema(invoices, "invoices")["id"],
    }
    # deletions last, so that the other calls find what they ask for
    told = run_schemathesis(server, tmp_path, *KNOWN, "--exclude-method", "DELETE", known=known)
    assert "repeatedly returned 404" not in told
    run_schemathesis(server, tmp_path, *KNOWN, "--include-method", "DELETE", known=known)


def test_unknown_places(quiet_server: Server, tmp_path: Path) -> None:
    """Requests with unknown ids get only answers that the document describes, too."""
    told = run_schemathesis(quiet_server, tmp_path, "--phases", "fuzzing", "--max-examples", "2", known={})
    assert "27 selected" in told
