"""The client, talking to an embedded warehouse over HTTP."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from dw_orchestration.local.server import WarehouseServer
from dw_orchestration.posthog.client import PostHogWarehouseClient


@dataclass
class Warehouse:
    """A running embedded warehouse with one Postgres source of three tables, and clients of it."""

    embedded: WarehouseServer
    endpoint: object
    client: PostHogWarehouseClient
    connection_fields: dict[str, object]
    source_id: str

    def client_with(self, *, api_key: str | None = None, project_id: str = "1") -> PostHogWarehouseClient:
        """Another client, with another key or project."""
        return PostHogWarehouseClient(
            self.endpoint.host, project_id, api_key or self.endpoint.api_key, rate_limits=None
        )

    def key(self, *scopes: str) -> str:
        """A new key with these scopes."""
        store = self.embedded.services.store
        return store.add_key(scopes=list(scopes), at=self.embedded.services.now())

    def schema_id(self, name: str) -> str:
        """The id of a table."""
        return next(schema.id for schema in self.client.get_source(self.source_id).schemas if schema.name == name)

    def settle(self, wait_until) -> None:
        """Wait until no sync is running."""
        wait_until(lambda: not self.embedded.services.runner._runs)


@pytest.fixture
def warehouse(tmp_path: Path, postgres_database, wait_until) -> Iterator[Warehouse]:
    """An embedded warehouse whose first syncs have ended."""
    with psycopg.connect(postgres_database.dsn, autocommit=True) as connection:
        connection.execute(
            "create table orders (id int primary key, total numeric(10, 2), updated_at timestamptz not null)"
        )
        connection.execute("insert into orders select i, i, '2026-01-01Z'::timestamptz from generate_series(1, 10) i")
        connection.execute("create table visits (id bigserial primary key, page text)")
        connection.execute("create table spare (id int primary key)")
    fields = {
        "host": postgres_database.host,
        "port": postgres_database.port,
        "database": postgres_database.database,
        "user": postgres_database.user,
        "password": postgres_database.password,
        "schema": "public",
    }
    fixtures = tmp_path / "fixtures" / "stripe"
    fixtures.mkdir(parents=True)
    (fixtures / "Customer.jsonl").write_text(json.dumps({"id": "cus_1", "email": "a@example.com"}) + "\n")
    embedded = WarehouseServer(tmp_path / "home", fixtures=fixtures.parent, poll_every_s=None)
    endpoint = embedded.start()
    with closing(PostHogWarehouseClient(endpoint.host, 1, endpoint.api_key, rate_limits=None)) as client:
        source_id = client.create_source("Postgres", fields | {"schemas": _SCHEMAS}, prefix="shop")
        running = Warehouse(embedded, endpoint, client, fields, source_id)
        running.settle(wait_until)
        yield running
    embedded.stop()


_SCHEMAS = [
    {
        "name": "orders",
        "should_sync": True,
        "sync_type": "incremental",
        "incremental_field": "updated_at",
        "incremental_field_type": "timestamp",
        "primary_key_columns": ["id"],
    },
    {"name": "visits", "should_sync": True, "sync_type": "full_refresh"},
    {"name": "spare", "should_sync": False},
]
