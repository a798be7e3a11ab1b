"""PostHog shows a row that cannot be read: everything else is as it was, and nothing is taken for deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from dw_orchestration.history.asset import build_sync_history
from dw_orchestration.operations.takeover import Change, apply_takeover, give_back, plan_takeover
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.resources.state import refresh_state
from dw_orchestration.sensors.drift import build_drift_sensor
from dw_orchestration.tables.errors import StateNotRefreshedError
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from tests.acceptance.conftest import Dagster, failure_of
from tests.acceptance.proxy import FaultyProxy, Proxied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

    Rewrite = Callable[[str, Any], Any]

TABLES = ["Charge", "Customer", "Deal"]


@pytest.fixture
def proxy(embedded_warehouse: EmbeddedWarehouse) -> Iterator[FaultyProxy]:
    """The way to a warehouse with two sources, of which a test can rewrite the answers."""
    embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1}], "Customer": [{"id": 1}]})
    embedded_warehouse.add_source("Hubspot", tables={"Deal": [{"id": 1}]})
    with FaultyProxy(embedded_warehouse.resource.ensure_running()) as proxy:
        yield proxy


def spoil_tables(**fault: object) -> Rewrite:
    """All rows of the table Customer have this fault, in every list of tables and of sources."""

    def spoilt(row: Any) -> Any:
        schemas = [spoilt(schema) for schema in row.get("schemas") or ()]
        return row | ({"schemas": schemas} if schemas else {}) | (fault if row.get("name") == "Customer" else {})

    def rewrite(_: str, answer: Any) -> Any:
        return answer | {"results": [spoilt(row) for row in answer["results"]]} if "results" in answer else answer

    return rewrite


def spoil_sources(**fault: object) -> Rewrite:
    """The row of the source Hubspot has this fault in the list of sources."""

    def rewrite(_: str, answer: Any) -> Any:
        if "results" not in answer:
            return answer
        rows = [row | (fault if row.get("source_type") == "Hubspot" else {}) for row in answer["results"]]
        return answer | {"results": rows}

    return rewrite


def spoil_jobs(**fault: object) -> Rewrite:
    """Every list of jobs begins with a job that has this fault."""

    def rewrite(path: str, answer: Any) -> Any:
        return [answer[0] | {"id": "the-bad-one"} | fault, *answer] if "/jobs/" in path and answer else answer

    return rewrite


@pytest.mark.parametrize(
    "rewrite",
    [
        spoil_tables(name=None),
        spoil_tables(id=17),
        spoil_tables(table={"id": "t", "name": "t", "row_count": 44.5}),
        spoil_sources(schemas=None),
        spoil_sources(source_type=None),
        spoil_sources(id=None),
        spoil_sources(created_at="yesterday"),
    ],
)
def test_a_refresh_keeps_what_cannot_be_read(
    proxy: FaultyProxy, instance: dg.DagsterInstance, tmp_path: Path, rewrite: Rewrite
) -> None:
    """The state keeps the last good record, and the drift check reports no removed table."""
    path, resource = tmp_path / "state.json", Proxied.through(proxy)
    refresh_state(resource, path)
    before = WarehouseSnapshot.read(path)
    proxy.rewrite = rewrite
    refresh_state(resource, path)
    after = WarehouseSnapshot.read(path)
    assert sorted(TABLES) == sorted(schema.name for schema in after.schemas)
    assert before.sources == after.sources
    sensor = build_drift_sensor(Tables(before))
    context = dg.build_sensor_context(instance=instance, resources={DEFAULT_RESOURCE_KEY: resource})
    assert "The state is up to date." == sensor.evaluate_tick(context).skip_message


def test_a_first_refresh_takes_what_can_be_read(proxy: FaultyProxy, tmp_path: Path) -> None:
    """Without an earlier state, the table that cannot be read is left out alone."""
    proxy.rewrite = spoil_tables(name=None)
    refresh_state(Proxied.through(proxy), tmp_path / "state.json")
    assert {"Charge", "Deal"} == {schema.name for schema in WarehouseSnapshot.read(tmp_path / "state.json").schemas}


def test_a_warehouse_of_which_nothing_can_be_read(proxy: FaultyProxy, tmp_path: Path) -> None:
    """It is not taken for one without tables: the error names the row."""
    proxy.rewrite = lambda _, answer: answer | {"results": [{"id": "source-1", "source_type": 5}]}
    with pytest.raises(StateNotRefreshedError, match=r"no source.*source source-1 \(source_type: "):
        refresh_state(Proxied.through(proxy), tmp_path / "state.json")


@pytest.mark.parametrize(
    ("rewrite", "named"),
    [
        (spoil_jobs(schema={"name": "", "should_sync": False}), "job the-bad-one (schema: it has no id"),
        (spoil_jobs(rows_synced=44.5), "job the-bad-one (rows_synced: "),
        (spoil_jobs(created_at="soon"), "job the-bad-one (created_at: "),
        (spoil_tables(name=None), "(name: "),
        (spoil_sources(schemas=None), "(schemas: "),
        (spoil_sources(source_type=None), "(source_type: "),
    ],
)
def test_the_sensor_and_the_history_read_all_other_syncs(
    *,
    proxy: FaultyProxy,
    embedded_warehouse: EmbeddedWarehouse,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    rewrite: Rewrite,
    named: str,
) -> None:
    """Each sync is reported once, also those of a source whose own row cannot be read; the history has them all."""
    dagster = Dagster(instance, Proxied.through(proxy))
    synced = {table: embedded_warehouse.sync(table).id for table in TABLES}
    proxy.rewrite = rewrite
    said = dagster.tick()
    dagster.tick()
    assert {table: {job_id: 1} for table, job_id in synced.items()} == {t: dagster.reported(t) for t in TABLES}
    assert named in (said.skip_message or "")
    history = dg.materialize(
        [build_sync_history(Tables(dagster.snapshot), now=lambda: datetime.now(UTC))],
        instance=instance,
        resources={
            DEFAULT_RESOURCE_KEY: dagster.resource,
            "posthog_sync_history": DuckDBResource(database=str(tmp_path / "history.duckdb")),
        },
    )
    (event,) = history.asset_materializations_for_node("posthog_warehouse__sync_history")
    assert named in event.metadata["unreadable"].value
    assert (2 if "source_type" in named or "schemas" in named else 3) == event.metadata["jobs_read"].value


def test_a_table_whose_record_cannot_be_read_is_not_taken_for_deleted(
    proxy: FaultyProxy, embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """A run of its source syncs the others, triggers nothing for it, and names the field."""
    dagster = Dagster(instance, Proxied.through(proxy))
    proxy.rewrite = lambda _, answer: (
        answer | {"schemas": [row | ({"label": 7} if row["name"] == "Customer" else {}) for row in answer["schemas"]]}
        if "schemas" in answer
        else answer
    )
    result = dagster.materialize("Charge", "Customer")
    assert not result.success
    assert "its record cannot be read" in failure_of(result)
    assert "(label: " in failure_of(result)
    assert (1, 0) == (len(embedded_warehouse.jobs("Charge")), len(embedded_warehouse.jobs("Customer")))
    assert 1 == sum(dagster.reported("Charge").values())


def test_a_takeover_forgets_no_frequency(proxy: FaultyProxy, embedded_warehouse: EmbeddedWarehouse) -> None:
    """What cannot be read when a takeover is undone is named, and is given back the next time."""
    tables = Tables(embedded_warehouse.snapshot())
    apply_takeover(embedded_warehouse.client, plan_takeover(tables, now=datetime.now(UTC)))
    proxy.rewrite = spoil_tables(name=None)
    with Proxied.through(proxy).client() as client:
        ends = {outcome.name: outcome.change for outcome in give_back(client, tables)}
        unreadable = f"schema {embedded_warehouse.schema('Customer').id} (name: "
        assert {"hubspot.Deal", "stripe.Charge"} == {name for name, change in ends.items() if change == "given back"}
        assert [Change.FAILED] == [change for name, change in ends.items() if name.startswith(unreadable)]
        proxy.rewrite = None
    with Proxied.through(proxy).client() as client:
        assert [Change.GIVEN_BACK] == [outcome.change for outcome in give_back(client, tables)]
    assert embedded_warehouse.schema("Customer").sync_frequency is not SyncFrequency.THIRTY_DAYS
