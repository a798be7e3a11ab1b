"""Scripted behaviour: what the API shows of it, and that the sync itself stays real."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.errors import (
    BadRequestError,
    LostAnswerError,
    PartialUpdateError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
)
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.testing import (
    TableBehaviour,
    billing_limit,
    billing_limit_too_low,
    broken,
    down,
    fails,
    fails_to_save,
    has_two_jobs,
    is_not_billed,
    job_appears_after,
    loses_answers,
    loses_triggers,
    never_ends,
    never_starts,
    runs_for,
    shows_status,
    splits,
    throttled,
    unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse
    from tests.conftest import WaitUntil

ROWS = [{"id": 1}, {"id": 2}]


@pytest.fixture
def shop(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with two tables of two rows."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": ROWS, "Charge": ROWS})
    return embedded_warehouse


@pytest.fixture
def impatient(shop: EmbeddedWarehouse) -> Iterator[PostHogWarehouseClient]:
    """A client that tries once."""
    endpoint = shop.resource.ensure_running()
    where = (endpoint["host"], endpoint["project_id"], endpoint["api_key"])
    with PostHogWarehouseClient(*where, rate_limits=None, retry=RetryPolicy(attempts=1)) as client:
        yield client


def test_a_failing_source_fails_the_job(shop: EmbeddedWarehouse) -> None:
    """The job and the table have the source's error, and the table keeps the rows that it had."""
    shop.sync("Customer")
    shop.behave("Customer", fails("Stripe is down"))
    job = shop.sync("Customer")
    assert (JobStatus.FAILED, "Stripe is down") == (job.status, job.latest_error)
    schema = shop.schema("Customer")
    assert ("Failed", "Stripe is down", True) == (schema.status, schema.latest_error, schema.should_sync)
    assert ROWS == shop.rows("Customer")


def test_a_permanent_failure_turns_the_table_off(shop: EmbeddedWarehouse) -> None:
    """PostHog switches a table off at an error that it does not retry."""
    shop.behave("Customer", fails("No such permission", permanent=True))
    shop.sync("Customer")
    assert not shop.schema("Customer").should_sync


def test_failures_can_be_counted(shop: EmbeddedWarehouse) -> None:
    """After so many failures, the next sync succeeds."""
    shop.behave("Customer", fails("Try again", times=2))
    assert ["Failed", "Failed", "Completed"] == [shop.sync("Customer").status for _ in range(3)]


@pytest.mark.parametrize(
    ("behaviour", "job_says", "schema_says"),
    [
        (billing_limit(), "Billing limits", "Billing limits"),
        (billing_limit_too_low(), "Billing limit too low", "Billing limits too low"),
    ],
)
def test_billing_ends_a_job_without_rows(
    shop: EmbeddedWarehouse, behaviour: TableBehaviour, job_says: str, schema_says: str
) -> None:
    """Billing shows in the job, ended and without rows; the source shows it too, and no error is written."""
    shop.behave("Customer", behaviour)
    job = shop.sync("Customer")
    assert (job_says, 0, None) == (_raw_status(shop, job.id), job.rows_synced, job.latest_error)
    assert job.finished_at is not None
    schema = shop.schema("Customer")
    assert (schema_says, None) == (_raw_schema_status(shop, schema.id), schema.latest_error)
    (source,) = shop.client.list_sources()
    assert schema_says.rstrip("s") == str(source.status).rstrip("s")
    assert [] == shop.rows("Customer")


def test_a_trigger_can_lead_to_nothing(shop: EmbeddedWarehouse) -> None:
    """The trigger is taken, the table shows Running, no job appears; after the reset a trigger works."""
    shop.behave("Customer", never_starts())
    shop.client.reload_schema(shop.schema("Customer").id)
    assert "Running" == shop.schema("Customer").status
    shop.sync("Charge")
    assert [] == shop.jobs("Customer")
    assert "Running" == shop.schema("Customer").status
    shop.reset()
    assert "Completed" == shop.sync("Customer").status


def test_a_job_can_be_late(shop: EmbeddedWarehouse) -> None:
    """The job appears so long after the trigger, and other tables are not held up by it."""
    shop.behave("Customer", job_appears_after(1.5))
    triggered_at = shop.client.server_time
    shop.client.reload_schema(shop.schema("Customer").id)
    assert "Completed" == shop.sync("Charge").status
    job = shop.start("Customer")  # its trigger is dropped, as the job is on its way
    assert triggered_at is not None
    assert (job.created_at - triggered_at).total_seconds() >= 1.5
    assert 1 == len(shop.jobs("Customer"))


def test_a_sync_can_take_its_time(shop: EmbeddedWarehouse) -> None:
    """The job takes at least so long, and still imports its rows."""
    shop.behave("Customer", runs_for(1))
    job = shop.sync("Customer")
    assert job.finished_at is not None
    assert 1 <= (job.finished_at - job.created_at).total_seconds()
    assert ROWS == shop.rows("Customer")


@pytest.mark.parametrize("behaviour", [runs_for(3600), never_ends()])
def test_a_held_up_sync_can_be_cancelled(shop: EmbeddedWarehouse, behaviour: TableBehaviour) -> None:
    """Cancelling ends the job as PostHog does, and another sync may start."""
    shop.behave("Customer", behaviour)
    shop.start("Customer")
    shop.client.cancel_schema(shop.schema("Customer").id)
    job = shop.jobs("Customer")[0]
    assert (JobStatus.FAILED, "Sync cancelled by user") == (job.status, job.latest_error)
    assert "Running" == shop.start("Customer").status


def test_a_held_up_sync_goes_on_after_the_reset(shop: EmbeddedWarehouse, wait_until: Callable[..., Any]) -> None:
    """The reset lets go what was held up: the same job completes with its rows."""
    shop.behave("Customer", never_ends())
    job = shop.start("Customer")
    shop.reset()
    wait_until(lambda: "Completed" == shop.jobs("Customer")[0].status)
    assert [job.id] == [job.id for job in shop.jobs("Customer")]
    assert ROWS == shop.rows("Customer")


def test_many_held_up_syncs_leave_room_for_others(embedded_warehouse: EmbeddedWarehouse) -> None:
    """However many syncs never end, another table's sync completes."""
    names = [f"table_{number}" for number in range(8)]
    embedded_warehouse.add_source("Stripe", tables=dict.fromkeys([*names, "Charge"], ROWS))
    for name in names:
        embedded_warehouse.behave(name, never_ends())
        embedded_warehouse.start(name)
    assert "Completed" == embedded_warehouse.sync("Charge").status
    assert {"Running"} == {embedded_warehouse.jobs(name)[0].status for name in names}


def test_a_restart_splits_a_sync(shop: EmbeddedWarehouse, wait_until: Callable[..., Any]) -> None:
    """The first job fails by the restart, and a successor completes by itself."""
    shop.behave("Customer", splits())
    shop.client.reload_schema(shop.schema("Customer").id)
    wait_until(lambda: [job.status for job in shop.jobs("Customer")] == ["Completed", "Failed"])
    assert "The worker was restarted before this sync finished." == shop.jobs("Customer")[1].latest_error
    assert ROWS == shop.rows("Customer")


def test_behaviours_can_be_joined(shop: EmbeddedWarehouse) -> None:
    """Two behaviours of one table hold together."""
    shop.behave("Customer", runs_for(0.5) | fails("Half-way"))
    job = shop.sync("Customer")
    assert "Half-way" == job.latest_error
    assert job.finished_at is not None
    assert 0.5 <= (job.finished_at - job.created_at).total_seconds()


def test_a_throttled_caller_is_told_when_to_come_again(
    shop: EmbeddedWarehouse, impatient: PostHogWarehouseClient
) -> None:
    """Every call is a 429 in PostHog's shape until the reset, the trigger too; nothing is started."""
    schema_id = shop.schema("Customer").id
    shop.answer(throttled(retry_after_s=7))
    with pytest.raises(RateLimitedError, match="Expected available in 7 seconds") as raised:
        impatient.reload_schema(schema_id)
    assert 7 == raised.value.retry_after_s
    shop.reset()
    assert [] == shop.jobs("Customer")


def test_a_gateway_answers_with_a_page(shop: EmbeddedWarehouse, impatient: PostHogWarehouseClient) -> None:
    """Every call is a 502 with HTML until the reset."""
    shop.answer(unavailable())
    with pytest.raises(ServerError, match="502"):
        list(impatient.list_sources())
    shop.reset()
    assert 1 == len(list(impatient.list_sources()))


def test_an_outage_can_pass_by_itself(shop: EmbeddedWarehouse, wait_until: Callable[..., Any]) -> None:
    """After its time the warehouse answers again, without a reset."""
    shop.answer(down(0.5))
    wait_until(lambda: shop.snapshot().sources)


def test_the_control_is_for_the_owner_alone(shop: EmbeddedWarehouse) -> None:
    """A key that may write to the API may not script the warehouse."""
    endpoint = shop.resource.ensure_running()
    command = [sys.executable, "-m", "dw_orchestration.local", "key", "--home", shop.resource.home]
    made = subprocess.run(
        [*command, "--scope", "external_data_source:write"], capture_output=True, text=True, check=True
    )
    client = PostHogWarehouseClient(endpoint["host"], endpoint["project_id"], made.stdout.strip(), rate_limits=None)
    with client:
        assert 1 == len(list(client.list_sources()))
        with pytest.raises(PermissionDeniedError):
            client.transport.request("DELETE", "/_behaviours/")


def test_a_slip_in_a_script_is_refused(shop: EmbeddedWarehouse) -> None:
    """An unknown setting is an error, never a behaviour that is not there."""
    with pytest.raises(BadRequestError):
        shop.behave("Customer", TableBehaviour({"fails": "x"}))


def test_a_table_that_was_turned_off_can_be_turned_on(shop: EmbeddedWarehouse) -> None:
    """Switching a table on starts nothing by itself in a test."""
    schema_id = shop.schema("Customer").id
    shop.client.update_schema(schema_id, SchemaUpdate(should_sync=False))
    shop.client.update_schema(schema_id, SchemaUpdate(should_sync=True))
    assert [] == shop.jobs("Customer")


def _raw_status(warehouse: EmbeddedWarehouse, job_id: str) -> str:
    """A job's status in the server's own spelling."""
    (source,) = warehouse.client.list_sources()
    path = f"/api/projects/1/external_data_sources/{source.id}/jobs/"
    jobs = _json(warehouse, path)
    return next(str(job["status"]) for job in jobs if job["id"] == job_id)


def _raw_schema_status(warehouse: EmbeddedWarehouse, schema_id: str) -> str:
    """A schema's status in the server's own spelling."""
    return str(_json(warehouse, f"/api/projects/1/external_data_schemas/{schema_id}/")["status"])


def _json(warehouse: EmbeddedWarehouse, path: str) -> Any:
    return json.loads(warehouse.client.transport.request("GET", path).text)


def test_a_trigger_can_be_lost(shop: EmbeddedWarehouse) -> None:
    """A lost trigger is accepted, and neither the table nor the jobs show anything of it."""
    shop.behave("Customer", loses_triggers())
    shop.client.reload_schema(shop.schema("Customer").id)
    assert (None, []) == (shop.schema("Customer").status, shop.jobs("Customer"))


def test_a_status_can_be_unknown(shop: EmbeddedWarehouse, wait_until: WaitUntil) -> None:
    """A running job shows a status that the client does not know, until the behaviour is reset."""
    shop.behave("Customer", shows_status("Snoozing") | never_ends())
    shop.client.reload_schema(shop.schema("Customer").id)
    (job,) = wait_until(lambda: shop.jobs("Customer"))
    assert ("Snoozing", False) == (job.status, job.status.is_known)


def test_a_job_can_be_free(shop: EmbeddedWarehouse) -> None:
    """A job that is not billed is shown as such."""
    shop.behave("Customer", is_not_billed())
    assert False is shop.sync("Customer").billable


def test_a_sync_can_have_two_jobs(shop: EmbeddedWarehouse, wait_until: WaitUntil) -> None:
    """The two jobs of a sync differ in their write mode, and end alike."""
    shop.behave("Customer", has_two_jobs())
    shop.sync("Customer")
    jobs = wait_until(lambda: len(found := shop.jobs("Customer")) == 2 and found)
    assert {"scd2_append", "incremental_merge"} == {job.cdc_write_mode for job in jobs}
    assert [JobStatus.COMPLETED] * 2 == [job.status for job in jobs]


def test_a_batch_can_be_saved_in_part(shop: EmbeddedWarehouse) -> None:
    """A batch without one of its tables is a 503 that names the table; the others are saved."""
    shop.behave("Customer", fails_to_save())
    ids = [shop.schema(name).id for name in ("Customer", "Charge")]
    source = next(iter(shop.client.list_sources())).id
    with pytest.raises(PartialUpdateError, match="Customer") as caught:
        shop.client.bulk_update_schemas(source, {schema_id: SchemaUpdate(should_sync=False) for schema_id in ids})
    assert 503 == caught.value.status
    assert [True, False] == [shop.schema(name).should_sync for name in ("Customer", "Charge")]


def test_an_answer_can_be_lost_after_its_effect(
    shop: EmbeddedWarehouse, impatient: PostHogWarehouseClient, wait_until: WaitUntil
) -> None:
    """The change is made, the connection breaks off, and the next change is answered again."""
    schema = shop.schema("Customer")
    shop.answer(loses_answers())
    with pytest.raises(LostAnswerError):
        impatient.reload_schema(schema.id)
    wait_until(lambda: shop.jobs("Customer"))
    impatient.update_schema(schema.id, SchemaUpdate(should_sync=False))
    assert not shop.schema("Customer").should_sync


def test_the_server_can_be_broken(shop: EmbeddedWarehouse, impatient: PostHogWarehouseClient) -> None:
    """A broken server answers 500 in PostHog's own shape."""
    shop.answer(broken())
    with pytest.raises(ServerError, match="A server error occurred"):
        list(impatient.list_sources())
