"""The endpoints of sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.local.conftest import Orders, Server


def path_of(source_id: str, action: str = "") -> str:
    """The path of a source or of one of its actions."""
    return f"external_data_sources/{source_id}/{action}"


def test_create_answers_with_the_id_alone(server: Server, write_table: Callable[..., None]) -> None:
    """A created source is a 201 with its id and nothing else."""
    write_table("Hubspot/deals", [{"id": 1}])
    response = server.call(
        "POST", "external_data_sources/", json={"source_type": "Hubspot", "payload": {"schemas": []}}
    )
    assert (201, {"id"}) == (response.status_code, set(response.json()))


def test_create_takes_all_tables_when_none_are_named(server: Server, orders: Orders) -> None:
    """Without a choice every table is on, as it is best synced, and its first sync starts at once."""
    del orders.payload["schemas"]
    source = server.create("Postgres", orders.payload)
    (job,) = server.settle(source)
    schema = server.schema(source, "orders")
    assert ("Completed", 100) == (job["status"], job["rows_synced"])
    assert ("incremental", "updated_at", True) == (
        schema["sync_type"],
        schema["incremental_field"],
        schema["should_sync"],
    )


def test_create_ignores_the_frequency(server: Server, orders: Orders) -> None:
    """A frequency in the payload is dropped: new tables are six-hourly; a time of day is kept."""
    orders.payload["schemas"] = [
        {"name": "orders", "sync_frequency": "5min", "sync_time_of_day": "07:11:00"},
    ]
    schema = server.schema(server.create("Postgres", orders.payload), "orders")
    assert ("6hour", "07:11:00") == (schema["sync_frequency"], schema["sync_time_of_day"])


def test_secrets_are_not_served(server: Server, orders: Orders) -> None:
    """Of the connection fields only those that are no secrets come back."""
    text = server.call("GET", path_of(server.create("Postgres", orders.payload))).text
    assert orders.database.password not in text
    assert f'"host":"{orders.database.host}"' in text


TYPED = [
    ({}, "required", "source_type"),
    ({"source_type": "Stripe"}, "required", "payload"),
    ({"source_type": "../etc", "payload": {}}, "invalid_choice", "source_type"),
    ({"source_type": "Stripe", "payload": []}, "not_a_dict", "payload"),
    ({"source_type": "Stripe", "payload": {}, "prefix": "x" * 101}, "max_length", "prefix"),
    ({"source_type": "Stripe", "payload": {}, "prefix": "a\x00b"}, "null_characters_not_allowed", "prefix"),
    ({"source_type": "Stripe", "payload": {}, "prefix": "1a"}, "invalid_input", None),
    ({"source_type": "Stripe", "payload": {}, "prefix": "__"}, "invalid_input", None),
    ({"source_type": "Stripe", "payload": {}, "access_method": "magic"}, "invalid_choice", "access_method"),
]


@pytest.mark.parametrize(("body", "code", "attr"), TYPED, ids=lambda value: str(value)[-40:])
def test_malformed_sources(quiet_server: Server, body: dict[str, Any], code: str, attr: str | None) -> None:
    """A malformed request is a 400 in the typed shape."""
    response = quiet_server.call("POST", "external_data_sources/", json=body)
    answer = response.json()
    assert (400, code, attr) == (response.status_code, answer["code"], answer["attr"])


NO_KEY = (
    "Table 'plans' has no primary key to sync incrementally on. Choose a primary key for it, or switch it to full table"
    " replication."
)
MESSAGES = [
    ({"schemas": [{"name": "nope"}]}, "Schemas given do not exist in source"),
    (
        {"schemas": [{"name": "invoices", "should_sync": True, "sync_type": "append"}]},
        "Incremental schemas given do not have an incremental field set",
    ),
    (
        {
            "schemas": [
                {"name": "invoices", "should_sync": True, "sync_type": "append", "incremental_field": "id"},
            ]
        },
        "Incremental schemas given do not have an incremental field type set",
    ),
    (
        {"schemas": [{"name": "invoices", "should_sync": True}]},
        "Sync type must be set up first before enabling schema",
    ),
    ({"schemas": [{"name": "invoices", "sync_type": "cdc"}]}, "CDC is not enabled for this team"),
    (
        {"schemas": [{"name": "invoices", "sync_type": "bogus"}]},
        "Unknown sync type: bogus. Use one of: full_refresh, incremental, append, webhook, cdc, xmin",
    ),
    (
        {"schemas": [{"name": "plans", "sync_type": "incremental"}]},
        NO_KEY,
    ),
    ({"schemas": "invoices"}, "The 'schemas' field must be a list of the tables to sync."),
    ({"schemas": [{}]}, "Schemas given do not exist in source"),
]


@pytest.mark.parametrize(("payload", "message"), MESSAGES, ids=lambda value: str(value)[-40:])
def test_refused_sources(quiet_server: Server, payload: dict[str, Any], message: str) -> None:
    """A source that cannot be made as asked for is a 400 with a message, and leaves nothing behind."""
    body = {"source_type": "Stripe", "prefix": "second", "payload": payload}
    response = quiet_server.call("POST", "external_data_sources/", json=body)
    assert (400, {"message": message}) == (response.status_code, response.json())
    assert 1 == quiet_server.json("GET", "external_data_sources/")["count"]


def test_wrong_credentials(server: Server, orders: Orders) -> None:
    """Credentials are tried: what does not work is a 400, and the password is not in the answer."""
    body = {"source_type": "Postgres", "payload": orders.payload | {"password": "s3cret-wrong"}}
    response = server.call("POST", "external_data_sources/", json=body)
    assert (400, ["message"]) == (response.status_code, list(response.json()))
    assert "s3cret-wrong" not in response.text


def test_direct_access(quiet_server: Server) -> None:
    """Querying a source in place is refused."""
    body = {"source_type": "Stripe", "payload": {}, "access_method": "direct"}
    message = quiet_server.call("POST", "external_data_sources/", json=body).json()["message"]
    assert message.startswith("Direct query mode is currently supported only for")


def test_prefixes(server: Server, invoices: str) -> None:
    """A second source of a type needs a prefix that no other one has; it shows in the table's name."""
    body: dict[str, Any] = {"source_type": "Stripe", "payload": {}}
    answers = [
        server.call("POST", "external_data_sources/", json=body | {"prefix": prefix})
        for prefix in (None, "EUShop", "EUShop")
    ]
    assert [400, 201, 400] == [answer.status_code for answer in answers]
    assert answers[0].json()["message"].startswith("You already have a source of this type. Add a table prefix")
    assert answers[2].json()["message"].startswith("Another source of this type already uses the prefix 'EUShop'.")
    source = answers[1].json()["id"]
    server.settle(source)
    assert "stripe_eu_shop.invoices" == server.schema(source, "invoices")["table"]["name"]


def test_names_that_fall_together(server: Server, postgres_database: Any, orders: Orders) -> None:
    """Tables whose warehouse names would be the same get different ones."""
    postgres_database.execute("CREATE SCHEMA a; CREATE TABLE a.b (n int); CREATE TABLE a_b (n int)")
    payload = orders.payload | {"schema": "", "schemas": None}
    source = server.create("Postgres", payload)
    server.settle(source)
    tables = server.json("GET", path_of(source))["schemas"]
    assert 3 == len({schema["table"]["name"] for schema in tables})


def test_list_is_brief(server: Server, invoices: str) -> None:
    """Lists show schemas without their settings; the answer for one source has all of them."""
    (listed,) = server.json("GET", "external_data_sources/")["results"]
    brief = {"id", "name", "label", "should_sync", "status", "sync_type", "sync_frequency"}
    brief |= {"last_synced_at", "latest_error", "table"}
    assert brief == set(listed["schemas"][0])
    schemas = server.json("GET", path_of(invoices))["schemas"]
    assert ["customers", "invoices"] == [schema["name"] for schema in schemas]
    assert "sync_frequency" in schemas[0]


def test_status_comes_from_the_schemas(server: Server, invoices: str, write_table: Callable[..., None]) -> None:
    """Without an enabled schema a source stays Running; a failing enabled one makes it Failed."""
    assert "Running" == server.json("GET", path_of(invoices))["status"]
    schema = server.schema(invoices, "invoices")
    path = f"external_data_schemas/{schema['id']}/"
    server.json("PATCH", path, json={"should_sync": True, "sync_type": "full_refresh"})
    (job,) = server.settle(invoices)
    good = server.json("GET", path_of(invoices))
    assert ("Completed", job["created_at"]) == (good["status"], good["last_run_at"])


def test_update_source(server: Server, invoices: str) -> None:
    """The description changes; the prefix, part of every table's name, stays without a word."""
    body = {"description": "Money", "prefix": "other"}
    after = server.json("PATCH", path_of(invoices), json=body)
    assert ("Money", None) == (after["description"], after["prefix"])


def test_access_method_is_fixed(server: Server, invoices: str) -> None:
    """The way of access cannot be changed."""
    response = server.call("PATCH", path_of(invoices), json={"access_method": "direct"})
    detail = "Access method cannot be changed. Create a new source instead."
    assert (400, detail) == (response.status_code, response.json()["detail"])


def test_new_connection_is_tried(server: Server, orders: Orders) -> None:
    """Sent fields are merged over the known ones, secrets that are left out stay, and the result is tried."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    bad = server.call("PATCH", path_of(source), json={"job_inputs": {"database": "nowhere"}})
    good = server.call("PATCH", path_of(source), json={"job_inputs": {"user": orders.database.user}})
    assert (400, 200) == (bad.status_code, good.status_code)
    assert orders.database.database == good.json()["job_inputs"]["database"]


def test_new_host_needs_the_password(server: Server, orders: Orders) -> None:
    """Known credentials are not sent to another host."""
    source = server.create("Postgres", orders.payload)
    response = server.call("PATCH", path_of(source), json={"job_inputs": {"host": "localhost"}})
    assert (400, "invalid_input") == (response.status_code, response.json()["code"])


def test_delete_source(server: Server, orders: Orders) -> None:
    """A deleted source is a 404 with its schemas, its tables are gone, its running sync ends as Failed."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    schema = server.schema(source, "orders")
    with orders.locked():
        server.call("POST", f"external_data_schemas/{schema['id']}/reload/")
        server.wait_until(lambda: server.jobs(source)[0]["status"] == "Running")
        assert 204 == server.call("DELETE", path_of(source)).status_code
        server.wait_until(lambda: not server.services.store.running_jobs())
    assert 404 == server.call("GET", path_of(source)).status_code
    assert 404 == server.call("GET", f"external_data_schemas/{schema['id']}/").status_code
    assert [] == server.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'orders'")
    (job, _) = server.services.store.jobs_of(schema["id"])
    assert ("Failed", "Sync stopped because the table was deleted") == (job.status, job.latest_error)


def test_bulk_update(server: Server, invoices: str) -> None:
    """Several schemas are changed at once; the answer is a bare list, and loose times are taken."""
    ids = [server.schema(invoices, name)["id"] for name in ("invoices", "customers")]
    items = [{"id": schema_id, "sync_frequency": "24hour", "sync_time_of_day": "14:15:22Z"} for schema_id in ids]
    answer = server.json("PATCH", path_of(invoices, "bulk_update_schemas/"), json={"schemas": items})
    assert ids == [schema["id"] for schema in answer]
    assert [("24hour", "14:15:22")] * 2 == [(schema["sync_frequency"], schema["sync_time_of_day"]) for schema in answer]


def test_bulk_update_saves_what_it_can(server: Server, invoices: str) -> None:
    """One schema that is refused is named; the others are saved anyway."""
    bad, good = (server.schema(invoices, name)["id"] for name in ("invoices", "customers"))
    items = [{"id": bad, "should_sync": True}, {"id": good, "sync_frequency": "7day"}]
    response = server.call("PATCH", path_of(invoices, "bulk_update_schemas/"), json={"schemas": items})
    assert (400, "bulk_schema_save_failed") == (response.status_code, response.json()["code"])
    assert "server_error" == response.json()["type"]
    assert (
        "These schemas in the batch could not be saved: invoices (Sync type must be set up first before enabling"
        " schema). Any other schemas in the batch were saved successfully \N{EM DASH} retry the ones listed here."
    ) == response.json()["detail"]
    assert "7day" == server.schema(invoices, "customers")["sync_frequency"]


def test_webhooks(server: Server, invoices: str) -> None:
    """A source without pushed tables has no webhook: making or removing one is refused, asking for one finds none."""
    expected = {"message": "This source type does not support webhooks"}
    for action in ("create_webhook/", "delete_webhook/"):
        response = server.call("POST", path_of(invoices, action))
        assert (400, expected) == (response.status_code, response.json())
    assert False is server.json("GET", path_of(invoices, "webhook_info/"))["exists"]


def test_pushed_rows_arrive(server: Server, tmp_path: Path, write_table: Callable[..., None]) -> None:
    """A stand-in that can push: the webhook is made with the sync type, posted rows wait for a sync, and are merged."""
    write_table("Stripe/invoices", [{"id": n, "amount": n * 10} for n in (1, 2)])
    (tmp_path / "fixtures/Stripe/webhooks.txt").write_text("invoices")
    source = server.create("Stripe", {"schemas": [{"name": "invoices"}]})
    schema = server.schema(source, "invoices")
    path = f"external_data_schemas/{schema['id']}/"
    changes = {"sync_type": "webhook", "should_sync": True, "primary_key_columns": ["id"]}
    server.json("PATCH", path, json=changes)
    assert 2 == server.settle(source)[0]["rows_synced"]
    info = server.json("GET", path_of(source, "webhook_info/"))
    assert (True, True) == (info["supports_webhooks"], info["exists"])
    for amounts in ([20, 21], [30]):
        rows = [{"id": 2 if amount < 30 else 3, "amount": amount} for amount in amounts]
        answer = httpx.post(info["webhook_url"], json={"table": "invoices", "rows": rows})
        assert {"received": len(rows)} == answer.json()
    for expected in (2, 0):
        server.call("POST", path + "reload/")
        assert expected == server.settle(source)[0]["rows_synced"]
    assert [(1, 10), (2, 21), (3, 30)] == server.rows("SELECT id, amount FROM stripe.invoices ORDER BY id")


def test_life_of_a_webhook(server: Server, tmp_path: Path, write_table: Callable[..., None]) -> None:
    """A webhook is made and removed; while a table needs it, it stays. A removed one is a 404."""
    write_table("Stripe/invoices", [{"id": 1}])
    (tmp_path / "fixtures/Stripe/webhooks.txt").write_text("invoices")
    source = server.create("Stripe", {"schemas": [{"name": "invoices"}]})
    created = server.json("POST", path_of(source, "create_webhook/"))
    assert (True, None, []) == (created["success"], created["error"], created["pending_inputs"])
    path = f"external_data_schemas/{server.schema(source, 'invoices')['id']}/"
    server.json("PATCH", path, json={"sync_type": "webhook", "should_sync": True})
    refused = server.call("POST", path_of(source, "delete_webhook/"))
    text = "Cannot delete webhook while tables are using webhook sync: invoices"
    assert (400, {"message": text}) == (refused.status_code, refused.json())
    server.json("PATCH", path, json={"should_sync": False})
    removed = server.json("POST", path_of(source, "delete_webhook/"))
    assert {"success": True, "external_deleted": True, "error": None} == removed
    lost = httpx.post(created["webhook_url"], json={"table": "invoices", "rows": []})
    assert 404 == lost.status_code
    assert False is server.json("GET", path_of(source, "webhook_info/"))["exists"]


def test_refresh_finds_new_and_lost_tables(server: Server, orders: Orders) -> None:
    """A new table becomes a disabled schema; a vanished one is disabled, or removed if it never synced."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    orders.database.execute("CREATE TABLE refunds (id int)")
    added = server.json("POST", path_of(source, "refresh_schemas/"))
    assert {"added": 1, "deleted": 0, "auto_enabled": 0, "total_tables_seen": 2} == added
    assert False is server.schema(source, "refunds")["should_sync"]
    orders.database.execute("DROP TABLE refunds; DROP TABLE orders")
    # only the row that disappears counts
    assert 1 == server.json("POST", path_of(source, "refresh_schemas/"))["deleted"]
    (left,) = server.json("GET", path_of(source))["schemas"]
    assert ("orders", False, "Completed") == (left["name"], left["should_sync"], left["status"])


@pytest.mark.parametrize(
    ("patterns", "enabled"), [(None, ["raw_a", "refunds"]), (["RAW_*"], ["raw_a"]), (["*.raw_*"], [])]
)
def test_new_tables_enable_themselves(server: Server, orders: Orders, patterns: Any, enabled: list[str]) -> None:
    """A source may enable new tables whose names match: discovery configures, syncs and counts them."""
    source = server.create("Postgres", orders.payload)
    changes = {"auto_sync_new_schemas": True, "auto_sync_schema_patterns": patterns}
    saved = server.json("PATCH", path_of(source), json=changes)
    assert changes == {name: saved[name] for name in changes}
    orders.database.execute("CREATE TABLE refunds (id int PRIMARY KEY); CREATE TABLE raw_a (v text)")
    assert len(enabled) == server.json("POST", path_of(source, "refresh_schemas/"))["auto_enabled"]
    assert {"orders", *enabled} == {job["schema"]["name"] for job in server.settle(source)}
    types = {name: server.schema(source, name)["sync_type"] for name in enabled}
    assert types.items() <= {"raw_a": "full_refresh", "refunds": "incremental"}.items()


def test_defaults_enable_a_discovered_table(server: Server, orders: Orders) -> None:
    """`apply_sync_defaults` configures a table that never was, and is ignored for one that is configured."""
    orders.database.execute("CREATE TABLE refunds (id int, at date)")
    source = server.create("Postgres", orders.payload)
    server.json("POST", path_of(source, "refresh_schemas/"))
    items = [
        {"id": server.schema(source, name)["id"], "should_sync": True, "apply_sync_defaults": True}
        for name in ("orders", "refunds")
    ]
    saved = server.json("PATCH", path_of(source, "bulk_update_schemas/"), json={"schemas": items})
    assert [("full_refresh", None), ("incremental", "id")] == [
        (schema["sync_type"], schema["incremental_field"]) for schema in saved
    ]


def test_refresh_of_a_lost_source(server: Server, orders: Orders) -> None:
    """A source that cannot be reached is a 400 with a message."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    orders.database.execute("DROP SCHEMA public CASCADE")
    response = server.call("POST", path_of(source, "refresh_schemas/"))
    assert (400, ["message"]) == (response.status_code, list(response.json()))


def test_reload_source(server: Server, invoices: str) -> None:
    """Reloading a source syncs the enabled tables, and only those."""
    schema = server.schema(invoices, "invoices")
    path = f"external_data_schemas/{schema['id']}/"
    server.json("PATCH", path, json={"should_sync": True, "sync_type": "full_refresh"})
    server.settle(invoices)
    assert 200 == server.call("POST", path_of(invoices, "reload/")).status_code
    assert ["invoices"] * 2 == [job["schema"]["name"] for job in server.settle(invoices)]


def test_database_schema(server: Server, orders: Orders) -> None:
    """Connection fields can be tried before a source is made: the answer lists the tables behind them."""
    body = {"source_type": "Postgres"} | {k: v for k, v in orders.payload.items() if k != "schemas"}
    (table,) = server.json("POST", "external_data_sources/database_schema/", json=body)
    assert ("orders", "incremental", "updated_at", ["id"]) == tuple(
        table[name] for name in ("table", "sync_type", "incremental_field", "detected_primary_keys")
    )
    missing = server.call("POST", "external_data_sources/database_schema/", json={})
    assert {"message": "Missing required parameter: source_type"} == missing.json()
    wrong = server.call("POST", "external_data_sources/database_schema/", json=body | {"password": "x"})
    assert (400, ["message"]) == (wrong.status_code, list(wrong.json()))
