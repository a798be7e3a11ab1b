"""Changes of settings, one by one and in bulk, and cancelling."""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.enums import CancelOutcome, SyncFrequency, SyncType
from dw_orchestration.posthog.models import SchemaUpdate

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import ScriptedServer

BASE = "/api/projects/1"
SCHEMA = {"id": "s1", "name": "orders"}
NO_KEYS = {
    "type": "authentication_error",
    "code": "permission_denied",
    "detail": "This action does not support Personal API Key access",
}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", CancelOutcome.REQUESTED),
        (200, {}, CancelOutcome.REQUESTED),
        (200, {"detail": "No sync was running. The sync status has been updated."}, CancelOutcome.NOTHING_RUNNING),
        (400, {"detail": "No running sync to cancel."}, CancelOutcome.NOTHING_RUNNING),
        (400, {"detail": "The sync already finished."}, CancelOutcome.NOTHING_RUNNING),
        (
            400,
            {"detail": "Could not find workflow to cancel. The sync may have already finished."},
            CancelOutcome.NOTHING_RUNNING,
        ),
    ],
)
def test_cancelling_what_is_over_is_no_error(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int, body: Any, expected: Any
):
    """That nothing was running is an outcome, in the words of all generations."""
    server.tell(body, status=status)
    assert expected is client.cancel_schema("s1")


def test_a_cancellation_that_failed_is_an_error(client: PostHogWarehouseClient, server: ScriptedServer):
    """Any other refusal to cancel is raised."""
    server.tell({"detail": "Could not cancel the running sync. Please try again."}, status=400)
    with pytest.raises(errors.BadRequestError, match="Please try again"):
        client.cancel_schema("s1")


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (SchemaUpdate(), "empty"),
        (SchemaUpdate(sync_frequency=SyncFrequency.NEVER), "should_sync=False"),
        (SchemaUpdate(sync_frequency=None), "should_sync=False"),
        (SchemaUpdate(incremental_field="id"), "incremental_field without sync_type"),
        (SchemaUpdate(primary_key_columns=("id",), sync_type=None), "primary_key_columns without sync_type"),
        (SchemaUpdate.model_validate({"sync_time_of_day": "07:11:00+02:00"}), "not in UTC"),
    ],
)
def test_an_update_that_posthog_would_lose_is_refused(
    client: PostHogWarehouseClient, server: ScriptedServer, update: Any, message: str
):
    """What PostHog would store wrongly, or not at all, is refused with the cure, and nothing is sent."""
    with pytest.raises(ValueError, match=message):
        client.update_schema("s1", update)
    with pytest.raises(ValueError, match=message):
        client.bulk_update_schemas("src1", {"s1": update})
    assert [] == server.asked


@pytest.mark.parametrize(
    ("update", "body"),
    [
        ({"sync_time_of_day": time(7, 11, 30, 500)}, {"sync_time_of_day": "07:11:30"}),
        ({"sync_time_of_day": "07:11:00Z"}, {"sync_time_of_day": "07:11:00"}),
        ({"sync_time_of_day": None}, {"sync_time_of_day": None}),
        ({"sync_frequency": "30day"}, {"sync_frequency": "30day"}),
        (
            {"sync_type": "incremental", "incremental_field": "id", "primary_key_columns": ["id"]},
            {"sync_type": "incremental", "incremental_field": "id", "primary_key_columns": ["id"]},
        ),
    ],
)
def test_an_update_sends_what_is_set(client: PostHogWarehouseClient, server: ScriptedServer, update: Any, body: Any):
    """Only the settings that are set are sent, a time as exactly HH:MM:SS, and None where it was said."""
    server.tell(SCHEMA)
    client.update_schema("s1", SchemaUpdate.model_validate(update))
    assert body == server.last.body


def test_a_source_without_a_change_is_refused(client: PostHogWarehouseClient, server: ScriptedServer):
    """An update of a source that changes nothing is a mistake, and is not sent."""
    with pytest.raises(ValueError, match="Nothing to change"):
        client.update_source("src1")
    assert [] == server.asked


@pytest.mark.parametrize("whole", [lambda rows: rows, lambda rows: {"count": 2, "next": None, "results": rows}])
def test_a_bulk_update_in_one_request(client: PostHogWarehouseClient, server: ScriptedServer, whole: Any):
    """The answer is an array, or a page as documented; the result has the order of the updates."""
    server.tell(whole([SCHEMA | {"id": "s2"}, SCHEMA]))
    saved = client.bulk_update_schemas(
        "src1", {"s1": SchemaUpdate(should_sync=True), "s2": SchemaUpdate(sync_time_of_day=time(7))}
    )
    assert ["s1", "s2"] == [schema.id for schema in saved]
    assert [{"id": "s1", "should_sync": True}, {"id": "s2", "sync_time_of_day": "07:00:00"}] == server.last.body[
        "schemas"
    ]


@pytest.mark.parametrize("text", [NO_KEYS["detail"], NO_KEYS["detail"].replace("Personal API Key", "personal API key")])
def test_a_bulk_update_without_the_right_falls_back(client: PostHogWarehouseClient, server: ScriptedServer, text: str):
    """Where the endpoint allows no API key, each schema is updated by itself."""
    server.tell(NO_KEYS | {"detail": text}, status=403).tell(SCHEMA).tell(SCHEMA | {"id": "s2"})
    on = SchemaUpdate(should_sync=True)
    assert ["s1", "s2"] == [schema.id for schema in client.bulk_update_schemas("src1", {"s1": on, "s2": on})]
    schemas = f"{BASE}/external_data_schemas"
    assert [f"{schemas}/s1/", f"{schemas}/s2/"] == [asked.path for asked in server.asked[1:]]


def test_a_bulk_update_sends_singly_what_it_would_lose(client: PostHogWarehouseClient, server: ScriptedServer):
    """Primary keys were lost by the bulk endpoint for long: they are sent one schema at a time."""
    server.tell([SCHEMA]).tell(SCHEMA | {"id": "s2"})
    client.bulk_update_schemas(
        "src1",
        {
            "s1": SchemaUpdate(should_sync=True),
            "s2": SchemaUpdate(sync_type=SyncType.INCREMENTAL, primary_key_columns=("id",)),
        },
    )
    assert [{"id": "s1", "should_sync": True}] == server.asked[0].body["schemas"]
    assert (f"{BASE}/external_data_schemas/s2/", {"sync_type": "incremental", "primary_key_columns": ["id"]}) == (
        server.asked[1].path,
        server.asked[1].body,
    )
    assert 2 == len(server.asked)


def test_a_bulk_update_that_the_key_may_not_do(client: PostHogWarehouseClient, server: ScriptedServer):
    """Another refusal than that of all keys is an error, without a fallback."""
    server.tell(NO_KEYS | {"detail": "You do not have editor access to this resource."}, status=403)
    with pytest.raises(errors.PermissionDeniedError, match="editor access"):
        client.bulk_update_schemas("src1", {"s1": SchemaUpdate(should_sync=True)})
    assert 1 == len(server.asked)


def test_a_bulk_update_saved_in_part(client: PostHogWarehouseClient, server: ScriptedServer):
    """The error names the tables that were not saved."""
    for _ in range(4):
        server.tell({"code": "bulk_schema_save_failed", "detail": "Could not save: orders, items"}, status=503)
    with pytest.raises(errors.PartialUpdateError, match="orders, items"):
        client.bulk_update_schemas("src1", {"s1": SchemaUpdate(should_sync=True)})
