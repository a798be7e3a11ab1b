"""How far the warehouse has moved away from the state that definitions were built from."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.jobs import means_cancelled
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.cadence import cadence
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

# what a person reads of each kind of change; the rest is counted
_MAX_SHOWN = 20


class ChangeKind(StrEnum):
    """What happened to a table; the value is how the report says it."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"
    OFF_BY_USER = "turned off by a user"
    OFF_BY_POSTHOG = "turned off by PostHog"
    ON = "turned on"
    CADENCE = "synced at other times"
    SYNC_TYPE = "synced in another way"


@dataclass(frozen=True)
class TableChange:
    """One change of one table, with its setting before and after where it has one."""

    kind: ChangeKind
    schema_id: str
    table: str
    source: str
    before: str = ""
    after: str = ""

    def describe(self) -> str:
        """In one line."""
        change = f": {self.before} → {self.after}" if self.before or self.after else ""
        return f"`{self.table}` of {self.source}{change}"


@dataclass(frozen=True)
class Drift:
    """Every difference that would change the definitions."""

    changes: tuple[TableChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the state still says what the warehouse holds."""
        return not self.changes

    @property
    def digest(self) -> str:
        """The same for the same changes; differs for others."""
        return blake2b(repr(self.changes).encode(), digest_size=16).hexdigest()

    def of(self, kind: ChangeKind) -> list[TableChange]:
        """The changes of one kind."""
        return [change for change in self.changes if change.kind is kind]

    def summary(self) -> str:
        """In one line, such as `2 tables added, 1 turned off by PostHog`."""
        counts = [(len(self.of(kind)), kind) for kind in ChangeKind]
        parts = [f"{count} {kind}" for count, kind in counts if count]
        return f"Tables: {', '.join(parts)}." if parts else "The state says what the warehouse holds."

    def describe(self) -> str:
        """In Markdown, a list for each kind of change."""
        return "\n\n".join(self._lists()) or self.summary()

    def _lists(self) -> Iterator[str]:
        for kind in ChangeKind:
            if changes := self.of(kind):
                lines = [f"- {change.describe()}" for change in changes[:_MAX_SHOWN]]
                if len(changes) > _MAX_SHOWN:
                    lines.append(f"- … and {len(changes) - _MAX_SHOWN} more")
                yield "\n".join([f"**{kind[0].upper()}{kind[1:]} ({len(changes)})**", "", *lines])


@dataclass(frozen=True)
class _Place:
    """A table and its source, in one of the two snapshots."""

    source: SourceSnapshot
    schema: Schema

    def change(self, kind: ChangeKind, *, before: str = "", after: str = "") -> TableChange:
        source = self.source
        return TableChange(
            kind=kind,
            schema_id=self.schema.id,
            table=self.schema.name,
            source=f"{source.source_type} ({source.prefix})" if source.prefix else source.source_type,
            before=before,
            after=after,
        )


def drift_between(state: WarehouseSnapshot, live: WarehouseSnapshot) -> Drift:
    """What has changed from the state to what the warehouse holds now, in the order of the snapshots.

    Of tables that a selection left out of both, nothing is told. One that was switched off since, and is left out for
    that alone, is told of as switched off, and not as removed.
    """
    before, after = _by_id(state), _by_id(live)
    changes = [place.change(ChangeKind.ADDED) for own_id, place in after.items() if own_id not in before]
    changes += [place.change(ChangeKind.REMOVED) for own_id, place in before.items() if own_id not in after]
    for own_id, place in after.items():
        if own_id in before:
            changes += _changes_of(before[own_id].schema, place)
    selected = {schema.id for snapshot in (state, live) for schema in snapshot.schemas}
    return Drift(tuple(change for change in changes if change.schema_id in selected))


def _by_id(snapshot: WarehouseSnapshot) -> dict[str, _Place]:
    known = (*snapshot.sources, *snapshot.left_out)
    return {schema.id: _Place(source, schema) for source in known for schema in source.schemas}


def _changes_of(before: Schema, place: _Place) -> Iterator[TableChange]:
    after = place.schema
    if before.name != after.name:
        yield place.change(ChangeKind.RENAMED, before=before.name, after=after.name)
    if switch(before) is not (now := switch(after)):
        yield place.change(now)
    was_synced, is_synced = _times(before), _times(after)
    # while a table is off, its times mean nothing
    if before.should_sync and after.should_sync and was_synced != is_synced:
        yield place.change(ChangeKind.CADENCE, before=was_synced, after=is_synced)
    if before.sync_type != after.sync_type:
        yield place.change(
            ChangeKind.SYNC_TYPE,
            before=str(before.sync_type or "not chosen"),
            after=str(after.sync_type or "not chosen"),
        )


def switch(schema: Schema) -> ChangeKind:
    """Whether the table is on, or who turned it off: after a failure that nobody caused by cancelling, PostHog did."""
    if schema.should_sync:
        return ChangeKind.ON
    gave_up = schema.status is SyncStatus.FAILED and not means_cancelled((schema.latest_error or "").strip())
    return ChangeKind.OFF_BY_POSTHOG if gave_up else ChangeKind.OFF_BY_USER


def _times(schema: Schema) -> str:
    own = cadence(schema)
    return own.describe() if own is not None else str(schema.sync_frequency or "never")
