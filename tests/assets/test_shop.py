"""The first run of somebody who has neither PostHog nor a database: the default code location, materialized whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest
from warehouse import WarehouseProcess

from dw_orchestration.definitions import definitions_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = {"customers", "order_lines", "orders", "page_events", "products"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an embedded warehouse that sells things."""
    home = tmp_path_factory.mktemp("shop")
    process = WarehouseProcess(home, shop=True)
    yield home
    process.stop()


@pytest.fixture(scope="module")
def run(home: Path) -> dg.ExecuteInProcessResult:
    """`Materialize all` in the default code location."""
    defs = definitions_for({"DW_ORCHESTRATION_HOME": str(home)})
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, raise_on_error=False)


def test_everything_is_materialized(run: dg.ExecuteInProcessResult) -> None:
    """All tables of the shop and the asset downstream of them are materialized in one run, and nothing fails."""
    assert run.success
    found = {event.asset_key.path[-1] for event in run.get_asset_materialization_events() if event.asset_key}
    assert TABLES | {"revenue_by_day"} <= found


def test_the_report_is_made_of_what_was_synced(run: dg.ExecuteInProcessResult, home: Path) -> None:
    """The asset downstream has read the rows that were synced before it in the same run."""
    events = {event.asset_key.path[-1]: event for event in run.get_asset_materialization_events() if event.asset_key}
    counted = events["orders"].materialization.metadata["dagster/row_count"].value
    with duckdb.connect(str(home / "reports.duckdb"), read_only=True) as reports:
        ((days, orders),) = reports.execute("select count(*), sum(orders) from revenue_by_day").fetchall()
    assert days == events["revenue_by_day"].materialization.metadata["dagster/row_count"].value
    assert isinstance(counted, int)
    # cancelled orders are left out of the report, and most are not cancelled
    assert counted / 2 < orders < counted


def test_the_state_file_has_no_secret(run: dg.ExecuteInProcessResult, home: Path) -> None:
    """The state of the embedded warehouse can be shown to anybody."""
    assert run.success
    text = (home / "state_embedded.json").read_text()
    assert "orders" in text
    assert "password" not in text
