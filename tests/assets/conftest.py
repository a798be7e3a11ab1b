"""What the tests of the Dagster side share: an embedded warehouse, databases to sync from, a Dagster instance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from dagster_plus import refuse_as_dagster_plus
from warehouse import Shelf, WarehouseProcess, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dagster as dg

    from dw_orchestration.local.shop.postgres import DatabaseLogin


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseProcess]:
    """An embedded warehouse of this test process, without a shop, with an empty folder of files."""
    folder = tmp_path_factory.mktemp("warehouse")
    process = WarehouseProcess(folder / "home", fixtures=folder / "fixtures")
    yield process
    process.stop()


@pytest.fixture
def instance(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """A Dagster instance of the test's own, which refuses what Dagster+ refuses."""
    return refuse_as_dagster_plus(instance)


@pytest.fixture
def shelf(
    warehouse: WarehouseProcess, postgres_database: DatabaseLogin, wait_until: Callable[..., Any]
) -> Iterator[Shelf]:
    """A Postgres source of three tables, synced once, in a database of the test's own; removed afterwards."""
    shelf = warehouse.add_shelf(postgres_database, wait_until=wait_until)
    yield shelf
    shelf.remove()


@pytest.fixture(scope="session")
def quiet_shelf(warehouse: WarehouseProcess, postgres_server: DatabaseLogin, wait_until: Callable[..., Any]) -> Shelf:
    """A source as `shelf`, for all tests that change nothing in it."""
    execute(postgres_server, "create database quiet_shelf")
    return warehouse.add_shelf(replace(postgres_server, database="quiet_shelf"), wait_until=wait_until)


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    """A port at which nobody listens."""
    return free_port()
