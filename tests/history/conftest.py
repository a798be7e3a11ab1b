"""An embedded warehouse with two sources, a DuckDB file for its history, and jobs as a test wants them."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest
from dagster_duckdb import DuckDBResource

from dw_orchestration.history.reading import Reading, bring_up_to_date
from dw_orchestration.history.store import HistoryStore
from dw_orchestration.local.rows import Job, StartedBy, Status
from dw_orchestration.local.server import ServerEndpoint, WarehouseServer
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.resources.warehouse import PostHogWarehouseResource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)


class Gone(httpx.HTTPTransport):
    """The network, on which the jobs of some sources cannot be found from a page on."""

    def __init__(self, *source_ids: str, after_pages: int = 0) -> None:
        super().__init__()
        self.source_ids = source_ids
        self.pages_left = after_pages

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer 404 in the server's place."""
        if request.url.path.endswith("/jobs/") and any(own_id in request.url.path for own_id in self.source_ids):
            self.pages_left -= 1
            if self.pages_left < 0:
                answer = {"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": None}
                return httpx.Response(404, json=answer, request=request)
        return super().handle_request(request)


@dataclass
class Project:
    """A running embedded warehouse: the jobs of its two sources are what the test writes down."""

    embedded: WarehouseServer
    endpoint: ServerEndpoint
    client: PostHogWarehouseClient
    sources: dict[str, str] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)

    def job(
        self,
        table: str = "invoices",
        *,
        ago: timedelta,
        lasted_s: float | None = 10.0,
        rows: int = 5,
        status: Status = Status.COMPLETED,
        error: str | None = None,
    ) -> str:
        """Write a job down that was created some time ago; without a duration it runs. Its id."""
        created_at = NOW - ago
        own_id = uuid4()
        job = Job(
            id=own_id,
            source_id=UUID(self.source_of(table)),
            schema_id=UUID(self.schemas[table]),
            created_at=created_at,
            finished_at=None if lasted_s is None else created_at + timedelta(seconds=lasted_s),
            status=Status.RUNNING if lasted_s is None else status,
            rows_synced=rows,
            latest_error=error,
            workflow_run_id=uuid4(),
            started_by=StartedBy.SCHEDULE,
        )
        self.embedded.services.store.insert(job)
        return str(own_id)

    def jobs(self, table: str, count: int, *, newest: timedelta, every: timedelta) -> set[str]:
        """Write down jobs at equal distances, back from the newest. Their ids."""
        return {self.job(table, ago=newest + number * every) for number in range(count)}

    def finish(self, job_id: str, *, rows: int) -> None:
        """Let a running job complete."""
        changes = {"status": Status.COMPLETED, "finished_at": NOW, "rows_synced": rows}
        self.embedded.services.store.update(Job, UUID(job_id), **changes)

    def forget_jobs(self) -> None:
        """Let there be no jobs."""
        self.embedded.services.store._execute("DELETE FROM jobs")

    def source_of(self, table: str) -> str:
        """The id of a table's source."""
        return self.sources["Hubspot" if table == "contacts" else "Stripe"]

    def resource(
        self, *, transport: httpx.BaseTransport | None = None, api_key: str | None = None
    ) -> PostHogWarehouseResource:
        """The project as Dagster's resource, on this network and with this key."""

        class OnNetwork(PostHogWarehouseResource):
            def client(self) -> PostHogWarehouseClient:
                return PostHogWarehouseClient(
                    self.host, self.project_id, self.api_key, rate_limits=None, http_transport=transport
                )

        return OnNetwork(
            host=self.endpoint.host, project_id="1", api_key=api_key or self.endpoint.api_key, requests_per_minute=0
        )

    def read_into(self, store: HistoryStore, *, days: int = 30, now: datetime = NOW) -> tuple[Reading, int]:
        """Update a history: the result, and how many requests it took."""
        before = self.client.requests
        reading = bring_up_to_date(self.client, store, days=days, now=now)
        return reading, self.client.requests - before


@pytest.fixture(scope="module")
def running_project(tmp_path_factory) -> Iterator[Project]:
    """The embedded warehouse that the tests of a module share."""
    folder = tmp_path_factory.mktemp("project")
    tables = {"Stripe": ["invoices", "customers"], "Hubspot": ["contacts"]}
    for source_type, names in tables.items():
        for name in names:
            path = folder / "fixtures" / source_type / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"id": 1}) + "\n")
    embedded = WarehouseServer(folder / "home", fixtures=folder / "fixtures", poll_every_s=None, now=lambda: NOW)
    endpoint = embedded.start()
    with closing(PostHogWarehouseClient(endpoint.host, 1, endpoint.api_key, rate_limits=None)) as client:
        project = Project(embedded, endpoint, client)
        for source_type, names in tables.items():
            schemas = [{"name": name, "should_sync": False} for name in names]
            source_id = client.create_source(source_type, {"schemas": schemas}, prefix="main")
            project.sources[source_type] = source_id
            project.schemas |= {schema.name: schema.id for schema in client.get_source(source_id).schemas}
        yield project
    embedded.stop()


@pytest.fixture
def project(running_project: Project) -> Iterator[Project]:
    """The shared warehouse without any jobs."""
    running_project.forget_jobs()
    return running_project


@pytest.fixture
def history_of(tmp_path) -> Callable[..., HistoryStore]:
    """Opens the history of a project in the test's own DuckDB file."""

    def open_one(project: str = "a project", *, file: str = "history.duckdb") -> HistoryStore:
        return HistoryStore(DuckDBResource(database=str(tmp_path / file)), project=project)

    return open_one


@pytest.fixture
def history(history_of) -> HistoryStore:
    """An empty history."""
    return history_of()


@pytest.fixture
def gone() -> type[Gone]:
    """Makes networks on which sources cannot be found."""
    return Gone


@pytest.fixture
def rows_of() -> Callable[..., list[tuple[object, ...]]]:
    """Asks the table `sync_history`."""

    def ask(history: HistoryStore, sql: str) -> list[tuple[object, ...]]:
        with history.connection() as connection:
            return connection.execute(sql).fetchall()

    return ask


@pytest.fixture(scope="session")
def now() -> datetime:
    """The moment at which the tests' passes read."""
    return NOW
