"""Answers without end: each is given up in bounded time and memory, with an error of the package."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.network import LARGEST_ANSWER
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.posthog.transport import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.posthog.conftest import MakeClient, ScriptedServer

SCHEMA = {"id": "s1", "name": "orders"}
IMPATIENT = Timeouts(connect_s=5.0, read_s=2.0, slow_read_s=0.3, total_s=0.3)
ONCE = RetryPolicy(attempts=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def talker(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that lets `talk` answer the first request; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.recv(65536)
                    talk(connection)
                except OSError:
                    pass  # the client has given up

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def repeated(start: bytes, piece: bytes, *, pause_s: float = 0.02) -> Callable[[socket.socket], None]:
    """Send a piece again and again, without end."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return talk


TRICKLES = {
    "body": repeated(HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "chunks": repeated(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "status line": repeated(b"HTTP/1.1 200 ", b"O"),
    "a header": repeated(HEAD + b"X-Long: ", b"a"),
    "headers": repeated(HEAD, b"X: y\r\n"),
    "informational answers": repeated(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


@pytest.mark.parametrize("trickle", TRICKLES)
@pytest.mark.parametrize("is_slow_call", [False, True])
def test_a_request_has_a_time_in_all(make_client: MakeClient, trickle: str, *, is_slow_call: bool) -> None:
    """An answer whose pieces keep arriving is given up when the time for the whole request is over."""
    with talker(TRICKLES[trickle]) as host:
        client = make_client(host=host, timeouts=IMPATIENT, retry=ONCE)
        with pytest.raises(errors.AnswerTimeoutError, match=r"the time for the whole request is over|timed out"):
            client.refresh_schemas("s1") if is_slow_call else client.get_schema("s1")


def test_an_answer_that_takes_its_time_is_taken(make_client: MakeClient) -> None:
    """Within that time, an answer may arrive in as many pieces as it likes, and more than once on a connection."""

    def talk(connection: socket.socket) -> None:
        for number in range(3):
            body = b'{"id": "s%d", "name": "orders"}' % number
            for byte in HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body:
                connection.sendall(bytes([byte]))
            connection.recv(65536)

    with talker(talk) as host:
        client = make_client(host=host, timeouts=Timeouts(total_s=20.0))
        assert ["s0", "s1", "s2"] == [client.get_schema("any").id for _ in range(3)]
        client.close()


def test_a_request_that_is_not_taken_has_a_time_in_all(make_client: MakeClient) -> None:
    """A server that stops reading does not keep the request: sending is part of the time."""
    with talker(lambda connection: time.sleep(1.0)) as host:  # noqa: ARG005
        client = make_client(host=host, timeouts=IMPATIENT, retry=ONCE)
        with pytest.raises(errors.AnswerTimeoutError):
            client.create_source("Stripe", {"schemas": ["x" * 1000] * 50_000})


@cache
def zeros() -> bytes:
    """Twice the largest answer in a few bytes; made when it is needed, since each process reads this file."""
    return gzip.compress(b"0" * (2 * LARGEST_ANSWER), compresslevel=1)


@pytest.mark.parametrize(
    ("encoding", "make_body"),
    [
        ("gzip", zeros),
        ("x-gzip", zeros),
        (" GZIP ", zeros),
        ("gzip, gzip", lambda: gzip.compress(zeros())),
        ("deflate", lambda: zlib.compress(b"0" * 1000)),
        ("br", lambda: b"\x00"),
        ("zstd", lambda: b"\x00"),
    ],
)
def test_a_small_answer_that_becomes_large_is_given_up(
    make_client: MakeClient, server: ScriptedServer, encoding: str, make_body: Callable[[], bytes]
) -> None:
    """No more is decompressed than the largest answer, and nothing that was not asked for."""
    body = make_body()
    server.answer(body, headers={"Content-Encoding": encoding})
    tracemalloc.start()
    try:
        with pytest.raises(errors.UnexpectedAnswerError, match=r"larger than 128 MiB|which was not requested"):
            make_client().get_schema("s1")
        assert tracemalloc.get_traced_memory()[1] < 1.3 * LARGEST_ANSWER + len(body)
    finally:
        tracemalloc.stop()
    assert "gzip" == server.last.headers["accept-encoding"]


def test_an_answer_without_end_is_given_up(make_client: MakeClient) -> None:
    """An answer of no known length ends at the maximum, not when the memory is full."""
    endless = repeated(HEAD + b"Connection: close\r\n\r\n[", b"1," * 2**20, pause_s=0.0)
    with talker(endless) as host, pytest.raises(errors.UnexpectedAnswerError, match="larger than 128 MiB"):
        make_client(host=host).get_schema("s1")


@pytest.mark.parametrize("status", [200, 400, 404, 502])
def test_an_oversized_answer_of_any_status_is_no_answer(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    """A gateway's bomb with an error status is an error of the same kind."""
    server.answer(zeros(), status=status, headers={"Content-Encoding": "gzip"})
    with pytest.raises(errors.UnexpectedAnswerError):
        make_client(retry=ONCE).get_schema("s1")


def test_a_compressed_answer_is_read(make_client: MakeClient, server: ScriptedServer) -> None:
    """PostHog compresses what is worth it."""
    raw = b'{"id": "s1", "name": "orders", "description": "%s"}' % (b"x" * 200_000)
    server.answer(gzip.compress(raw), headers={"Content-Encoding": "gzip"})
    assert "x" * 200_000 == make_client().get_schema("s1").description


DAMAGED = {
    "cut": gzip.compress(b'{"id": "s1", "name": "orders"}')[:-12],
    "not compressed": b'{"id": "s1"}',
    "none": b"",
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_compressed_answer_is_lost(make_client: MakeClient, server: ScriptedServer, body: bytes) -> None:
    """What breaks off, or is not compressed although it claims so, is no answer; a read is repeated."""
    server.answer(body, headers={"Content-Encoding": "gzip"}).answer(SCHEMA)
    assert "orders" == make_client().get_schema("s1").name
    server.answer(body, headers={"Content-Encoding": "gzip"})
    with pytest.raises(errors.LostAnswerError):
        make_client().reload_schema("s1")


@pytest.mark.parametrize("call", ["list_jobs", "list_sources", "get_source", "get_schema"])
@pytest.mark.parametrize(
    "frame", ["[%s]", '{"id": "s1", "source_type": "a", "name": "b", "results": [%s], "schemas": [%s]}']
)
def test_a_list_of_garbage_is_given_up(make_client: MakeClient, server: ScriptedServer, call: str, frame: str) -> None:
    """A long list of what is no row costs little more memory than its text: not each of its faults is kept."""
    server.answer((frame.replace("%s", "1," * 300_000 + "1")).encode())
    client = make_client()
    tracemalloc.start()
    try:
        if call != "get_schema" or frame == "[%s]":
            with pytest.raises(errors.UnexpectedAnswerError):
                list(getattr(client, call)("s1") if call != "list_sources" else client.list_sources())
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


NESTED = [b"[" * 200_000, b'{"a":' * 200_000, b'{"detail": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"]


@pytest.mark.parametrize("body", NESTED)
@pytest.mark.parametrize("status", [200, 404, 429, 502])
@pytest.mark.parametrize("call", ["get_schema", "list_jobs", "reload_schema", "cancel_schema", "delete_schema"])
def test_nested_json_is_an_error_of_the_package(
    make_client: MakeClient, server: ScriptedServer, body: bytes, status: int, call: str
) -> None:
    """However deep an answer is nested, and whichever part of the client reads it: no `RecursionError`."""
    server.answer(body, status=status)
    with pytest.raises(errors.ApiError):
        list(getattr(make_client(retry=ONCE), call)("s1") or ())


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "http://[::1"},
        {"Location": "http://a:b:c/"},
        {"Location": "//"},
        {"Location": "http://" + "a" * 70_000},
        {"Retry-After": "9" * 5000},
        {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"},
        {"Date": "Fri, 31 Dec 9999 23:59:59 -2359"},
        {"Content-Type": "application/json; charset=zlib_codec"},
        {"Content-Length": "-1"},
        {"Content-Length": "5, 6"},
        {"Set-Cookie": "=;=;\x01 expires=Fri, 31 Dec 9999 23:59:59 -2359"},
        {"Content-Encoding": "a" * 5000},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [200, 302, 429, 500])
def test_garbage_in_headers_is_an_error_of_the_package(
    make_client: MakeClient, server: ScriptedServer, headers: dict[str, str], status: int
) -> None:
    """No header of an answer leads to another error than one of the package."""
    server.answer(b"<", status=status, headers=headers)
    with pytest.raises(errors.PostHogError):
        make_client(retry=ONCE).get_schema("s1")


def test_a_wait_has_a_maximum(make_client: MakeClient, server: ScriptedServer) -> None:
    """A gateway that asks for a pause of years is not obeyed: PostHog's longest rate limit is an hour."""
    for wait in ("9" * 400, "Fri, 31 Dec 2999 23:59:59 GMT"):
        server.answer({"detail": "slow down"}, status=429, headers={"Retry-After": wait})
        with pytest.raises(errors.RateLimitedError) as raised:
            make_client().get_schema("s1")
        assert 3600 == raised.value.retry_after_s
    server.answer({"detail": f"Expected available in {'9' * 200} seconds."}, status=429)
    with pytest.raises(errors.RateLimitedError) as raised:
        make_client().get_schema("s1")
    assert 3600 == raised.value.retry_after_s


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": {1, 2}}, {"a": b"x"}])
def test_what_cannot_be_sent_is_an_error_of_the_package(
    make_client: MakeClient, server: ScriptedServer, payload: dict[str, object]
) -> None:
    """A payload that JSON has no form for is refused before it is sent."""
    with pytest.raises(errors.UsageError, match="cannot be sent"):
        make_client().create_source("Stripe", payload)
    assert [] == server.received


def test_a_host_that_cannot_be_looked_up_is_unreachable(make_client: MakeClient) -> None:
    """A name that no name service can take is one of a host that cannot be reached."""
    with pytest.raises(errors.UnreachableError, match="nothing was sent"):
        make_client(host=f"http://{'a' * 70}.example", retry=ONCE).get_schema("s1")
