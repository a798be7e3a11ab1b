"""The endpoints of one schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from dw_orchestration.local.rows import Schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Clock
    from tests.local.conftest import Orders, Server

BY_ID = {"sync_type": "append", "incremental_field": "id", "incremental_field_type": "integer"}


def path_of(schema: dict[str, Any], action: str = "") -> str:
    """The path of a schema or of one of its actions."""
    return f"external_data_schemas/{schema['id']}/{action}"


def test_schema_in_full(server: Server, invoices: str) -> None:
    """A fresh schema is disabled, without type and table, six-hourly; alone it shows its source, in lists not."""
    schema = server.json("GET", path_of(server.schema(invoices, "invoices")))
    expected = {
        "should_sync": False,
        "sync_type": None,
        "sync_frequency": "6hour",
        "sync_time_of_day": None,
        "status": None,
        "table": None,
        "incremental": False,
        "cdc_table_mode": "consolidated",
    }
    assert expected == {name: schema[name] for name in expected}
    assert (invoices, "Stripe") == (schema["source"]["id"], schema["source"]["source_type"])
    listed = server.json("GET", "external_data_schemas/")["results"]
    assert [None, None] == [row["source"] for row in listed]


NOT_ALONE = (
    "incremental_field, primary_key_columns cannot be applied to a schema with sync type not set on its own."
    " Include sync_type in the same request to change the sync type."
)
FIELD_ERRORS = [
    ({"sync_type": "bogus"}, "invalid_choice", '"bogus" is not a valid choice.', "sync_type"),
    ({"should_sync": None}, "null", "This field may not be null.", "should_sync"),
    ({"should_sync": "maybe"}, "invalid_input", "Must be a valid boolean.", "should_sync"),
    (
        {"primary_key_columns": "id"},
        "not_a_list",
        'Expected a list of items but got type "str".',
        "primary_key_columns",
    ),
    ({"primary_key_columns": ["id", None]}, "null", "This field may not be null.", "primary_key_columns__1"),
    ({"incremental_field": " "}, "blank", "This field may not be blank.", "incremental_field"),
    (
        {"sync_time_of_day": "25:00:00"},
        "invalid_input",
        "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]].",
        "sync_time_of_day",
    ),
    ({"sync_time_of_day": "14:15:22Z"}, "invalid_input", "Invalid sync time of day", None),
    ({"sync_time_of_day": "14:15"}, "invalid_input", "Invalid sync time of day", None),
    ({"sync_time_of_day": "14:15:22.5"}, "invalid_input", "Invalid sync time of day", None),
    ({"sync_time_of_day": "14:15:22+02:00"}, "invalid_input", "Invalid sync time of day", None),
    ({"incremental_field_lookback_seconds": 5_184_001}, "max_value", None, "incremental_field_lookback_seconds"),
    ({"sync_frequency": "2min"}, "invalid_choice", '"2min" is not a valid choice.', "sync_frequency"),
    ({"sync_frequency": ""}, "invalid_choice", '"" is not a valid choice.', "sync_frequency"),
    (
        {"sync_frequency": "1min"},
        "invalid_choice",
        '"1min" is not a valid sync frequency. The fastest sync frequency is 5 minutes.',
        "sync_frequency",
    ),
    (
        {"sync_frequency": "never"},
        "invalid_input",
        '"never" is not a sync frequency. To stop syncing this table, set should_sync to false.',
        "sync_frequency",
    ),
    ({"should_sync": True}, "invalid_input", "Sync type must be set up first before enabling schema", None),
    ({"sync_type": "cdc"}, "invalid_input", "CDC is not enabled for this team", None),
    ({"sync_type": "xmin"}, "invalid_input", "xmin replication is only available for Postgres sources.", None),
    (
        {"incremental_field": "id", "primary_key_columns": ["id"]},
        "invalid_input",
        NOT_ALONE,
        None,
    ),
    (
        {"sync_type": "incremental", "primary_key_columns": ["nope"]},
        "invalid_input",
        "'customers' has no column named nope to merge on.",
        None,
    ),
    ({"full_refresh_interval_days": 91}, "max_value", None, "full_refresh_interval_days"),
    ({"full_refresh_interval_days": 7}, "invalid_input", None, "full_refresh_interval_days"),
    ({"sync_type": "webhook"}, "invalid_input", None, None),
    (
        {"enabled_columns": ["nope"]},
        "invalid_input",
        "Unknown columns in enabled_columns: ['nope']. Run `Pull new schemas` to refresh available columns.",
        None,
    ),
    ({"row_filters": [{"column": "id"}]}, "invalid_input", None, None),
    ([], "invalid_input", "Invalid data. Expected a dictionary, but got list.", None),
]


@pytest.mark.parametrize(("body", "code", "detail", "attr"), FIELD_ERRORS, ids=lambda value: str(value)[:40])
def test_refused_changes(quiet_server: Server, body: object, code: str, detail: str | None, attr: str | None) -> None:
    """A change that PostHog refuses is a 400 with PostHog's code, text and place, and changes nothing."""
    before = quiet_server.json("GET", "external_data_schemas/")["results"][0]
    response = quiet_server.call("PATCH", path_of(before), json=body)
    answer = response.json()
    assert (400, "validation_error", code) == (response.status_code, answer["type"], answer["code"])
    assert (detail or answer["detail"], attr) == (answer["detail"], answer["attr"])
    assert before == quiet_server.json("GET", "external_data_schemas/")["results"][0]


def test_one_error_at_a_time(server: Server, invoices: str) -> None:
    """Of several wrong fields only the first is reported."""
    body = {"sync_type": "bogus", "should_sync": None}
    answer = server.call("PATCH", path_of(server.schema(invoices, "invoices")), json=body).json()
    assert "should_sync" == answer["attr"]


def test_unknown_and_read_only_keys(server: Server, invoices: str) -> None:
    """A typo or a read-only field is a 200 that changes nothing; so is a frequency of null."""
    before = server.schema(invoices, "invoices")
    body = {"shuold_sync": True, "status": "Completed", "id": "x", "sync_frequency": None}
    after = server.json("PATCH", path_of(before), json=body)
    assert before == after


def test_changes_are_kept(server: Server, invoices: str) -> None:
    """What is writable reads back as it was sent, and null clears the time; a cursor needs a type that has one."""
    schema = server.schema(invoices, "invoices")
    body: dict[str, Any] = BY_ID | {
        "sync_type": "incremental",
        "sync_frequency": "24hour",
        "sync_time_of_day": "07:11:30",
    }
    body |= {"primary_key_columns": ["id"], "enabled_columns": ["id"], "incremental_field_lookback_seconds": 60}
    after = server.json("PATCH", path_of(schema), json=body)
    assert body == {name: after[name] for name in body}
    cleared = server.json("PATCH", path_of(schema), json={"sync_time_of_day": None})
    assert None is cleared["sync_time_of_day"]
    full = server.json("PATCH", path_of(schema), json=BY_ID | {"sync_type": "full_refresh", "incremental_field": "x"})
    assert ("full_refresh", "id") == (full["sync_type"], full["incremental_field"])


def test_first_enable_syncs_at_once(server: Server, invoices: str) -> None:
    """The first enable starts a sync; turning off and on again does not."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json={"should_sync": True, "sync_type": "full_refresh"})
    assert [("Completed", 3)] == [(job["status"], job["rows_synced"]) for job in server.settle(invoices)]
    for wanted in (False, True):
        server.json("PATCH", path_of(schema), json={"should_sync": wanted})
    assert 1 == len(server.settle(invoices))


def test_table_after_a_sync(server: Server, invoices: str) -> None:
    """After a good sync the schema shows its table by the name that a query uses, and the job's start."""
    schema = server.schema(invoices, "invoices")
    server.call("POST", path_of(schema, "reload/"))
    (job,) = server.settle(invoices)
    synced = server.schema(invoices, "invoices")
    assert ("stripe.invoices", 3) == (synced["table"]["name"], synced["table"]["row_count"])
    assert [("id", "integer"), ("amount", "integer")] == [
        (column["key"], column["type"]) for column in synced["table"]["columns"]
    ]
    assert (job["created_at"], "Completed") == (synced["last_synced_at"], synced["status"])
    assert [(3,)] == server.rows(f"SELECT count(*) FROM {synced['table']['name']}")


def test_reload_answers_with_nothing(server: Server, orders: Orders) -> None:
    """Reload is a 200 without a body; the schema says Running before there is anything to see."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    schema = server.schema(source, "orders")
    with orders.locked():
        response = server.call("POST", path_of(schema, "reload/"))
        assert (200, b"") == (response.status_code, response.content)
        assert "Running" == server.schema(source, "orders")["status"]
    server.settle(source)


def test_resync_takes_everything_again(server: Server, invoices: str, write_table: Callable[..., None]) -> None:
    """An appending table takes new rows only; after a resync it equals the source."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json=BY_ID)
    server.call("POST", path_of(schema, "reload/"))
    server.settle(invoices)
    write_table("Stripe/invoices", [{"id": n, "amount": 7} for n in (3, 4)])
    server.call("POST", path_of(schema, "reload/"))
    assert 1 == server.settle(invoices)[0]["rows_synced"]
    assert [(1,), (2,), (3,), (4,)] == server.rows("SELECT id FROM stripe.invoices ORDER BY id")
    assert 200 == server.call("POST", path_of(schema, "resync/")).status_code
    server.settle(invoices)
    assert [(3, 7), (4, 7)] == server.rows("SELECT id, amount FROM stripe.invoices ORDER BY id")


def test_delete_data(server: Server, invoices: str) -> None:
    """delete_data is a 200 without a body: the table is gone, settings stay, the next sync takes everything."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json=BY_ID)
    server.call("POST", path_of(schema, "reload/"))
    server.settle(invoices)
    response = server.call("DELETE", path_of(schema, "delete_data/"))
    emptied = server.schema(invoices, "invoices")
    assert (200, b"") == (response.status_code, response.content)
    assert (None, None, None, "append") == tuple(
        emptied[name] for name in ("table", "last_synced_at", "status", "sync_type")
    )
    assert [] == server.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'invoices'")
    server.call("POST", path_of(schema, "reload/"))
    assert 3 == server.settle(invoices)[0]["rows_synced"]


def test_delete_data_without_a_table(server: Server, invoices: str) -> None:
    """Without a table there is nothing to do, and that is a 200."""
    schema = server.schema(invoices, "invoices")
    assert 200 == server.call("DELETE", path_of(schema, "delete_data/")).status_code


def test_primary_key_is_fixed_by_data(server: Server, invoices: str) -> None:
    """An incremental table with data keeps its key; without data the key may change."""
    schema = server.schema(invoices, "invoices")
    body = BY_ID | {"sync_type": "incremental", "primary_key_columns": ["id"]}
    server.json("PATCH", path_of(schema), json=body)
    server.call("POST", path_of(schema, "reload/"))
    server.settle(invoices)
    change = body | {"primary_key_columns": ["amount"]}
    refused = server.call("PATCH", path_of(schema), json=change)
    assert refused.json()["detail"].startswith("Primary key cannot be changed after data has been synced")
    server.call("DELETE", path_of(schema, "delete_data/"))
    assert ["amount"] == server.json("PATCH", path_of(schema), json=change)["primary_key_columns"]


def test_another_cursor_starts_at_its_highest_value(
    server: Server, invoices: str, write_table: Callable[..., None]
) -> None:
    """A table with data that is to follow another column continues from that column's highest value, without a run."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json=BY_ID | {"should_sync": True})
    server.settle(invoices)
    # without the sync type, as newer servers take it
    server.json("PATCH", path_of(schema), json={"incremental_field": "amount"})
    write_table("Stripe/invoices", [{"id": 9, "amount": 30}, {"id": 10, "amount": 31}])
    assert [3] == [job["rows_synced"] for job in server.settle(invoices)]
    server.call("POST", path_of(schema, "reload/"))
    assert [1, 3] == [job["rows_synced"] for job in server.settle(invoices)]
    assert [(1,), (2,), (3,), (10,)] == server.rows("SELECT id FROM stripe.invoices ORDER BY id")


def test_a_cursor_without_a_value_reads_everything_again(
    server: Server, invoices: str, write_table: Callable[..., None]
) -> None:
    """A table with data that is to follow a column that it does not have is reset at once."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json=BY_ID | {"should_sync": True})
    server.settle(invoices)
    write_table("Stripe/invoices", [{"id": 9, "revision": 1}])
    server.json("PATCH", path_of(schema), json=BY_ID | {"incremental_field": "revision"})
    assert [1, 3] == [job["rows_synced"] for job in server.settle(invoices)]
    assert [(9,)] == server.rows("SELECT id FROM stripe.invoices")


def test_a_full_refresh_becomes_incremental_where_it_ended(
    server: Server, invoices: str, write_table: Callable[..., None]
) -> None:
    """A table that was copied in full continues from its highest value: its rows are not read again."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json={"sync_type": "full_refresh", "should_sync": True})
    server.settle(invoices)
    server.json("PATCH", path_of(schema), json=BY_ID)
    write_table("Stripe/invoices", [{"id": n, "amount": 7} for n in (3, 4)])
    server.call("POST", path_of(schema, "reload/"))
    assert [1, 3] == [job["rows_synced"] for job in server.settle(invoices)]


def test_detected_keys(server: Server, orders: Orders) -> None:
    """The key that discovery finds is stored and shown, and a key that was set stays."""
    orders.database.execute("CREATE TABLE pairs (a int, b int, PRIMARY KEY (b, a)); CREATE VIEW seen AS SELECT 1 AS a")
    source = server.create("Postgres", orders.payload | {"schemas": []})
    keys = [server.schema(source, name)["primary_key_columns"] for name in ("orders", "pairs", "seen")]
    assert [["id"], ["b", "a"], None] == keys
    server.json("PATCH", path_of(server.schema(source, "seen")), json=BY_ID | {"primary_key_columns": ["a"]})
    server.json("POST", f"external_data_sources/{source}/refresh_schemas/")
    assert ["a"] == server.schema(source, "seen")["primary_key_columns"]


def test_types_of_available_columns(server: Server, orders: Orders) -> None:
    """The source's types come without their modifiers."""
    orders.database.execute("CREATE TABLE things (a numeric(5,2), b varchar(9), c int[])")
    source = server.create("Postgres", orders.payload | {"schemas": [{"name": "things"}]})
    columns = server.schema(source, "things")["available_columns"]
    assert ["numeric", "character varying", "integer[]"] == [column["data_type"] for column in columns]


MERGE = {
    "sync_type": "incremental",
    "incremental_field": "at",
    "incremental_field_type": "integer",
    "should_sync": True,
}


def test_repeated_keys_block_a_table(server: Server, orders: Orders) -> None:
    """A key that is not unique fails the job, disables the table and is named as the cause; a good run clears it."""
    orders.database.execute("CREATE TABLE twins (id int, at int); INSERT INTO twins VALUES (1, 1), (1, 2)")
    source = server.create("Postgres", orders.payload | {"schemas": [{"name": "twins", **MERGE}]})
    (job,) = server.settle(source)
    twins = server.schema(source, "twins")
    assert ("Failed", False, "duplicate_primary_key") == (
        job["status"],
        twins["should_sync"],
        twins["incremental_sync_blocked"],
    )
    assert job["latest_error"].startswith("The primary key set for this table isn't unique")
    orders.database.execute("DELETE FROM twins WHERE at = 1")
    server.call("POST", path_of(twins, "reload/"))
    server.settle(source)
    assert None is server.schema(source, "twins")["incremental_sync_blocked"]


def test_a_missing_key_blocks_a_table(server: Server, orders: Orders) -> None:
    """A table whose key is gone at the source fails, is disabled, and names the cause."""
    orders.database.execute("CREATE TABLE t (id int, at int)")
    source = server.create("Postgres", orders.payload | {"schemas": [{"name": "t", **MERGE}]})
    server.settle(source)
    schema = server.schema(source, "t")
    orders.database.execute("ALTER TABLE t DROP COLUMN id")
    server.call("DELETE", path_of(schema, "delete_data/"))
    server.json("POST", f"external_data_sources/{source}/refresh_schemas/")
    refused = server.call("PATCH", path_of(schema), json={"primary_key_columns": None})
    assert refused.json()["detail"].startswith("'t' has no primary key to sync incrementally on.")
    server.services.store.update(Schema, UUID(schema["id"]), primary_key_columns=None)
    server.call("POST", path_of(schema, "reload/"))
    server.settle(source)
    schema = server.schema(source, "t")
    assert (False, "missing_primary_key") == (schema["should_sync"], schema["incremental_sync_blocked"])


def test_widened_columns(server: Server, orders: Orders) -> None:
    """A widened number fails once and is reset by the next run; another type disables the table."""
    orders.database.execute("CREATE TABLE t (id int, at int, v int); INSERT INTO t VALUES (1, 1, 1)")
    source = server.create("Postgres", orders.payload | {"schemas": [{"name": "t", **MERGE}]})
    server.settle(source)
    schema = server.schema(source, "t")
    orders.database.execute("ALTER TABLE t ALTER v TYPE bigint; INSERT INTO t VALUES (2, 2, 5000000000)")
    for _ in range(2):
        server.call("POST", path_of(schema, "reload/"))
        server.settle(source)
    good, failed, _ = server.settle(source)
    assert ("Failed", "Completed", 2) == (failed["status"], good["status"], good["rows_synced"])
    assert True is server.schema(source, "t")["should_sync"]
    orders.database.execute("ALTER TABLE t ALTER v TYPE text; INSERT INTO t VALUES (3, 3, 'three')")
    server.call("POST", path_of(schema, "reload/"))
    assert server.settle(source)[0]["latest_error"].startswith("Source column type changed: 'v'")
    assert False is server.schema(source, "t")["should_sync"]


def test_a_deleted_table_is_revived(server: Server, invoices: str, clock: Clock) -> None:
    """A deleted schema is a 404; discovery revives the same row, while its schedule may be gone and its table is."""
    schema = server.schema(invoices, "invoices")
    changes = {"should_sync": True, "sync_type": "full_refresh", "sync_frequency": "24hour"}
    server.json("PATCH", path_of(schema), json=changes)
    server.settle(invoices)
    assert 204 == server.call("DELETE", path_of(schema)).status_code
    assert 404 == server.call("GET", path_of(schema)).status_code
    assert [] == server.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'invoices'")
    clock.advance(days=2)
    server.warehouse.scheduler.fire_due()
    server.wait_until(lambda: 404 != server.call("GET", path_of(schema)).status_code)
    back = server.schema(invoices, "invoices")
    kept = changes | {"id": schema["id"], "status": "Completed", "table": None}
    assert kept == {name: back[name] for name in kept}
    assert None is server.services.store.schedule(UUID(schema["id"]))


MONTHLY = BY_ID | {"should_sync": True, "sync_frequency": "24hour", "full_refresh_interval_days": 30}


def test_full_refreshes_are_scheduled(server: Server, invoices: str, clock: Clock) -> None:
    """From an hour before it is due, the next reload or tick imports everything; the one after is an ordinary one."""
    schema = server.schema(invoices, "invoices")
    saved = server.json("PATCH", path_of(schema), json=MONTHLY)
    assert "2026-12-03T12:00:00Z" == saved["next_full_refresh_at"]
    server.settle(invoices)
    clock.advance(days=29, hours=22, minutes=59)
    server.call("POST", path_of(schema, "reload/"))
    assert 0 == server.settle(invoices)[0]["rows_synced"]
    clock.advance(minutes=1)
    server.call("POST", path_of(schema, "reload/"))
    assert 3 == server.settle(invoices)[0]["rows_synced"]
    assert "2027-01-02T11:00:00Z" == server.schema(invoices, "invoices")["next_full_refresh_at"]
    clock.advance(minutes=1)
    server.call("POST", path_of(schema, "reload/"))
    assert 0 == server.settle(invoices)[0]["rows_synced"]


def test_any_resync_moves_the_next_full_refresh(server: Server, invoices: str, clock: Clock) -> None:
    """A resync counts as a full refresh; with a time of day, the next one is due at that time."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json=MONTHLY | {"full_refresh_time_of_day": "04:30:00"})
    server.settle(invoices)
    clock.advance(days=3)
    server.call("POST", path_of(schema, "resync/"))
    server.settle(invoices)
    assert "2026-12-06T04:30:00Z" == server.schema(invoices, "invoices")["next_full_refresh_at"]


@pytest.mark.parametrize(
    ("changes", "attr"),
    [
        ({"sync_type": "full_refresh"}, None),
        ({"full_refresh_interval_days": None}, None),
        ({"sync_frequency": "7day"}, None),
    ],
)
def test_settings_of_full_refreshes(server: Server, invoices: str, changes: dict[str, Any], attr: str | None) -> None:
    """Another sync type or no interval ends them; a table must not be synced less often than it is refreshed."""
    schema = server.schema(invoices, "invoices")
    weekly = MONTHLY | {"full_refresh_interval_days": 7, "full_refresh_time_of_day": "04:30:00"}
    server.json("PATCH", path_of(schema), json=weekly)
    server.settle(invoices)
    after = server.json("PATCH", path_of(schema), json=changes)
    ends = "sync_frequency" not in changes
    assert ends == (None is after["next_full_refresh_at"])
    refused = server.call("PATCH", path_of(schema), json={"sync_frequency": "30day", "full_refresh_interval_days": 7})
    assert (400, "full_refresh_interval_days") == (refused.status_code, refused.json()["attr"])


def test_incremental_fields(server: Server, orders: Orders) -> None:
    """The source is asked for columns, cursors and keys."""
    source = server.create("Postgres", orders.payload)
    options = server.json("POST", path_of(server.schema(source, "orders"), "incremental_fields/"))
    assert {"id", "total", "updated_at"} == {field["field"] for field in options["incremental_fields"]}
    assert ["id", "total", "updated_at"] == [column["field"] for column in options["available_columns"]]
    assert (["id"], True) == (options["detected_primary_keys"], options["full_refresh_available"])


def test_incremental_fields_of_a_lost_table(server: Server, orders: Orders) -> None:
    """A table that the source no longer has is a 400 in the shape of live calls."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    orders.database.execute("DROP TABLE orders")
    response = server.call("POST", path_of(server.schema(source, "orders"), "incremental_fields/"))
    assert (400, {"message": "Schema with name orders not found"}) == (response.status_code, response.json())


def logs(server: Server, schema: dict[str, Any], **query: object) -> list[str]:
    """The messages of a schema's log."""
    lines = server.json("GET", path_of(schema, "logs/"), params=query)["results"]
    return [line["message"] for line in lines]


def test_logs(server: Server, invoices: str, tmp_path: Path) -> None:
    """A sync's log has what was read, how many rows, and the error; newest first, by the run's id."""
    schema = server.schema(invoices, "invoices")
    server.json("PATCH", path_of(schema), json=BY_ID)
    for _ in range(2):
        server.call("POST", path_of(schema, "reload/"))
        server.settle(invoices)
    (tmp_path / "fixtures/Stripe/invoices.csv").unlink()
    server.call("POST", path_of(schema, "reload/"))
    failed, second, _ = server.settle(invoices)
    assert [
        "Sync completed: 0 rows read, 3 in the table",
        "Read 0 rows of invoices",
        "Reading the rows with id above 3 of invoices",
        "Sync of invoices started (append)",
    ] == logs(server, schema, instance_id=second["workflow_run_id"])
    assert [failed["latest_error"]] == logs(server, schema, level=["warn", "error"])
    assert [] == logs(server, schema, instance_id=second["id"])
    counts = [
        len(logs(server, schema, **query))
        for query in (
            {},
            {"search": "COMPLETED"},
            {"level": "ERROR"},
            {"level": ["INFO", "ERROR"], "limit": 3},
            {"after": failed["created_at"]},
            {"before": failed["created_at"]},
        )
    ]
    assert [11, 2, 1, 3, 0, 0] == counts


@pytest.mark.parametrize(
    ("query", "code", "attr"),
    [
        ({"limit": 0}, "min_value", "limit"),
        ({"limit": 501}, "max_value", "limit"),
        ({"limit": "x"}, "invalid_input", "limit"),
        ({"after": "soon"}, "invalid_input", None),
    ],
)
def test_refused_logs(quiet_server: Server, query: dict[str, Any], code: str, attr: str | None) -> None:
    """A limit out of range and a time that is none are typed 400s."""
    schema = quiet_server.json("GET", "external_data_schemas/")["results"][0]
    response = quiet_server.call("GET", path_of(schema, "logs/"), params=query)
    assert (400, code, attr) == (response.status_code, response.json()["code"], response.json()["attr"])
