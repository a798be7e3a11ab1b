"""The jobs of one source cannot be read for long: that is seen, and costs the other sources nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from dw_orchestration.history.asset import build_sync_history
from dw_orchestration.resources.failure import PlainError
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from tests.acceptance.conftest import Dagster
from tests.acceptance.proxy import FaultyProxy, Proxied
from tests.conftest import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

INTERVAL_S = 30
WELL = ""


@pytest.fixture
def proxy(embedded_warehouse: EmbeddedWarehouse) -> Iterator[FaultyProxy]:
    """The way to a warehouse with two sources, each with one table."""
    embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1}]})
    embedded_warehouse.add_source("Hubspot", tables={"Deal": [{"id": 1}]})
    with FaultyProxy(embedded_warehouse.resource.ensure_running()) as proxy:
        yield proxy


@pytest.fixture
def clock() -> Clock:
    """The time of day of the ticks."""
    return Clock()


def spoil_jobs_of(proxy: FaultyProxy, source_type: str) -> None:
    """Let the jobs of a source be something else from now on."""
    with Proxied.through(proxy).client() as client:
        (bad,) = [source.id for source in client.list_sources() if source.source_type == source_type]
    proxy.rewrite = lambda path, answer: {"oops": 1} if f"{bad}/jobs/" in path else answer


def tick(dagster: Dagster, clock: Clock) -> str:
    """A tick, half a minute after the last one; how it failed."""
    clock.advance(seconds=INTERVAL_S)
    try:
        dagster.tick(now=clock)
    except dg.DagsterError as error:
        return str(error)
    return WELL


def test_lasting_trouble_fails_ticks_and_loses_nothing(
    proxy: FaultyProxy, embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, clock: Clock
) -> None:
    """Ticks fail after five minutes with the trouble first; the other source's syncs are each reported once, soon."""
    dagster = Dagster(instance, Proxied.through(proxy))
    assert WELL == tick(dagster, clock)
    spoil_jobs_of(proxy, "Hubspot")
    missed = embedded_warehouse.sync("Deal")
    assert [WELL] * 10 == [tick(dagster, clock) for _ in range(10)]

    for _ in range(3):
        synced = embedded_warehouse.sync("Charge")
        ends = [tick(dagster, clock) for _ in range(4)]
        failures = [end for end in ends if end]
        assert WELL in ends
        assert failures
        assert all(end.startswith("The jobs of Hubspot (") for end in failures)
        assert all(
            "cannot be read since 2026-11-03 12:01 UTC: The answer is not from PostHog" in end for end in failures
        )
        assert 1 == dagster.reported("Charge")[synced.id]

    proxy.rewrite = None
    assert [WELL] * 4 == [tick(dagster, clock) for _ in range(4)]
    assert {missed.id: 1} == dagster.reported("Deal")
    assert {1} == set(dagster.reported("Charge").values())


def test_a_list_that_cannot_be_read_fails_the_tick(proxy: FaultyProxy, instance: dg.DagsterInstance) -> None:
    """Without the list of sources nothing can be reported: the tick fails at once, with the reason and no frames."""
    dagster = Dagster(instance, Proxied.through(proxy))
    proxy.rewrite = lambda _path, _answer: {"oops": 1}
    with pytest.raises(PlainError, match=r"^The list of sources cannot be read, so no sync is reported: "):
        dagster.tick()


def test_trouble_leads_the_text_at_once(
    proxy: FaultyProxy, embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance
) -> None:
    """A tick that reports other sources begins with what it could not read."""
    dagster = Dagster(instance, Proxied.through(proxy))
    spoil_jobs_of(proxy, "Hubspot")
    embedded_warehouse.sync("Charge")
    said = dagster.tick().skip_message or ""
    assert said.startswith("The jobs of Hubspot (")
    assert "1 syncs reported" in said


def test_a_source_without_changes_is_read_until_its_trouble_is_over(
    proxy: FaultyProxy, instance: dg.DagsterInstance, clock: Clock
) -> None:
    """Quiet sources take turns, but not one that could not be read."""
    dagster = Dagster(instance, Proxied.through(proxy))
    assert WELL == tick(dagster, clock)
    spoil_jobs_of(proxy, "Hubspot")
    assert any(tick(dagster, clock) for _ in range(16))


def test_a_history_that_lacks_a_source_fails_its_check(
    proxy: FaultyProxy, embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The history keeps what could be read, and its check `sources_read` fails until all could."""
    dagster = Dagster(instance, Proxied.through(proxy))
    embedded_warehouse.sync("Charge")

    def evaluation() -> Any:
        result = dg.materialize(
            [build_sync_history(Tables(dagster.snapshot))],
            instance=instance,
            resources={
                DEFAULT_RESOURCE_KEY: dagster.resource,
                "posthog_sync_history": DuckDBResource(database=str(tmp_path / "history.duckdb")),
            },
        )
        (event,) = result.asset_materializations_for_node("posthog_warehouse__sync_history")
        (check,) = result.get_asset_check_evaluations()
        return check.check_name, check.passed, check.description or "", event.metadata["jobs_read"].value

    spoil_jobs_of(proxy, "Hubspot")
    name, passed, description, jobs = evaluation()
    assert ("sources_read", False, 1) == (name, passed, jobs)
    assert description.startswith("1 of 2 sources were not read:\n- Hubspot (")
    proxy.rewrite = None
    assert ("sources_read", True) == evaluation()[:2]
