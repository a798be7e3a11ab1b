"""Which connector reads a source type."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dw_orchestration.local.syncing.connector import Connector


def connector_for(source_type: str, job_inputs: Mapping[str, object], *, fixtures: Path) -> Connector:
    """Return the connector of a source type: Postgres is read live, any other type from files.

    Raises:
        SourceError: the connection details make no sense.
    """
    if source_type == "Postgres":
        from dw_orchestration.local.syncing.postgres import PostgresConnector

        return PostgresConnector.from_job_inputs(job_inputs)
    from dw_orchestration.local.syncing.files import FilesConnector

    return FilesConnector(source_type, fixtures=fixtures)
