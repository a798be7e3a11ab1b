"""A proxy in front of the warehouse that counts the traffic and spoils a share of it, as networks do."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.posthog.transport import Timeouts
from dw_orchestration.resources.warehouse import PostHogWarehouseResource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from dw_orchestration.resources.embedded_process import Endpoint

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
HELD_S = 20.0


class Fault(Enum):
    """What may go wrong with one exchange."""

    RESET = "the connection breaks before the warehouse has seen the request"
    RESET_AFTER = "the connection breaks instead of the answer"
    HANG = "no answer ever comes"
    TRUNCATED = "the answer breaks off in the middle"
    BAD_GATEWAY = "a page instead of the warehouse"
    BAD_GATEWAY_AFTER = "a page instead of the warehouse's answer"
    THROTTLED = "a 429"

    @property
    def reaches_the_warehouse(self) -> bool:
        """Whether the warehouse does what was asked for."""
        return self not in {Fault.RESET, Fault.BAD_GATEWAY, Fault.THROTTLED}


@dataclass(frozen=True)
class BadAnswer:
    """What is sent in the place of an answer, by a function; the warehouse has done what was asked for."""

    name: str
    send: Callable[[socket.socket, bytes], None]
    reaches_the_warehouse: bool = True


@dataclass(frozen=True)
class Exchange:
    """One request, what was done to it, and the status of its answer if it got one."""

    method: str
    path: str
    fault: Fault | BadAnswer | None
    status: int | None = None

    @property
    def is_trigger(self) -> bool:
        """Whether it starts a sync, and has reached the warehouse."""
        asks = self.method == "POST" and self.path.endswith("/reload/")
        return asks and self.status != 429 and (self.fault is None or self.fault.reaches_the_warehouse)


class FaultyProxy:
    """Forwards to the warehouse; a share of the exchanges, drawn with a seed, has one of the faults, each in its turn.

    Attributes:
        exchanges: All that has passed, in order.
        share: Of the exchanges, from 0 to 1.
        only_triggers: Whether all other requests are spared.
        rewrite: Makes another answer of the one to a GET, from its path and its JSON.
    """

    def __init__(self, endpoint: Endpoint, *, faults: Sequence[Fault | BadAnswer] = (), seed: int = 0) -> None:
        self.endpoint = endpoint
        self.exchanges: list[Exchange] = []
        self.share = 0.0
        self.only_triggers = False
        self.rewrite: Callable[[str, Any], Any] | None = None
        self._faults = cycle(faults)
        self._random = random.Random(seed)  # noqa: S311 - a test's dice
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def triggers(self) -> int:
        """How many requests to start a sync have reached the warehouse."""
        return sum(exchange.is_trigger for exchange in list(self.exchanges))

    def draw(self, path: str) -> Fault | BadAnswer | None:
        """What is to go wrong with the exchange."""
        if self.only_triggers and not path.endswith("/reload/"):
            return None
        with self._lock:
            is_spoilt = self._random.random() < self.share
            return next(self._faults) if is_spoilt else None

    def note(self, exchange: Exchange) -> None:
        """Keep an exchange."""
        with self._lock:
            self.exchanges.append(exchange)


class Proxied(PostHogWarehouseResource):
    """The warehouse behind a proxy, for a client that does not wait long."""

    @classmethod
    def through(cls, proxy: FaultyProxy) -> Self:
        """The resource for a proxy's warehouse."""
        return cls(host=proxy.host, project_id=proxy.endpoint["project_id"], api_key=proxy.endpoint["api_key"])

    def client(self) -> PostHogWarehouseClient:
        """A client with short times."""
        return PostHogWarehouseClient(
            self.host,
            self.project_id,
            self.api_key,
            timeouts=Timeouts(connect_s=2, read_s=2, slow_read_s=5, total_s=4),
            retry=RetryPolicy(attempts=3, first_delay_s=0.1, jitter_s=0.1),
            rate_limits=None,
        )


class _Handler(BaseHTTPRequestHandler):
    """Deals with the requests of one connection."""

    proxy: ClassVar[FaultyProxy]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = HELD_S

    def exchange(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.draw(self.path)
        status, content_type, content, retry_after = 502, "text/html", PAGE, None
        if fault is None or fault.reaches_the_warehouse:
            status, content_type, content, retry_after = self._forward(body)
        elif fault is Fault.THROTTLED:
            status, content_type, content, retry_after = 429, "application/json", b'{"detail": "Slow down."}', "1"
        spoilt = _SPOILERS.get(fault) if isinstance(fault, Fault) else None
        self.proxy.note(Exchange(self.command, self.path, fault, None if spoilt else status))
        if isinstance(fault, BadAnswer):
            self.send_instead(fault, content)
            return
        if spoilt:
            spoilt(self)
            return
        if fault is Fault.BAD_GATEWAY_AFTER:
            status, content_type, content = 502, "text/html", PAGE
        elif fault is Fault.TRUNCATED:
            content = content[: len(content) // 2]
        if self.proxy.rewrite and self.command == "GET" and status == 200:
            content = json.dumps(self.proxy.rewrite(self.path, json.loads(content))).encode()
        self._answer(status, content_type, content, retry_after=retry_after)

    def _forward(self, body: bytes) -> tuple[int, str, bytes, str | None]:
        connection = HTTPConnection(urlsplit(self.proxy.endpoint["host"]).netloc, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
        connection.request(self.command, self.path, body=body or None, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.getheader("Content-Type", ""), answer.read(), answer.getheader("Retry-After")
        connection.close()
        return found

    def _answer(self, status: int, content_type: str, content: bytes, *, retry_after: str | None) -> None:
        self.send_response(status)
        headers = {"Content-Type": content_type, "Content-Length": str(len(content)), "Retry-After": retry_after}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def reset(self) -> None:
        """Break the connection with a reset, as a firewall does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def send_instead(self, bad: BadAnswer, content: bytes) -> None:
        """Send a bad answer until it ends, or the client gives up."""
        self.close_connection = True
        with suppress(OSError):
            bad.send(self.connection, content)

    def hang(self) -> None:
        """Send nothing until the other side gives up."""
        self.close_connection = True
        self.connection.recv(1)

    do_GET = do_POST = do_PATCH = do_DELETE = exchange  # noqa: N815 - the names that the library asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        """Nothing: what has passed is in `exchanges`."""


_SPOILERS = {Fault.RESET: _Handler.reset, Fault.RESET_AFTER: _Handler.reset, Fault.HANG: _Handler.hang}
