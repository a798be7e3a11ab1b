"""How and when tables are synced, and whether at all: what would change, and the change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from typing import TYPE_CHECKING

from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.enums import SyncType
from dw_orchestration.posthog.errors import BadRequestError, PostHogError
from dw_orchestration.posthog.models import IncrementalFields, SchemaUpdate
from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dw_orchestration.operations.catalogue import NamedTable, Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Schema

COLUMNS = ("table", "setting", "before", "after", "result", "note")
FOLLOWS_A_FIELD = frozenset({SyncType.INCREMENTAL, SyncType.APPEND})
# Servers of some years take what is left out of these as cleared, so that they go together.
HOW_IT_IS_SYNCED = ("sync_type", "incremental_field", "incremental_field_type", "primary_key_columns")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting that would change."""

    setting: str
    before: object
    after: object


@dataclass(frozen=True, kw_only=True)
class TableChange:
    """What would change of a table.

    Attributes:
        table: The table, as it is.
        differences: What would change; nothing if it is so already.
        update: What is sent for it.
        problem: Why it cannot be done; None if it can.
        note: The effect of the change.
    """

    table: NamedTable
    differences: Sequence[Difference] = ()
    update: SchemaUpdate | None = None
    problem: str | None = None
    note: str | None = None

    def rows(self, result: str) -> list[Row]:
        """A row for each setting, or one that says why there is none."""
        if self.problem is not None:
            return [self._row(None, result="impossible", note=self.problem)]
        if not self.differences:
            return [self._row(None, result="as it was")]
        return [self._row(each, result=result, note=self.note) for each in self.differences]

    def _row(self, difference: Difference | None, *, result: str, note: str | None = None) -> Row:
        return {
            "table": self.table.name,
            "id": self.table.id,
            "setting": difference and difference.setting,
            "before": difference and difference.before,
            "after": difference and difference.after,
            "result": result,
            "note": note,
        }


@dataclass(frozen=True, kw_only=True)
class SettingsPlan:
    """What would change of all the tables that were named."""

    changes: Sequence[TableChange]

    @property
    def to_do(self) -> list[TableChange]:
        """The tables that would change."""
        return [change for change in self.changes if change.update is not None]

    @property
    def problems(self) -> list[TableChange]:
        """The tables that it cannot be done to."""
        return [change for change in self.changes if change.problem is not None]

    def report(self) -> Report:
        """The dry run."""
        settings = sum(len(change.differences) for change in self.to_do)
        same = len(self.changes) - len(self.to_do) - len(self.problems)
        summary = (
            f"Nothing is changed yet. {counted(settings, 'setting')} of {counted(len(self.to_do), 'table')} would"
            f" change{f'; {same} would stay as before' if same else ''}."
        )
        if self.problems:
            summary += f" It cannot be done to {', '.join(each.table.name for each in self.problems)}."
        rows = [row for change in self.changes for row in change.rows("would change")]
        return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(self.problems))


def change_settings(project: Project, wanted: Sequence[str], update: SchemaUpdate, *, dry_run: bool = True) -> Report:
    """Change settings of tables, or show what would change.

    Args:
        project: The tables' project.
        wanted: Names and patterns of tables.
        update: The settings; what it leaves out stays.
        dry_run: Whether to show it only.

    Raises:
        UsageError: A name is unknown, or it cannot be done to a table; nothing was changed.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    tables = project.catalogue(settings=True).select(wanted)
    plan = plan_settings(tables, update, offers=_offers(project.client, tables, update))
    return plan.report() if dry_run else apply_settings(project.client, plan)


def plan_settings(
    tables: Sequence[NamedTable], update: SchemaUpdate, *, offers: Mapping[str, IncrementalFields] | None = None
) -> SettingsPlan:
    """What would change; asks nobody and changes nothing.

    Args:
        tables: With their settings.
        update: The settings; what it leaves out stays.
        offers: How the tables can be synced, by schema id, where `update` names a field without its type.
    """
    known = offers or {}
    return SettingsPlan(changes=[_change(table, update, offer=known.get(table.id)) for table in tables])


def apply_settings(client: PostHogWarehouseClient, plan: SettingsPlan) -> Report:
    """Change what the plan says, and read it back: an answer of 200 proves nothing.

    Raises:
        UsageError: It cannot be done to all tables of the plan; nothing was changed.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    if plan.problems:
        told = " ".join(f"{change.table.name}: {change.problem}" for change in plan.problems)
        raise UsageError(f"Nothing was changed. {told}")
    # a key that may only read is one error, not one for each table
    client.check_access(write=True)
    problems, live = _save(client, plan.to_do)
    rows = [row for change in plan.changes for row in _outcome(change, live.get(change.table.id), problems)]
    failed = {row["table"] for row in rows if row["result"] == "failed"}
    same = len(plan.changes) - len(plan.to_do)
    summary = f"{counted(len(plan.to_do) - len(failed), 'table')} changed{f', {same} as before' if same else ''}."
    if failed:
        summary += f" {counted(len(failed), 'table')} failed; repeat it for them."
    return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(failed))


def _offers(
    client: PostHogWarehouseClient, tables: Sequence[NamedTable], update: SchemaUpdate
) -> dict[str, IncrementalFields]:
    """Ask the sources, which takes long, only for what the user left out."""
    sent = update.model_fields_set
    if "incremental_field" not in sent or "incremental_field_type" in sent:
        return {}
    return {table.id: client.get_incremental_fields(table.id) for table in tables}


def _change(table: NamedTable, update: SchemaUpdate, *, offer: IncrementalFields | None) -> TableChange:
    wanted = {name: getattr(update, name) for name in update.model_fields_set}
    if offer is not None:
        offered = {each.field: each.field_type for each in offer.incremental_fields}
        if update.incremental_field not in offered:
            fields = ", ".join(offered) or "none"
            lacking = f"It has no column {update.incremental_field!r} that a sync can follow; there are: {fields}."
            return TableChange(table=table, problem=lacking)
        wanted["incremental_field_type"] = offered[update.incremental_field]
    differences = [
        Difference(setting=name, before=getattr(table.schema, name), after=wanted[name])
        for name in SchemaUpdate.model_fields
        if name in wanted and not _is_same(getattr(table.schema, name), wanted[name])
    ]
    if not differences:
        return TableChange(table=table)
    after = table.schema.model_copy(update={each.setting: each.after for each in differences})
    if (problem := _problem(table.schema, after)) is not None:
        return TableChange(table=table, problem=problem)
    return TableChange(
        table=table,
        differences=differences,
        update=_to_send(differences, after),
        note=" ".join(_notes(table.schema, after)) or None,
    )


def _is_same(before: object, after: object) -> bool:
    if isinstance(before, time) and isinstance(after, time):
        return before.replace(tzinfo=None) == after.replace(tzinfo=None)
    return before == after


def _to_send(differences: Sequence[Difference], after: Schema) -> SchemaUpdate:
    sent = {each.setting: each.after for each in differences}
    if not sent.keys().isdisjoint(HOW_IT_IS_SYNCED):
        whole = HOW_IT_IS_SYNCED if after.sync_type in FOLLOWS_A_FIELD else HOW_IT_IS_SYNCED[:1]
        kept = {name: getattr(after, name) for name in whole if getattr(after, name) is not None}
        sent = kept | sent
    return SchemaUpdate.model_validate(sent)


def _problem(before: Schema, after: Schema) -> str | None:
    """What PostHog would refuse, or take and lose, in words that say what to do."""
    how_changes = any(getattr(before, name) != getattr(after, name) for name in HOW_IT_IS_SYNCED)
    if after.sync_type is None and (how_changes or after.should_sync):
        return "How it is synced was never chosen: set a sync_type too."
    if how_changes and after.sync_type in FOLLOWS_A_FIELD and after.incremental_field is None:
        return f"A sync_type of {after.sync_type} needs an incremental_field."
    new_key = before.primary_key_columns != after.primary_key_columns
    if new_key and before.table is not None and after.sync_type in {SyncType.INCREMENTAL, SyncType.CDC}:
        return "Its primary key cannot be changed while it has rows: delete its data first."
    return None


def _notes(before: Schema, after: Schema) -> Iterator[str]:
    if after.should_sync and not before.should_sync:
        if after.sync_type is SyncType.WEBHOOK:
            yield "PostHog imports it again from the start, and bills that."
        elif before.table is None:
            yield "When it is enabled for the first time, PostHog syncs it immediately."
    if before.should_sync and not after.should_sync:
        yield "A sync that is running is stopped."
    is_followed = before.table is not None and after.sync_type in FOLLOWS_A_FIELD
    if is_followed and before.incremental_field != after.incremental_field:
        yield "PostHog may read all rows again, at once, and bill them."
    if before.sync_frequency != after.sync_frequency and not after.should_sync:
        yield "It is disabled: this applies once it is enabled."


def _save(client: PostHogWarehouseClient, changes: Sequence[TableChange]) -> tuple[dict[str, str], dict[str, Schema]]:
    """Send the changes, a source at a time; what went wrong, and how all tables are now, by schema id."""
    problems: dict[str, str] = {}
    live: dict[str, Schema] = {}
    for source_id in dict.fromkeys(change.table.source.id for change in changes):
        own = {each.table.id: each.update for each in changes if each.table.source.id == source_id and each.update}
        problems |= _save_source(client, source_id, own)
        live |= {schema.id: schema for schema in client.get_source(source_id).schemas}
    return problems, live


def _save_source(client: PostHogWarehouseClient, source_id: str, updates: Mapping[str, SchemaUpdate]) -> dict[str, str]:
    try:
        client.bulk_update_schemas(source_id, updates)
    except BadRequestError:
        # older servers keep none then, and do not say which table is to blame: one by one they do
        return {key: said for key, update in updates.items() if (said := _save_one(client, key, update)) is not None}
    except PostHogError as error:
        return dict.fromkeys(updates, str(error))
    return {}


def _save_one(client: PostHogWarehouseClient, schema_id: str, update: SchemaUpdate) -> str | None:
    try:
        client.update_schema(schema_id, update)
    except PostHogError as error:
        return str(error)
    return None


def _outcome(change: TableChange, live: Schema | None, problems: Mapping[str, str]) -> list[Row]:
    if change.update is None:
        return change.rows("as it was")
    said = problems.get(change.table.id)
    rows = change.rows("changed")
    for row, difference in zip(rows, change.differences, strict=True):
        now = getattr(live, difference.setting, None)
        if live is None or not _is_same(now, difference.after):
            row |= {"result": "failed", "note": said or f"PostHog said yes, and kept {now}."}
    return rows
