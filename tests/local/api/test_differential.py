"""The same requests against the embedded warehouse and against the answers that PostHog gives, as a table.

The answers are written down from PostHog's server, not from this one. `{schema}`, `{plain}` and `{source}` are ids of a
Stripe source: `invoices` appends by `id`, `plans` was never configured and has no key. No case changes what another
one asks for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.local.conftest import Server

READ, WRITE = "external_data_source:read", "external_data_source:write"
NOBODY = "00000000-0000-4000-8000-000000000000"
SCHEMA, PLAIN, SOURCE = (
    "external_data_schemas/{schema}/",
    "external_data_schemas/{plain}/",
    "external_data_sources/{source}/",
)
SCHEMAS, SOURCES = "external_data_schemas/", "external_data_sources/"
BULK = SOURCE + "bulk_update_schemas/"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Typed:
    """The body `{type, code, detail, attr}`; `...` is any text."""

    code: str
    detail: Any
    attr: str | None = None
    type: str = "validation_error"

    def fits(self, response: httpx.Response) -> bool:
        """Whether an answer has this body, and nothing else in it."""
        body = response.json()
        expected = {"type": self.type, "code": self.code, "detail": self.detail, "attr": self.attr}
        return body == expected | ({"detail": body.get("detail")} if self.detail is ... else {})


@dataclass(frozen=True)
class Bare:
    """A body with one text: `message` or `detail`."""

    name: str
    text: str

    def fits(self, response: httpx.Response) -> bool:
        """Whether an answer has this body, and nothing else in it."""
        return response.json() == {self.name: self.text}


@dataclass(frozen=True)
class Shows:
    """A body with at least these values."""

    values: dict[str, Any]

    def fits(self, response: httpx.Response) -> bool:
        """Whether an answer has these values."""
        body = response.json()
        return {name: body.get(name) for name in self.values} == self.values


@dataclass(frozen=True)
class Counts:
    """A page of so many rows in all, or a bare list of so many."""

    rows: int
    page: bool = True

    def fits(self, response: httpx.Response) -> bool:
        """Whether an answer has so many rows, in this envelope."""
        body = response.json()
        if self.page:
            return list(body) == ["count", "next", "previous", "results"] and body["count"] == self.rows
        return isinstance(body, list) and len(body) == self.rows


@dataclass(frozen=True)
class Empty:
    """No body at all."""

    def fits(self, response: httpx.Response) -> bool:
        """Whether an answer is empty."""
        return response.content == b""


def rule(text: Any, attr: str | None = None) -> Typed:
    """A rule that the request breaks."""
    return Typed("invalid_input", text, attr)


def choice(value: str, attr: str) -> Typed:
    """A value that is none of the choices."""
    return Typed("invalid_choice", f'"{value}" is not a valid choice.', attr)


def message(text: str) -> Bare:
    """The shape of calls that talk to the source."""
    return Bare("message", text)


EMPTY, ANY = Empty(), Shows({})
NULL = "This field may not be null."
TIME = "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."
CLOCK = rule("Invalid sync time of day")
BOOLEAN = "Must be a valid boolean."
NOT_FOUND = Typed("not_found", "Not found.", type="invalid_request")
NO_KEY = Typed("not_authenticated", "Authentication credentials were not provided.", type="authentication_error")
WRONG_KEY = Typed(
    "authentication_failed",
    "Personal API key found in request Authorization header is invalid.",
    type="authentication_error",
)
NO_SCOPE = Typed("permission_denied", f"API key missing required scope '{WRITE}'", type="authentication_error")
PARSE = Typed("parse_error", ..., type="invalid_request")
MEDIA = Typed("unsupported_media_type", 'Unsupported media type "text/plain" in request.', type="invalid_request")
NO_WEBHOOKS = message("This source type does not support webhooks")
ALONE = (
    " cannot be applied to a schema with sync type not set on its own."
    " Include sync_type in the same request to change the sync type."
)
MERGE = {"sync_type": "incremental", "incremental_field": "price", "incremental_field_type": "integer"}
LONG = {"limit": "9" * 30}


def missing_method(method: str) -> Typed:
    """A method that the path does not have."""
    return Typed("method_not_allowed", f'Method "{method}" not allowed.', type="invalid_request")


def printed(place: str, code: str, text: str) -> Typed:
    """A problem in the first item of a batch, as Django REST Framework prints it."""
    return Typed(
        f"{{'{place}': ['{code}']}}", f"{{'{place}': [ErrorDetail(string={text!r}, code='{code}')]}}", "schemas"
    )


# method, path, what is sent (a dict is JSON), status, body
CASES: list[tuple[str, str, Any, int, Any]] = [
    # --- reading ---
    ("GET", SCHEMA, None, 200, Shows({"name": "invoices", "sync_type": "append", "incremental": False})),
    ("GET", PLAIN, None, 200, Shows({"sync_type": None, "should_sync": False, "status": None, "table": None})),
    ("GET", PLAIN, None, 200, Shows({"sync_frequency": "6hour", "sync_time_of_day": None, "label": None})),
    ("GET", PLAIN, None, 200, Shows({"cdc_table_mode": "consolidated", "incremental_sync_blocked": None})),
    ("GET", PLAIN, None, 200, Shows({"full_refresh_interval_days": None, "next_full_refresh_at": None})),
    ("GET", SCHEMA.rstrip("/"), None, 200, Shows({"name": "invoices"})),
    ("GET", SCHEMAS, None, 200, Counts(3)),
    ("GET", SCHEMAS, {"search": "INV"}, 200, Counts(1)),
    ("GET", SCHEMAS, {"limit": "2"}, 200, Counts(3)),
    ("GET", SCHEMAS, {"limit": "x", "offset": "-1"}, 200, Counts(3)),
    ("GET", SCHEMAS, LONG, 200, Counts(3)),
    ("GET", SOURCES, None, 200, Counts(1)),
    ("GET", SOURCES, {"search": "stri"}, 200, Counts(1)),
    ("GET", SOURCES, {"search": "{source}"}, 200, Counts(0)),
    ("GET", SOURCE, None, 200, Shows({"source_type": "Stripe", "status": "Running", "prefix": None, "job_inputs": {}})),
    ("GET", SOURCE, None, 200, Shows({"auto_sync_new_schemas": False, "auto_sync_schema_patterns": None})),
    ("GET", SOURCE, None, 200, Shows({"client_secret": None, "account_id": None, "access_method": "warehouse"})),
    ("GET", SOURCE + "jobs/", None, 200, Counts(0, page=False)),
    ("GET", SOURCE + "jobs/", {"schemas": "invoices"}, 200, Counts(0, page=False)),
    ("GET", SOURCE + "jobs/", {"after": "soon"}, 400, rule("after and before must be ISO 8601 timestamps.")),
    ("GET", SOURCE + "jobs/", {"before": "2026-11-03T12:00:00"}, 200, Counts(0, page=False)),
    ("GET", SOURCE + "webhook_info/", None, 200, Shows({"exists": False, "webhook_url": None})),
    ("GET", SCHEMA + "logs/", None, 200, Counts(0)),
    ("GET", SCHEMA + "logs/", {"level": ["ERROR", "warn"]}, 200, Counts(0)),
    ("GET", SCHEMA + "logs/", {"limit": "0"}, 400, Typed("min_value", ..., "limit")),
    ("GET", SCHEMA + "logs/", {"limit": "501"}, 400, Typed("max_value", ..., "limit")),
    ("GET", SCHEMA + "logs/", {"before": "x"}, 400, rule("after and before must be ISO 8601 timestamps.")),
    # --- one schema: fields ---
    ("PATCH", PLAIN, {"sync_type": "bogus"}, 400, choice("bogus", "sync_type")),
    ("PATCH", PLAIN, {"sync_type": ["append"]}, 400, choice("['append']", "sync_type")),
    ("PATCH", PLAIN, {"should_sync": None}, 400, Typed("null", NULL, "should_sync")),
    ("PATCH", PLAIN, {"should_sync": "maybe"}, 400, rule(BOOLEAN, "should_sync")),
    ("PATCH", PLAIN, {"primary_key_columns": "id"}, 400, Typed("not_a_list", ..., "primary_key_columns")),
    ("PATCH", PLAIN, {"primary_key_columns": ["id", None]}, 400, Typed("null", NULL, "primary_key_columns__1")),
    (
        "PATCH",
        PLAIN,
        {"incremental_field": ""},
        400,
        Typed("blank", "This field may not be blank.", "incremental_field"),
    ),
    ("PATCH", PLAIN, {"incremental_field": ["a"]}, 400, rule("Not a valid string.", "incremental_field")),
    ("PATCH", PLAIN, {"incremental_field": True}, 400, rule("Not a valid string.", "incremental_field")),
    ("PATCH", PLAIN, {"incremental_field_type": "text"}, 400, choice("text", "incremental_field_type")),
    ("PATCH", PLAIN, {"sync_time_of_day": "25:00:00"}, 400, rule(TIME, "sync_time_of_day")),
    ("PATCH", PLAIN, {"sync_time_of_day": 5}, 400, rule(TIME, "sync_time_of_day")),
    ("PATCH", PLAIN, {"sync_time_of_day": "14:15:22Z"}, 400, CLOCK),
    ("PATCH", PLAIN, {"sync_time_of_day": "14:15"}, 400, CLOCK),
    ("PATCH", PLAIN, {"sync_time_of_day": "14:15:22.5"}, 400, CLOCK),
    ("PATCH", PLAIN, {"sync_time_of_day": "14:15:22+02:00"}, 400, CLOCK),
    ("PATCH", PLAIN, {"sync_frequency": ""}, 400, choice("", "sync_frequency")),
    ("PATCH", PLAIN, {"sync_frequency": "2min"}, 400, choice("2min", "sync_frequency")),
    (
        "PATCH",
        PLAIN,
        {"sync_frequency": "1min"},
        400,
        Typed(
            "invalid_choice",
            '"1min" is not a valid sync frequency. The fastest sync frequency is 5 minutes.',
            "sync_frequency",
        ),
    ),
    (
        "PATCH",
        PLAIN,
        {"sync_frequency": "never"},
        400,
        rule(
            '"never" is not a sync frequency. To stop syncing this table, set should_sync to false.', "sync_frequency"
        ),
    ),
    (
        "PATCH",
        PLAIN,
        {"incremental_field_lookback_seconds": -1},
        400,
        Typed("min_value", ..., "incremental_field_lookback_seconds"),
    ),
    (
        "PATCH",
        PLAIN,
        {"incremental_field_lookback_seconds": 5_184_001},
        400,
        Typed("max_value", ..., "incremental_field_lookback_seconds"),
    ),
    (
        "PATCH",
        PLAIN,
        {"incremental_field_lookback_seconds": 1.5},
        400,
        rule("A valid integer is required.", "incremental_field_lookback_seconds"),
    ),
    ("PATCH", PLAIN, {"full_refresh_interval_days": 0}, 400, Typed("min_value", ..., "full_refresh_interval_days")),
    ("PATCH", PLAIN, {"full_refresh_interval_days": 91}, 400, Typed("max_value", ..., "full_refresh_interval_days")),
    ("PATCH", PLAIN, [], 400, rule("Invalid data. Expected a dictionary, but got list.")),
    ("PATCH", PLAIN, 5, 400, rule("Invalid data. Expected a dictionary, but got int.")),
    # --- one schema: rules ---
    ("PATCH", PLAIN, {"should_sync": True}, 400, rule("Sync type must be set up first before enabling schema")),
    ("PATCH", PLAIN, {"sync_type": "cdc"}, 400, rule("CDC is not enabled for this team")),
    ("PATCH", PLAIN, {"sync_type": "xmin"}, 400, rule("xmin replication is only available for Postgres sources.")),
    ("PATCH", PLAIN, {"incremental_field": "price"}, 400, rule("incremental_field" + ALONE)),
    ("PATCH", PLAIN, {"primary_key_columns": ["code"]}, 400, rule("primary_key_columns" + ALONE)),
    (
        "PATCH",
        PLAIN,
        {"incremental_field_lookback_seconds": 5},
        400,
        rule("incremental_field_lookback_seconds" + ALONE),
    ),
    (
        "PATCH",
        PLAIN,
        MERGE,
        400,
        rule(
            "'plans' has no primary key to sync incrementally on."
            " Choose a primary key for it, or switch it to full table replication."
        ),
    ),
    (
        "PATCH",
        PLAIN,
        MERGE | {"primary_key_columns": ["nope"]},
        400,
        rule("'plans' has no column named nope to merge on."),
    ),
    ("PATCH", PLAIN, {"full_refresh_interval_days": 7}, 400, rule(..., "full_refresh_interval_days")),
    (
        "PATCH",
        PLAIN,
        {"enabled_columns": ["nope"]},
        400,
        rule("Unknown columns in enabled_columns: ['nope']. Run `Pull new schemas` to refresh available columns."),
    ),
    # --- one schema: accepted ---
    ("PATCH", SCHEMA, {"shuold_sync": True, "id": "x", "status": "Completed"}, 200, Shows({"status": None})),
    ("PATCH", SCHEMA, {"sync_frequency": None}, 200, Shows({"sync_frequency": "6hour"})),
    ("PATCH", SCHEMA, {"sync_time_of_day": "7:11:00"}, 200, Shows({"sync_time_of_day": "07:11:00"})),
    ("PATCH", SCHEMA, {"sync_time_of_day": None}, 200, Shows({"sync_time_of_day": None})),
    ("PATCH", SCHEMA, {"incremental_field": "amount"}, 200, Shows({"incremental_field": "amount"})),
    ("PATCH", SCHEMA, {"incremental_field": "id"}, 200, Shows({"incremental_field": "id"})),
    (
        "PATCH",
        SCHEMA,
        {"incremental_field_lookback_seconds": 5},
        200,
        Shows({"incremental_field_lookback_seconds": None}),
    ),
    ("PATCH", SCHEMA, {"full_refresh_interval_days": 1}, 200, Shows({"full_refresh_interval_days": 1})),
    ("PATCH", SCHEMA, {"full_refresh_interval_days": None}, 200, Shows({"next_full_refresh_at": None})),
    ("PATCH", SCHEMA, b"", 200, Shows({"name": "invoices"})),
    ("PATCH", SCHEMA, {"should_sync": False}, 200, Shows({"should_sync": False, "source": None})),
    # --- bodies ---
    ("PATCH", SCHEMA, b'{"a":', 400, PARSE),
    ("PATCH", SCHEMA, b"\xff", 400, PARSE),
    ("PATCH", SCHEMA, b'{"incremental_field_lookback_seconds": NaN}', 400, PARSE),
    ("PATCH", SCHEMA, ("text/plain", b"x"), 415, MEDIA),
    ("PATCH", SCHEMA, ("text/plain", b""), 200, ANY),
    ("PATCH", SCHEMA, ("application/json; charset=utf-8", b"{}"), 200, ANY),
    ("PATCH", SCHEMA, (FORM, b"should_sync=maybe"), 400, rule(BOOLEAN, "should_sync")),
    ("PATCH", SCHEMA, (FORM, b"should_sync=false&sync_time_of_day="), 200, Shows({"sync_time_of_day": None})),
    (
        "PATCH",
        SCHEMA,
        (FORM, b"primary_key_columns=amount&primary_key_columns=id"),
        200,
        Shows({"primary_key_columns": ["id"]}),
    ),
    (
        "PATCH",
        SCHEMA,
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="should_sync"\r\n\r\nmaybe\r\n--B--\r\n',
        ),
        400,
        rule(BOOLEAN, "should_sync"),
    ),
    # --- several schemas ---
    ("PATCH", BULK, {}, 400, Typed("required", "This field is required.", "schemas")),
    ("PATCH", BULK, {"schemas": None}, 400, Typed("null", NULL, "schemas")),
    ("PATCH", BULK, {"schemas": []}, 400, Typed("empty", "This list may not be empty.", "schemas__non_field_errors")),
    ("PATCH", BULK, {"schemas": "x"}, 400, Typed("not_a_list", ..., "schemas__non_field_errors")),
    ("PATCH", BULK, {"schemas": [{}]}, 400, printed("id", "required", "This field is required.")),
    ("PATCH", BULK, {"schemas": [{"id": "x"}]}, 400, printed("id", "invalid", "Must be a valid UUID.")),
    (
        "PATCH",
        BULK,
        {"schemas": ["x"]},
        400,
        printed("non_field_errors", "invalid", "Invalid data. Expected a dictionary, but got str."),
    ),
    (
        "PATCH",
        BULK,
        {"schemas": [{"id": "{schema}", "sync_type": "bogus"}]},
        400,
        printed("sync_type", "invalid_choice", '"bogus" is not a valid choice.'),
    ),
    ("PATCH", BULK, {"schemas": [{"id": "{schema}"}, {"id": "x"}]}, 400, Typed("{}", "{}", "schemas")),
    ("PATCH", BULK, {"schemas": [{"id": "{schema}"}] * 2}, 400, rule("Schema updates must contain unique ids")),
    (
        "PATCH",
        BULK,
        {"schemas": [{"id": NOBODY}]},
        400,
        rule("One or more schemas could not be found for this source"),
    ),
    (
        "PATCH",
        BULK,
        {"schemas": [{"id": "{plain}", "should_sync": True}]},
        400,
        Typed("bulk_schema_save_failed", ..., type="server_error"),
    ),
    ("PATCH", BULK, {"schemas": [{"id": "{schema}", "sync_time_of_day": "14:15:22Z"}]}, 200, Counts(1, page=False)),
    ("PATCH", BULK, {"schemas": [{"id": "{schema}", "sync_time_of_day": None}]}, 200, Counts(1, page=False)),
    # --- creating a source ---
    ("POST", SOURCES, {}, 400, Typed("required", "This field is required.", "source_type")),
    ("POST", SOURCES, {"source_type": "Stripe"}, 400, Typed("required", "This field is required.", "payload")),
    ("POST", SOURCES, {"source_type": None, "payload": {}}, 400, Typed("null", NULL, "source_type")),
    ("POST", SOURCES, {"source_type": "stripe", "payload": {}}, 400, choice("stripe", "source_type")),
    ("POST", SOURCES, {"source_type": "../etc", "payload": {}}, 400, choice("../etc", "source_type")),
    ("POST", SOURCES, {"source_type": "Stripe", "payload": []}, 400, Typed("not_a_dict", ..., "payload")),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "payload": {}, "prefix": "x" * 101},
        400,
        Typed("max_length", ..., "prefix"),
    ),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "payload": {}, "prefix": "a\0"},
        400,
        Typed("null_characters_not_allowed", ..., "prefix"),
    ),
    ("POST", SOURCES, {"source_type": "Stripe", "payload": {}, "prefix": "1a"}, 400, rule(...)),
    ("POST", SOURCES, {"source_type": "Stripe", "payload": {}, "prefix": "__"}, 400, rule(...)),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "payload": {}, "description": "x" * 401},
        400,
        Typed("max_length", ..., "description"),
    ),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "payload": {}, "access_method": "x"},
        400,
        choice("x", "access_method"),
    ),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "payload": {}},
        400,
        message(
            "You already have a source of this type."
            " Add a table prefix so this connection's tables don't clash with your existing source."
        ),
    ),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "prefix": "b", "payload": {"schemas": "all"}},
        400,
        message("The 'schemas' field must be a list of the tables to sync."),
    ),
    (
        "POST",
        SOURCES,
        {"source_type": "Stripe", "prefix": "b", "payload": {"schemas": [{"name": "x"}]}},
        400,
        message("Schemas given do not exist in source"),
    ),
    (
        "POST",
        SOURCES,
        {
            "source_type": "Stripe",
            "prefix": "b",
            "payload": {"schemas": [{"name": "plans", "should_sync": True, "sync_type": "append"}]},
        },
        400,
        message("Incremental schemas given do not have an incremental field set"),
    ),
    (
        "POST",
        SOURCES,
        {
            "source_type": "Stripe",
            "prefix": "b",
            "payload": {
                "schemas": [{"name": "plans", "should_sync": True, "sync_type": "append", "incremental_field": "price"}]
            },
        },
        400,
        message("Incremental schemas given do not have an incremental field type set"),
    ),
    ("POST", SOURCES + "database_schema/", {}, 400, message("Missing required parameter: source_type")),
    # --- one source ---
    ("PATCH", SOURCE, {"prefix": "other"}, 200, Shows({"prefix": None})),
    ("PATCH", SOURCE, {"description": "mine"}, 200, Shows({"description": "mine"})),
    ("PATCH", SOURCE, {"description": "x" * 401}, 400, Typed("max_length", ..., "description")),
    ("PATCH", SOURCE, {"auto_sync_new_schemas": None}, 400, Typed("null", NULL, "auto_sync_new_schemas")),
    ("PATCH", SOURCE, {"auto_sync_schema_patterns": "raw"}, 400, Typed("not_a_list", ..., "auto_sync_schema_patterns")),
    (
        "PATCH",
        SOURCE,
        {"access_method": "direct"},
        400,
        rule("Access method cannot be changed. Create a new source instead."),
    ),
    # --- calls that read no body ---
    ("POST", SCHEMA + "cancel/", b"{broken", 400, Bare("detail", "No running sync to cancel.")),
    ("POST", SCHEMA + "cancel/", ("text/plain", b"x"), 400, Bare("detail", "No running sync to cancel.")),
    ("DELETE", PLAIN + "delete_data/", b"{broken", 200, EMPTY),
    (
        "POST",
        PLAIN + "incremental_fields/",
        b"{broken",
        200,
        Shows({"incremental_available": True, "full_refresh_available": True}),
    ),
    ("POST", SOURCE + "refresh_schemas/", b"{broken", 200, Shows({"added": 0, "deleted": 0, "auto_enabled": 0})),
    ("POST", SOURCE + "create_webhook/", b"{broken", 400, NO_WEBHOOKS),
    ("POST", SOURCE + "delete_webhook/", b"{broken", 400, NO_WEBHOOKS),
    # --- what does not exist, even with a broken body ---
    ("GET", f"{SCHEMAS}{NOBODY}/", None, 404, NOT_FOUND),
    ("GET", f"{SCHEMAS}not-a-uuid/", None, 404, NOT_FOUND),
    ("PATCH", f"{SCHEMAS}{NOBODY}/", b'{"a":', 404, NOT_FOUND),
    ("PATCH", f"{SOURCES}{NOBODY}/", b'{"a":', 404, NOT_FOUND),
    ("PATCH", f"{SOURCES}{NOBODY}/bulk_update_schemas/", ("text/plain", b"x"), 404, NOT_FOUND),
    ("POST", f"{SCHEMAS}{NOBODY}/reload/", None, 404, NOT_FOUND),
    ("DELETE", f"{SOURCES}{NOBODY}/", None, 404, NOT_FOUND),
    ("GET", f"{SOURCES}{NOBODY}/jobs/", None, 404, NOT_FOUND),
    # --- methods ---
    ("POST", SCHEMAS, {}, 405, missing_method("POST")),
    ("DELETE", SOURCES, None, 405, missing_method("DELETE")),
    ("GET", SCHEMA + "reload/", None, 405, missing_method("GET")),
    ("POST", SOURCE + "jobs/", None, 405, missing_method("POST")),
    ("HEAD", SCHEMA, None, 200, EMPTY),
    ("HEAD", SOURCES, None, 200, EMPTY),
    ("OPTIONS", SCHEMA, None, 200, Shows({"renders": ["application/json"]})),
]


@pytest.fixture(scope="module")
def asked(quiet_server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, dict[str, str]]:
    """The server of this file, and the ids that the table names."""
    (source,) = (row["id"] for row in quiet_server.json("GET", SOURCES)["results"])
    quiet_server.json("POST", f"{SOURCES}{source}/refresh_schemas/")
    ids = {name: quiet_server.schema(source, name)["id"] for name in ("invoices", "plans")}
    append = {"sync_type": "append", "incremental_field": "id", "incremental_field_type": "integer"}
    quiet_server.json("PATCH", f"{SCHEMAS}{ids['invoices']}/", json=append)
    return quiet_server, {"{schema}": ids["invoices"], "{plain}": ids["plans"], "{source}": source}


def ask(asked: tuple[Server, dict[str, str]], method: str, path: str, sent: Any) -> httpx.Response:
    """Send one request of the table."""
    server, ids = asked
    if method == "GET":
        return server.call(method, with_ids(path, ids), params=sent)
    media_type, content = sent if isinstance(sent, tuple) else ("application/json", sent)
    if not isinstance(content, bytes):
        content = b"" if content is None else with_ids(json.dumps(content), ids).encode()
    return server.call(method, with_ids(path, ids), content=content, headers={"Content-Type": media_type})


def with_ids(text: str, ids: dict[str, str]) -> str:
    """Put the ids in the places of their names."""
    for name, value in ids.items():
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize(("method", "path", "sent", "status", "expected"), CASES, ids=lambda value: str(value)[:60])
def test_an_answer_is_posthogs(
    asked: tuple[Server, dict[str, str]], *, method: str, path: str, sent: Any, status: int, expected: Any
) -> None:
    """Status and body of each answer are PostHog's."""
    response = ask(asked, method, path, sent)
    assert (status, True) == (response.status_code, expected.fits(response)), response.text


# path, the methods that it has
ALLOWED = [
    (SCHEMA, "GET, PATCH, DELETE, HEAD, OPTIONS"),
    (SOURCE, "GET, PATCH, DELETE, HEAD, OPTIONS"),
    (SCHEMAS, "GET, HEAD, OPTIONS"),
    (SOURCES, "GET, POST, HEAD, OPTIONS"),
    (SCHEMA + "reload/", "POST, OPTIONS"),
    (SCHEMA + "delete_data/", "DELETE, OPTIONS"),
    (BULK, "PATCH, OPTIONS"),
    (SOURCE + "jobs/", "GET, HEAD, OPTIONS"),
]


@pytest.mark.parametrize(("path", "allow"), ALLOWED)
@pytest.mark.parametrize(("method", "status"), [("TRACE", 405), ("OPTIONS", 200)])
def test_methods_are_named(
    asked: tuple[Server, dict[str, str]], *, path: str, allow: str, method: str, status: int
) -> None:
    """A missing method and OPTIONS name all methods of the path."""
    response = ask(asked, method, path, None)
    assert (status, allow) == (response.status_code, response.headers["Allow"])


# headers of the caller, method, path, status, body
CALLERS: list[tuple[dict[str, str], str, str, int, Any]] = [
    ({"Authorization": ""}, "GET", SOURCES, 401, NO_KEY),
    ({"Authorization": "Basic x"}, "GET", SOURCES, 401, NO_KEY),
    ({"Authorization": "Bearer phx_wrong"}, "GET", SOURCES, 401, WRONG_KEY),
    ({"Authorization": ""}, "PUT", SOURCES, 401, NO_KEY),
    ({"Authorization": "Bearer phx_wrong"}, "PUT", SCHEMA + "reload/", 401, WRONG_KEY),
    ({"Authorization": ""}, "OPTIONS", SOURCES, 401, NO_KEY),
    ({"Authorization": ""}, "PATCH", f"{SCHEMAS}{NOBODY}/", 401, NO_KEY),
]


@pytest.mark.parametrize(("headers", "method", "path", "status", "expected"), CALLERS)
def test_a_caller_without_a_key(
    asked: tuple[Server, dict[str, str]], *, headers: dict[str, str], method: str, path: str, status: int, expected: Any
) -> None:
    """The key is checked before the method and the object, and the answer asks for no other way to log in."""
    response = asked[0].call(method, with_ids(path, asked[1]), headers=headers, content=b"{broken")
    assert (status, True) == (response.status_code, expected.fits(response)), response.text
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", SOURCES), ("PATCH", SCHEMA), ("DELETE", SOURCE), ("PATCH", BULK), ("POST", SCHEMA + "reload/")],
)
def test_a_key_that_may_only_read(asked: tuple[Server, dict[str, str]], method: str, path: str) -> None:
    """The scope is checked before the body and the object."""
    response = asked[0].call(method, with_ids(path, asked[1]), headers=asked[0].key(READ), content=b"{broken")
    assert (403, True) == (response.status_code, NO_SCOPE.fits(response))
