"""Real syncs through a proxy that spoils many polls, for each fault in its turn.

Prints how often each fault happened, how the syncs ended, and what was lost: a row of a table, or a sync that is
doubled or still running. The engine, the client, HTTP and the embedded warehouse are real.

Example: `python -m tests.acceptance.fault_campaign --rounds 20`
"""

from __future__ import annotations

import argparse
import gzip
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.posthog.transport import Timeouts
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.events import Ended
from dw_orchestration.sync.settings import SyncSettings, TableRequest
from dw_orchestration.testing.warehouse import EmbeddedWarehouse
from tests.acceptance.proxy import BadAnswer, Fault, FaultyProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dw_orchestration.testing.warehouse import AddedSource

JSON = "application/json"
HTML = "text/html"
NGINX = b"<html><head><title>%s</title></head><body><center>nginx</center></body></html>"
OWN_404 = b'{"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": null}'
OTHER_PRODUCT = b'{"error": "Not Found", "status": 404, "path": "/api/projects"}'
TIMES = Timeouts(connect_s=2.0, read_s=0.5, slow_read_s=2.0, total_s=0.6)
FAST = SyncSettings(poll_min_s=0.05, poll_max_s=0.2)
FIRST, SHARE = 3, 0.4
TABLES = ("customers", "orders", "invoices")


# --- what is sent in the place of an answer ---


def whole(status: int, body: bytes, *headers: str, kind: str = JSON) -> Callable[[socket.socket, bytes], None]:
    """A complete answer of another server."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return lambda connection, _: connection.sendall("\r\n".join(lines).encode() + body)


def raw(*pieces: bytes) -> Callable[[socket.socket, bytes], None]:
    """These bytes, then the end of the connection."""
    return lambda connection, _: connection.sendall(b"".join(pieces))


def trickle(start: bytes, piece: bytes) -> Callable[[socket.socket, bytes], None]:
    """A piece every few milliseconds, without end."""

    def send(connection: socket.socket, _: bytes) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(0.02)

    return send


def framed(
    frame: Callable[[bytes], tuple[int, bytes]], *, reset: bool = False
) -> Callable[[socket.socket, bytes], None]:
    """The warehouse's own answer with another length, or less of it."""

    def send(connection: socket.socket, content: bytes) -> None:
        length, sent = frame(content)
        connection.sendall(OK + f"Content-Length: {length}\r\n\r\n".encode() + sent)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return send


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIP = "Content-Encoding: gzip"
BAD_ANSWERS = [
    BadAnswer("reset in the middle of the body", framed(lambda body: (len(body), body[:20]), reset=True)),
    BadAnswer("body shorter than its length", framed(lambda body: (len(body) + 50, body))),
    BadAnswer("body longer than its length", framed(lambda body: (len(body) // 2, body))),
    BadAnswer("length of a broken kind", raw(OK, b"Content-Length: -5\r\n\r\n[]")),
    BadAnswer("broken chunks", raw(OK, b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n[]")),
    BadAnswer("trickle of the body", trickle(OK + b"Content-Length: 100000\r\n\r\n", b" ")),
    BadAnswer("trickle of the headers", trickle(OK + b"X-Long: ", b"a")),
    BadAnswer("trickle of informational answers", trickle(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    BadAnswer("no HTTP", raw(b"\x00\xff\xfe SSH-2.0-OpenSSH\r\n")),
    BadAnswer("nothing", raw()),
    BadAnswer("redirect to another host", whole(302, b"", "Location: http://other.example/login")),
    BadAnswer("redirect in a circle", whole(307, b"", "Location: /api/projects/1/again/")),
    BadAnswer("redirect to nonsense", whole(301, b"", "Location: http://[::1")),
    BadAnswer("200, a login page", whole(200, NGINX % b"Log in", kind=HTML)),
    BadAnswer("200, empty", whole(200, b"")),
    BadAnswer("200, {}", whole(200, b"{}")),
    BadAnswer("200, another product's JSON", whole(200, b'{"status": "ok", "results": null}')),
    BadAnswer("400, a page", whole(400, NGINX % b"400 Bad Request", kind=HTML)),
    BadAnswer("401, a page", whole(401, NGINX % b"401 Unauthorized", kind=HTML)),
    BadAnswer("403, a firewall's page", whole(403, NGINX % b"Request blocked", kind=HTML)),
    BadAnswer("404, default backend", whole(404, b"default backend - 404", kind="text/plain")),
    BadAnswer("404, a page", whole(404, NGINX % b"404 Not Found", kind=HTML)),
    BadAnswer("404, another product's JSON", whole(404, OTHER_PRODUCT)),
    BadAnswer("404, PostHog's own, not confirmed", whole(404, OWN_404)),
    BadAnswer("408", whole(408, b"")),
    BadAnswer("429 with a wait", whole(429, b'{"detail": "Slow down."}', "Retry-After: 0")),
    BadAnswer("429, a page", whole(429, NGINX % b"Too many requests", "Retry-After: 0", kind=HTML)),
    *(BadAnswer(f"{status}", whole(status, NGINX % b"Error", kind=HTML)) for status in (500, 502, 503, 504)),
    BadAnswer("gzip bomb", whole(200, gzip.compress(bytes(200 * 2**20), compresslevel=1), GZIP)),
    BadAnswer("gzip that breaks off", whole(200, gzip.compress(b"[]" * 1000)[:-9], GZIP)),
    BadAnswer("gzip that is none", whole(200, b"[]", GZIP)),
    BadAnswer("a compression that was not asked for", whole(200, b"[]", "Content-Encoding: br")),
    BadAnswer("200,000 nested brackets", whole(200, b"[" * 200_000)),
    BadAnswer("a million rows of garbage", whole(200, b"[" + b"1," * 1_000_000 + b"1]")),
    BadAnswer("JSON that breaks off", whole(200, b'[{"id": "')),
    BadAnswer("bytes that are no text", whole(200, b"\xff\xfe[\x00]\x00")),
]


class SpoiltPolls(FaultyProxy):
    """Spoils the third request, and a share of those after it by chance, but no trigger, and no two in a row."""

    _count = 0
    _was_spoilt = False

    def draw(self, path: str) -> Fault | BadAnswer | None:
        """The fault, if it is its turn."""
        if path.endswith("/reload/"):
            return None
        self._count += 1
        by_chance = self._count > FIRST and not self._was_spoilt and self._random.random() < SHARE
        self._was_spoilt = self._count == FIRST or by_chance
        return next(self._faults) if self._was_spoilt else None


@dataclass
class Result:
    """How the syncs of one fault ended, and what they cost.

    Attributes:
        fault: What was done to the polls.
        spoilt: How many polls had it.
        ends: The outcomes of the tables' syncs.
        losses: What is missing, doubled or left over.
    """

    fault: str
    spoilt: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)


class Campaign:
    """Tables of an embedded warehouse that are synced again and again."""

    def __init__(self, warehouse: EmbeddedWarehouse, *, tables: Sequence[str] = TABLES) -> None:
        self._warehouse = warehouse
        self._tables = tables
        self._rounds = 0
        self._source: AddedSource = warehouse.add_source("Stripe", tables={name: [{"id": 0}] for name in tables})
        schemas = warehouse.client.get_source(self._source.id).schemas
        self._requests = [
            TableRequest(source_id=self._source.id, schema_id=schema.id, name=schema.name) for schema in schemas
        ]

    def play(self, fault: BadAnswer | Fault, *, rounds: int) -> Result:
        """Sync all tables so many times, with this fault in many polls."""
        name = fault.name if isinstance(fault, BadAnswer) else fault.value
        result = Result(name)
        for _ in range(rounds):
            self._rounds += 1
            rows = [{"id": number} for number in range(self._rounds + 1)]
            for table in self._tables:
                self._warehouse.set_rows(table, rows)
            before = {table: len(self._warehouse.jobs(table)) for table in self._tables}
            with SpoiltPolls(self._warehouse.resource.ensure_running(), faults=[fault]) as proxy:
                result.ends.update(self._sync(proxy))
            result.spoilt += sum(exchange.fault is not None for exchange in proxy.exchanges)
            for table in self._tables:
                result.losses += self._losses(table, rows=len(rows), jobs=before[table] + 1)
        return result

    def _sync(self, proxy: FaultyProxy) -> list[str]:
        endpoint = proxy.endpoint
        make = partial(PostHogWarehouseClient, proxy.host, endpoint["project_id"], endpoint["api_key"])
        retry = RetryPolicy(attempts=1)
        with make(timeouts=TIMES, retry=retry, rate_limits=None) as client:
            events = SyncEngine(client, self._requests, settings=FAST).events()
            return [event.outcome for event in events if isinstance(event, Ended)]

    def _losses(self, table: str, *, rows: int, jobs: int) -> list[str]:
        found, own = len(self._warehouse.rows(table)), self._warehouse.jobs(table)
        return [
            *([f"{table}: {found} rows, not {rows}"] if found != rows else []),
            *([f"{table}: {len(own)} syncs, not {jobs}"] if len(own) != jobs else []),
            *(f"{table}: {job.id} is {job.status}" for job in own if job.status is not JobStatus.COMPLETED),
        ]


def main() -> None:
    """Play all faults, print the table, and exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="syncs of each table for each fault (default: 5)")
    parser.add_argument("--only", default="", help="only the faults whose name contains this text")
    args = parser.parse_args()
    chosen = [*BAD_ANSWERS, Fault.RESET, Fault.RESET_AFTER, Fault.HANG]
    print(f"{'fault of the polls':45}{'times':>7}{'seconds':>9}  {'ends':24}lost")
    is_lost = False
    with tempfile.TemporaryDirectory() as folder:
        resource = LocalWarehouse(home=str(Path(folder) / "home"), shop=False, fixtures=str(Path(folder) / "fixtures"))
        try:
            with EmbeddedWarehouse(resource) as warehouse:
                campaign = Campaign(warehouse)
                for fault in chosen:
                    if args.only not in (fault.name if isinstance(fault, BadAnswer) else fault.value):
                        continue
                    started = time.monotonic()
                    result = campaign.play(fault, rounds=args.rounds)
                    ends = ", ".join(f"{count} {end}" for end, count in result.ends.items())
                    lost = "; ".join(result.losses) or "nothing"
                    took = time.monotonic() - started
                    print(f"{result.fault[:44]:45}{result.spoilt:7}{took:9.1f}  {ends:24}{lost}", flush=True)
                    is_lost |= bool(result.losses) or set(result.ends) != {"completed"}
        finally:
            resource.stop()
    sys.exit(is_lost)


if __name__ == "__main__":
    main()
