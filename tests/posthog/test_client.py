"""What each method sends, and what it makes of the answers of three generations of servers."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import (
    AccessMethod,
    CancelOutcome,
    IncrementalFieldType,
    LogLevel,
    SyncFrequency,
    SyncStatus,
    SyncType,
)
from dw_orchestration.posthog.models import SchemaUpdate

if TYPE_CHECKING:
    from tests.posthog.conftest import MakeClient, ScriptedServer

BASE = "/api/projects/1"

DOCUMENTED_SCHEMA = {
    "id": "s1",
    "name": "orders",
    "label": None,
    "table": {
        "id": "t1",
        "name": "shop_orders",
        "row_count": 12,
        "columns": [{"key": "id", "name": "id", "type": "integer", "schema_valid": True}],
    },
    "should_sync": True,
    "last_synced_at": "2026-04-01T07:11:03.123456Z",
    "latest_error": None,
    "incremental": True,
    "status": "Completed",
    "sync_type": "incremental",
    "incremental_field": "updated_at",
    "incremental_field_type": "timestamp",
    "sync_frequency": "6hour",
    "sync_time_of_day": "07:11:00",
    "description": None,
    "primary_key_columns": ["id"],
    "cdc_table_mode": "consolidated",
}
JUNE_SCHEMA = DOCUMENTED_SCHEMA | {
    "enabled_columns": ["id", "total"],
    "available_columns": [{"name": "id", "data_type": "integer", "is_nullable": False}],
    "source": {"id": "src1", "source_type": "Postgres", "supports_column_selection": True},
}
NEWEST_SCHEMA = JUNE_SCHEMA | {
    "sync_type": "xmin",
    "incremental_field_type": "xid",
    "incremental_field_lookback_seconds": 60,
    "row_filters": [],
    "api_version": "2",
    "source": {"id": "src1", "source_type": "Postgres", "access_method": "warehouse"},
}
TRIMMED_SCHEMA = {
    key: DOCUMENTED_SCHEMA[key]
    for key in ("id", "name", "label", "should_sync", "status", "sync_type", "last_synced_at", "latest_error")
}
SOURCE = {
    "id": "src1",
    "created_at": "2026-01-02T03:04:05Z",
    "created_by": "me@example.com",
    "status": "Running",
    "source_type": "Postgres",
    "latest_error": None,
    "prefix": "shop",
    "description": None,
    "access_method": "warehouse",
    "engine": None,
    "last_run_at": None,
    "schemas": [TRIMMED_SCHEMA],
    "job_inputs": {"host": "db.example", "port": "5432"},
    "revenue_analytics_config": {"enabled": False},
    "user_access_level": "editor",
    "supports_webhooks": False,
}
SMALL_SCHEMA = {"id": "s1", "name": "orders"}
NO_KEYS = {
    "type": "authentication_error",
    "code": "permission_denied",
    "detail": "This action does not support Personal API Key access",
}


def page(*rows: Any) -> dict[str, Any]:
    return {"count": len(rows), "next": None, "previous": None, "results": list(rows)}


CALLS = [
    (lambda c: c.get_schema("s1"), JUNE_SCHEMA, "GET", "/external_data_schemas/s1/", None),
    (
        lambda c: c.update_schema("s1", SchemaUpdate(should_sync=False)),
        JUNE_SCHEMA,
        "PATCH",
        "/external_data_schemas/s1/",
        {"should_sync": False},
    ),
    (lambda c: c.delete_schema("s1"), b"", "DELETE", "/external_data_schemas/s1/", None),
    (lambda c: c.cancel_schema("s1"), b"", "POST", "/external_data_schemas/s1/cancel/", None),
    (lambda c: c.delete_schema_data("s1"), b"", "DELETE", "/external_data_schemas/s1/delete_data/", None),
    (
        lambda c: c.get_incremental_fields("s1"),
        {},
        "POST",
        "/external_data_schemas/s1/incremental_fields/",
        None,
    ),
    (lambda c: c.reload_schema("s1"), b"", "POST", "/external_data_schemas/s1/reload/", None),
    (lambda c: c.resync_schema("s1"), b"", "POST", "/external_data_schemas/s1/resync/", None),
    (lambda c: list(c.list_schemas()), page(NEWEST_SCHEMA), "GET", "/external_data_schemas/", None),
    (lambda c: list(c.list_sources()), page(SOURCE), "GET", "/external_data_sources/", None),
    (
        lambda c: c.create_source("Stripe", {"schemas": []}),
        {"id": "src2"},
        "POST",
        "/external_data_sources/",
        {"source_type": "Stripe", "payload": {"schemas": []}},
    ),
    (
        lambda c: c.create_source(
            "Postgres", {"host": "h"}, prefix="p", description="d", access_method=AccessMethod.DIRECT
        ),
        SOURCE,
        "POST",
        "/external_data_sources/",
        {
            "source_type": "Postgres",
            "payload": {"host": "h"},
            "prefix": "p",
            "description": "d",
            "access_method": "direct",
        },
    ),
    (lambda c: c.get_source("src1"), SOURCE, "GET", "/external_data_sources/src1/", None),
    (
        lambda c: c.update_source("src1", description=""),
        SOURCE,
        "PATCH",
        "/external_data_sources/src1/",
        {"description": ""},
    ),
    (
        lambda c: c.update_source("src1", job_inputs={"host": "h2"}),
        SOURCE,
        "PATCH",
        "/external_data_sources/src1/",
        {"job_inputs": {"host": "h2"}},
    ),
    (lambda c: c.delete_source("src1"), b"", "DELETE", "/external_data_sources/src1/", None),
    (
        lambda c: c.bulk_update_schemas("src1", {"s1": SchemaUpdate(should_sync=True)}),
        [JUNE_SCHEMA],
        "PATCH",
        "/external_data_sources/src1/bulk_update_schemas/",
        {"schemas": [{"id": "s1", "should_sync": True}]},
    ),
    (
        lambda c: c.create_webhook("src1"),
        {"success": True},
        "POST",
        "/external_data_sources/src1/create_webhook/",
        None,
    ),
    (
        lambda c: c.create_webhook("src1", inputs={"secret": "s"}),
        {"success": True},
        "POST",
        "/external_data_sources/src1/create_webhook/",
        {"inputs": {"secret": "s"}},
    ),
    (
        lambda c: c.delete_webhook("src1"),
        {"success": True, "external_deleted": False, "error": None},
        "POST",
        "/external_data_sources/src1/delete_webhook/",
        None,
    ),
    (
        lambda c: c.webhook_info("src1"),
        {"exists": True},
        "GET",
        "/external_data_sources/src1/webhook_info/",
        None,
    ),
    (lambda c: list(c.list_jobs("src1")), [], "GET", "/external_data_sources/src1/jobs/", None),
    (
        lambda c: c.refresh_schemas("src1"),
        {"added": 1, "deleted": 0},
        "POST",
        "/external_data_sources/src1/refresh_schemas/",
        None,
    ),
]


@pytest.mark.parametrize(("call", "answer", "method", "path", "body"), CALLS)
def test_each_method_is_one_request(
    *, client: PostHogWarehouseClient, server: ScriptedServer, call: Any, answer: Any, method: str, path: str, body: Any
) -> None:
    """A method sends one request of the documented shape; a body is JSON, and none is sent needlessly."""
    server.answer(answer)
    call(client)
    received = server.last
    assert (method, f"{BASE}{path}", body) == (received.method, received.path, received.body)
    assert ("application/json" if body else None) == received.headers.get("content-type")
    assert 1 == len(server.received)


def test_ids_cannot_reach_other_endpoints(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """An id is one part of the path, with any content."""
    server.answer(DOCUMENTED_SCHEMA)
    client.get_schema("../external_data_sources/x?y")
    assert f"{BASE}/external_data_schemas/..%2Fexternal_data_sources%2Fx%3Fy/" == server.last.path


@pytest.mark.parametrize(
    ("answer", "sync_type", "columns", "source"),
    [
        (DOCUMENTED_SCHEMA, SyncType.INCREMENTAL, None, None),
        (JUNE_SCHEMA, SyncType.INCREMENTAL, ("id", "total"), "src1"),
        (NEWEST_SCHEMA, SyncType.XMIN, ("id", "total"), "src1"),
    ],
)
def test_schemas_of_three_generations(
    *, client: PostHogWarehouseClient, server: ScriptedServer, answer: Any, sync_type: Any, columns: Any, source: Any
) -> None:
    """Fields that came later are read where they are, and unknown ones do no harm."""
    server.answer(answer)
    schema = client.get_schema("s1")
    assert (sync_type, columns, source) == (
        schema.sync_type,
        schema.enabled_columns,
        schema.source and schema.source.id,
    )
    assert datetime(2026, 4, 1, 7, 11, 3, 123456, tzinfo=UTC) == schema.last_synced_at
    assert (SyncFrequency.SIX_HOURS, time(7, 11)) == (schema.sync_frequency, schema.sync_time_of_day)
    assert ("shop_orders", 12, ("id",)) == (
        schema.table.name,
        schema.table.row_count,
        tuple(column.name for column in schema.table.columns),
    )


def test_a_source_with_trimmed_schemas(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A list of sources may hold schemas without settings; what is missing is None."""
    server.answer(page(SOURCE))
    (source,) = client.list_sources()
    (schema,) = source.schemas
    assert (SyncStatus.COMPLETED, None, None) == (schema.status, schema.sync_frequency, schema.table)
    assert {"host": "db.example", "port": "5432"} == source.job_inputs
    assert "db.example" not in repr(source)


@pytest.mark.parametrize("answer", [{"id": "src9"}, SOURCE | {"id": "src9"}])
def test_a_new_source_is_known_by_its_id(client: PostHogWarehouseClient, server: ScriptedServer, answer: Any) -> None:
    """Servers answer with the id alone, or with the whole source as documented."""
    server.answer(answer, status=201)
    assert "src9" == client.create_source("Postgres", {})


@pytest.mark.parametrize("status", [200, 204])
def test_data_is_deleted_with_either_status(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int
) -> None:
    """The documented 204 and the actual 200 mean the same."""
    server.answer(status=status)
    client.delete_schema_data("s1")
    assert "DELETE" == server.last.method


def test_a_trigger_tells_the_servers_time(make_client: MakeClient) -> None:
    """The time is that of the server's answer, to the second."""
    http = httpx.MockTransport(lambda _: httpx.Response(200, headers={"Date": "Thu, 01 Jan 2026 10:00:00 GMT"}))
    client = make_client(http_transport=http)
    ten = datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert (ten, ten) == (client.reload_schema("s1"), client.resync_schema("s1"))


def test_incremental_fields(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The fields of the newest servers are read, unknown types included."""
    server.answer(
        {
            "incremental_fields": [
                {"label": "id", "type": "integer", "field": "id", "field_type": "integer", "nullable": False},
                {"label": "x", "type": "x", "field": "x", "field_type": "hyperint"},
            ],
            "incremental_available": True,
            "append_available": True,
            "cdc_available": None,
            "full_refresh_available": True,
            "supports_webhooks": False,
            "available_columns": [{"field": "id", "label": "id", "type": "integer", "nullable": False}],
            "detected_primary_keys": ["id"],
            "xmin_available": True,
        }
    )
    found = client.get_incremental_fields("s1")
    assert [IncrementalFieldType.INTEGER, "hyperint"] == [each.field_type for each in found.incremental_fields]
    assert (("id",), None, "id") == (
        found.detected_primary_keys,
        found.cdc_available,
        found.available_columns[0].field,
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"added": 1, "deleted": 2}, (1, 2, None, None)),
        ({"added": 1, "deleted": 2, "total_tables_seen": 9, "auto_enabled": 1}, (1, 2, 9, 1)),
    ],
)
def test_a_discovery_is_counted(
    client: PostHogWarehouseClient, server: ScriptedServer, answer: Any, expected: Any
) -> None:
    """Later servers count more."""
    server.answer(answer)
    found = client.refresh_schemas("src1")
    assert expected == (found.added, found.deleted, found.total_tables_seen, found.auto_enabled)


def test_a_webhook_that_the_provider_refuses(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The result shows that the provider refused, with the reason and the URL for a manual set-up."""
    server.answer({"success": False, "webhook_url": "https://webhooks.example/1", "error": "no permission"})
    made = client.create_webhook("src1")
    assert (False, "https://webhooks.example/1", "no permission") == (made.success, made.webhook_url, made.error)


def test_access_is_checked_without_a_trace(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Reading is tried with one row; the right to write, with a schema that does not exist."""
    own = {"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": None}
    server.answer(page(SOURCE)).answer(own, status=404)
    client.check_access(write=True)
    nobody = f"{BASE}/external_data_schemas/00000000-0000-0000-0000-000000000000/"
    assert [("GET", f"{BASE}/external_data_sources/", None), ("PATCH", nobody, {})] == [
        (received.method, received.path, received.body) for received in server.received
    ]
    assert {"limit": ["1"]} == server.received[0].query


def test_a_key_that_may_only_read_is_told_apart(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A key without the write scope passes the check for reading, and fails the one for writing."""
    server.answer(page())
    client.check_access()
    detail = "API key missing required scope 'external_data_source:write'"
    lacking = {"type": "authentication_error", "code": "permission_denied", "detail": detail, "attr": None}
    server.answer(page()).answer(lacking, status=403)
    with pytest.raises(errors.MissingScopeError, match="Add the scope external_data_source:write"):
        client.check_access(write=True)


def test_a_client_shows_where_it_works(key: str) -> None:
    """The representation names host and project, not the key; the id may be a number or a text."""
    with PostHogWarehouseClient("https://eu.posthog.com/", " 42 ", key, rate_limits=None) as client:
        assert "PostHogWarehouseClient(host='https://eu.posthog.com', project_id='42')" == repr(client)


def test_an_empty_project_id_is_refused(key: str) -> None:
    """Without a project there is nothing to call."""
    with pytest.raises(errors.SetupError, match="project id is empty"):
        PostHogWarehouseClient("https://eu.posthog.com", " ", key)


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
) -> None:
    """That nothing was running is an outcome, in the words of all generations."""
    server.answer(body, status=status)
    assert expected is client.cancel_schema("s1")


def test_a_cancellation_that_failed_is_an_error(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Any other refusal to cancel is raised."""
    server.answer({"detail": "Could not cancel the running sync. Please try again."}, status=400)
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
        (SchemaUpdate.model_validate({"sync_time_of_day": "07:11:00+02:00"}), "uses only UTC"),
        (SchemaUpdate.model_validate({"full_refresh_time_of_day": "07:11:00-01:00"}), "full_refresh_time_of_day"),
    ],
)
def test_an_update_that_posthog_would_lose_is_refused(
    client: PostHogWarehouseClient, server: ScriptedServer, update: Any, message: str
) -> None:
    """What PostHog would store wrongly, or not at all, is refused with the cure, and nothing is sent."""
    with pytest.raises(errors.UsageError, match=message):
        client.update_schema("s1", update)
    with pytest.raises(errors.UsageError, match=message):
        client.bulk_update_schemas("src1", {"s1": update})
    assert [] == server.received


@pytest.mark.parametrize(
    ("update", "body"),
    [
        ({"sync_time_of_day": time(7, 11, 30, 500)}, {"sync_time_of_day": "07:11:30"}),
        ({"sync_time_of_day": "07:11:00Z"}, {"sync_time_of_day": "07:11:00"}),
        ({"sync_time_of_day": None}, {"sync_time_of_day": None}),
        ({"sync_frequency": "30day"}, {"sync_frequency": "30day"}),
        (
            {"full_refresh_interval_days": 7, "full_refresh_time_of_day": "03:30"},
            {"full_refresh_interval_days": 7, "full_refresh_time_of_day": "03:30:00"},
        ),
        ({"row_filters": [{"column": "a"}]}, {"row_filters": [{"column": "a"}]}),
        (
            {"sync_type": "incremental", "incremental_field": "id", "primary_key_columns": ["id"]},
            {"sync_type": "incremental", "incremental_field": "id", "primary_key_columns": ["id"]},
        ),
    ],
)
def test_an_update_sends_what_is_set(
    client: PostHogWarehouseClient, server: ScriptedServer, update: Any, body: Any
) -> None:
    """Only the settings that are set are sent, a time as exactly HH:MM:SS, and None if it was set explicitly."""
    server.answer(SMALL_SCHEMA)
    client.update_schema("s1", SchemaUpdate.model_validate(update))
    assert body == server.last.body


def test_the_name_and_the_patterns_of_a_source_are_sent(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Only what is set is sent; no patterns are an empty list, which is not the same as none given."""
    server.answer(SOURCE).answer(SOURCE)
    client.update_source("src1", prefix="Sales", auto_sync_new_schemas=False)
    client.update_source("src1", auto_sync_schema_patterns=())
    assert [{"prefix": "Sales", "auto_sync_new_schemas": False}, {"auto_sync_schema_patterns": []}] == [
        received.body for received in server.received
    ]


def test_the_last_lines_of_a_sync(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """PostHog names a sync by its workflow run; the levels are repeated, and the time ends in Z."""
    line = {"timestamp": "2026-11-03T12:00:00Z", "level": "warning", "message": "slow", "log_source_id": "s1"}
    server.answer(page(line))

    (found,) = client.list_logs(
        "s1",
        run_id="w1",
        levels=[LogLevel.ERROR, LogLevel.WARN],
        after=datetime(2026, 11, 3, 14, tzinfo=timezone(timedelta(hours=2))),
        limit=20,
    )

    assert (LogLevel.WARN, "slow", datetime(2026, 11, 3, 12, tzinfo=UTC)) == (
        found.level,
        found.message,
        found.timestamp,
    )
    assert f"{BASE}/external_data_schemas/s1/logs/" == server.last.path
    assert {
        "instance_id": ["w1"],
        "level": ["ERROR", "WARN"],
        "after": ["2026-11-03T12:00:00.000000Z"],
        "limit": ["20"],
    } == server.last.query


def test_the_providers_error_of_a_webhook(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A webhook that exists may have a problem at the provider, which is in another field than PostHog's own."""
    server.answer({"exists": True, "webhook_url": "u", "external_status": {"error": "disabled at the provider"}})
    assert "disabled at the provider" == client.webhook_info("src1").problem


def test_a_source_without_a_change_is_refused(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """An update of a source that changes nothing is a mistake, and is not sent."""
    with pytest.raises(errors.UsageError, match="Nothing to change"):
        client.update_source("src1")
    assert [] == server.received


@pytest.mark.parametrize("whole", [lambda rows: rows, lambda rows: {"count": 2, "next": None, "results": rows}])
def test_a_bulk_update_in_one_request(client: PostHogWarehouseClient, server: ScriptedServer, whole: Any) -> None:
    """The answer is an array, or a page as documented; the result has the order of the updates."""
    server.answer(whole([SMALL_SCHEMA | {"id": "s2"}, SMALL_SCHEMA]))
    saved = client.bulk_update_schemas(
        "src1", {"s1": SchemaUpdate(should_sync=True), "s2": SchemaUpdate(sync_time_of_day=time(7))}
    )
    assert ["s1", "s2"] == [schema.id for schema in saved]
    assert [{"id": "s1", "should_sync": True}, {"id": "s2", "sync_time_of_day": "07:00:00"}] == server.last.body[
        "schemas"
    ]


@pytest.mark.parametrize("text", [NO_KEYS["detail"], NO_KEYS["detail"].replace("Personal API Key", "personal API key")])
def test_a_bulk_update_without_the_right_falls_back(
    client: PostHogWarehouseClient, server: ScriptedServer, text: str
) -> None:
    """Where the endpoint allows no API key, each schema is updated by itself."""
    server.answer(NO_KEYS | {"detail": text}, status=403).answer(SMALL_SCHEMA).answer(SMALL_SCHEMA | {"id": "s2"})
    on = SchemaUpdate(should_sync=True)
    assert ["s1", "s2"] == [schema.id for schema in client.bulk_update_schemas("src1", {"s1": on, "s2": on})]
    schemas = f"{BASE}/external_data_schemas"
    assert [f"{schemas}/s1/", f"{schemas}/s2/"] == [received.path for received in server.received[1:]]


def test_a_bulk_update_sends_singly_what_it_would_lose(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Primary keys were lost by the bulk endpoint for long: they are sent one schema at a time."""
    server.answer([SMALL_SCHEMA]).answer(SMALL_SCHEMA | {"id": "s2"})
    client.bulk_update_schemas(
        "src1",
        {
            "s1": SchemaUpdate(should_sync=True),
            "s2": SchemaUpdate(sync_type=SyncType.INCREMENTAL, primary_key_columns=("id",)),
        },
    )
    assert [{"id": "s1", "should_sync": True}] == server.received[0].body["schemas"]
    assert (f"{BASE}/external_data_schemas/s2/", {"sync_type": "incremental", "primary_key_columns": ["id"]}) == (
        server.received[1].path,
        server.received[1].body,
    )
    assert 2 == len(server.received)


def test_a_bulk_update_that_the_key_may_not_do(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Another refusal than that of all keys is an error, without a fallback."""
    server.answer(NO_KEYS | {"detail": "You do not have editor access to this resource."}, status=403)
    with pytest.raises(errors.PermissionDeniedError, match="editor access"):
        client.bulk_update_schemas("src1", {"s1": SchemaUpdate(should_sync=True)})
    assert 1 == len(server.received)


def test_a_bulk_update_saved_in_part(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The error names the tables that were not saved."""
    for _ in range(4):
        server.answer({"code": "bulk_schema_save_failed", "detail": "Could not save: orders, items"}, status=503)
    with pytest.raises(errors.PartialUpdateError, match="orders, items"):
        client.bulk_update_schemas("src1", {"s1": SchemaUpdate(should_sync=True)})
