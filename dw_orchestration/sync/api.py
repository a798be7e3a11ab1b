"""What the engine needs of PostHog; `PostHogWarehouseClient` satisfies it."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from dw_orchestration.posthog.enums import CancelOutcome
from dw_orchestration.posthog.models import Job, Source


class SyncApi(Protocol):
    """The calls that a batch makes. Each may raise a `PostHogError`."""

    @property
    def server_time(self) -> datetime | None:
        """The time that the last answer told, aware; None before the first answer."""

    def get_source(self, source_id: str) -> Source:
        """The source with all its schemas."""

    def list_sources(self) -> Iterator[Source]:
        """All sources with the records of their schemas, in lazy pages of 100; newer servers trim these records."""

    def list_jobs(
        self,
        source_id: str,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        schemas: Sequence[str] = (),
    ) -> Iterator[Job]:
        """The source's jobs, newest first, in lazy pages of 50: a reader that stops early costs nothing.

        `after` and `before` are compared strictly with `created_at`; `schemas` are names.
        """

    def reload_schema(self, schema_id: str) -> datetime | None:
        """Sync now; the server's time when it accepted."""

    def resync_schema(self, schema_id: str) -> datetime | None:
        """Sync from scratch; the server's time when it accepted."""

    def cancel_schema(self, schema_id: str) -> CancelOutcome:
        """Cancel the schema's latest job."""
