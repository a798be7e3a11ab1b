"""A running embedded warehouse with two sources whose tables PostHog syncs by itself."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import time
from pathlib import Path

import pytest

from dw_orchestration.local.server import ServerEndpoint, WarehouseServer
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from tests.conftest import Clock

TABLES = ("customers", "invoices")


@dataclass
class Project:
    """The warehouse, a client of it, and its tables by name (`a.customers`)."""

    embedded: WarehouseServer
    endpoint: ServerEndpoint
    client: PostHogWarehouseClient
    clock: Clock
    sources: dict[str, str]

    def snapshot(self) -> WarehouseSnapshot:
        return WarehouseSnapshot.take(self.client, host=self.endpoint.host, project_id="1")

    def tables(self) -> dict[str, str]:
        """The ids of the tables."""
        return {
            f"{prefix}.{schema.name}": schema.id
            for prefix, source_id in self.sources.items()
            for schema in self.client.get_source(source_id).schemas
        }

    def settings(self) -> dict[str, tuple[bool, str, time | None]]:
        """What PostHog has of each table: whether it is on, how often it syncs, and at what time."""
        live = {schema.id: schema for schema in self.client.list_schemas()}
        return {
            name: (live[key].should_sync, str(live[key].sync_frequency), live[key].sync_time_of_day)
            for name, key in self.tables().items()
        }

    def frequencies(self) -> dict[str, str]:
        return {name: frequency for name, (_, frequency, _) in self.settings().items()}

    def set(self, name: str, **settings) -> None:
        self.client.update_schema(self.tables()[name], SchemaUpdate.model_validate(settings))

    def settle(self, wait_until) -> None:
        """Wait until no sync is running."""
        wait_until(lambda: not self.embedded.services.runner._runs)

    def jobs_by_schedule(self, name: str) -> list[str]:
        """When PostHog's own schedule began syncs of a table."""
        jobs = self.embedded.services.store.jobs_of(self.tables()[name], limit=1000)
        return [f"{job.created_at:%Y-%m-%d %H:%M}" for job in reversed(jobs) if job.started_by.value == "schedule"]


def start(folder: Path, undo: ExitStack, wait_until) -> Project:
    """Start a warehouse with the sources a and b, whose tables are on."""
    fixtures = folder / "fixtures" / "stripe"
    fixtures.mkdir(parents=True)
    for table in TABLES:
        (fixtures / f"{table}.jsonl").write_text("".join(json.dumps({"id": n}) + "\n" for n in range(10)))
    clock = Clock()
    embedded = WarehouseServer(folder / "home", fixtures=fixtures.parent, poll_every_s=None, now=clock)
    endpoint = embedded.start()
    undo.callback(embedded.stop)
    client = undo.enter_context(PostHogWarehouseClient(endpoint.host, 1, endpoint.api_key, rate_limits=None))
    schemas = [{"name": table, "should_sync": True, "sync_type": "full_refresh"} for table in TABLES]
    sources = {prefix: client.create_source("Stripe", {"schemas": schemas}, prefix=prefix) for prefix in ("a", "b")}
    project = Project(embedded=embedded, endpoint=endpoint, client=client, clock=clock, sources=sources)
    project.settle(wait_until)
    return project


@pytest.fixture
def project(tmp_path, wait_until) -> Iterator[Project]:
    """A warehouse of the test's own."""
    with ExitStack() as undo:
        yield start(tmp_path, undo, wait_until)


@pytest.fixture(scope="module")
def lasting_project(tmp_path_factory, wait_until) -> Iterator[Project]:
    """A warehouse for all examples of a law."""
    with ExitStack() as undo:
        yield start(tmp_path_factory.mktemp("lasting"), undo, wait_until)
