"""What all tests share: a real PostgreSQL with a fresh database for each test, and a way to wait."""

from __future__ import annotations

import shutil
import signal
import socket
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import dagster as dg
import psycopg
import pytest
from hypothesis import settings
from storages import PASSWORD, PostgresStorages, instance_in

import dw_orchestration
from dw_orchestration.local.shop.postgres import DatabaseLogin, EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

Answer = TypeVar("Answer")


def pytest_report_header() -> str:
    """Which installation is tested: the wheel's by `make test`, the checkout by a developer's own `pytest`."""
    return f"dw_orchestration: {Path(dw_orchestration.__file__).parent}"


# How long a test waits for what is sure to come: on a machine that has other work, all of Dagster takes a minute.
WITHIN_S = 240
# A shared machine makes any single example slow now and then: no deadline.
settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("default")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Restore what SIGINT and SIGTERM do: the processes that a test starts inherit it where a signal is ignored.

    A background job of a shell, and a worker of xdist, ignore SIGINT. After a run in this process, Dagster gives
    SIGTERM the handler that SIGINT had. It is no fixture: those of a module, which start processes too, come first.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@dataclass
class Clock:
    """A clock that a test sets."""

    moment: datetime = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.moment

    def advance(self, **span: float) -> None:
        """Move it forward."""
        self.moment += timedelta(**span)


class WaitUntil(Protocol):
    """The type of the fixture ``wait_until``."""

    def __call__(self, predicate: Callable[[], Answer]) -> Answer:
        """Ask until the answer is true, and return it."""


@dataclass(frozen=True, kw_only=True)
class Database(DatabaseLogin):
    """A database of the test's own."""

    def execute(self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement (or several without ``params``), commit, and return the rows it gives."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), params)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseLogin]:
    """A PostgreSQL for this test process, reached as its superuser."""
    folder = tmp_path_factory.mktemp("postgres")
    server = EmbeddedPostgres(folder)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def postgres_database(postgres_server: DatabaseLogin) -> Iterator[Database]:
    """An empty database, dropped after the test with all of its connections."""
    server = Database(**asdict(postgres_server))
    name = f"test_{uuid.uuid4().hex}"
    server.execute(f"create database {name}")
    yield replace(server, database=name)
    server.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def postgres_storages(
    postgres_server: DatabaseLogin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresStorages]:
    """Databases in which Dagster can keep runs and events."""
    pytest.importorskip("dagster_postgres", reason="It is there for the Dagster of constraints.txt only.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD, postgres_server.password)
        yield PostgresStorages(postgres_server, tmp_path_factory.mktemp("storages"))


@pytest.fixture
def postgres_instance(postgres_storages: PostgresStorages, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own on Postgres, which threads and processes can share."""
    with postgres_storages.new() as storage, instance_in(tmp_path, storage=storage) as instance:
        yield instance


@pytest.fixture
def memory_instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own, for one thread."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> dg.DagsterInstance:
    """A Dagster instance of the test's own: in memory, or the one whose name a parameter has (`ON_EACH_STORAGE`)."""
    found: dg.DagsterInstance = request.getfixturevalue(getattr(request, "param", "memory_instance"))
    return found


@pytest.fixture
def shared_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own, in SQLite, which threads and processes can share."""
    with instance_in(tmp_path) as instance:
        yield instance


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port of this machine at which nobody listens."""

    def find() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            number: int = listener.getsockname()[1]
        return number

    return find


@pytest.fixture(scope="session")
def wait_until() -> WaitUntil:
    """``wait_until(predicate)``: asks until the answer is true, and fails after some minutes."""

    def ask(predicate: Callable[[], Answer]) -> Answer:
        deadline = time.monotonic() + WITHIN_S
        pause_s = 0.01
        while not (answer := predicate()):
            if time.monotonic() > deadline:
                pytest.fail(f"Still not so after {WITHIN_S} s.")
            # many ask another process, and would keep it from what is waited for
            time.sleep(pause_s)
            pause_s = min(1.3 * pause_s, 0.3)
        return answer

    return ask


@pytest.fixture
def everything(embedded_warehouse: EmbeddedWarehouse) -> Callable[[], object]:
    """All that the API says about sources, tables and jobs."""

    def read() -> object:
        sources = [
            embedded_warehouse.client.get_source(source.id) for source in embedded_warehouse.client.list_sources()
        ]
        jobs = [list(embedded_warehouse.client.list_jobs(source.id)) for source in sources]
        return sources, jobs

    return read
