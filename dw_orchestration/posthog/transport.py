"""HTTP to PostHog: the only module that uses the HTTP library.

Keeps the key in the Authorization header and nowhere else, retries what is safe to retry, and turns every failure
into an error of this package.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NoReturn

import httpx

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.answers import Answer, http_date, retry_after_s
from dw_orchestration.posthog.rate_limit import RateBudget
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.version import __version__

#: What a test may use instead of the network.
HttpTransport = httpx.BaseTransport
Params = Mapping[str, str | int | Sequence[str]]

HOST_EXAMPLES = "use https://us.posthog.com, https://eu.posthog.com or the address of your own server."
REDIRECTS_FOLLOWED = 3
# These happen before the request is sent. After any other failure the server may have received it.
NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long to wait for the network, in seconds.

    Args:
        connect_s: For a connection.
        read_s: For the server to send data.
        slow_read_s: The same for calls in which PostHog connects to the customer's source, which can take minutes.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    slow_read_s: float = 300.0


class Transport:
    """A connection to one PostHog host with one key. Safe to use from many threads.

    Proxies and certificates of the environment apply (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`), because many
    companies need them to reach PostHog. They do not apply to a loopback host, which no proxy can reach.

    Attributes:
        host: The host, normalised.
        requests: How many requests were sent, retries included.
        server_time: The server's clock at its last answer with a date, in UTC; None before.

    Raises:
        ValueError: The host or the key is invalid.
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
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
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
        self._sleep = sleep
        self._now = now
        self._counting = threading.Lock()
        self._http = self._pool(http_transport)

    def __reduce__(self) -> NoReturn:
        # A pickle would contain the key. The client that owns this transport cannot be pickled either.
        raise TypeError("A connection to PostHog cannot be pickled: create a client in each process.")

    @property
    def waited_s(self) -> float:
        """How long requests waited for the rate limit. Subtract this time from deadlines."""
        return self._budget.waited_s if self._budget else 0.0

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        if self._budget:
            self._budget.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        slow: bool = False,
    ) -> Answer:
        """Send a request and return its answer, always a 2xx.

        Args:
            method: GET, POST, PATCH or DELETE.
            path: Starts at the root of the host.
            params: The query string; a sequence repeats its name.
            json: The body; None for no body.
            slow: Whether PostHog connects to the customer's source before it answers.

        Raises:
            ReadOnlyError: The transport is read-only, and the method is not GET.
            TransportError: No complete answer was received.
            ApiError: PostHog answered with an error.
        """
        if self._read_only and method != "GET":
            raise errors.ReadOnlyError(
                f"{method} {path} at {self.host} was not sent: the connection is read-only, which is the default "
                "in Dagster+ branch deployments. Set `read_only` to false to allow changes in PostHog."
            )
        timeout = self._timeouts.slow_read_s if slow else self._timeouts.read_s
        request = self._http.build_request(
            method,
            f"{self.host}{path}",
            params=params,
            json=json,
            timeout=httpx.Timeout(timeout, connect=self._timeouts.connect_s),
        )
        return self._retry.call(lambda: self._try(request), method=method, sleep=self._sleep)

    def _pool(self, http_transport: HttpTransport | None) -> httpx.Client:
        return httpx.Client(
            headers={
                "Authorization": f"Bearer {self._key}",
                "User-Agent": f"dw-orchestration/{__version__}",
                "Accept": "application/json",
            },
            # Each redirect is checked here: the library would follow it, with the key, to any host.
            follow_redirects=False,
            trust_env=not _is_loopback(httpx.URL(self.host).host),
            transport=http_transport,
        )

    def _try(self, request: httpx.Request) -> Answer:
        response = self._send(request)
        for _ in range(REDIRECTS_FOLLOWED):
            if not _may_follow(response):
                break
            response = self._send(self._http.build_request("GET", _target(response), extensions=request.extensions))
        answer = self._answer(request, response)
        if not response.is_success:
            raise answer.error()
        return answer

    def _send(self, request: httpx.Request) -> httpx.Response:
        if self._budget:
            self._budget.take()
        with self._counting:
            self.requests += 1
        try:
            return self._http.send(request)
        # the library builds the address of every redirect, also of those that are not followed
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            failure = self._failure(request, exc)
        # Raised outside the handler: the library's error holds the request, and with it the key.
        raise failure

    def _failure(self, request: httpx.Request, exc: httpx.HTTPError | httpx.InvalidURL) -> errors.TransportError:
        which = f"{request.method} {request.url.path} at {request.url.host}"
        cause = self._without_key(f"{type(exc).__name__}: {exc}".removesuffix(": "))
        if isinstance(exc, NOTHING_SENT):
            return errors.UnreachableError(
                f"PostHog could not be reached for {which} ({cause}); nothing was sent. "
                "Check the host, the network and the proxy settings."
            )
        may_have_effect = request.method not in errors.ONLY_READ
        cure = "The request may have taken effect: check before you repeat it." if may_have_effect else "Try again."
        if isinstance(exc, httpx.TimeoutException):
            return errors.AnswerTimeoutError(f"PostHog did not answer {which} in time ({cause}). {cure}")
        return errors.LostAnswerError(f"The answer to {which} was lost ({cause}). {cure}")

    def _answer(self, request: httpx.Request, response: httpx.Response) -> Answer:
        server_time = http_date(response.headers.get("date"))
        self.server_time = server_time or self.server_time
        # JSON is UTF-8, whatever charset a gateway names: Python has some that raise
        body = response.content.decode(errors="replace")
        text = f"to {_bare(_target(response))}" if response.has_redirect_location else body
        return Answer(
            status=response.status_code,
            method=request.method,
            path=request.url.path,
            host=request.url.host,
            text=self._without_key(text),
            server_time=server_time,
            retry_after_s=retry_after_s(response.headers.get("retry-after"), now=server_time or self._now()),
        )

    def _without_key(self, text: str) -> str:
        """Some servers and proxies quote the key in their answer: keep it out of logs."""
        return text.replace(self._key, "[API key]")


def normalised_host(host: str) -> str:
    """The origin of a PostHog server, without a trailing slash.

    Raises:
        ValueError: This is not the address of PostHog's API. The message says what to use.
    """
    if "@" in host:
        raise ValueError("The host contains a user name or password: use only the address of PostHog.")
    try:
        url = httpx.URL(host.strip())
    except httpx.InvalidURL as exc:
        raise ValueError(f"Invalid host {host!r} ({exc}): {HOST_EXAMPLES}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"Invalid host {host!r}, not an http(s) address: {HOST_EXAMPLES}")
    if url.host.endswith(".i.posthog.com"):
        region = url.host.partition(".")[0]
        raise ValueError(
            f"Invalid host {url.host}, which only ingests events: use https://{region}.posthog.com for the API."
        )
    if url.path != "/" or url.query or url.fragment:
        raise ValueError(f"Invalid host {host!r}, which is more than a host: {HOST_EXAMPLES}")
    return _bare(url).rstrip("/")


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValueError("The API key is empty or contains a space or line break: copy it from PostHog again.")
    if key.startswith("phc_"):
        raise ValueError(
            "The API key is a project key (phc_...), which can only send events: create a personal API key."
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _may_follow(response: httpx.Response) -> bool:
    """Follow only a GET, and only on the same host and port, because the key is sent along."""
    if not response.has_redirect_location or response.request.method != "GET":
        return False
    return _origin(_target(response)) == _origin(response.request.url)


def _target(response: httpx.Response) -> httpx.URL:
    return response.request.url.join(response.headers["location"])


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _bare(url: httpx.URL) -> str:
    """Without query, fragment and user, which may contain secrets."""
    return str(url.copy_with(query=None, fragment=None, username="", password=""))
