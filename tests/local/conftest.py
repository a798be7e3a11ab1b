"""An embedded warehouse for each test, with a client, a clock and sources to sync."""

from __future__ import annotations

import csv
import ssl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from dw_orchestration.local.server import WarehouseServer
from tests.conftest import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dw_orchestration.local.services import Services
    from tests.conftest import Database, WaitUntil


# Loading certificates, which nothing here needs, would take longer than most of the tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Server:
    """A running embedded warehouse and a client of it."""

    warehouse: WarehouseServer
    home: Path
    client: httpx.Client
    wait_until: WaitUntil

    @property
    def services(self) -> Services:
        """The parts of the server, for what the API does not show."""
        return self.warehouse.services

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call the API; the path is given after the project."""
        return self.client.request(method, f"/api/projects/1/{path}", **options)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Call the API and return its answer; anything but success fails the test."""
        response = self.call(method, path, **options)
        assert response.is_success, response.text
        return response.json()

    def create(self, source_type: str, payload: Mapping[str, object], **fields: object) -> str:
        """Make a source; its id."""
        body = {"source_type": source_type, "payload": payload, **fields}
        return str(self.json("POST", "external_data_sources/", json=body)["id"])

    def schema(self, source_id: str, name: str) -> dict[str, Any]:
        """The schema of a source, as the API shows it in full."""
        schemas = self.json("GET", f"external_data_sources/{source_id}/")["schemas"]
        return next(schema for schema in schemas if schema["name"] == name)

    def jobs(self, source_id: str, **query: object) -> list[dict[str, Any]]:
        """The jobs of a source, newest first."""
        jobs: list[dict[str, Any]] = self.json("GET", f"external_data_sources/{source_id}/jobs/", params=query)
        return jobs

    def settle(self, source_id: str) -> list[dict[str, Any]]:
        """Wait until nothing of a source is queued or running; its jobs."""

        def is_quiet() -> bool:
            schemas = self.json("GET", f"external_data_sources/{source_id}/")["schemas"]
            return not self.services.runner._runs and all(row["status"] != "Running" for row in schemas)

        self.wait_until(is_quiet)
        return self.jobs(source_id)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query of the warehouse finds."""
        with self.services.warehouse.opened() as connection:
            return list(connection.execute(sql).fetchall())

    def key(self, *scopes: str, project_ids: Sequence[int] | None = None) -> dict[str, str]:
        """The header of a new key."""
        now = datetime.now(UTC)
        token = self.services.store.add_key(scopes=scopes, at=now, project_ids=project_ids)
        return {"Authorization": f"Bearer {token}"}


@dataclass
class Servers:
    """Starts embedded warehouses in folders of the test's own."""

    folder: Path
    wait_until: WaitUntil
    undo: ExitStack
    running: list[Server] = field(default_factory=list)

    def start(self, home: str = "home", **options: Any) -> Server:
        """Start one; its scheduler checks only when the test calls it."""
        settings = {"fixtures": self.folder / "fixtures", "poll_every_s": None} | options
        warehouse = WarehouseServer(self.folder / home, **settings)
        endpoint = warehouse.start()
        self.undo.callback(warehouse.stop)
        headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        client = httpx.Client(base_url=endpoint.host, headers=headers, timeout=120, verify=NO_TLS)
        self.undo.callback(client.close)
        server = Server(warehouse=warehouse, home=self.folder / home, client=client, wait_until=self.wait_until)
        self.running.append(server)
        return server


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until it is moved."""
    return Clock()


@pytest.fixture
def servers(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Servers]:
    """A way to start servers that end with the test."""
    with ExitStack() as undo:
        yield Servers(folder=tmp_path, wait_until=wait_until, undo=undo)


@pytest.fixture
def server(servers: Servers, clock: Clock) -> Server:
    """A server whose clock stands still."""
    return servers.start(now=clock)


@pytest.fixture(scope="module")
def quiet_server(tmp_path_factory: pytest.TempPathFactory, wait_until: WaitUntil) -> Iterator[Server]:
    """A server with a Stripe source that several tests ask and none changes."""
    folder = tmp_path_factory.mktemp("quiet")
    with ExitStack() as undo:
        server = Servers(folder=folder, wait_until=wait_until, undo=undo).start()
        add_invoices(folder / "fixtures", server)
        yield server


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[[str, Sequence[Mapping[str, object]]], None]:
    """A way to put rows of a file source (`Stripe/invoices`) in place."""
    return partial(write_csv, tmp_path / "fixtures")


def write_csv(fixtures: Path, place: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the rows of one table of a file source."""
    path = fixtures / f"{place}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def add_invoices(fixtures: Path, server: Server) -> str:
    """Make the Stripe source with its two tables; its id."""
    write_csv(fixtures, "Stripe/invoices", [{"id": n, "amount": n * 10} for n in (1, 2, 3)])
    write_csv(fixtures, "Stripe/customers", [{"id": n, "name": f"c{n}"} for n in (1, 2)])
    write_csv(fixtures, "Stripe/plans", [{"code": "a", "price": 1}])
    return server.create("Stripe", {"schemas": [{"name": "invoices"}, {"name": "customers"}]})


@pytest.fixture
def invoices(server: Server, tmp_path: Path) -> str:
    """A Stripe source with two tables of three and two rows, both off and not configured."""
    return add_invoices(tmp_path / "fixtures", server)


@dataclass
class Orders:
    """A Postgres source with one table `orders`, which a test can keep from being read."""

    database: Database
    payload: dict[str, object]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let every reader of the table wait until the block ends."""
        with psycopg.connect(self.database.dsn) as connection:
            connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            yield


@pytest.fixture
def orders(postgres_database: Database) -> Orders:
    """A table of 100 orders in a database of the test's own."""
    postgres_database.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, total int, updated_at timestamptz NOT NULL DEFAULT now())"
    )
    postgres_database.execute("INSERT INTO orders (id, total) SELECT n, n FROM generate_series(1, 100) n")
    payload: dict[str, object] = {
        "host": postgres_database.host,
        "port": postgres_database.port,
        "database": postgres_database.database,
        "user": postgres_database.user,
        "password": postgres_database.password,
        "schema": "public",
        "schemas": [{"name": "orders", "sync_type": "full_refresh", "should_sync": True}],
    }
    return Orders(database=postgres_database, payload=payload)
