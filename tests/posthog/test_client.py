"""What each method sends, and what it makes of the answers of three generations of servers."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import (
    AccessMethod,
    IncrementalFieldType,
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


def page(*rows: Any):
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
):
    """A method sends one request of the documented shape; a body is JSON, and none is sent needlessly."""
    server.tell(answer)
    call(client)
    asked = server.last
    assert (method, f"{BASE}{path}", body) == (asked.method, asked.path, asked.body)
    assert ("application/json" if body else None) == asked.headers.get("content-type")
    assert 1 == len(server.asked)


def test_ids_cannot_reach_other_endpoints(client: PostHogWarehouseClient, server: ScriptedServer):
    """An id is one part of the path, whatever is in it."""
    server.tell(DOCUMENTED_SCHEMA)
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
):
    """Fields that came later are read where they are, and unknown ones do no harm."""
    server.tell(answer)
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


def test_a_source_with_trimmed_schemas(client: PostHogWarehouseClient, server: ScriptedServer):
    """A list of sources may hold schemas without settings; what is missing is None."""
    server.tell(page(SOURCE))
    (source,) = client.list_sources()
    (schema,) = source.schemas
    assert (SyncStatus.COMPLETED, None, None) == (schema.status, schema.sync_frequency, schema.table)
    assert {"host": "db.example", "port": "5432"} == source.job_inputs
    assert "db.example" not in repr(source)


@pytest.mark.parametrize("answer", [{"id": "src9"}, SOURCE | {"id": "src9"}])
def test_a_new_source_is_known_by_its_id(client: PostHogWarehouseClient, server: ScriptedServer, answer: Any):
    """Servers answer with the id alone, or with the whole source as documented."""
    server.tell(answer, status=201)
    assert "src9" == client.create_source("Postgres", {})


@pytest.mark.parametrize("status", [200, 204])
def test_data_is_deleted_with_either_status(client: PostHogWarehouseClient, server: ScriptedServer, status: int):
    """The documented 204 and the actual 200 mean the same."""
    server.tell(status=status)
    client.delete_schema_data("s1")
    assert "DELETE" == server.last.method


def test_a_trigger_tells_the_servers_time(make_client: MakeClient):
    """The time is that of the server's answer, to the second."""
    http = httpx.MockTransport(lambda _: httpx.Response(200, headers={"Date": "Thu, 01 Jan 2026 10:00:00 GMT"}))
    client = make_client(http_transport=http)
    ten = datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert (ten, ten) == (client.reload_schema("s1"), client.resync_schema("s1"))


def test_incremental_fields(client: PostHogWarehouseClient, server: ScriptedServer):
    """The fields of the newest servers are read, unknown types included."""
    server.tell(
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
def test_a_discovery_is_counted(client: PostHogWarehouseClient, server: ScriptedServer, answer: Any, expected: Any):
    """Later servers count more."""
    server.tell(answer)
    found = client.refresh_schemas("src1")
    assert expected == (found.added, found.deleted, found.total_tables_seen, found.auto_enabled)


def test_a_webhook_that_the_provider_refuses(client: PostHogWarehouseClient, server: ScriptedServer):
    """A provider's refusal is told by the result, with the reason and the URL for a set-up by hand."""
    server.tell({"success": False, "webhook_url": "https://webhooks.example/1", "error": "no permission"})
    made = client.create_webhook("src1")
    assert (False, "https://webhooks.example/1", "no permission") == (made.success, made.webhook_url, made.error)


def test_access_is_checked_without_a_trace(client: PostHogWarehouseClient, server: ScriptedServer):
    """Reading is tried with one row; the right to write, with a schema that does not exist."""
    server.tell(page(SOURCE)).tell({"detail": "Not found."}, status=404)
    client.check_access(write=True)
    nobody = f"{BASE}/external_data_schemas/00000000-0000-0000-0000-000000000000/"
    assert [("GET", f"{BASE}/external_data_sources/", None), ("PATCH", nobody, {})] == [
        (asked.method, asked.path, asked.body) for asked in server.asked
    ]
    assert {"limit": ["1"]} == server.asked[0].query


def test_a_key_that_may_only_read_is_told_apart(client: PostHogWarehouseClient, server: ScriptedServer):
    """A key without the write scope passes the check for reading, and fails the one for writing."""
    server.tell(page())
    client.check_access()
    lacking = {"detail": "API key missing required scope 'external_data_source:write'"}
    server.tell(page()).tell(lacking, status=403)
    with pytest.raises(errors.MissingScopeError, match="Add the scope external_data_source:write"):
        client.check_access(write=True)


def test_a_client_shows_where_it_works(key: str):
    """The representation names host and project, not the key; the id may be a number or a text."""
    with PostHogWarehouseClient("https://eu.posthog.com/", " 42 ", key, rate_limits=None) as client:
        assert "PostHogWarehouseClient(host='https://eu.posthog.com', project_id='42')" == repr(client)


def test_an_empty_project_id_is_refused(key: str):
    """Without a project there is nothing to call."""
    with pytest.raises(ValueError, match="project id is empty"):
        PostHogWarehouseClient("https://eu.posthog.com", " ", key)
