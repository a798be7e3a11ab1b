"""A setup error is one line, when the code location loads and when somebody materializes a table."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from warehouse import failure_of

from dw_orchestration.definitions import definitions_for

if TYPE_CHECKING:
    from warehouse import Shelf, WarehouseProcess

READ = "external_data_source:read"
NO_SUCH_KEY = "phx_no_such_key_anywhere"
TOLD = {
    "key without project": "POSTHOG_PROJECT_ID is not set.",
    "project without key": "POSTHOG_PERSONAL_API_KEY is not set.",
    "impossible project": "The project id is not a number",
    "wrong key": "PostHog does not accept the API key",
    "unknown project": "PostHog does not know the project",
    "key that only reads": "Tables can be watched but not synced: The API key lacks a scope",
}


def environment(warehouse: WarehouseProcess, set_up: str) -> dict[str, str]:
    """The environment variables of a set-up that is wrong in one respect."""
    right = {"POSTHOG_PROJECT_ID": warehouse.endpoint["project_id"], "POSTHOG_HOST": warehouse.endpoint["host"]}
    key = "POSTHOG_PERSONAL_API_KEY"
    match set_up:
        case "key without project":
            return {key: NO_SUCH_KEY}
        case "project without key":
            return right
        case "impossible project":
            return {**right, key: NO_SUCH_KEY, "POSTHOG_PROJECT_ID": "../1"}
        case "wrong key":
            return {**right, key: NO_SUCH_KEY}
        case "unknown project":
            return {**right, key: warehouse.endpoint["api_key"], "POSTHOG_PROJECT_ID": "4711"}
        case _:
            return {**right, key: warehouse.new_key(READ)}


def location(settings: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """The default code location in an environment. The key is read from the process where it is used."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return definitions_for({**settings, "DW_ORCHESTRATION_HOME": str(home)})


@pytest.mark.usefixtures("quiet_shelf")  # a project without tables is a wrong set-up of its own
@pytest.mark.parametrize("set_up", TOLD)
def test_the_location_loads_and_says_it_in_one_line(
    warehouse: WarehouseProcess,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    set_up: str,
) -> None:
    """With every setup error, the code location loads, and one line states the error, without the key."""
    settings = environment(warehouse, set_up)
    with caplog.at_level(logging.WARNING):
        defs = location(settings, tmp_path, monkeypatch)
    dg.Definitions.validate_loadable(defs)
    (record,) = caplog.records
    assert record.getMessage().startswith(TOLD[set_up])
    assert 1 == len(record.getMessage().splitlines())
    assert record.exc_info is None
    assert settings.get("POSTHOG_PERSONAL_API_KEY", NO_SUCH_KEY) not in caplog.text


@pytest.mark.parametrize("set_up", list(TOLD)[:-1])
def test_an_asset_stands_for_the_tables(
    warehouse: WarehouseProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_up: str
) -> None:
    """In place of the tables, one asset states what is wrong: an empty page would explain nothing."""
    defs = location(environment(warehouse, set_up), tmp_path, monkeypatch)
    (spec,) = defs.resolve_all_asset_specs()
    assert "not_connected" == spec.key.path[-1]
    # Markdown that could become more than words is code
    shown = (spec.description or "").replace("`", "")
    assert shown.startswith(f"No tables: {TOLD[set_up]}".replace("`", ""))


def test_dagsters_own_command_shows_no_stack_trace(tmp_path: Path, warehouse: WarehouseProcess) -> None:
    """Loaded by Dagster's own command, with settings from the environment, the location is valid and says its line."""
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "DAGSTER_"))}
    homes = {"DAGSTER_HOME": str(tmp_path), "DW_ORCHESTRATION_HOME": str(tmp_path / "home")}
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, "definitions", "validate", "-m", "dw_orchestration.definitions"]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env={**plain, **homes, **environment(warehouse, "wrong key")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert 0 == done.returncode, done.stdout
    assert TOLD["wrong key"] in done.stdout
    assert "Traceback" not in done.stdout
    assert NO_SUCH_KEY not in done.stdout


@pytest.mark.parametrize("set_up", ["wrong key", "unknown project", "key that only reads"])
def test_materializing_says_it_in_one_line(quiet_shelf: Shelf, instance: dg.DagsterInstance, set_up: str) -> None:
    """Materializing with a wrong set-up fails once for all tables, with one line, and syncs nothing."""
    resource = {
        "wrong key": lambda: quiet_shelf.warehouse.project(api_key=NO_SUCH_KEY),
        "unknown project": lambda: quiet_shelf.warehouse.project(project_id="4711"),
        "key that only reads": lambda: quiet_shelf.warehouse.project(api_key=quiet_shelf.warehouse.new_key(READ)),
    }[set_up]()
    before = quiet_shelf.counts()
    told = failure_of(quiet_shelf.materialize("customers", "orders", instance=instance, resource=resource))
    assert told.startswith(TOLD[set_up].removeprefix("Tables can be watched but not synced: "))
    assert 1 == len(told.splitlines())
    assert before == quiet_shelf.counts()


@pytest.mark.parametrize(
    ("host", "told"),
    [("https://us.i.posthog.com", "us.posthog.com"), ("not a host", "host"), ("ftp://posthog.com", "http")],
)
def test_a_host_that_cannot_be_right(quiet_shelf: Shelf, instance: dg.DagsterInstance, host: str, told: str) -> None:
    """An address that is not that of a PostHog app is refused before anything is sent, with what to write."""
    resource = quiet_shelf.warehouse.project(host=host)
    assert told in failure_of(quiet_shelf.materialize("customers", instance=instance, resource=resource))
