"""A row that cannot be read is left out and named; the others are read."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dw_orchestration.posthog import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import ScriptedServer

    Row = dict[str, Any]

START = datetime(2026, 1, 1, tzinfo=UTC)


def source(**settings: Any) -> Row:
    return {"id": str(uuid4()), "source_type": "Stripe", "schemas": []} | settings


def schema(**settings: Any) -> Row:
    return {"id": str(uuid4()), "name": "Customer"} | settings


def job(**settings: Any) -> Row:
    table = {"id": "schema-1", "name": "Customer"}
    return {"id": str(uuid4()), "created_at": "2026-01-01T00:00:00Z", "status": "Completed", "schema": table} | settings


def page(*rows: Row) -> Row:
    return {"results": list(rows), "next": None}


def column(name: object) -> Row:
    return {"id": "table-1", "name": "stripe_customer", "columns": [{"name": name}, {"name": "email"}]}


UNREADABLE = [
    ("sources", "schemas", source(schemas=None)),
    ("sources", "schemas", source(schemas={"a": 1})),
    ("sources", "source_type", source(source_type=None)),
    ("sources", "created_at", source(created_at="yesterday")),
    ("sources", "last_run_at", source(last_run_at="0000-00-00")),
    ("sources", "latest_error", source(latest_error=["it broke"])),
    ("sources", "status", source(status=7)),
    ("sources", "id", source(id=17)),
    ("schemas", "name", schema(name=None)),
    ("schemas", "table.row_count", schema(table={"id": "t", "name": "n", "row_count": 44.5})),
    ("schemas", "status", schema(status={"value": "Completed"})),
    ("schemas", "sync_frequency", schema(sync_frequency=6)),
    ("schemas", "sync_time_of_day", schema(sync_time_of_day="25:00:00")),
    ("schemas", "last_synced_at", schema(last_synced_at="never")),
    ("schemas", "should_sync", schema(should_sync="maybe")),
    ("schemas", "primary_key_columns", schema(primary_key_columns="id")),
    ("schemas", "id", schema(id=None)),
    ("jobs", "schema", job(schema={"name": "", "should_sync": False})),
    ("jobs", "schema", job(schema=None)),
    ("jobs", "schema.name", job(schema={"id": "schema-1", "name": None})),
    ("jobs", "rows_synced", job(rows_synced=44.5)),
    ("jobs", "status", job(status=None)),
    ("jobs", "created_at", job(created_at="2026-13-01T00:00:00Z")),
    ("jobs", "finished_at", job(finished_at="soon")),
    ("jobs", "id", job(id=["j"])),
    ("jobs", "the row", "a text"),
]
LISTS: dict[str, tuple[Callable[..., Row], Callable[..., Any], Callable[[Any], list[Any]]]] = {
    "sources": (source, page, lambda client: list(client.list_sources())),
    "schemas": (schema, page, lambda client: list(client.list_schemas())),
    "jobs": (job, lambda *rows: list(rows), lambda client: list(client.list_jobs("source-1"))),
}


@pytest.mark.parametrize(("kind", "field", "bad"), UNREADABLE, ids=[f"{k} {f}" for k, f, _ in UNREADABLE])
def test_a_row_that_cannot_be_read_is_left_out(
    *, client: PostHogWarehouseClient, server: ScriptedServer, caplog: Any, kind: str, field: str, bad: Any
) -> None:
    """Every list keeps its other rows, and names the row once with its id and the field, however often it is read."""
    good, listed, read = LISTS[kind]
    rows = [good(), bad, good()]
    for _ in range(2):
        server.answer(listed(*rows))
    with caplog.at_level(logging.WARNING):
        assert [rows[0]["id"], rows[2]["id"]] == [row.id for row in read(client)] == [row.id for row in read(client)]
    (named,) = [record.getMessage() for record in caplog.records if record.name.startswith("dw_orchestration")]
    own_id = bad["id"] if isinstance(bad, dict) else None
    assert (own_id if isinstance(own_id, str) else "without a readable id") in named
    assert f"({field}: " in named
    (row,) = client.unreadable
    assert kind == f"{row.kind}s"


@pytest.mark.parametrize(("field", "bad"), [(field, bad) for kind, field, bad in UNREADABLE if kind == "schemas"])
def test_a_table_of_a_source_is_left_out_alone(
    client: PostHogWarehouseClient, server: ScriptedServer, field: str, bad: Row
) -> None:
    """A source keeps its other tables, and shows that it has one that cannot be read."""
    good = schema()
    row = source(schemas=[bad, good])
    server.answer(page(row)).answer(row)
    for found in (*client.list_sources(), client.get_source("source-1")):
        assert [good["id"]] == [each.id for each in found.schemas]
        assert [field] == [row.fault.partition(":")[0] for row in found.schemas.unreadable]


def test_a_column_is_left_out_alone(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A table keeps its other columns."""
    server.answer(schema(table=column(None)))
    table = client.get_schema("schema-1").table
    assert table is not None
    assert ["email"] == [each.name for each in table.columns]


def test_a_value_that_is_new_is_kept(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A status that this version does not know is no fault."""
    server.answer([job(status="Hibernating")])
    assert ["Hibernating"] == [each.status for each in client.list_jobs("source-1")]
    assert () == client.unreadable


@pytest.mark.parametrize(("kind", "field"), [("sources", "source_type"), ("schemas", "name"), ("jobs", "created_at")])
def test_a_list_of_which_nothing_can_be_read_is_refused(
    client: PostHogWarehouseClient, server: ScriptedServer, kind: str, field: str
) -> None:
    """If none of several rows can be read, it is another API, and not a list without rows."""
    good, listed, read = LISTS[kind]
    server.answer(listed(good(**{field: None}), good(**{field: None})))
    with pytest.raises(errors.UnexpectedAnswerError, match=f"none of 2 rows can be read, the first because of {field}"):
        read(client)


def test_jobs_without_a_table_are_no_fault_of_the_list(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A source may have no other jobs than those from before a job synced one table."""
    server.answer([job(schema={"name": ""}) for _ in range(3)])
    assert [] == list(client.list_jobs("source-1"))


def test_a_row_that_is_left_out_counts_for_its_page(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The walk backwards continues after a full page of which some jobs cannot be read, and ends after the last."""
    moments = [(START - timedelta(minutes=n)).isoformat() for n in range(120)]
    rows = [job(created_at=at, **({"rows_synced": 0.5} if n % 7 == 3 else {})) for n, at in enumerate(moments)]

    def answer(received: Any) -> Any:
        before = received.query.get("before", ["2027-01-01T00:00:00Z"])[0]
        return [row for row in rows if datetime.fromisoformat(row["created_at"]) < datetime.fromisoformat(before)][:50]

    server.compute = answer
    assert [row["id"] for row in rows if "rows_synced" not in row] == [each.id for each in client.list_jobs("s")]
    assert 3 == len(server.received)


def test_pages_by_offset_count_what_was_left_out(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The next page begins after all rows of this one; a page with nothing readable is not the last one."""
    rows = [source(), source(source_type=None), source(id=3), source()]

    def answer(received: Any) -> Any:
        limit, offset = int(received.query["limit"][0]), int(received.query["offset"][0])
        return {"results": rows[offset : offset + limit], "next": "more" if offset + limit < len(rows) else None}

    server.compute = answer
    assert [rows[0]["id"], rows[3]["id"]] == [each.id for each in client.list_sources(page_size=1)]
    assert 4 == len(server.received)


def test_no_value_of_a_row_is_logged(client: PostHogWarehouseClient, server: ScriptedServer, caplog: Any) -> None:
    """A source's row may contain connection details: its fault names the field alone, and an odd id is not quoted."""
    server.answer(page(source(id="\x1b[2J", job_inputs="password=hunter2"), source()))
    with caplog.at_level(logging.WARNING):
        assert 1 == len(list(client.list_sources()))
    assert "job_inputs" in caplog.text
    assert "hunter2" not in caplog.text
    assert "\x1b" not in caplog.text
