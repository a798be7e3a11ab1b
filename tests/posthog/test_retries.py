"""What is repeated, after how long, and what never is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.retries import RetryPolicy

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import MakeClient, ScriptedServer

THROTTLED = {"type": "throttled_error", "code": "throttled", "detail": "Request was throttled."}
SCHEMA = {"id": "s1", "name": "orders"}


@pytest.mark.parametrize(
    ("method", "status", "sent", "expected"),
    [
        # no answer: only what may be done twice
        ("GET", None, True, True),
        ("PATCH", None, True, True),
        ("DELETE", None, True, True),
        ("POST", None, True, False),
        # nothing sent: everything
        ("GET", None, False, True),
        ("POST", None, False, True),
        # the server failed, perhaps after it did it
        ("GET", 500, True, True),
        ("PATCH", 503, True, True),
        ("DELETE", 502, True, True),
        ("POST", 500, True, False),
        ("POST", 504, True, False),
        # the server did nothing
        ("GET", 429, True, True),
        ("POST", 429, True, True),
        # the request is wrong
        ("GET", 400, True, False),
        ("GET", 401, True, False),
        ("PATCH", 403, True, False),
        ("DELETE", 404, True, False),
        ("POST", 409, True, False),
        # not an error's status: a redirect that was refused, an answer of another shape
        ("GET", 302, True, False),
        ("GET", 200, True, False),
    ],
)
def test_what_may_be_repeated(*, method: str, status: int | None, sent: bool, expected: Any) -> None:
    """A request is repeated if it had no effect yet, or may be done twice and may work the next time."""
    assert expected is RetryPolicy().should_retry(method=method, status=status, attempt=1, sent=sent)


@pytest.mark.parametrize(("attempt", "expected"), [(1, True), (3, True), (4, False), (5, False)])
def test_the_tries_are_counted(attempt: int, expected: Any) -> None:
    """There are four tries in all by default."""
    assert expected is RetryPolicy().should_retry(method="GET", status=500, attempt=attempt)


@pytest.mark.parametrize(("wait_s", "expected"), [(None, True), (0.0, True), (60.0, True), (60.1, False)])
def test_a_long_wait_is_left_to_the_caller(wait_s: Any, expected: Any) -> None:
    """A server that asks for more than 60 s is not waited for within a request."""
    policy = RetryPolicy()
    assert expected is policy.should_retry(method="GET", status=429, attempt=1, retry_after_s=wait_s)


@given(attempts=st.integers(1, 9), jitter_s=st.floats(0, 3), first_s=st.floats(0.01, 2), longest_s=st.floats(2, 9))
def test_the_back_off_doubles_within_its_bounds(
    attempts: int, jitter_s: float, first_s: float, longest_s: float
) -> None:
    """The n-th wait is the first one doubled n-1 times, up to the longest, plus at most the jitter."""
    policy = RetryPolicy(attempts=attempts, first_delay_s=first_s, longest_delay_s=longest_s, jitter_s=jitter_s)
    slept: list[float] = []

    def fail() -> None:
        raise errors.UnreachableError("nobody there")

    with pytest.raises(errors.UnreachableError):
        policy.call(fail, method="POST", sleep=slept.append)
    assert attempts - 1 == len(slept)
    for n, wait_s in enumerate(slept):
        floor_s = min(first_s * 2**n, longest_s)
        assert floor_s <= wait_s <= floor_s + jitter_s + 1e-9


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError, OSError])
def test_only_errors_of_the_api_are_retried(raised: type[BaseException]) -> None:
    """An interrupt by the user, or a mistake in the code, ends the call at once."""
    tries = []

    def fail() -> None:
        tries.append(1)
        raise raised

    with pytest.raises(raised):
        RetryPolicy().call(fail, method="GET", sleep=tries.append)
    assert [1] == tries


def test_a_get_gets_over_a_failing_gateway(
    client: PostHogWarehouseClient, server: ScriptedServer, slept: list[float]
) -> None:
    """A GET is repeated through 5xx answers, and its answer is the first good one."""
    server.answer(b"<html>", status=502).answer(b"", status=504).answer(SCHEMA)
    assert "orders" == client.get_schema("s1").name
    assert (3, 2) == (client.requests, len(slept))


def test_the_last_error_is_raised(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """When all tries fail, the error is the last try's own."""
    server.answer(status=500).answer(status=502).answer(status=500).answer(b"the last", status=503)
    with pytest.raises(errors.ServerError, match="the last"):
        client.get_schema("s1")
    assert 4 == len(server.received)


@pytest.mark.parametrize("trigger", ["reload_schema", "resync_schema", "cancel_schema", "create_webhook"])
def test_a_trigger_is_not_repeated_after_a_server_error(
    client: PostHogWarehouseClient, server: ScriptedServer, trigger: str
) -> None:
    """A POST that the server failed at may have started a sync: it is sent once."""
    server.answer(status=502)
    with pytest.raises(errors.ServerError):
        getattr(client, trigger)("s1")
    assert 1 == len(server.received)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (httpx.ReadTimeout, errors.AnswerTimeoutError),
        (httpx.WriteTimeout, errors.AnswerTimeoutError),
        (httpx.ReadError, errors.LostAnswerError),
        (httpx.WriteError, errors.LostAnswerError),
        (httpx.RemoteProtocolError, errors.LostAnswerError),
        (httpx.DecodingError, errors.LostAnswerError),
    ],
)
def test_a_trigger_whose_answer_is_lost_is_not_repeated(
    make_client: MakeClient, failure: type[httpx.RequestError], expected: Any
) -> None:
    """A POST that was sent but not answered raises an error that asks the caller to check first."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("broken", request=request)

    client = make_client(http_transport=httpx.MockTransport(fail))
    with pytest.raises(errors.LostAnswerError, match="check before you repeat") as raised:
        client.reload_schema("s1")
    assert (expected, 1) == (type(raised.value), client.requests)


def test_an_answer_that_breaks_off_is_lost(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A connection that ends before the answer does is a lost answer; reading is tried again, a trigger not."""
    broken = {"Content-Length": "999", "Connection": "close"}
    server.answer(b'{"id"', headers=broken).answer(SCHEMA)
    assert "orders" == client.get_schema("s1").name
    server.answer(b'{"id"', headers=broken)
    with pytest.raises(errors.LostAnswerError):
        client.reload_schema("s1")
    assert 3 == len(server.received)


def test_a_trigger_that_was_never_sent_is_repeated(make_client: MakeClient, slept: list[float]) -> None:
    """A POST that found no connection had no effect, and is tried again."""

    def fail_twice(request: httpx.Request) -> httpx.Response:
        if client.requests <= 2:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200)

    client = make_client(http_transport=httpx.MockTransport(fail_twice))
    assert client.reload_schema("s1") is None
    assert (3, 2) == (client.requests, len(slept))


def test_nobody_at_the_host(make_client: MakeClient) -> None:
    """A host where nothing listens has its own error, which says that nothing was sent."""
    client = make_client(host="http://127.0.0.1:1")
    with pytest.raises(errors.UnreachableError, match="nothing was sent") as raised:
        client.get_schema("s1")
    assert "GET /api/projects/1/external_data_schemas/s1/ at 127.0.0.1" in str(raised.value)
    assert 4 == client.requests


NOW = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "detail", "expected_s"),
    [
        ({"Retry-After": "7"}, "", 7.0),
        ({"Retry-After": " 60 "}, "", 60.0),
        ({"Retry-After": "0"}, "", 0.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT", "Date": NOW}, "", 30.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:30 -0000", "Date": NOW}, "", 30.0),
        ({"Retry-After": "Wed, 31 Dec 2025 23:00:00 GMT", "Date": NOW}, "", 0.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:50 GMT", "Date": "no date"}, "", 40.0),
        ({}, "Request was throttled. Expected available in 12 seconds.", 12.0),
        ({"Retry-After": "7"}, "Expected available in 12 seconds.", 7.0),
    ],
)
def test_retry_after_is_slept_through(
    make_client: MakeClient, slept: list[float], headers: dict[str, str], detail: str, expected_s: float
) -> None:
    """The pause is the one that the server asks for, in seconds or as a date by the server's own clock."""

    def throttle_once(_: httpx.Request) -> httpx.Response:
        if client.requests == 1:
            return httpx.Response(429, json={"detail": detail}, headers=headers)
        return httpx.Response(200)

    client = make_client(
        http_transport=httpx.MockTransport(throttle_once),
        now=lambda: datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC),
    )
    client.reload_schema("s1")
    assert [expected_s] == slept


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "-5"}, {"Retry-After": "1.5"}])
def test_without_a_readable_retry_after_the_back_off_decides(
    make_client: MakeClient, slept: list[float], headers: dict[str, str]
) -> None:
    """A missing or unreadable wait leaves it to the ordinary back-off."""
    client = make_client(
        http_transport=httpx.MockTransport(lambda _: httpx.Response(429, json=THROTTLED, headers=headers)),
        retry=RetryPolicy(attempts=2, first_delay_s=3.0, jitter_s=0.0),
    )
    with pytest.raises(errors.RateLimitedError, match="Try again later") as raised:
        client.get_schema("s1")
    assert ([3.0], None) == (slept, raised.value.retry_after_s)


def test_a_long_retry_after_is_raised_at_once(
    client: PostHogWarehouseClient, server: ScriptedServer, slept: list[float]
) -> None:
    """More than 60 s are not slept: the error says when to come back, and there was one request."""
    server.answer(THROTTLED, status=429, headers={"Retry-After": "61"})
    with pytest.raises(errors.RateLimitedError, match="Try again in 61 s") as raised:
        client.get_schema("s1")
    assert (61.0, [], 1) == (raised.value.retry_after_s, slept, client.requests)
