"""Connections that keep the deadline of a request, and bodies that keep a maximum size.

The HTTP library limits the silence between two pieces of an answer, but neither their number nor their size: an answer
that comes byte by byte would take hours, and a small compressed one can fill the memory.
"""

import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from ssl import SSLContext
from typing import Any

import httpcore

from dw_orchestration.posthog.environment import ProxyServer, unusable

MOST_CONNECTIONS = 100
MOST_IDLE_CONNECTIONS = 20
IDLE_CONNECTION_S = 5.0

LARGEST_ANSWER = 128 * 2**20
"""Bytes of an answer's text. The list of a project with 10,000 tables of 40 columns each takes 75 MiB."""

# A piece of a large request is sent at a time, so that the deadline is checked between two of them.
_PIECE = 2**16
_GZIP = zlib.MAX_WBITS | 16


class BodyTooLargeError(Exception):
    """The text of an answer is larger than `LARGEST_ANSWER`."""


class EncodingError(Exception):
    """An answer is compressed in a way that was not requested."""


class Deadline(threading.local):
    """When the request of this thread must be complete. A thread has one request at a time."""

    _at = float("inf")

    def begin(self, total_s: float) -> None:
        """A request begins that may take this long."""
        self._at = time.monotonic() + total_s

    def within(self, timeout_s: float | None, late: type[Exception]) -> float:
        """How long the next step may take: at most `timeout_s`, and not beyond the deadline.

        Raises:
            Exception: The deadline has passed. The class is `late`.
        """
        left_s = self._at - time.monotonic()
        if left_s <= 0:
            raise late("the time for the whole request is over")
        return left_s if timeout_s is None else min(timeout_s, left_s)


def connections(
    proxy: ProxyServer | None, *, trusted: SSLContext | None, deadline: Deadline
) -> httpcore.ConnectionPool:
    """A pool of connections that keep a deadline.

    Args:
        proxy: The proxy on the way.
        trusted: The certificates to trust; None if nothing is encrypted.
        deadline: That of each thread's request.

    Raises:
        SetupError: The proxy needs a package that is not installed.
    """
    options: dict[str, Any] = {
        "ssl_context": trusted,
        "max_connections": MOST_CONNECTIONS,
        "max_keepalive_connections": MOST_IDLE_CONNECTIONS,
        "keepalive_expiry": IDLE_CONNECTION_S,
        "network_backend": _Backend(deadline),
    }
    if proxy is None:
        return httpcore.ConnectionPool(**options)
    options |= {"proxy_url": proxy.url, "proxy_auth": proxy.auth}
    if not proxy.is_socks:
        return httpcore.HTTPProxy(**options, proxy_ssl_context=trusted if proxy.scheme == "https" else None)
    try:
        return httpcore.SOCKSProxy(**options)
    except RuntimeError:
        reason, cure = "the package `socksio` is not installed", "Install it (`pip install 'httpx[socks]'`)"
        raise unusable(proxy.variable, proxy.shown, reason, cure) from None


class _Backend(httpcore.SyncBackend):
    """Opens connections that keep a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *more: Any, **options: Any
    ) -> httpcore.NetworkStream:
        timeout = self._deadline.within(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, timeout, *more, **options), self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection. Each read and write keeps the deadline of the request that it serves."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.within(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            left_s = self._deadline.within(timeout, httpcore.WriteTimeout)
            self._stream.write(buffer[start : start + _PIECE], left_s)

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = self._deadline.within(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def read_text(pieces: Iterable[bytes], *, encoding: str) -> str:
    """The text of an answer: JSON is UTF-8, whichever charset a gateway names.

    Args:
        pieces: The body as it arrives.
        encoding: The answer's `Content-Encoding`.

    Raises:
        BodyTooLargeError: It is larger than `LARGEST_ANSWER`. No more than that was kept.
        EncodingError: It is compressed with anything but gzip. Other formats have no limit on what a piece becomes.
        EOFError: It is compressed and ends early.
        zlib.error: It is not compressed, although it claims to be.
    """
    body = bytearray()
    for piece in _decoded(pieces, encoding.strip().lower()):
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise BodyTooLargeError(f"larger than {LARGEST_ANSWER // 2**20} MiB")
    return body.decode(errors="replace")


def _decoded(pieces: Iterable[bytes], encoding: str) -> Iterable[bytes]:
    if encoding in {"", "identity"}:
        return pieces
    if encoding in {"gzip", "x-gzip"}:
        return _unzipped(pieces)
    raise EncodingError(f"compressed as {encoding!r}, which was not requested")


def _unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    unzip = zlib.decompressobj(_GZIP)
    for piece in pieces:
        left = piece
        while left and not unzip.eof:
            yield unzip.decompress(left, _PIECE)
            left = unzip.unconsumed_tail
    yield unzip.flush()
    if not unzip.eof:
        raise EOFError("the compressed answer ends early")
