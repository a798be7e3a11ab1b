"""The Dagster resource that reaches a PostHog project's warehouse."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import Field

from dw_orchestration.errors import SetupError
from dw_orchestration.posthog.budget import RateLimits
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.resources.snapshot import WarehouseSnapshot


class WarehouseResource(dg.ConfigurableResource[PostHogWarehouseClient]):
    """A warehouse that speaks PostHog's external data API; what assets and sensors ask for."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it: the host, or the embedded warehouse."""

    @abstractmethod
    def client(self) -> PostHogWarehouseClient:
        """A new client; close it, or use it in a `with` statement.

        Raises:
            SetupError: The settings do not lead to a warehouse.
        """

    @contextmanager
    def connect(self) -> Iterator[PostHogWarehouseClient]:
        """A client for the time of a `with` statement."""
        with self.client() as client:
            yield client

    def take_snapshot(self) -> WarehouseSnapshot:
        """Fetch what definitions are built from.

        Raises:
            PostHogError: The API could not be read; the text says what to do.
            SetupError: The settings do not lead to a warehouse.
        """
        with self.client() as client:
            return WarehouseSnapshot.take(client, host=self.name, project_id=client.project_id)


class PostHogWarehouseResource(WarehouseResource):
    """A PostHog project on PostHog Cloud or on a server of your own.

    Example:
        ```python
        PostHogWarehouseResource(
            project_id=dg.EnvVar("POSTHOG_PROJECT_ID"),
            api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"),
        )
        ```
    """

    host: str = Field(
        default="https://us.posthog.com",
        description="Where the PostHog app runs: https://us.posthog.com, https://eu.posthog.com, or your own server."
        " Not the ingestion host (`*.i.posthog.com`).",
    )
    project_id: str = Field(description="The number in the address of the project's pages, or `@current`.")
    api_key: str = Field(
        description="A personal API key (phx_…) with the scopes external_data_source:read and, to start syncs,"
        " external_data_source:write.",
        repr=False,
    )
    read_only: bool = Field(
        default=False,
        description="Refuse every request that would change anything in PostHog, before it is sent.",
    )
    requests_per_minute: int = Field(
        default=240,
        ge=0,
        description="How many requests a minute, and ten times as many an hour, all processes of this machine may send"
        " with this key; 0 for no limit. The default is half of what PostHog allows, because others use it too.",
    )

    @property
    def name(self) -> str:
        """The host, which serves the project's pages too."""
        return self.host.rstrip("/")

    def client(self) -> PostHogWarehouseClient:
        """A new client of this project.

        Raises:
            SetupError: The host, the project id or the key cannot be right.
        """
        per_minute = self.requests_per_minute
        try:
            return PostHogWarehouseClient(
                self.host,
                self.project_id,
                self.api_key,
                read_only=self.read_only,
                rate_limits=RateLimits(per_minute=per_minute, per_hour=10 * per_minute) if per_minute else None,
            )
        except ValueError as error:
            raise SetupError(str(error)) from None
