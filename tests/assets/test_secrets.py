"""The API key is shown nowhere: not where objects are printed, and not in what a failing run leaves behind."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.posthog.errors import UnreachableError
from dw_orchestration.resources.warehouse import PostHogWarehouseResource

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse import Shelf

KEY = "phx_this_is_the_secret"


def test_nothing_prints_the_key(tmp_path: Path) -> None:
    """Resource, client and component can be printed while debugging."""
    resource = PostHogWarehouseResource(project_id="1", api_key=KEY)
    component = PostHogWarehouseComponent(warehouse=resource, state_file=tmp_path / "state.json")
    with resource.client() as client:
        shown = [repr(resource), str(resource), repr(client), str(client), repr(component), f"{vars(client)}"]
    assert [] == [text for text in shown if KEY in text]


def test_failing_runs_leave_no_key(quiet_shelf: Shelf, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """For every mistake (in the key, the project, the host, the rights), no event, log or file has the key."""
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    wrong: list[dict[str, Any]] = [
        {"api_key": KEY},
        {"api_key": KEY, "project_id": "4711"},
        {"api_key": KEY, "host": "https://us.i.posthog.com"},
        {"api_key": KEY, "read_only": True},
    ]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for settings in wrong:
            resource = quiet_shelf.warehouse.project(**settings)
            result = quiet_shelf.materialize("orders", instance=instance, resource=resource)
            assert not result.success
            assert [] == [record for record in instance.all_logs(result.run_id) if KEY in str(record)]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"STEP_FAILURE" in text for text in files)
    assert not any(KEY.encode() in text for text in files)
    assert KEY not in "".join(capfd.readouterr())


def test_the_trace_of_a_lost_connection_has_no_key(port: int) -> None:
    """When PostHog is unreachable, neither the error nor its cause contains the key."""
    resource = PostHogWarehouseResource(host=f"http://127.0.0.1:{port}", project_id="1", api_key=KEY)
    with pytest.raises(UnreachableError) as caught:
        resource.take_snapshot()
    trace = "".join(traceback.format_exception(caught.value))
    assert "UnreachableError" in trace
    assert KEY not in trace
