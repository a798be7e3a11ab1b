"""Which tables are older than they should be, as the list of sources shows it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dw_orchestration.assets.checks import CheckOutcome, not_stale
from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.models import Schema, Source
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.table import Table


@dataclass(frozen=True)
class Staleness:
    """A table whose answer to `not_stale` has changed since the last tick."""

    table: Table
    outcome: CheckOutcome
    is_forgotten: bool
    """Whether PostHog shows nothing wrong: it is on, its last sync was good, and yet no other one came."""


def changes(
    sources: Iterable[Source], tables: Mapping[str, Table], *, known_stale: Collection[str], now: datetime
) -> list[Staleness]:
    """The tables that have become stale, or are not stale any more; those longest without rows first.

    A table that was never synced, or is disabled, cannot be stale.
    """
    found = [
        change
        for source in sources
        for schema in source.schemas
        if (table := tables.get(schema.id)) is not None
        and (change := _staleness_of(schema, table, now=now)) is not None
        and change.outcome.passed == (schema.id in known_stale)
    ]
    return sorted(found, key=lambda change: -change.outcome.metadata["posthog/age_s"])


def _staleness_of(schema: Schema, table: Table, *, now: datetime) -> Staleness | None:
    if not schema.should_sync or schema.last_synced_at is None:
        return None
    outcome = not_stale(table, synced_at=schema.last_synced_at, now=now)
    if outcome is None:
        return None
    is_forgotten = table.schema_class is SchemaClass.SYNCABLE and schema.status is SyncStatus.COMPLETED
    return Staleness(table=table, outcome=outcome, is_forgotten=is_forgotten and not outcome.passed)
