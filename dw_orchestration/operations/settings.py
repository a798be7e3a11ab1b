"""How and when PostHog syncs tables, and whether they are enabled: the plan of a change, and the change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import time, timedelta
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError

from dw_orchestration.operations.operation import UNCHANGED, ChangedTablesParams, Operation
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.enums import CdcTableMode, IncrementalFieldType, OpenEnum, SyncFrequency, SyncType
from dw_orchestration.posthog.errors import BadRequestError, PartialUpdateError, PostHogError
from dw_orchestration.posthog.models import IncrementalFields, SchemaUpdate
from dw_orchestration.tables.cadence import cadence
from dw_orchestration.tables.classify import cure_of
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.tables.takeover import with_mark
from dw_orchestration.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Schema
    from dw_orchestration.tables.table import Table

E = TypeVar("E", bound=OpenEnum)

# These follow a column, and so can be reset to read all rows again from time to time.
CAN_BE_REFRESHED = frozenset({SyncType.INCREMENTAL, SyncType.APPEND, SyncType.XMIN})
FREQUENCIES = tuple(each for each in SyncFrequency if each is not SyncFrequency.NEVER)
NO_TIME = "none"
ALL_COLUMNS = "*"
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

    table: Table
    differences: Sequence[Difference] = ()
    update: SchemaUpdate | None = None
    problem: str | None = None
    note: str | None = None

    def rows(self, result: str) -> list[Row]:
        """A row for each setting, or one that says why there is none."""
        if self.problem is not None:
            return [self._row(None, result="impossible", note=self.problem)]
        if not self.differences:
            return [self._row(None, result="unchanged")]
        return [self._row(each, result=result, note=self.note) for each in self.differences]

    def chosen_by_posthog(self, live: Schema) -> list[Row]:
        """A row for each setting that PostHog chose when the table was enabled."""
        settings = (*HOW_IT_IS_SYNCED, "sync_frequency")
        chosen = [Difference(setting=name, before=None, after=getattr(live, name)) for name in settings]
        return [self._row(each, result="chosen by PostHog") for each in chosen if each.after is not None]

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
            f"Dry run: nothing is changed. {counted(settings, 'setting')} of {counted(len(self.to_do), 'table')} would"
            f" change{f'; {same} would stay unchanged' if same else ''}."
        )
        if self.problems:
            summary += f" Not possible for {', '.join(each.table.name for each in self.problems)}."
        rows = [row for change in self.changes for row in change.rows("would change")]
        return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(self.problems))


def change_settings(
    project: Project,
    tables: Sequence[str],
    *,
    dry_run: bool = False,
    sync_frequency: str | None = None,
    sync_time_of_day: str | None = None,
    sync_type: str | None = None,
    incremental_field: str | None = None,
    incremental_field_type: str | None = None,
    incremental_field_lookback_seconds: int | None = None,
    primary_key_columns: Sequence[str] | None = None,
    full_refresh_interval_days: int | None = None,
    full_refresh_time_of_day: str | None = None,
    enabled_columns: Sequence[str] | None = None,
    row_filters: str | None = None,
    cdc_table_mode: str | None = None,
) -> Report:
    """Change how and when PostHog syncs tables, or show what would change; settings that are None stay.

    Raises:
        UsageError: A name or value is invalid, or a table cannot be changed so; nothing was changed.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    update = settings_update(
        {
            "sync_frequency": sync_frequency,
            "sync_time_of_day": sync_time_of_day,
            "sync_type": sync_type,
            "incremental_field": incremental_field,
            "incremental_field_type": incremental_field_type,
            "incremental_field_lookback_seconds": incremental_field_lookback_seconds,
            "primary_key_columns": primary_key_columns,
            "full_refresh_interval_days": full_refresh_interval_days,
            "full_refresh_time_of_day": full_refresh_time_of_day,
            "enabled_columns": enabled_columns,
            "row_filters": row_filters,
            "cdc_table_mode": cdc_table_mode,
        }
    )
    return update_tables(project, tables, update, dry_run=dry_run)


def enable_tables(project: Project, tables: Sequence[str], *, dry_run: bool = False) -> Report:
    """Enable tables in PostHog, or show what would change.

    PostHog chooses the settings of a table that was never configured.

    Raises:
        UsageError: A name is unknown, or a table cannot be enabled; nothing was changed.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    return update_tables(project, tables, SchemaUpdate(should_sync=True), dry_run=dry_run)


def disable_tables(project: Project, tables: Sequence[str], *, dry_run: bool = False) -> Report:
    """Disable tables in PostHog, or show what would change; their rows stay.

    Raises:
        UsageError: A name is unknown; nothing was changed.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    return update_tables(project, tables, SchemaUpdate(should_sync=False), dry_run=dry_run)


def update_tables(project: Project, tables: Sequence[str], update: SchemaUpdate, *, dry_run: bool) -> Report:
    """Change the settings of tables, or show what would change.

    Args:
        project: The project of the tables.
        tables: Names and patterns of tables.
        update: The settings; what it leaves out stays.
        dry_run: Whether to show the plan, rather than to change them.

    Raises:
        UsageError: A name is unknown, or a table cannot be changed so; nothing was changed.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    chosen = project.tables(settings=True).matching(tables)
    plan = plan_settings(chosen, update, offers=_offers(project.client, chosen, update))
    return plan.report() if dry_run else apply_settings(project.client, plan)


def plan_settings(
    tables: Sequence[Table], update: SchemaUpdate, *, offers: Mapping[str, IncrementalFields] | None = None
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
        told = " ".join(f"{visible(change.table.name)}: {change.problem}" for change in plan.problems)
        raise UsageError(f"Nothing was changed. {told}")
    # a key that may only read is one error, not one for each table
    client.check_access(write=True)
    problems, live = _save(client, plan.to_do)
    rows = [row for change in plan.changes for row in _outcome(change, live.get(change.table.id), problems)]
    failed = {row["table"] for row in rows if row["result"] == "failed"}
    same = len(plan.changes) - len(plan.to_do)
    summary = f"{counted(len(plan.to_do) - len(failed), 'table')} changed{f', {same} unchanged' if same else ''}."
    if failed:
        summary += f" {counted(len(failed), 'table')} failed; repeat it for them."
    return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(failed))


def _offers(
    client: PostHogWarehouseClient, tables: Sequence[Table], update: SchemaUpdate
) -> dict[str, IncrementalFields]:
    """Ask the sources, which takes long, only for what the user left out."""
    sent = update.model_fields_set
    if "incremental_field" not in sent or "incremental_field_type" in sent:
        return {}
    return {table.id: client.get_incremental_fields(table.id) for table in tables}


def _change(table: Table, update: SchemaUpdate, *, offer: IncrementalFields | None) -> TableChange:
    wanted = {name: getattr(update, name) for name in update.model_fields_set}
    if offer is not None:
        offered = {each.field: each.field_type for each in offer.incremental_fields}
        if update.incremental_field not in offered:
            fields = ", ".join(offered) or "none"
            lacking = f"It has no column {update.incremental_field!r} that a sync can follow; there are: {fields}."
            return TableChange(table=table, problem=lacking)
        wanted["incremental_field_type"] = offered[update.incremental_field]
    wanted = with_mark(table.schema, wanted)
    differences = [
        Difference(setting=name, before=before, after=wanted[name])
        for name in SchemaUpdate.model_fields
        if name in wanted and not _is_same(before := getattr(table.schema, name), wanted[name])
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
    # servers return no filters and no columns as null or as an empty list
    return _comparable(before) == _comparable(after)


def _comparable(value: object) -> object:
    return (tuple(value) or None) if isinstance(value, list | tuple) else value


def _to_send(differences: Sequence[Difference], after: Schema) -> SchemaUpdate:
    sent: dict[str, object] = {each.setting: each.after for each in differences}
    if _is_configured_by_posthog(after):
        return SchemaUpdate.model_validate(sent | {"apply_sync_defaults": True})
    if not sent.keys().isdisjoint(HOW_IT_IS_SYNCED):
        whole = HOW_IT_IS_SYNCED if after.sync_type in FOLLOWS_A_FIELD else HOW_IT_IS_SYNCED[:1]
        kept = {name: getattr(after, name) for name in whole if getattr(after, name) is not None}
        sent = kept | sent
    return SchemaUpdate.model_validate(sent)


def _is_configured_by_posthog(after: Schema) -> bool:
    """Whether a table is enabled before anybody chose how to sync it: PostHog chooses then, if it is asked to."""
    return after.should_sync and after.sync_type is None


def _problem(before: Schema, after: Schema) -> str | None:
    """What PostHog would refuse, or take and lose, in words that say what to do."""
    how_changes = any(getattr(before, name) != getattr(after, name) for name in HOW_IT_IS_SYNCED)
    if after.sync_type is None and how_changes:
        return "How it is synced was never chosen: set a sync_type too."
    if how_changes and after.sync_type in FOLLOWS_A_FIELD and after.incremental_field is None:
        return f"A sync_type of {after.sync_type} needs an incremental_field."
    new_key = before.primary_key_columns != after.primary_key_columns
    if new_key and before.table is not None and after.sync_type in {SyncType.INCREMENTAL, SyncType.CDC}:
        return "Its primary key cannot be changed while it has rows: delete its data first."
    return _problem_of_full_refresh(after)


def _problem_of_full_refresh(after: Schema) -> str | None:
    days, own = after.full_refresh_interval_days, cadence(after)
    if days is None:
        return None
    if after.sync_type not in CAN_BE_REFRESHED:
        allowed = ", ".join(sorted(CAN_BE_REFRESHED))
        return f"Only a sync_type of {allowed} has a full_refresh_interval_days: set it to 0."
    if own is not None and own.every > timedelta(days=days):
        return f"A full_refresh_interval_days of {days} is shorter than its sync_frequency, {after.sync_frequency}."
    return None


def _notes(before: Schema, after: Schema) -> Iterator[str]:
    if (cure := cure_of(before.incremental_sync_blocked)) is not None:
        yield f"PostHog has blocked its incremental sync ({before.incremental_sync_blocked}). {cure}"
    if after.should_sync and not before.should_sync:
        if after.sync_type is SyncType.WEBHOOK:
            yield "PostHog imports it again from the start, and bills that."
        elif after.sync_type is None:
            yield "PostHog chooses how to sync it, because nobody has yet, and syncs it immediately."
        elif before.table is None:
            yield "When it is enabled for the first time, PostHog syncs it immediately."
    if before.should_sync and not after.should_sync:
        yield "A sync that is running is stopped."
    is_followed = before.table is not None and after.sync_type in FOLLOWS_A_FIELD
    if is_followed and before.incremental_field != after.incremental_field:
        yield "PostHog may read all rows again, at once, and bill them."
    refresh = (before.full_refresh_interval_days, before.full_refresh_time_of_day)
    if after.full_refresh_interval_days and refresh != (
        after.full_refresh_interval_days,
        after.full_refresh_time_of_day,
    ):
        rows = "all of its rows" if after.table is None else f"all rows, {after.table.row_count or 0:,} today,"
        yield f"PostHog imports {rows} again every {after.full_refresh_interval_days} days, and bills them."
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
    except (BadRequestError, PartialUpdateError):
        # some servers keep none then, others name the tables in one text: one by one, each has its own reason
        return {key: said for key, update in updates.items() if (said := _save_one(client, key, update)) is not None}
    except PostHogError as error:
        return dict.fromkeys(updates, error.text)
    return {}


def _save_one(client: PostHogWarehouseClient, schema_id: str, update: SchemaUpdate) -> str | None:
    try:
        client.update_schema(schema_id, update)
    except PostHogError as error:
        return error.text
    return None


def _outcome(change: TableChange, live: Schema | None, problems: Mapping[str, str]) -> list[Row]:
    if change.update is None:
        return change.rows("unchanged")
    said = problems.get(change.table.id)
    rows = change.rows("changed")
    for row, difference in zip(rows, change.differences, strict=True):
        now = getattr(live, difference.setting, None)
        if live is None or not _is_same(now, difference.after):
            row |= {"result": "failed", "note": said or f"PostHog said yes, and kept {now}."}
    if live is not None and change.update.apply_sync_defaults:
        rows += change.chosen_by_posthog(live)
    return rows


def settings_update(typed: Mapping[str, Any]) -> SchemaUpdate:
    """The change that was typed.

    Raises:
        UsageError: A value is invalid, or there is none.
    """
    given: dict[str, object] = {name: value for name, value in typed.items() if value not in (None, [], ())}
    if not given:
        raise UsageError(f"Nothing to change: give at least one of {', '.join(typed)}.")
    for name, read in _TYPED.items():
        if name in given:
            given[name] = read(name, given[name])
    try:
        return SchemaUpdate.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
    raise UsageError(f"{problem['loc'][0]}: {problem['msg']}.")


def _frequency(name: str, text: str) -> SyncFrequency:
    if text == SyncFrequency.NEVER:
        raise UsageError("PostHog has no sync_frequency `never`: disable the table, or choose the longest, 30day.")
    return _member(SyncFrequency, name, text, choices=FREQUENCIES)


def _member(kind: type[E], name: str, text: str, *, choices: Sequence[E] | None = None) -> E:
    known = [str(each) for each in choices or kind]
    if text in known:
        return kind(text)
    close = get_close_matches(text.lower(), known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Choose {', '.join(known)}."
    raise UsageError(f"Invalid {name} {text!r}. {hint}")


def _time(name: str, text: str) -> time | None:
    if text.lower() == NO_TIME:
        return None
    try:
        found = time.fromisoformat(text)
    except ValueError:
        found = None
    # PostHog knows only UTC and whole seconds; Python takes much more, such as `03`
    if found is None or found.tzinfo is not None or found.microsecond or ":" not in text:
        raise UsageError(f"Invalid {name} {text!r}: use HH:MM or HH:MM:SS in UTC, or `{NO_TIME}`.")
    return found


def _filters(name: str, text: str) -> list[dict[str, object]] | None:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageError(f"Invalid {name} {text!r}: use a JSON list of objects as in PostHog's API, or `[]` for none.")
    return found or None


# How the settings are read that are typed otherwise than PostHog stores them.
_TYPED: Mapping[str, Callable[[str, Any], object]] = {
    "sync_frequency": _frequency,
    "sync_time_of_day": _time,
    "sync_type": partial(_member, SyncType),
    "incremental_field_type": partial(_member, IncrementalFieldType),
    "cdc_table_mode": partial(_member, CdcTableMode),
    "full_refresh_interval_days": lambda _, days: days or None,
    "full_refresh_time_of_day": _time,
    "row_filters": _filters,
    "enabled_columns": lambda _, columns: None if list(columns) == [ALL_COLUMNS] else columns,
}


Frequency = Literal["1min", "5min", "15min", "30min", "1hour", "6hour", "12hour", "24hour", "7day", "30day"]


class SettingsParams(ChangedTablesParams):
    """New settings for tables. Settings that are left out stay."""

    left_out: ClassVar[str] = UNCHANGED

    sync_frequency: Frequency | None = Field(
        default=None, description="How often PostHog syncs the tables by itself.", examples=["1hour"]
    )
    sync_time_of_day: str | None = Field(
        default=None,
        description="The time of day from which PostHog counts the frequency, `HH:MM` in UTC; `none` lets PostHog"
        " choose.",
    )
    sync_type: Literal["full_refresh", "incremental", "append", "webhook", "cdc", "xmin"] | None = Field(
        default=None, description="How PostHog imports the rows."
    )
    incremental_field: str | None = Field(
        default=None,
        description="The column that an incremental or append sync follows. `dw fields` and the job `show_fields`"
        " list the"
        " columns.",
    )
    incremental_field_type: Literal["integer", "numeric", "datetime", "date", "timestamp", "objectid", "xid"] | None = (
        Field(
            default=None,
            description="The type of that column. If it is left out, PostHog asks the source, which takes a while.",
        )
    )
    incremental_field_lookback_seconds: int | None = Field(
        default=None, description="How many seconds before the last imported row an incremental sync starts."
    )
    primary_key_columns: list[str] | None = Field(
        default=None, description="The columns by which an incremental sync finds the row to replace."
    )
    full_refresh_interval_days: int | None = Field(
        default=None,
        description="After how many days, 1 to 90, a sync that follows a column imports all rows again, which PostHog"
        " bills; 0 for never.",
    )
    full_refresh_time_of_day: str | None = Field(
        default=None, description="When such a full refresh is due, `HH:MM` in UTC; `none` lets PostHog choose."
    )
    enabled_columns: list[str] | None = Field(
        default=None, description="The only columns that PostHog imports; `*` for all."
    )
    row_filters: str | None = Field(
        default=None,
        description="The filters of the rows that PostHog imports: a JSON list as in PostHog's API; `[]` for none.",
    )
    cdc_table_mode: Literal["consolidated", "cdc_only", "both"] | None = Field(
        default=None, description="Which tables a change-data-capture sync keeps."
    )


CHANGE_SETTINGS = Operation(
    name="change_settings",
    command="set",
    params=SettingsParams,
    run=change_settings,
    description="Change how and when PostHog syncs tables: frequency, time of day, sync type, incremental field,"
    " primary key, full refreshes, columns and rows.",
    examples=(
        "set --sync-frequency 1hour --dry-run 'stripe.*'",
        "set --sync-frequency 24hour --sync-time-of-day 03:00 postgres_shop.orders",
        "set --sync-type incremental --incremental-field updated_at postgres_shop.orders",
    ),
)
ENABLE_TABLES = Operation(
    name="enable_tables",
    command="enable",
    params=ChangedTablesParams,
    run=enable_tables,
    description="Enable tables in PostHog. PostHog syncs a table at once when it is enabled for the first time, and"
    " chooses how if nobody has.",
    examples=("enable postgres_shop.orders", "enable --dry-run 'stripe.*'"),
)
DISABLE_TABLES = Operation(
    name="disable_tables",
    command="disable",
    params=ChangedTablesParams,
    run=disable_tables,
    description="Disable tables in PostHog. Their rows stay; PostHog stops a running sync of a table that is disabled.",
    examples=("disable postgres_shop.orders", "disable --dry-run 'stripe.*'"),
)
