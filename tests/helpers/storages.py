"""Where Dagster keeps its events in a test: in memory, in SQLite, or in Postgres as several machines share it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dw_orchestration.local.shop.postgres import DatabaseLogin

# for tests that use the event log in a way that others do not; by the names of fixtures
ON_EACH_STORAGE = pytest.mark.parametrize("instance", ["memory_instance", "postgres_instance"], indirect=True)
# the variable that has the server's password
PASSWORD = "DAGSTER_POSTGRES_PASSWORD"
_TEMPLATE = "dagster_template"


@contextmanager
def instance_in(folder: Path, **settings: Any) -> Iterator[dg.DagsterInstance]:
    """An instance that threads and processes can share; without a storage it uses SQLite in its folder."""
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}, **settings}))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@dataclass
class PostgresStorages:
    """Databases for Dagster in one server. They are copies of the first, since making all tables takes a second."""

    server: DatabaseLogin
    folder: Path
    _made: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Let Dagster make its tables."""
        self._execute(f"create database {_TEMPLATE}")
        with instance_in(self.folder, storage=self._storage(_TEMPLATE)) as instance:
            instance.get_runs_count()

    @contextmanager
    def new(self) -> Iterator[dict[str, Any]]:
        """The setting `storage` of an instance, whose database is dropped afterwards."""
        self._made += 1
        name = f"dagster_{self._made}"
        self._execute(f"create database {name} template {_TEMPLATE}")
        yield self._storage(name)
        self._execute(f"drop database {name} with (force)")

    def _storage(self, database: str) -> dict[str, Any]:
        login = {"username": self.server.user, "password": {"env": PASSWORD}, "db_name": database}
        address = {"hostname": self.server.host, "port": self.server.port, "scheme": "postgresql+psycopg2"}
        return {"postgres": {"postgres_db": login | address}}

    def _execute(self, sql: str) -> None:
        with psycopg.connect(replace(self.server, database="postgres").dsn, autocommit=True) as connection:
            connection.execute(sql.encode())


def database_of(storage: dict[str, Any], server: DatabaseLogin) -> DatabaseLogin:
    """The database of a setting `storage`."""
    return replace(server, database=storage["postgres"]["postgres_db"]["db_name"])
