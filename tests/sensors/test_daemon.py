"""What a real Dagster daemon makes of the sensor, when it is killed in the midst of a tick."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dying_storage import DIES_AFTER

from dw_orchestration.assets.spec import asset_key
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

LOCATION = Path(__file__).with_name("served_sensor.py")
HELPERS = Path(__file__).parents[1] / "helpers"
SETTINGS = """
telemetry: {{enabled: false}}
event_log_storage: {{module: dying_storage, class: DyingStorage, config: {{base_dir: {folder}}}}}
"""
STORED = 7
TABLES = [f"table_{number:02}" for number in range(20)]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that the daemon shares, in a folder of the test's own."""
    (tmp_path / "dagster.yaml").write_text(SETTINGS.format(folder=tmp_path / "history"))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@contextmanager
def daemon(home: Path, warehouse: EmbeddedWarehouse, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that is killed at the end of the block, with the code server that it has started."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "SNAPSHOT": str(home / "state.json"),
        "WAREHOUSE": warehouse.resource.home,
        "PYTHONPATH": os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        **variables,
    }
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-f", str(LOCATION)]
    with (home / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(120)


def reports(instance: dg.DagsterInstance, keys: list[dg.AssetKey]) -> Counter[str]:
    """How often each sync is in the event log."""
    events = [record for key in keys for record in instance.fetch_materializations(key, limit=100).records]
    return Counter(str(event.asset_materialization.metadata["posthog/job_id"].value) for event in events)


def cursor_of(instance: dg.DagsterInstance) -> str | None:
    """The cursor that the daemon has kept for the sensor."""
    states = [state for state in instance.all_instigator_state() if state.instigator_type.value == "SENSOR"]
    return states[0].instigator_data.cursor if states and states[0].instigator_data else None


def test_a_daemon_killed_between_the_events_and_the_cursor_reports_each_sync_once(
    embedded_warehouse, instance, tmp_path, wait_until
) -> None:
    """SIGKILL after some of a tick's events: the next daemon begins at the old cursor, and repeats none of them."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={name: [{"id": 1}] for name in TABLES})
    jobs = {embedded_warehouse.sync(name).id for name in TABLES}
    snapshot = embedded_warehouse.snapshot()
    snapshot.write(tmp_path / "state.json")
    keys = [asset_key(asset) for asset in Tables(snapshot, include_disabled=True)]

    with daemon(tmp_path, embedded_warehouse, **{DIES_AFTER: str(STORED)}) as first:
        wait_until(lambda: first.poll() is not None)
    assert cursor_of(instance) is None
    assert STORED == len(reports(instance, keys))

    with daemon(tmp_path, embedded_warehouse):
        wait_until(lambda: cursor_of(instance))
        after = reports(instance, keys)
        late = embedded_warehouse.sync(TABLES[0]).id
        wait_until(lambda: late in reports(instance, keys))
    assert dict.fromkeys(jobs, 1) == after
    assert dict.fromkeys({*jobs, late}, 1) == reports(instance, keys)
