"""One table of a snapshot with all that definitions derive from it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import dagster as dg

from dw_orchestration.assets.keys import colliding, default_key, identifier, told_apart
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.cadence import Cadence, cadence
from dw_orchestration.tables.classify import SchemaClass, classify
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot


@dataclass(frozen=True)
class Table:
    """A schema of a snapshot, with its source and its asset key."""

    project_pages: str | None
    source: SourceSnapshot
    schema: Schema
    key: dg.AssetKey

    @property
    def schema_class(self) -> SchemaClass:
        """Whether and how it can be synced."""
        return classify(self.schema, access_method=self.source.access_method)

    @property
    def cadence(self) -> Cadence | None:
        """When PostHog syncs it by itself; None when it doesn't."""
        return cadence(self.schema) if self.schema.should_sync else None

    @property
    def page(self) -> str | None:
        """The address of its source's page in PostHog; the embedded warehouse has none."""
        return self.project_pages and f"{self.project_pages}/data-warehouse/sources/managed-{self.source.id}/schemas"


def table_of(snapshot: WarehouseSnapshot, source: SourceSnapshot, schema: Schema) -> Table:
    """A table of a snapshot, with the key that it has unless another one would have the same."""
    return Table(project_pages=snapshot.pages, source=source, schema=schema, key=default_key(source, schema))


def tables_of(snapshot: WarehouseSnapshot) -> list[Table]:
    """All tables of a snapshot, each with a key of its own.

    Tables whose keys Dagster cannot tell apart all get the end of their id, and a warning names them.
    """
    tables = [table_of(snapshot, source, schema) for source in snapshot.sources for schema in source.schemas]
    # a second round only if a table is named like another one with its id
    for _ in tables:
        clashes = colliding(table.key for table in tables)
        if not clashes:
            break
        tables = [_told_apart(table, tables) if identifier(table.key) in clashes else table for table in tables]
    return tables


def by_source(tables: Sequence[Table]) -> dict[str, list[Table]]:
    """The tables by the id of their source, in their order."""
    grouped: dict[str, list[Table]] = {}
    for table in tables:
        grouped.setdefault(table.source.id, []).append(table)
    return grouped


def _told_apart(table: Table, tables: Sequence[Table]) -> Table:
    key = told_apart(table.key, table.schema.id)
    others = [
        f"{other.schema.name!r} ({other.schema.id})"
        for other in tables
        if other is not table and identifier(other.key) == identifier(table.key)
    ]
    warnings.warn(
        f"The table {table.schema.name!r} ({table.schema.id}) would have the same asset key as {', '.join(others)}; it"
        f" is {key.to_user_string()!r} instead. Give the sources different prefixes, or translate the keys.",
        stacklevel=2,
    )
    return replace(table, key=key)
