"""Which answers are errors, of which class, and what is read from an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.posthog import errors

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import ScriptedServer


def typed(detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "validation_error", "code": "invalid_input", "detail": detail, "attr": None, **more}


def missing(detail: str) -> dict[str, Any]:
    return typed(detail, type="invalid_request", code="not_found")


SCOPE = typed("API key missing required scope 'external_data_source:write'", type="authentication_error")
MONTHLY = "Monthly sync limit reached. Please increase your billing limit to resume syncing."

ANSWERS = [
    (400, typed('"x" is not a valid choice.', attr="sync_type"), errors.BadRequestError),
    (400, {"message": MONTHLY}, errors.BillingLimitError),
    (400, {"detail": "Couldn't start the sync."}, errors.BadRequestError),
    (401, typed("Personal API key ... is invalid.", type="authentication_error"), errors.AuthenticationError),
    (403, SCOPE, errors.MissingScopeError),
    (403, typed("You don't have access to the project.", type="authentication_error"), errors.PermissionDeniedError),
    (404, missing("Not found."), errors.NotFoundError),
    (404, missing("Project not found."), errors.ProjectNotFoundError),
    (405, typed('Method "GET" not allowed.'), errors.ApiError),
    (429, typed("Request was throttled. Expected available in 3600 seconds."), errors.RateLimitedError),
    (500, typed("A server error occurred."), errors.ServerError),
    (502, b"<html>Bad gateway</html>", errors.ServerError),
    (503, typed("Could not save: orders", code="bulk_schema_save_failed"), errors.PartialUpdateError),
    (400, typed("Could not save: a (why)", code="bulk_schema_save_failed"), errors.PartialUpdateError),
    (504, b"", errors.ServerError),
]


@pytest.mark.parametrize(("status", "body", "expected"), ANSWERS)
def test_the_status_decides_which_error_it_is(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int, body: Any, expected: Any
) -> None:
    """The HTTP status or the code of a bulk update chooses the class, a text its subclass; never PostHog's `type`."""
    for _ in range(4):
        server.answer(body, status=status)
    with pytest.raises(errors.ApiError) as raised:
        client.get_schema("s1")
    assert expected is type(raised.value)
    assert status == raised.value.status


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "the detail", "message": "the message"}, "the detail"),
        ({"message": "the message"}, "the message"),
        ({"detail": {"host": ["unknown"]}}, '{"host": ["unknown"]}'),
        ({"other": 1}, '{"other": 1}'),
        (
            {"code": "{}", "detail": "{}", "attr": "schemas"},
            '{"code": "{}", "detail": "{}", "attr": "schemas"}',
        ),
        (
            {"code": "{'id': ['required']}", "detail": "{'id': ['This field is required.']}"},
            """{"code": "{'id': ['required']}", "detail": "{'id': ['This field is required.']}"}""",
        ),
        (["a", "list"], '["a", "list"]'),
        (b"raw\n\n  text", "raw text"),
        (b"x" * 1000, "x" * 297 + "..."),
        (b"", ""),
    ],
)
def test_the_detail_is_what_the_server_says(
    client: PostHogWarehouseClient, server: ScriptedServer, body: Any, detail: str
) -> None:
    """The detail is `detail`, else `message`, else the raw text, also if `detail` is a printed dict; 300 characters."""
    server.answer(body, status=400)
    with pytest.raises(errors.ApiError) as raised:
        client.get_schema("s1")
    assert detail == raised.value.detail


NOT_POSTHOGS = [
    b"default backend - 404",
    b"404 page not found",
    b"<html><head><title>404 Not Found</title></head><body><center>nginx</center></body></html>",
    b"",
    {"message": None},
    {"error": "Not Found", "status": 404, "path": "/api/projects/1/"},
    {"type": "about:blank", "title": "Not Found", "detail": "No route matches.", "code": "not_found"},
    {"type": "invalid_request", "code": "no_route", "detail": "Not found."},
    ["not_found"],
    "Not found.",
    None,
]


@pytest.mark.parametrize("body", NOT_POSTHOGS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413])
@pytest.mark.parametrize("call", ["get_schema", "reload_schema", "cancel_schema", "delete_schema"])
def test_a_gateways_error_is_none_of_posthogs(
    client: PostHogWarehouseClient, server: ScriptedServer, call: str, status: int, body: Any
) -> None:
    """A page or another JSON of any status proves neither a deleted table nor a wrong key."""
    if status not in {401, 403, 404} and isinstance(body, dict) and body.get("type") == "invalid_request":
        return  # as PostHog's own
    if status == 400 and isinstance(body, dict) and body.get("detail"):
        return  # as above
    server.answer(body, status=status)
    with pytest.raises(errors.UnexpectedAnswerError, match="try again later"):
        getattr(client, call)("s1")
    assert 1 == client.requests


@pytest.mark.parametrize("call", ["reload_schema", "resync_schema", "cancel_schema", "delete_schema", "delete_source"])
@pytest.mark.parametrize("body", [b"OK", b"<html>Log in</html>", {"status": "ok"}, ["a"], [], 5, True])
def test_a_success_of_another_product_is_none(
    client: PostHogWarehouseClient, server: ScriptedServer, call: str, body: Any
) -> None:
    """A change has succeeded if the answer is empty or PostHog's message, and not because its status is 200."""
    server.answer(body)
    with pytest.raises(errors.UnexpectedAnswerError):
        getattr(client, call)("s1")


@pytest.mark.parametrize(
    "body", [b"", b" \n", {}, {"id": "s1"}, {"id": "s1", "source_type": "Stripe"}, {"results": []}, [], None]
)
def test_a_source_without_its_tables_is_none(client: PostHogWarehouseClient, server: ScriptedServer, body: Any) -> None:
    """A JSON that lacks the list of tables is not taken for a source whose tables were deleted."""
    server.answer(body)
    with pytest.raises(errors.UnexpectedAnswerError):
        client.get_source("s1")


def test_a_web_page_is_named_by_its_title(server: ScriptedServer, client: PostHogWarehouseClient) -> None:
    """A gateway's page in the place of an answer says little, and its markup nothing at all."""
    page = b"<html>\n<head><title>413 Too\nLarge</title></head><body><center>nginx</center></body></html>"
    server.answer(page, status=413)

    with pytest.raises(errors.ApiError) as raised:
        client.get_schema("s1")

    assert "a web page, '413 Too Large'" in str(raised.value)
    assert "<" not in str(raised.value)


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b'{"id": "s1", "na', b"[]", b'{"id": 5}', b""])
def test_a_success_of_another_shape_is_an_error(
    client: PostHogWarehouseClient, server: ScriptedServer, body: Any
) -> None:
    """A 200 that is a page, truncated JSON or another object is never taken for a schema."""
    server.answer(body)
    with pytest.raises(errors.UnexpectedAnswerError):
        client.get_schema("s1")
    assert 1 == client.requests


def test_a_page_is_no_success_of_a_trigger(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A login page with status 200 does not count as a sync that was started."""
    server.answer(b"<html>Log in</html>")
    with pytest.raises(errors.UnexpectedAnswerError, match="Log in"):
        client.reload_schema("s1")


def test_a_wrong_shape_names_the_field_and_not_its_value(
    client: PostHogWarehouseClient, server: ScriptedServer
) -> None:
    """What a source sends may hold connection details: the error names the fields at fault only."""
    server.answer({"id": ["hunter2"], "source_type": None})
    with pytest.raises(errors.UnexpectedAnswerError) as raised:
        client.get_source("s1")
    assert "hunter2" not in str(raised.value)
    assert "id: Input should be a valid string; source_type" in raised.value.detail
