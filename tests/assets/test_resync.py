"""A resync deletes and bills again, so a person has to name the tables; and the log lists what is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from warehouse import execute, failure_of, log_of

if TYPE_CHECKING:
    import dagster as dg
    from warehouse import Shelf


def test_without_confirmation_nothing_is_sent(quiet_shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A resync that is not confirmed is refused; the text names the tables and what to write."""
    before = quiet_shelf.counts()
    told = failure_of(quiet_shelf.materialize("customers", "orders", instance=instance, sync_mode="resync"))
    names = [f"postgres_{quiet_shelf.prefix}.{table}" for table in ("customers", "orders")]
    assert f"every row of {', '.join(names)}" in told
    assert f"`confirm_resync: [{', '.join(names)}]`" in told
    assert before == quiet_shelf.counts()


@pytest.mark.parametrize(
    ("confirmed", "told"),
    [
        (["customers"], ".orders. If that is what you want"),
        (["customers", "orders", "products"], "No table is named 'products'"),
        (["customers", "*"], "No table is named '*'"),
    ],
)
def test_the_confirmation_names_exactly_the_selected_tables(
    quiet_shelf: Shelf, instance: dg.DagsterInstance, confirmed: list[str], told: str
) -> None:
    """A confirmation that names fewer tables, or others, is refused."""
    before = quiet_shelf.counts()
    result = quiet_shelf.materialize(
        "customers", "orders", instance=instance, sync_mode="resync", confirm_resync=confirmed
    )
    assert told in failure_of(result)
    assert before == quiet_shelf.counts()


def test_a_confirmation_without_a_resync_is_a_mistake(quiet_shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """Confirming a resync and requesting a reload is an error, rather than either of them."""
    told = failure_of(quiet_shelf.materialize("orders", instance=instance, confirm_resync=["orders"]))
    assert "Set `sync_mode: resync`, or leave it out." in told


@pytest.mark.parametrize(
    "tag",
    [
        "dagster/schedule_name",
        "dagster/sensor_name",
        "dagster/from_automation_condition",
        "dagster/auto_materialize",
        "dagster/retry_number",
        "dagster/auto_retry_run_id",
    ],
)
def test_no_run_without_a_person_resyncs(quiet_shelf: Shelf, instance: dg.DagsterInstance, tag: str) -> None:
    """A run that a schedule, a sensor, automation or an automatic retry has launched never resyncs."""
    before = quiet_shelf.counts()
    result = quiet_shelf.materialize(
        "orders", instance=instance, tags={tag: "1"}, sync_mode="resync", confirm_resync=["orders"]
    )
    told = failure_of(result)
    assert f"not done in a run tagged {tag}" in told
    assert before == quiet_shelf.counts()


def test_a_confirmed_resync_brings_everything_again(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A confirmed resync reads every row, loses those that are gone, and said before what it would drop."""
    synced_at = shelf.record("orders").last_synced_at
    execute(shelf.database, "delete from orders where id <= 30")
    result = shelf.materialize("orders", instance=instance, sync_mode="resync", confirm_resync=["orders"])
    assert result.success
    assert [(10, 31)] == shelf.warehouse.rows(f"select count(*), min(id) from postgres_{shelf.prefix}.orders")
    assert 10 == shelf.newest("orders").rows_synced
    assert synced_at is not None
    told = f"orders: the resync drops 40 rows, last synced at {synced_at:%Y-%m-%d %H:%M:%S} UTC"
    lines = log_of(result, instance)
    assert told in lines
    assert lines.index(told) < lines.index("ASSET_OBSERVATION")


def test_a_re_execution_does_not_resync_again(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A re-execution has the confirmation of the run that it repeats, which is no new one: nothing is dropped twice."""
    resync: dict[str, object] = {"sync_mode": "resync", "confirm_resync": ["products"]}
    before = shelf.counts()
    first = shelf.materialize("products", instance=instance, **resync)
    assert first.success
    told = shelf.re_execute(first.run_id, "products", instance=instance, **resync)
    assert "A retry or re-execution does not resync again" in told
    assert {"products": 1} == shelf.counts() - before
