"""HTTP to PostHog: the only module that uses the HTTP library.

Keeps the key in the Authorization header and nowhere else, retries what is safe to retry, and turns every failure
into an error of this package.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import NoReturn, TypedDict, cast

import httpcore
import httpx

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.answers import Answer, http_date, retry_after_s
from dw_orchestration.posthog.environment import certificates, is_loopback, proxy_for
from dw_orchestration.posthog.network import BodyTooLargeError, Deadline, EncodingError, connections, read_text
from dw_orchestration.posthog.rate_limit import RateBudget
from dw_orchestration.posthog.retries import CALCULATES, RetryPolicy
from dw_orchestration.version import __version__

#: What a test may use instead of the network.
HttpTransport = httpx.BaseTransport
Params = Mapping[str, str | int | Sequence[str]]

HOST_EXAMPLES = "use https://us.posthog.com, https://eu.posthog.com or the address of your own server."
REDIRECTS_FOLLOWED = 3
NOT_FOUND = 404
# These happen before the request is sent. After any other failure the server may have received it.
NOTHING_SENT = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    # the name of the host or of a proxy cannot be looked up
    UnicodeError,
)
TOO_LATE = (httpcore.TimeoutException, httpx.TimeoutException)


_log = logging.getLogger(__name__)


class RequestOptions(TypedDict, total=False):
    """What a request has in addition to its method and its path; see `Transport.request`."""

    params: Params | None
    json: object
    slow: bool
    is_query: bool


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long to wait for the network, in seconds.

    Args:
        connect_s: For a connection.
        read_s: For the server to send data.
        slow_read_s: The same for calls in which PostHog connects to the customer's source, which can take minutes.
        total_s: For a whole answer, however evenly it arrives. Slow calls may take `slow_read_s` longer.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    slow_read_s: float = 300.0
    total_s: float = 120.0


class Transport:
    """A connection to one PostHog host with one key. Safe to use from many threads.

    Proxies and certificates of the environment apply (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`), because many
    companies need them to reach PostHog. Proxies do not apply to a loopback host, which they cannot reach.

    Attributes:
        host: The host, normalised.
        requests: How many requests were sent, retries included.
        server_time: The server's clock at its last answer with a date, in UTC; None before.

    Raises:
        SetupError: The host or the key is invalid, or the environment names a proxy or certificates that cannot be
            used.
    """

    def __init__(
        self,
        host: str,
        api_key: str,
        *,
        read_only: bool = False,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        budget: RateBudget | None = None,
        query_budget: RateBudget | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        notify: Callable[[str], None] = _log.warning,
        http_transport: HttpTransport | None = None,
    ) -> None:
        self.host = normalised_host(host)
        self.requests = 0
        self.server_time: datetime | None = None
        self._key = _checked_key(api_key)
        self._read_only = read_only
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()
        self._budget = budget
        self._query_budget = query_budget
        self._sleep = sleep
        self._now = now
        self._monotonic = monotonic
        self._notify = notify
        self._finish_at = math.inf
        self._counting = threading.Lock()
        self._http = self._client(http_transport)
        warn_of_clear_text(self.host)

    def __reduce__(self) -> NoReturn:
        # A pickle would contain the key. The client that owns this transport cannot be pickled either.
        raise TypeError("A connection to PostHog cannot be pickled: create a client in each process.")

    @property
    def waited_s(self) -> float:
        """How long requests waited for the rate limit. Subtract this time from deadlines."""
        return self._budget.waited_s if self._budget else 0.0

    def finish_within(self, seconds: float) -> None:
        """From now on, wait for nothing past this time: neither for the rate limit, nor to repeat a request.

        A request that is sent until then may still take its `read_s`.
        """
        self._finish_at = self._monotonic() + seconds

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        for budget in (self._budget, self._query_budget):
            if budget:
                budget.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        slow: bool = False,
        is_query: bool = False,
    ) -> Answer:
        """Send a request and return its answer, always a 2xx.

        Args:
            method: GET, POST, PATCH or DELETE.
            path: Starts at the root of the host.
            params: The query string; a sequence repeats its name.
            json: The body; None for no body.
            slow: Whether PostHog connects to the customer's source before it answers, or calculates for long.
            is_query: Whether it is about a query: it changes nothing, even as a POST, and has its own budget.

        Raises:
            UsageError: The transport is closed, or this cannot be sent.
            ReadOnlyError: The transport is read-only, and the method is not GET.
            TransportError: No complete answer was received.
            BudgetSpentError: The rate limit is used up until after the time of `finish_within`.
            ApiError: PostHog answered with an error.
        """
        only_reads = is_query or method in errors.ONLY_READ
        if self._read_only and not only_reads:
            raise errors.ReadOnlyError(
                f"The connection to {self.host} is read-only: no sync was started, and nothing was changed in PostHog."
                " Set `read_only: false` if this deployment may do so. Branch deployments of Dagster+ are read-only by"
                " default."
            )
        if self._http.is_closed:
            raise errors.UsageError(f"{method} {path} was not sent: the client is closed. Create a new one.")
        request = self._request(method, path, params=params, json=json, slow=slow)
        request.extensions |= {"only_reads": only_reads, "is_query": is_query}
        kind = CALCULATES if is_query and method == "POST" else method
        return self._retry.call(
            lambda: self._try(request), method=kind, sleep=self._sleep, left_s=self._left_s, notify=self._notify
        )

    def _left_s(self) -> float:
        return max(self._finish_at - self._monotonic(), 0.0)

    def _client(self, http_transport: HttpTransport | None) -> httpx.Client:
        return httpx.Client(
            headers={
                "Authorization": f"Bearer {self._key}",
                "User-Agent": f"dw-orchestration/{__version__}",
                "Accept": "application/json",
                # the only format that is decompressed piece by piece, so that its size can be limited
                "Accept-Encoding": "gzip",
            },
            # Each redirect is checked here: the library would follow it, with the key, to any host.
            follow_redirects=False,
            transport=http_transport or _Network(self.host),
        )

    def _request(self, method: str, path: str, *, params: Params | None, json: object, slow: bool) -> httpx.Request:
        timeouts = self._timeouts
        read_s = timeouts.slow_read_s if slow else timeouts.read_s
        limits_s = {
            "connect": timeouts.connect_s,
            "read": read_s,
            "write": read_s,
            "pool": read_s,
            # not known to the library: for `_Network`
            "total": min(timeouts.total_s + (timeouts.slow_read_s if slow else 0.0), self._left_s() + timeouts.read_s),
        }
        try:
            return self._http.build_request(
                method, f"{self.host}{path}", params=params, json=json, extensions={"timeout": limits_s}
            )
        except (TypeError, ValueError, RecursionError, httpx.InvalidURL) as exc:
            reason = f"{type(exc).__name__}: {exc}"
        # Raised outside the handler: the error may quote a secret of the body.
        raise errors.UsageError(f"{method} {path} cannot be sent: {self._without_key(reason)}.")

    def _try(self, request: httpx.Request) -> Answer:
        answer, target = self._send(request, request)
        for _ in range(REDIRECTS_FOLLOWED):
            if target is None or not _may_follow(request, target):
                break
            redirected = self._http.build_request("GET", target, extensions=request.extensions)
            answer, target = self._send(redirected, request)
            if answer.status == NOT_FOUND:
                # what does not exist is the address in the redirect, not what was asked for
                raise answer.unexpected(f"redirected to {_bare(redirected.url)}, which does not exist")
        if not answer.is_success:
            raise answer.error()
        return answer

    def _send(self, sent: httpx.Request, request: httpx.Request) -> tuple[Answer, httpx.URL | None]:
        """Send a request, or what another one was redirected to; its answer, and where it redirects to."""
        budget = self._query_budget if request.extensions["is_query"] else self._budget
        if budget:
            budget.take(longest_s=self._left_s())
        with self._counting:
            self.requests += 1
        try:
            response = self._http.send(sent, stream=True)
            try:
                return self._answer(request, response)
            finally:
                response.close()
        except errors.PostHogError:
            raise
        # The boundary to the libraries. They have errors of many kinds; each is one of this package from here on.
        except Exception as exc:  # noqa: BLE001
            failure = self._failure(request, exc)
        # Raised outside the handler: the library's error holds the request, and with it the key.
        raise failure

    def _failure(self, request: httpx.Request, exc: Exception) -> errors.TransportError:
        which = f"{request.method} {request.url.path} at {request.url.host}"
        cause = self._without_key(f"{type(exc).__name__}: {exc}".removesuffix(": "))
        if isinstance(exc, NOTHING_SENT):
            return errors.UnreachableError(
                f"PostHog could not be reached for {which} ({cause}); nothing was sent. "
                "Check the host, the network and the proxy settings."
            )
        may_have_effect = not request.extensions["only_reads"]
        cure = "The request may have taken effect: check before you repeat it." if may_have_effect else "Try again."
        if isinstance(exc, TOO_LATE):
            return errors.AnswerTimeoutError(f"PostHog did not answer {which} in time ({cause}). {cure}")
        return errors.LostAnswerError(f"The answer to {which} was lost ({cause}). {cure}")

    def _answer(self, request: httpx.Request, response: httpx.Response) -> tuple[Answer, httpx.URL | None]:
        server_time = http_date(response.headers.get("date"))
        self.server_time = server_time or self.server_time
        target = None
        if response.has_redirect_location:
            target = response.request.url.join(response.headers["location"])
        answer = Answer(
            status=response.status_code,
            method=request.method,
            path=request.url.path,
            host=request.url.host,
            text="" if target is None else self._without_key(f"to {_bare(target)}"),
            server_time=server_time,
            retry_after_s=retry_after_s(response.headers.get("retry-after"), now=server_time or self._now()),
        )
        try:
            # not its `iter_raw`, which reads no answer that a test has made of bytes
            pieces = cast("httpx.SyncByteStream", response.stream)
            text = read_text(pieces, encoding=response.headers.get("content-encoding", ""))
        except (BodyTooLargeError, EncodingError) as exc:
            raise answer.unexpected(str(exc)) from None
        return (answer, target) if target else (replace(answer, text=self._without_key(text)), None)

    def _without_key(self, text: str) -> str:
        """Some servers and proxies quote the key in their answer: keep it out of logs."""
        return text.replace(self._key, "[API key]")


class _Network(httpx.BaseTransport):
    """The network, with the environment's proxies and certificates, and a deadline for each request.

    The library's own transport has no deadline, and reads other variables than curl does.

    Args:
        host: The only host that requests go to.

    Raises:
        SetupError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, host: str) -> None:
        self._deadline = Deadline()
        proxy = proxy_for(host)
        needs_tls = "https" in {host.partition(":")[0], proxy and proxy.scheme}
        # without encryption nothing is read from certificates, so missing ones do no harm
        trusted = (certificates() or httpx.create_ssl_context(trust_env=False)) if needs_tls else None
        self._pool = connections(proxy, trusted=trusted, deadline=self._deadline)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._deadline.begin(request.extensions["timeout"]["total"])
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of an answer, as it arrives."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


def normalised_host(host: str) -> str:
    """The origin of a PostHog server, without a trailing slash.

    Raises:
        SetupError: This is not the address of PostHog's API. The message says what to use.
    """
    if "@" in host:
        raise errors.SetupError("The host contains a user name or password: use only the address of PostHog.")
    try:
        url = httpx.URL(host.strip())
    except httpx.InvalidURL as exc:
        raise errors.SetupError(f"Invalid host {host!r} ({exc}): {HOST_EXAMPLES}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise errors.SetupError(f"Invalid host {host!r}, not an http(s) address: {HOST_EXAMPLES}")
    if url.host.endswith(".i.posthog.com"):
        region = url.host.partition(".")[0]
        raise errors.SetupError(
            f"Invalid host {url.host}, which only ingests events: use https://{region}.posthog.com for the API."
        )
    if url.path != "/" or url.query or url.fragment:
        raise errors.SetupError(f"Invalid host {host!r}, which is more than a host: {HOST_EXAMPLES}")
    return _bare(url).rstrip("/")


@cache
def warn_of_clear_text(host: str) -> None:
    """Log, once per process and host, that the key is sent without encryption. Nothing else is checked here."""
    try:
        url = httpx.URL(host.strip())
    except httpx.InvalidURL:
        return
    if url.scheme == "http" and not is_loopback(url.host):
        _log.warning(
            "The API key is sent to http://%s in clear, so that everybody on the way can read it. Use https://%s.",
            url.host,
            url.host,
        )


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise errors.SetupError("The API key is empty or contains a space or line break: copy it from PostHog again.")
    if key.startswith("phc_"):
        raise errors.SetupError(
            "The API key is a project key (phc_...), which can only send events: create a personal API key."
        )
    return key


def _may_follow(request: httpx.Request, target: httpx.URL) -> bool:
    """Follow only a GET, and only on the same host and port, because the key is sent along."""
    return request.method == "GET" and _origin(target) == _origin(request.url)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _bare(url: httpx.URL) -> str:
    """Without query, fragment and user, which may contain secrets."""
    return str(url.copy_with(query=None, fragment=None, username="", password=""))
