"""What Dagster's own scheduler makes of a time of day that is changed in PostHog."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.controller import create_daemon_grpc_server_registry
from dagster._scheduler.scheduler import launch_scheduled_runs

from dw_orchestration.posthog.models import SchemaUpdate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster._scheduler.scheduler import ScheduleIterationTimes

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

LOCATION = Path(__file__).with_name("served_schedules.py")
DAY = datetime(2026, 11, 5, tzinfo=UTC)
# queued runs stay queued: what is asked here is whether there are any
SETTINGS = """
telemetry: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator}
"""


@dataclass
class Scheduler:
    """Dagster's scheduler, from its start to its end."""

    workspace: WorkspaceProcessContext
    times: dict[str, ScheduleIterationTimes]

    def start(self, name: str, *, at: datetime) -> None:
        """Switch a schedule on, as the UI does."""
        (entry,) = self.workspace.create_request_context().get_code_location_entries().values()
        (repository,) = entry.code_location.get_repositories().values()
        with freeze_time(at):
            self.workspace.instance.start_schedule(repository.get_schedule(name))

    def look(self, *, at: datetime) -> None:
        """One evaluation by the scheduler."""
        with freeze_time(at):
            list(launch_scheduled_runs(self.workspace, logging.getLogger("scheduler"), at, iteration_times=self.times))


@contextmanager
def scheduler(instance: dg.DagsterInstance) -> Iterator[Scheduler]:
    """A scheduler that has just been started, with a code server that reads the state."""
    target = PythonFileTarget(str(LOCATION), attribute=None, working_directory=None, location_name="warehouse")
    with create_daemon_grpc_server_registry(instance) as servers:
        with WorkspaceProcessContext(instance, target, grpc_server_registry=servers) as workspace:
            yield Scheduler(workspace, {})
        servers.shutdown_all_processes()
        servers.wait_for_processes()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own, which launches nothing."""
    (tmp_path / "dagster.yaml").write_text(SETTINGS)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def ticks(instance: dg.DagsterInstance) -> list[str]:
    """The ticks for which there are runs, oldest first."""
    return sorted(run.tags["posthog/tick"] for run in instance.get_runs())


def test_scenario_9_the_time_of_day_is_changed_in_posthog(
    embedded_warehouse: EmbeddedWarehouse,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The schedule stays on, and ticks at the new time from then on; the new time that has just passed starts nothing.

    Dagster stores a schedule's last evaluation only once an hour. So a restarted scheduler catches up on the ticks of
    an hour, although the cron may be a new one.
    """
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1}]})
    state = tmp_path / "state.json"
    monkeypatch.setenv("SNAPSHOT", str(state))
    monkeypatch.setenv("WAREHOUSE", embedded_warehouse.resource.home)

    def change(time_of_day: time, *, at: datetime) -> None:
        """What a colleague does in PostHog, and the refresh of the state after it."""
        changes = SchemaUpdate(sync_frequency="24hour", sync_time_of_day=time_of_day)
        embedded_warehouse.client.update_schema(embedded_warehouse.schema("Customer").id, changes)
        embedded_warehouse.snapshot().model_copy(update={"taken_at": at}).write(state)

    change(time(1), at=DAY)
    with scheduler(instance) as first:
        first.start("stripe_acme_every_1d", at=DAY)
        for minutes in range(5, 12 * 60, 30):
            first.look(at=DAY + timedelta(minutes=minutes))
    assert ["2026-11-05T01.00"] == ticks(instance)

    change(time(11, 40), at=DAY + timedelta(hours=11, minutes=50))
    with scheduler(instance) as second:
        second.look(at=DAY + timedelta(hours=11, minutes=55))
        assert ["2026-11-05T01.00"] == ticks(instance)
        assert {"stripe_acme_every_1d": "RUNNING"} == {
            state.name: state.status.value for state in instance.all_instigator_state()
        }
        for hours in range(12, 48):
            second.look(at=DAY + timedelta(hours=hours))
    assert ["2026-11-05T01.00", "2026-11-06T11.40"] == ticks(instance)
