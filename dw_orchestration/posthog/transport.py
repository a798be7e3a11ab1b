"""HTTP to PostHog: the only module that knows the HTTP library.

Sends one request at a time through one pool, keeps the key in the Authorization header and nowhere else,
repeats what may be repeated, and turns every failure into an error of this package.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from types import TracebackType
from typing import NoReturn, Self

import httpx

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.answers import Answer, http_date, retry_after_s
from dw_orchestration.posthog.budget import RateBudget
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.version import __version__

#: What a test may put in the network's place.
HttpTransport = httpx.BaseTransport
Params = Mapping[str, str | int | Sequence[str]]

HOST_EXAMPLES = "give one like https://us.posthog.com, https://eu.posthog.com or your own server's."
REDIRECTS_FOLLOWED = 3
# Before the request is on its way; all other failures may have happened after it.
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
        read_s: For the server to say something.
        slow_read_s: The same for calls in which PostHog asks the customer's source, which takes minutes.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    slow_read_s: float = 300.0


class Transport:
    """A connection to one PostHog host with one key. Safe to use from many threads.

    Proxies and certificates of the environment are honoured (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`), as
    companies need them to reach PostHog at all; for a loopback host they are not, since no proxy reaches it.

    Attributes:
        host: The host, normalised.
        requests: How many requests were sent, repeated ones included.
        server_time: The server's clock at its last answer, in UTC; None before, or if it does not say.

    Raises:
        ValueError: The host or the key cannot be right.
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

    def __repr__(self) -> str:
        return f"Transport(host={self.host!r}, read_only={self._read_only})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A connection to PostHog cannot be pickled: make one in each process.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waited_s(self) -> float:
        """How long requests waited for the rate budget; it should count against no deadline."""
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
        """Send a request and return its answer, which is a 2xx.

        Args:
            method: GET, POST, PATCH or DELETE.
            path: From the root of the host.
            params: The query string; a sequence repeats its name.
            json: The body; None sends none.
            slow: Whether PostHog asks the customer's source before it answers.

        Raises:
            ReadOnlyError: The transport is read-only, and the method is not GET.
            TransportError: No whole answer came.
            ApiError: PostHog answered with something other than success.
        """
        if self._read_only and method != "GET":
            raise errors.ReadOnlyError(
                f"{method} {path} at {self.host} was not sent: the connection is read-only, which is the default "
                "in Dagster+ branch deployments. Set `read_only` to false to change things in PostHog."
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
            # Redirects are judged here, one by one: the library would follow them to any host.
            follow_redirects=False,
            trust_env=not _is_loopback(httpx.URL(self.host).host),
            transport=http_transport,
        )

    def _try(self, request: httpx.Request) -> Answer:
        response = self._send(request)
        for _ in range(REDIRECTS_FOLLOWED):
            if not _leads_on(response):
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
        except httpx.HTTPError as exc:
            failure = self._failure(request, exc)
        # Raised outside the handler: the library's error holds the request, and with it the key.
        raise failure

    def _failure(self, request: httpx.Request, exc: httpx.HTTPError) -> errors.TransportError:
        which = f"{request.method} {request.url.path} at {request.url.host}"
        said = self._without_key(f"{type(exc).__name__}: {exc}".removesuffix(": "))
        if isinstance(exc, NOTHING_SENT):
            return errors.UnreachableError(
                f"PostHog could not be reached for {which} ({said}); nothing was sent. "
                "Check the host, the network and the proxy settings."
            )
        cure = "The request may have had its effect: look before repeating it."
        if isinstance(exc, httpx.TimeoutException):
            return errors.AnswerTimeoutError(f"PostHog did not answer {which} in time ({said}). {cure}")
        return errors.LostAnswerError(f"The answer to {which} was lost ({said}). {cure}")

    def _answer(self, request: httpx.Request, response: httpx.Response) -> Answer:
        server_time = http_date(response.headers.get("date"))
        self.server_time = server_time or self.server_time
        text = f"to {_bare(_target(response))}" if response.has_redirect_location else response.text
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
        """A server or proxy that quotes the key back must not bring it into a log."""
        return text.replace(self._key, "[API key]")


def normalised_host(host: str) -> str:
    """The origin of a PostHog server, without a trailing slash.

    Raises:
        ValueError: This can't be the address of PostHog's API; says what to give.
    """
    if "@" in host:
        raise ValueError("The host holds a user name or password: give the bare address of PostHog.")
    try:
        url = httpx.URL(host.strip())
    except httpx.InvalidURL as exc:
        raise ValueError(f"The host {host!r} is no address ({exc}): {HOST_EXAMPLES}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"The host {host!r} is no http(s) address: {HOST_EXAMPLES}")
    if url.host.endswith(".i.posthog.com"):
        region = url.host.partition(".")[0]
        raise ValueError(f"{url.host} only takes events in: for the API, give https://{region}.posthog.com.")
    if url.path != "/" or url.query or url.fragment:
        raise ValueError(f"The host {host!r} is more than a host: leave out the path. {HOST_EXAMPLES}")
    return _bare(url).rstrip("/")


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValueError("The API key is empty or has a blank or line break inside: copy it from PostHog again.")
    if key.startswith("phc_"):
        raise ValueError("The API key is a project key (phc_...), which only sends events: make a personal one.")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _leads_on(response: httpx.Response) -> bool:
    """Whether to follow: only reading, and only to the same place, since the key goes along."""
    if not response.has_redirect_location or response.request.method != "GET":
        return False
    return _origin(_target(response)) == _origin(response.request.url)


def _target(response: httpx.Response) -> httpx.URL:
    return response.request.url.join(response.headers["location"])


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _bare(url: httpx.URL) -> str:
    """Without query and fragment, in which others put tokens."""
    return str(url.copy_with(query=None, fragment=None, username="", password=""))
