"""A source with two synced tables in the embedded warehouse, and what is the case there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.operations.project import Project

if TYPE_CHECKING:
    import dagster as dg

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

CUSTOMERS = [{"id": 1, "name": "Ada", "updated": 1}, {"id": 2, "name": "Grace", "updated": 2}]
CHARGES = [{"id": number, "amount": 5.5} for number in range(3)]


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """The warehouse with the source `stripe_acme`, of which nothing has been synced."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": CUSTOMERS, "Charge": CHARGES})
    return embedded_warehouse


@pytest.fixture
def synced(stripe: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """The same with the two rows of `Customer`."""
    stripe.sync("Customer")
    return stripe


@pytest.fixture
def project(stripe: EmbeddedWarehouse) -> Project:
    """The same, for operations."""
    return Project(stripe.client, "embedded warehouse")


def shown(result: dg.ExecuteInProcessResult) -> str:
    """The table in the metadata of the run's step, or of its failure."""
    if not result.success:
        return failure(result).metadata["result"].value
    (event,) = [event for event in result.all_node_events if event.event_type_value == "STEP_OUTPUT"]
    return event.step_output_data.metadata["result"].value


def failure(result: dg.ExecuteInProcessResult) -> Any:
    """What the run's step failed with."""
    (event,) = [event for event in result.all_node_events if event.is_step_failure]
    return event.step_failure_data.user_failure_data
