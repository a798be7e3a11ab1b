"""The client: all calls about the external data of one PostHog project."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import NoReturn, Self

from dw_orchestration.posthog.budget import RateBudget, RateLimits
from dw_orchestration.posthog.errors import NotFoundError
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.posthog.schema_calls import SCHEMAS
from dw_orchestration.posthog.source_calls import SOURCE_PAGE, SOURCES, SourceCalls
from dw_orchestration.posthog.transport import HttpTransport, Timeouts, Transport, normalised_host

HALF_OF_WHAT_POSTHOG_ALLOWS = RateLimits()
NO_SCHEMA = "00000000-0000-0000-0000-000000000000"


class PostHogWarehouseClient(SourceCalls):
    """The external data sources, schemas and jobs of a PostHog project.

    Every method may raise `TransportError` and `ApiError` with its subclasses; `errors` draws the tree. What
    may be repeated without harm is repeated; a request that starts something is not, once it was sent.

    Args:
        host: Such as `https://us.posthog.com`; not the `us.i.posthog.com` that takes events in.
        project_id: The number in PostHog's URLs.
        api_key: A personal API key (`phx_...`) with the scope `external_data_source:read` or `:write`.
        read_only: Refuse everything that is not a GET, before it is sent.
        timeouts: How long to wait for the network.
        retry: What is repeated, and how often.
        rate_limits: How many requests to send; None sends them as they come.
        sleep: Waits between tries.
        now: The clock against which a `Retry-After` date is read if the server tells no time.
        http_transport: Stands in for the network, in tests.

    Raises:
        ValueError: The host, the project id or the key cannot be right.

    Example:
        >>> with PostHogWarehouseClient("https://eu.posthog.com", 42, "phx_...") as client:  # doctest: +SKIP
        ...     for source in client.list_sources():
        ...         print(source.source_type, [schema.name for schema in source.schemas])
    """

    def __init__(
        self,
        host: str,
        project_id: str | int,
        api_key: str,
        *,
        read_only: bool = False,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        rate_limits: RateLimits | None = HALF_OF_WHAT_POSTHOG_ALLOWS,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        http_transport: HttpTransport | None = None,
    ) -> None:
        origin = normalised_host(host)
        if not str(project_id).strip():
            raise ValueError("The project id is empty: give the number in PostHog's URLs.")
        budget = None
        if rate_limits is not None:
            budget = RateBudget.for_key(api_key, host=origin, limits=rate_limits, sleep=sleep)
        transport = Transport(
            origin,
            api_key,
            read_only=read_only,
            timeouts=timeouts,
            retry=retry,
            budget=budget,
            sleep=sleep,
            now=now,
            http_transport=http_transport,
        )
        super().__init__(transport, project_id=str(project_id).strip())

    def __repr__(self) -> str:
        return f"PostHogWarehouseClient(host={self.host!r}, project_id={self.project_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A client holds a key and a connection: make one in each process, don't pickle it.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The host, without a trailing slash."""
        return self.transport.host

    @property
    def server_time(self) -> datetime | None:
        """The server's clock at its last answer, in UTC."""
        return self.transport.server_time

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self.transport.requests

    @property
    def waited_s(self) -> float:
        """How long requests waited for the rate budget; it should count against no deadline."""
        return self.transport.waited_s

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()

    def check_access(self, *, write: bool = False) -> None:
        """Find out whether host, project and key fit together. Changes nothing.

        Args:
            write: Also ask for the scope that changing and syncing needs.

        Raises:
            UnreachableError: Nobody answers at the host.
            AuthenticationError: The key is wrong.
            ProjectNotFoundError: The project is unknown.
            MissingScopeError: The key lacks a scope, which the error names.
            PermissionDeniedError: The key is limited to other projects.
        """
        self._read(SOURCE_PAGE, self._path(SOURCES), params={"limit": 1})
        if write:
            self._check_write()

    def _check_write(self) -> None:
        """PostHog looks at the scope before it looks for the schema, so 404 means that the scope is there."""
        try:
            self.transport.request("PATCH", self._path(SCHEMAS, NO_SCHEMA), json={})
        except NotFoundError:
            return
