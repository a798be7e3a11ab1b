"""A real HTTP server on loopback with scripted answers, which keeps the requests it received."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from dw_orchestration.posthog.client import PostHogWarehouseClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KEY = "phx_SecretOfTheTests0123456789"


@dataclass(frozen=True)
class Received:
    """One request that the server received."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Scripted:
    """One scripted answer."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass
class ScriptedServer:
    """Gives the answers in their order, then 200 with an empty object."""

    answers: deque[Scripted] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    compute: Callable[[Received], Any] | None = None
    url: str = ""

    def answer(self, body: Any = b"", *, status: int = 200, headers: Mapping[str, str] | None = None) -> ScriptedServer:
        """Queue an answer: bytes and text as they are, everything else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append(Scripted(status, raw, dict(headers or {})))
        return self

    def reply(self, received: Received) -> Scripted:
        """Keep the request and return its answer."""
        self.received.append(received)
        if self.compute is not None:
            return Scripted(200, json.dumps(self.compute(received)).encode(), {})
        return self.answers.popleft() if self.answers else Scripted(200, b"{}", {})

    @property
    def last(self) -> Received:
        """The latest request."""
        return self.received[-1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, script: ScriptedServer) -> None:
        self.script = script
        super().__init__(*args)

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        url = urlsplit(self.path)
        scripted = self.script.reply(
            Received(
                self.command,
                url.path,
                parse_qs(url.query),
                json.loads(raw) if raw else None,
                {name.lower(): value for name, value in self.headers.items()},
            )
        )
        self.send_response(scripted.status)
        for name, value in {"Content-Length": str(len(scripted.body)), **scripted.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(scripted.body)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815  # the library's names

    def log_message(self, *_: Any) -> None:
        """Stay quiet: the requests are in the script."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server of the test's own."""
    script = ScriptedServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, script=script))
    http.daemon_threads = True
    script.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    yield script
    http.shutdown()
    http.server_close()
    thread.join()


class MakeClient(Protocol):
    """The type of the fixture ``make_client``."""

    def __call__(self, **settings: Any) -> PostHogWarehouseClient:
        """Make a client; it is closed after the test."""


@pytest.fixture
def slept() -> list[float]:
    """The waits of a client of ``make_client``, which are not slept through."""
    return []


@pytest.fixture
def make_client(server: ScriptedServer, slept: list[float]) -> Iterator[MakeClient]:
    """Make clients of project 1 of the scripted server, by default without rate limits."""
    made: list[PostHogWarehouseClient] = []

    def make(**settings: Any) -> PostHogWarehouseClient:
        chosen = {
            "host": server.url,
            "project_id": 1,
            "api_key": KEY,
            "rate_limits": None,
            "sleep": slept.append,
            **settings,
        }
        made.append(PostHogWarehouseClient(**chosen))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: MakeClient) -> PostHogWarehouseClient:
    """A client of project 1 of the scripted server."""
    return make_client()


@pytest.fixture
def key() -> str:
    """The API key of all clients here."""
    return KEY
