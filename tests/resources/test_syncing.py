"""Syncing by name from code of a user's own."""

import os
import signal
import time
from threading import Thread

import dagster as dg
import pytest

from dw_orchestration import WarehouseResource, errors
from dw_orchestration.testing import EmbeddedWarehouse, fails, never_ends
from tests.conftest import WaitUntil

ROWS = [{"id": 1}, {"id": 2}]


@pytest.fixture
def acme(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with two tables."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": ROWS, "Charge": ROWS})
    return embedded_warehouse


def test_an_op_syncs_tables_and_waits(acme: EmbeddedWarehouse, wait_until: WaitUntil) -> None:
    """An op has the ended syncs when the call returns; a sync that was running is waited for, and not started twice."""
    acme.behave("Customer", never_ends())
    running = acme.start("Customer")

    def end() -> None:
        # what starts the one has found the other running
        wait_until(lambda: acme.jobs("Charge"))
        acme.reset()

    @dg.op
    def refresh(posthog_warehouse: WarehouseResource) -> list[str]:
        Thread(target=end).start()
        return [job.id for job in posthog_warehouse.sync_and_wait("acme.Customer", "*.charge")]

    job = dg.GraphDefinition("job", node_defs=[refresh]).to_job(resource_defs={"posthog_warehouse": acme.resource})
    ended = job.execute_in_process().output_for_node("refresh")
    assert {running.id, acme.jobs("Charge")[0].id} == set(ended)
    assert [2, 2] == [len(acme.rows(name)) for name in ("Customer", "Charge")]


def test_a_failed_sync_is_its_error(acme: EmbeddedWarehouse) -> None:
    """The error is the class of the failure, with PostHog's reason and the other failures, once all have ended."""
    acme.behave("Customer", fails("the key was revoked"))
    acme.behave("Charge", fails("the disk is full"))
    with pytest.raises(errors.SyncFailedError) as caught:
        acme.resource.sync_and_wait("Customer", "Charge")
    told = [str(caught.value), *caught.value.__notes__]
    assert sorted(["the disk is full", "the key was revoked"]) == sorted(
        reason for text in told for reason in ("the disk is full", "the key was revoked") if reason in text
    )


def test_an_interrupted_process_cancels_what_it_started(acme: EmbeddedWarehouse) -> None:
    """Ctrl-C, and a user who terminates the run, cancel the syncs of the call in PostHog."""
    acme.behave("Customer", never_ends())

    def interrupt() -> None:
        while not acme.jobs("Customer"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        acme.resource.sync_and_wait("Customer")
    assert ["Failed"] == [job.status for job in acme.jobs("Customer")]
    assert "cancelled" in str(acme.jobs("Customer")[0].latest_error).lower()


def test_a_typo_syncs_nothing(acme: EmbeddedWarehouse) -> None:
    """A name that names no table is an error before anything is started."""
    with pytest.raises(errors.UnknownNameError, match=r"Did you mean stripe_acme\.Customer"):
        acme.resource.sync_and_wait("Charge", "Custmer")
    assert [] == acme.jobs("Charge")
