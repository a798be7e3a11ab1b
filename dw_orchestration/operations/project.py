"""The project that an operation changes: its client, and its tables by the names that users type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dw_orchestration.posthog.rows import Rows
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Source
    from dw_orchestration.tables.names import KeyPath


@dataclass(frozen=True)
class Project:
    """A PostHog project.

    Attributes:
        client: The client of the project.
        name: What people call its warehouse: the host, or the embedded warehouse.
        key_paths: The asset keys that its tables have in Dagster, by schema id, where they are not the default ones.
    """

    client: PostHogWarehouseClient
    name: str
    key_paths: Mapping[str, KeyPath] = field(default_factory=dict)

    def sources(self) -> list[Source]:
        """All sources as PostHog lists them: one request per hundred sources."""
        return list(self.client.list_sources())

    def tables(self, *, settings: bool = False) -> Tables:
        """All tables as they are now.

        Args:
            settings: Also fetch the settings of the tables. Newer servers leave them out of the list of sources, and
                to list them takes long in big projects.
        """
        sources = self.sources()
        if settings:
            full = {schema.id: schema for schema in self.client.list_schemas()}
            sources = [
                source.model_copy(update={"schemas": Rows(full.get(each.id, each) for each in source.schemas)})
                for source in sources
            ]
        return Tables.live(sources, key_paths=self.key_paths)
