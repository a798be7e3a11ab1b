"""The project that an operation changes: its client, and its tables by the names that users type."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dw_orchestration.operations.takeover_file import TakeoverStore
from dw_orchestration.posthog.rows import Rows
from dw_orchestration.tables.errors import UsageError
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
        name: What people call its warehouse: the host, or the embedded warehouse. Takeover files name it.
        key_paths: The asset keys that its tables have in Dagster, by schema id, where they are not the default ones.
        takeover_file: Where the frequencies from before a takeover are kept, if there is such a file.
    """

    client: PostHogWarehouseClient
    name: str
    key_paths: Mapping[str, KeyPath] = field(default_factory=dict)
    takeover_file: Path | None = None

    def takeover_store(self, file: str | None = None) -> TakeoverStore:
        """The takeover file of the project.

        Raises:
            UsageError: No file is named, and the project has none.
        """
        path = Path(file).absolute() if file else self.takeover_file
        if path is None:
            raise UsageError("No takeover file: set `takeover_file` on the component, or give `file`.")
        return TakeoverStore(path=path, host=self.name, project_id=self.client.project_id)

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
