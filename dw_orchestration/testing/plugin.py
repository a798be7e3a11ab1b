"""The pytest plugin: the fixture `embedded_warehouse`. pytest loads it by itself once the package is installed.

It imports nothing but pytest until a test asks for the fixture, since every run of pytest loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.resources.local import LocalWarehouse
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse


@pytest.fixture(scope="session")
def embedded_warehouse_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWarehouse]:
    """The process behind `embedded_warehouse`, one for the whole session, without the shop."""
    from dw_orchestration.resources.local import LocalWarehouse

    folder = tmp_path_factory.mktemp("embedded_warehouse")
    resource = LocalWarehouse(home=str(folder / "home"), shop=False, fixtures=str(folder / "fixtures"))
    resource.ensure_running()
    yield resource
    resource.stop()


@pytest.fixture
def embedded_warehouse(embedded_warehouse_process: LocalWarehouse) -> Iterator[EmbeddedWarehouse]:
    """An empty embedded warehouse of the test's own.

    Example:
        ```python
        def test_customers_arrive(embedded_warehouse: EmbeddedWarehouse) -> None:
            embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1, "name": "Ada"}]})
            embedded_warehouse.sync("Customer")
            assert [{"id": 1, "name": "Ada"}] == embedded_warehouse.rows("Customer")
        ```
    """
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

    with EmbeddedWarehouse(embedded_warehouse_process) as warehouse:
        yield warehouse
