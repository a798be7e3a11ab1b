"""How far the warehouse has moved away from the state that definitions were built from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.classify import DisabledBy, disabled_by
from dw_orchestration.tables.snapshot import SourceSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import code, in_markdown

# what a person reads of each kind of change; the rest is counted
_MAX_SHOWN = 20


class ChangeKind(StrEnum):
    """What happened to a table; the value is how the report says it."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"
    DISABLED_BY_USER = "disabled by a user"
    DISABLED_BY_POSTHOG = "disabled by PostHog"
    ENABLED = "enabled"
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
        """In one line of Markdown."""
        change = f": {in_markdown(self.before)} → {in_markdown(self.after)}" if self.before or self.after else ""
        return f"{code(self.table)} of {in_markdown(self.source)}{change}"


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
        """In one line, such as `2 tables added, 1 disabled by PostHog`."""
        counts = [(len(self.of(kind)), kind) for kind in ChangeKind]
        parts = [f"{count} {kind}" for count, kind in counts if count]
        return f"Tables: {', '.join(parts)}." if parts else "The state is up to date."

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


def drift_between(state: Tables, live: Tables) -> Drift:
    """What has changed from the state to what the warehouse holds now, in the order of the tables.

    Args:
        state: The tables that the definitions are built from.
        live: The tables of the warehouse as it is now, selected in the same way (`Tables.of`).

    A table that neither selection takes is ignored. A table that only left the selection because it was disabled is
    reported as disabled, not as removed.
    """
    before, after = ({table.id: table for table in tables.all} for tables in (state, live))
    changes = [_change(table, ChangeKind.ADDED) for own_id, table in after.items() if own_id not in before]
    changes += [_change(table, ChangeKind.REMOVED) for own_id, table in before.items() if own_id not in after]
    for own_id, table in after.items():
        if own_id in before:
            changes += _changes_of(before[own_id], table)
    selected = state.by_id.keys() | live.by_id.keys()
    return Drift(tuple(change for change in changes if change.schema_id in selected))


def tables_to_come(sources: Iterable[SourceSnapshot]) -> str:
    """Which tables PostHog will enable by itself, in Markdown; empty if none."""
    return " ".join(
        f"PostHog will enable new tables of {_system(source)}{_patterns(source.auto_sync_schema_patterns)}."
        for source in sources
        if source.auto_sync_new_schemas
    )


def _patterns(patterns: Sequence[str]) -> str:
    return f" that match {', '.join(map(code, patterns))}" if patterns else ""


def _system(source: SourceSnapshot) -> str:
    return f"{in_markdown(source.source_type)}{f' ({in_markdown(source.prefix)})' if source.prefix else ''}"


def _change(table: Table, kind: ChangeKind, *, before: str = "", after: str = "") -> TableChange:
    source = table.source
    return TableChange(
        kind=kind,
        schema_id=table.id,
        table=table.schema.name,
        source=f"{source.source_type} ({source.prefix})" if source.prefix else source.source_type,
        before=before,
        after=after,
    )


def _changes_of(earlier: Table, table: Table) -> Iterator[TableChange]:
    before, after = earlier.schema, table.schema
    if before.name != after.name:
        yield _change(table, ChangeKind.RENAMED, before=before.name, after=after.name)
    if _switch(before) is not (now := _switch(after)):
        yield _change(table, now)
    times_before, times_after = _times(earlier), _times(table)
    # while a table is disabled, its times mean nothing
    if before.should_sync and after.should_sync and times_before != times_after:
        yield _change(table, ChangeKind.CADENCE, before=times_before, after=times_after)
    if before.sync_type != after.sync_type:
        yield _change(
            table,
            ChangeKind.SYNC_TYPE,
            before=str(before.sync_type or "not chosen"),
            after=str(after.sync_type or "not chosen"),
        )


def _switch(schema: Schema) -> ChangeKind:
    match disabled_by(schema):
        case None:
            return ChangeKind.ENABLED
        case DisabledBy.USER:
            return ChangeKind.DISABLED_BY_USER
        case DisabledBy.POSTHOG:
            return ChangeKind.DISABLED_BY_POSTHOG


def _times(table: Table) -> str:
    own = table.own_cadence
    return own.describe() if own is not None else str(table.schema.sync_frequency or "never")
