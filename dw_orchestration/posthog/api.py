"""The calls that the rest of the package makes. The client provides them, and so does the model in the tests."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from dw_orchestration.posthog.enums import CancelOutcome
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.posthog.rows import UnreadableRow


class WarehouseApi(Protocol):
    """The calls of the sync engine, the assets, the sensors and the history. Each may raise a `PostHogError`."""

    @property
    def server_time(self) -> datetime | None:
        """PostHog's clock at its last answer, aware; None before the first answer."""

    @property
    def unreadable(self) -> Sequence[UnreadableRow]:
        """The rows that were left out of lists so far, because they could not be read."""

    def list_sources(self) -> Iterator[Source]:
        """All sources with their schemas, lazily in pages of 100. Newer servers leave out the schemas' settings."""

    def get_source(self, source_id: str) -> Source:
        """A source with its schemas in full."""

    def list_schemas(self) -> Iterator[Schema]:
        """All schemas with their settings, without their sources."""

    def get_schema(self, schema_id: str) -> Schema:
        """A schema with its table."""

    def list_jobs(
        self,
        source_id: str,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        schemas: Collection[str] = (),
    ) -> Iterator[Job]:
        """The jobs of a source, newest first, lazily in pages of 50: stopping early saves requests.

        Both times are exclusive and are compared with `created_at`; `schemas` are names.
        """

    def reload_schema(self, schema_id: str) -> datetime | None:
        """Sync now as configured. Returns PostHog's time when it accepted the request."""

    def resync_schema(self, schema_id: str) -> datetime | None:
        """Drop the table and sync from scratch. Returns PostHog's time when it accepted the request."""

    def cancel_schema(self, schema_id: str) -> CancelOutcome:
        """Cancel the latest job of a schema."""
