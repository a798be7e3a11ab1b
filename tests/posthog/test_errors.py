"""What the errors say, and what they keep to themselves."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import MakeClient, ScriptedServer

ZERO = "00000000-0000-0000-0000-000000000000"


def typed(detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "validation_error", "code": "invalid_input", "detail": detail, "attr": None, **more}


SCOPE = typed("API key missing required scope 'external_data_source:write'", type="authentication_error")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            401,
            typed("Personal API key found in request Authorization header is invalid.", type="authentication_error"),
            (
                "PostHog does not accept the API key: Personal API key found in request Authorization header is "
                "invalid (401 for GET /api/projects/1/external_data_schemas/s1/ at 127.0.0.1). "
                "Use a personal API key (phx_...) that was created on this host. Project keys do not work here."
            ),
        ),
        (
            404,
            typed("Project not found.", type="invalid_request", code="not_found"),
            (
                "PostHog does not know the project: Project not found (404 for GET "
                "/api/projects/1/external_data_schemas/s1/ at 127.0.0.1). Check the project id (the number in "
                "PostHog's URLs), and that the host is in the project's region."
            ),
        ),
        (
            403,
            SCOPE,
            (
                "The API key lacks a scope: API key missing required scope 'external_data_source:write' (403 for "
                "GET /api/projects/1/external_data_schemas/s1/ at 127.0.0.1). Add the scope "
                "external_data_source:write to the key in PostHog (write includes read)."
            ),
        ),
    ],
)
def test_an_error_says_what_which_and_what_to_do(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int, body: Any, message: str
) -> None:
    """One line names what happened, the request, the host and the cure."""
    server.answer(body, status=status)
    with pytest.raises(errors.ApiError) as raised:
        client.get_schema("s1")
    assert message == str(raised.value)


def test_a_bad_request_names_its_field(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The wrong field is an attribute and part of the message."""
    server.answer(typed("This field may not be null.", attr="primary_key_columns__1"), status=400)
    with pytest.raises(errors.BadRequestError, match=r"Field: primary_key_columns__1\.") as raised:
        client.get_schema("s1")
    error = raised.value
    assert ("primary_key_columns__1", "primary_key_columns__1", "invalid_input") == (
        error.field,
        error.attr,
        error.code,
    )
    assert ("GET", "/api/projects/1/external_data_schemas/s1/") == (error.method, error.path)


def test_a_missing_scope_is_named(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The scope that the key lacks is an attribute."""
    server.answer(SCOPE, status=403)
    with pytest.raises(errors.MissingScopeError) as raised:
        client.get_schema("s1")
    assert "external_data_source:write" == raised.value.scope


@pytest.mark.parametrize("cls", [errors.ApiError, errors.MissingScopeError, errors.RateLimitedError])
def test_errors_survive_another_process(cls: type[errors.ApiError]) -> None:
    """An error can be pickled, as Dagster's executors need, and says the same afterwards."""
    problem = Problem(status=403, method="GET", path="/p", host="h", detail="missing required scope 'a:b'")
    again = pickle.loads(pickle.dumps(cls(problem)))  # noqa: S301  # the test's own bytes
    assert (cls, str(cls(problem)), problem) == (type(again), str(again), again.problem)


def test_a_redirect_to_another_host_is_refused(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """The key does not go to another host, and the error names that host without its query string."""
    server.answer(status=302, headers={"Location": "https://login.example/in?token=hunter2"})
    with pytest.raises(errors.RedirectRefusedError, match=r"to https://login\.example/in ") as raised:
        client.get_schema("s1")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("failure", [httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, 500, 503])
def test_only_a_change_may_have_taken_effect(make_client: MakeClient, failure: Any) -> None:
    """An error sends people to check for an effect after a change, and never after a request that only reads."""

    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, int):
            return httpx.Response(failure)
        raise failure("broken", request=request)

    client = make_client(http_transport=httpx.MockTransport(answer))
    calls = (client.get_schema, client.reload_schema, client.delete_schema)
    texts = []
    for call in calls:
        with pytest.raises(errors.PostHogError) as raised:
            call(ZERO)
        texts.append(str(raised.value))
    assert [False, True, True] == ["effect" in text for text in texts]
    assert all("ry again" in text for text in texts[:1])


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((302, {"Location": target}) for target in ("javascript:alert(1)", "mailto:a@b", "http://h:abc/", "http://[")),
        *((500, {"Content-Type": f"text/html; charset={name}"}) for name in ("utf-16", "idna", "hex", "nonsense")),
        *((503, {"Content-Encoding": name}) for name in ("gzip", "deflate")),
    ],
)
def test_no_answer_raises_an_error_of_another_package(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int, headers: dict[str, str]
) -> None:
    """An answer that cannot be followed, decoded or unpacked is an error of this package, with its request."""
    for _ in range(4):
        server.answer(b"<html>", status=status, headers=headers)
    with pytest.raises(errors.PostHogError, match=r"GET /api/projects/1/external_data_schemas/s1/"):
        client.get_schema("s1")


def every_failure(key: str) -> Iterator[httpx.BaseTransport]:
    """Servers and networks that fail, each quoting the key back where it can."""
    yield httpx.MockTransport(lambda _: httpx.Response(200, text=key))
    for status in (302, 400, 401, 403, 404, 405, 429, 500, 503):
        for body in (key, f'{{"detail": "bad {key}", "code": "{key}", "attr": "{key}"}}'):
            headers = {"Location": f"https://other.example/{key}"} if status == httpx.codes.FOUND else {}
            yield httpx.MockTransport(
                lambda _, status=status, body=body, headers=headers: httpx.Response(status, text=body, headers=headers)
            )
    for kind in (httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError):

        def fail(request: httpx.Request, kind: type[httpx.RequestError] = kind) -> httpx.Response:
            raise kind(f"broken for {key}", request=request)

        yield httpx.MockTransport(fail)


def everything_about(exc: BaseException | None) -> str:
    """All that a log, a debugger or an error tracker shows of an error and of what led to it."""
    shown = ""
    while exc is not None:
        shown += "".join([str(exc), repr(exc), repr(exc.args), repr(vars(exc)), *traceback.format_exception(exc)])
        exc = exc.__cause__ or exc.__context__
    return shown


def test_the_key_is_in_no_error_log_or_repr(make_client: MakeClient, key: str) -> None:
    """After any failure, and even if a server quotes it, the key is nowhere but in the header."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
    shown, failures = "", 0
    try:
        for failing in every_failure(key):
            client = make_client(http_transport=failing)
            shown += repr(client) + repr(client.transport)
            for call in (client.get_schema, client.reload_schema, client.delete_schema):
                with pytest.raises(errors.PostHogError) as raised:
                    call(ZERO)
                shown += everything_about(raised.value)
                failures += 1
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(logging.WARNING)
    assert 23 * 3 == failures
    assert key not in shown + log.getvalue()
