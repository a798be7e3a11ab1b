"""Keys, scopes, projects, rates, error shapes and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dw_orchestration.local.api.access import Throttle
from dw_orchestration.local.api.errors import AnswerError

if TYPE_CHECKING:
    from tests.local.conftest import Server, Servers

READ = "external_data_source:read"
WRITE = "external_data_source:write"
SOURCES = "external_data_sources/"
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def test_health_needs_no_key(quiet_server: Server) -> None:
    """Anybody may ask whether the server is up."""
    response = quiet_server.client.get("/_health", headers={"Authorization": ""})
    assert (200, {"status": "ok"}) == (response.status_code, response.json())


def test_no_key(quiet_server: Server) -> None:
    """A call without a key is a 401 with that reason, in the typed shape."""
    response = quiet_server.call("GET", SOURCES, headers={"Authorization": ""})
    expected = {
        "type": "authentication_error",
        "code": "not_authenticated",
        "detail": "Authentication credentials were not provided.",
        "attr": None,
    }
    assert (401, expected) == (response.status_code, response.json())


def test_wrong_key(quiet_server: Server) -> None:
    """An unknown key is a 401 with its own code."""
    response = quiet_server.call("GET", SOURCES, headers={"Authorization": "Bearer phx_wrong"})
    assert (401, "authentication_failed") == (response.status_code, response.json()["code"])


def test_read_key_cannot_write(quiet_server: Server) -> None:
    """A key without the write scope gets a 403 that names the scope, before its body is read."""
    response = quiet_server.call("POST", SOURCES, headers=quiet_server.key(READ), content="{")
    assert 403 == response.status_code
    assert "API key missing required scope 'external_data_source:write'" == response.json()["detail"]


@pytest.mark.parametrize("scope", [READ, WRITE, "*"])
def test_who_may_read(quiet_server: Server, scope: str) -> None:
    """Write includes read, and a star includes all."""
    assert 200 == quiet_server.call("GET", SOURCES, headers=quiet_server.key(scope)).status_code


def test_unknown_project(quiet_server: Server) -> None:
    """A project that does not exist is a 404 with its own text."""
    response = quiet_server.client.get("/api/projects/77/external_data_sources/")
    assert (404, "Project not found.") == (response.status_code, response.json()["detail"])


def test_key_of_another_project(quiet_server: Server) -> None:
    """A key that is limited to other projects gets a 403."""
    response = quiet_server.call("GET", SOURCES, headers=quiet_server.key("*", project_ids=[2]))
    assert 403 == response.status_code
    assert "API key does not have access to the requested project: ID 1." == response.json()["detail"]


@pytest.mark.parametrize("path", ["projects/@current/external_data_sources", "projects/1/external_data_sources/"])
def test_project_and_slash_have_two_forms(quiet_server: Server, path: str) -> None:
    """`@current` is the project, and the trailing slash may be left out without a redirect."""
    assert 200 == quiet_server.client.get(f"/api/{path}").status_code


@pytest.mark.parametrize("schema_id", [UNKNOWN_ID, "not-a-uuid"])
def test_unknown_id(quiet_server: Server, schema_id: str) -> None:
    """An unknown and a malformed id are the same 404."""
    response = quiet_server.call("GET", f"external_data_schemas/{schema_id}/")
    expected = {"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": None}
    assert (404, expected) == (response.status_code, response.json())


def test_method_not_allowed(quiet_server: Server) -> None:
    """Schemas are never made over the API: POST to their list is a 405."""
    response = quiet_server.call("POST", "external_data_schemas/")
    assert (405, 'Method "POST" not allowed.') == (response.status_code, response.json()["detail"])


def test_broken_json(quiet_server: Server) -> None:
    """A body that is no JSON is a 400 of type invalid_request."""
    headers = {"Content-Type": "application/json"}
    response = quiet_server.call("POST", SOURCES, content='{"a":', headers=headers)
    answer = response.json()
    assert (400, "invalid_request", "parse_error") == (response.status_code, answer["type"], answer["code"])
    assert answer["detail"].startswith("JSON parse error - ")


def test_unsupported_media_type(quiet_server: Server) -> None:
    """A body in a form that nobody reads is a 415."""
    response = quiet_server.call("POST", SOURCES, content="x", headers={"Content-Type": "text/plain"})
    assert (415, "unsupported_media_type") == (response.status_code, response.json()["code"])


def test_answers_are_dated(quiet_server: Server) -> None:
    """Every answer says when it was given."""
    assert quiet_server.call("GET", SOURCES).headers["Date"].endswith("GMT")


def test_pages(quiet_server: Server) -> None:
    """`limit` and `offset` cut the list, `next` and `previous` are absolute addresses of the neighbours."""
    first = quiet_server.json("GET", "external_data_schemas/", params={"limit": "1"})
    second = quiet_server.client.get(first["next"]).json()
    names = [page["results"][0]["name"] for page in (first, second)]
    assert (2, None, ["customers", "invoices"]) == (first["count"], first["previous"], names)
    assert None is second["next"]
    assert first["results"] == quiet_server.client.get(second["previous"]).json()["results"]


@pytest.mark.parametrize("query", [{"limit": "x"}, {"limit": "0"}, {"offset": "-1"}, {"limit": "9" * 30}])
def test_odd_pages_are_the_whole_list(quiet_server: Server, query: dict[str, str]) -> None:
    """What is no sensible limit or offset counts as not sent, and there is no largest limit."""
    assert 2 == len(quiet_server.json("GET", "external_data_schemas/", params=query)["results"])


def test_search(quiet_server: Server) -> None:
    """Schemas are searched by name, sources by type and prefix."""
    schemas = quiet_server.json("GET", "external_data_schemas/", params={"search": "INV"})["results"]
    assert ["invoices"] == [schema["name"] for schema in schemas]
    found = [quiet_server.json("GET", SOURCES, params={"search": text})["count"] for text in ("stri", "hub")]
    assert [1, 0] == found


def test_rate_limit(servers: Servers) -> None:
    """The call after the last allowed one in a minute is a 429 that says when to come again."""
    server = servers.start(rate_limit_per_minute=2)
    statuses = [server.call("GET", SOURCES).status_code for _ in range(2)]
    response = server.call("GET", SOURCES)
    assert ([200, 200], 429, "throttled_error") == (statuses, response.status_code, response.json()["type"])
    assert 0 < int(response.headers["Retry-After"]) <= 60


def test_rate_limit_slides() -> None:
    """A call makes room again a minute after it was made, and each key has its own room."""
    now = 0.0
    throttle = Throttle(2, clock=lambda: now)
    throttle.check("a")
    now = 30.0
    throttle.check("a")
    throttle.check("b")
    with pytest.raises(AnswerError) as refused:
        throttle.check("a")
    assert {"Retry-After": "30"} == refused.value.headers
    now = 60.0
    throttle.check("a")
