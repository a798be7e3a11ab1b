"""Take over: move PostHog's own schedules out of the way, so that Dagster alone decides when tables are synced.

Tables stay enabled, at PostHog's longest frequency of 30 days: PostHog ends the long syncs of tables that are disabled.
The frequency from before is in the seconds of the time of day (`dw_orchestration.tables.takeover`). Its hour and minute
stay, so that the one sync a month that PostHog still starts falls on a tick of the table's own cadence, where the run
of that tick adopts it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

from pydantic import Field

from dw_orchestration.operations.operation import ChangedTablesParams, Operation
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.errors import ApiError
from dw_orchestration.posthog.models import Schema, SchemaUpdate
from dw_orchestration.tables.cadence import DAY, FREQUENCIES, Cadence, cadence
from dw_orchestration.tables.classify import SchemaClass, why_not_synced
from dw_orchestration.tables.table import by_source, names_of
from dw_orchestration.tables.takeover import (
    OUT_OF_THE_WAY,
    Settings,
    is_forgotten,
    is_taken,
    out_of_the_way,
    settings_before,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.tables.table import Table

# of a source at most, for the estimate: four requests
JOBS_READ = 200
# of each table: one sync may be the first, which imports all rows
SYNCS_READ = 9
_FORGOTTEN = (
    "No takeover's mark is in its time of day. If its syncs should be more frequent, set them with `dw set"
    " --sync-frequency 6hour`."
)


@dataclass(frozen=True, kw_only=True)
class Move:
    """A table whose schedule in PostHog would move out of the way.

    Attributes:
        schema_id: The table.
        source_id: Its source.
        name: What a user types for it.
        now: When PostHog syncs it by itself.
        then: When it would, once the table is moved.
        next_tick: When it would for the first time.
        rows_per_day: An estimate of the rows that PostHog's own syncs would no longer import; None if unknown.
    """

    schema_id: str
    source_id: str
    name: str
    now: Cadence
    then: Cadence
    next_tick: datetime
    rows_per_day: float | None


@dataclass(frozen=True, kw_only=True)
class TakeoverPlan:
    """What a takeover would change.

    Attributes:
        made_at: When it was made.
        moves: The tables that would move.
        left: Why the others would not, by their names.
    """

    made_at: datetime
    moves: tuple[Move, ...]
    left: Mapping[str, str]


class Change(StrEnum):
    """What happened to a table."""

    MOVED = "moved out of the way"
    GIVEN_BACK = "given back"
    WOULD_BE_GIVEN_BACK = "would be given back"
    LEFT = "left as it is"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened to a table, and why."""

    name: str
    change: Change
    detail: str


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """The settings that a table is to have; `outcome` is what is reported once it has them."""

    name: str
    source_id: str
    settings: Settings
    outcome: Outcome | None = None


def take_over(
    project: Project,
    tables: Sequence[str],
    *,
    restore: bool = False,
    dry_run: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
) -> Report:
    """Take over tables as PostHog has them now, or give them back; or show what would change.

    Args:
        project: The project whose schedules move.
        tables: Names and patterns of tables.
        restore: Give the tables back.
        dry_run: Only show what would change.
        now: The time of day.

    Raises:
        UnknownNameError: A name or pattern names no table, or a name several.
        PostHogError: PostHog is unreachable, or the key may not change anything.

    Each can be repeated; repeating one that failed half-way completes it.
    """
    live = project.tables(settings=True)
    chosen = live.matching(tables)
    if restore and dry_run:
        return report_of_giving_back([*_restorable(chosen)], chosen)
    if restore:
        return report_of_giving_back(give_back(project.client, chosen), chosen)
    if dry_run:
        return report_of_plan(plan_takeover(chosen, now=now(), rows_per_sync=usual_rows(project.client, chosen)))
    return report_of_outcomes(apply_takeover(project.client, plan_takeover(chosen, now=now())))


def plan_takeover(
    tables: Sequence[Table],
    *,
    now: datetime,
    rows_per_sync: Mapping[str, float] | None = None,
) -> TakeoverPlan:
    """What a takeover would change. Sends no request and changes nothing.

    Args:
        tables: The tables to take over.
        now: When the plan is made; PostHog's next tick comes after it.
        rows_per_sync: How many rows a sync usually imports, by schema id, where known.
    """
    rows = rows_per_sync or {}
    moves, left = [], {}
    for table in tables:
        own, why = table.own_cadence, _why_left(table)
        if own is None or why is not None:
            left[table.name] = why or "Dagster cannot tick at this table's frequency in PostHog."
        else:
            moves.append(_move(table, own, now=now, rows=rows.get(table.id)))
    return TakeoverPlan(made_at=now, moves=tuple(moves), left=left)


def usual_rows(client: PostHogWarehouseClient, tables: Sequence[Table]) -> dict[str, float]:
    """The median of the rows that the last completed syncs of each table imported, by schema id, where there are any.

    Raises:
        PostHogError: PostHog is unreachable.
    """
    rows: dict[str, list[int]] = {table.id: [] for table in tables}
    for source_id, own in by_source(tables).items():
        missing = {table.id for table in own}
        for job in islice(client.list_jobs(source_id, schemas=names_of(own)), JOBS_READ):
            if job.schema_id in missing and job.status is JobStatus.COMPLETED and job.rows_synced is not None:
                rows[job.schema_id].append(job.rows_synced)
                missing -= {job.schema_id} if len(rows[job.schema_id]) == SYNCS_READ else set()
            if not missing:
                break
    return {table_id: median(counts) for table_id, counts in rows.items() if counts}


def apply_takeover(client: PostHogWarehouseClient, plan: TakeoverPlan) -> list[Outcome]:
    """Move PostHog's own schedules out of the way, each with the mark of what it was.

    Frequency and mark are saved together, and are made of what PostHog has now, not of what the plan saw. So it can be
    repeated at any time, and two at once do the same.

    Returns:
        What happened to each table of the plan. One that failed is as it was, and the others are moved.

    Raises:
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    client.check_access(write=True)
    live = _live(client)
    wishes = {move.schema_id: wish for move in plan.moves if (wish := _wish(move, live)) is not None}
    outcomes = _fulfil(client, wishes, done=Change.MOVED)
    _undo_without_mark(client, {key: wishes[key] for key in outcomes if outcomes[key].change is Change.FAILED}, live)
    passed_over = [_passed_over(move, live.get(move.schema_id)) for move in plan.moves if move.schema_id not in wishes]
    return [*outcomes.values(), *passed_over]


def give_back(client: PostHogWarehouseClient, tables: Sequence[Table]) -> list[Outcome]:
    """Set the frequencies that the takeover found, and remove its marks.

    A table that somebody set to another frequency since keeps that, and is named. When this ends half-way, do it again.

    Args:
        client: Of the project that was taken over.
        tables: The tables to give back; those that were not taken over are passed over.

    Raises:
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    client.check_access(write=True)
    live = _live(client)
    chosen = [(table, live[table.id]) for table in tables if table.id in live]
    wishes = {
        table.id: _given_back(table, schema, before)
        for table, schema in chosen
        if (before := settings_before(schema)) is not None
    }
    outcomes = [*_fulfil(client, wishes, done=Change.GIVEN_BACK).values()]
    outcomes += [
        Outcome(name=table.name, change=Change.LEFT, detail=_FORGOTTEN)
        for table, schema in chosen
        if is_forgotten(schema)
    ]
    unreadable = dict.fromkeys(str(row) for row in client.unreadable if row.kind == "schema")
    return [*outcomes, *map(_unreadable, unreadable)]


def _restorable(tables: Sequence[Table]) -> Iterator[Outcome]:
    """What giving back would do."""
    for table in tables:
        if (before := settings_before(table.schema)) is not None:
            wish = _given_back(table, table.schema, before)
            detail = f"PostHog's frequency would be {before.sync_frequency} again."
            yield wish.outcome or Outcome(name=table.name, change=Change.WOULD_BE_GIVEN_BACK, detail=detail)
        elif is_forgotten(table.schema):
            yield Outcome(name=table.name, change=Change.LEFT, detail=_FORGOTTEN)


def _live(client: PostHogWarehouseClient) -> dict[str, Schema]:
    return {schema.id: schema for schema in client.list_schemas()}


def _wish(move: Move, live: Mapping[str, Schema]) -> _Wish | None:
    """What to make of a table; None if there is nothing to move any more."""
    schema = live.get(move.schema_id)
    if schema is None or not schema.should_sync or (settings := out_of_the_way(schema)) is None:
        return None
    return _Wish(name=move.name, source_id=move.source_id, settings=settings)


def _given_back(table: Table, schema: Schema, before: Settings) -> _Wish:
    if is_taken(schema) or schema.sync_frequency is None:
        return _Wish(name=table.name, source_id=table.source.id, settings=before)
    # only the mark is the takeover's
    detail = (
        f"Somebody set its frequency to {schema.sync_frequency} since, which stays; before the takeover, it was"
        f" {before.sync_frequency}."
    )
    return _Wish(
        name=table.name,
        source_id=table.source.id,
        settings=Settings(schema.sync_frequency, before.sync_time_of_day),
        outcome=Outcome(name=table.name, change=Change.LEFT, detail=detail),
    )


def _fulfil(client: PostHogWarehouseClient, wishes: Mapping[str, _Wish], *, done: Change) -> dict[str, Outcome]:
    """Save the settings, and read them back: an answer of 200 or 500 proves nothing."""
    if not wishes:
        return {}
    sources = dict.fromkeys(wish.source_id for wish in wishes.values())
    problems = {source_id: _set(client, source_id, wishes) for source_id in sources}
    live = _live(client)
    return {
        key: _outcome(wish, live.get(key), done=done, problem=problems[wish.source_id]) for key, wish in wishes.items()
    }


def _set(client: PostHogWarehouseClient, source_id: str, wishes: Mapping[str, _Wish]) -> str | None:
    """Why a source's tables were not all set, as PostHog says it: the other sources are no worse for it."""
    updates = {key: SchemaUpdate(**vars(wish.settings)) for key, wish in wishes.items() if wish.source_id == source_id}
    try:
        client.bulk_update_schemas(source_id, updates)
    except ApiError as error:
        return error.text
    return None


def _undo_without_mark(
    client: PostHogWarehouseClient, wishes: Mapping[str, _Wish], before: Mapping[str, Schema]
) -> None:
    """Move tables back that a server has moved without keeping the mark: nothing else knows their frequency."""
    now = _live(client) if wishes else {}
    for key, wish in wishes.items():
        if key in now and is_forgotten(now[key]) and (frequency := before[key].sync_frequency) is not None:
            own = Settings(frequency, before[key].sync_time_of_day)
            _set(client, wish.source_id, {key: _Wish(name=wish.name, source_id=wish.source_id, settings=own)})


def _outcome(wish: _Wish, schema: Schema | None, *, done: Change, problem: str | None) -> Outcome:
    said = f"PostHog said: {problem}" if problem else "PostHog said yes."
    if schema is None:
        return Outcome(name=wish.name, change=Change.FAILED, detail=f"The table is gone. {said}")
    if wish.settings.are_of(schema):
        detail = f"PostHog's frequency is {schema.sync_frequency} now. {said}"
        return wish.outcome or Outcome(name=wish.name, change=done, detail=detail)
    at = f" at {schema.sync_time_of_day}" if schema.sync_time_of_day else ""
    return Outcome(
        name=wish.name, change=Change.FAILED, detail=f"PostHog's frequency is {schema.sync_frequency}{at}. {said}"
    )


def _passed_over(move: Move, schema: Schema | None) -> Outcome:
    if schema is None:
        return Outcome(name=move.name, change=Change.GONE, detail="It was deleted since the plan was made.")
    detail = f"Since the plan was made, it was {_state(schema)}."
    return Outcome(name=move.name, change=Change.LEFT, detail=detail)


def _unreadable(row: str) -> Outcome:
    detail = "This record of PostHog's cannot be read, and its table may be out of the way. Give back again later."
    return Outcome(name=row, change=Change.FAILED, detail=detail)


def _state(schema: Schema) -> str:
    return f"set to {schema.sync_frequency}" if schema.should_sync else "disabled"


def report_of_plan(plan: TakeoverPlan) -> Report:
    """What a takeover would change, and what it would not."""
    known = [move.rows_per_day for move in plan.moves if move.rows_per_day is not None]
    summary = (
        f"Dry run: nothing is changed. {counted(len(plan.moves), 'table')} would move out of the way;"
        f" {len(plan.left)} would stay as they are."
    )
    if known:
        summary += (
            f" PostHog's own syncs of {counted(len(known), 'table')} would import {_roughly(sum(known)):,} rows a day"
            " less, estimated from the last syncs."
        )
    moves: list[Row] = [
        {
            "table": move.name,
            "now": move.now.describe(),
            "then": move.then.describe(),
            "next_own_sync": move.next_tick,
            "rows_per_day": None if move.rows_per_day is None else _roughly(move.rows_per_day),
            "why": None,
        }
        for move in plan.moves
    ]
    unknown = dict.fromkeys(("then", "next_own_sync", "rows_per_day"))
    stays: list[Row] = [
        {"table": name, "now": "stays as it is", **unknown, "why": why} for name, why in plan.left.items()
    ]
    columns = ("table", "now", "then", "next_own_sync", "rows_per_day", "why")
    dispensable = ("next_own_sync", "then")
    return Report(summary=summary, rows=[*moves, *stays], columns=columns, dispensable=dispensable)


def _roughly(count: float) -> int:
    """Two digits of a number: an estimate has no more."""
    return int(float(f"{count:.2g}"))


def report_of_outcomes(outcomes: Sequence[Outcome]) -> Report:
    """What was changed, and what was not."""
    counts = Counter(outcome.change for outcome in outcomes)
    listed = ", ".join(f"{counts[change]} {change}" for change in Change if counts[change])
    summary = f"{counted(len(outcomes), 'table')}: {listed}." if outcomes else "There was nothing to change."
    if counts[Change.FAILED]:
        summary += " What failed is as it was: do it again to complete it."
    else:
        summary += " Refresh the state of the definitions next, so that they show PostHog's settings as they are now."
    rows: list[Row] = [{"table": each.name, "became": str(each.change), "why": each.detail} for each in outcomes]
    return Report(summary=summary, rows=rows, columns=("table", "became", "why"), failed=bool(counts[Change.FAILED]))


def report_of_giving_back(outcomes: Sequence[Outcome], tables: Sequence[Table]) -> Report:
    """What was, or would be, given back; a failure if there was nothing, as somebody expects that there is."""
    report = report_of_outcomes(outcomes)
    if any(outcome.change is Change.WOULD_BE_GIVEN_BACK for outcome in outcomes):
        return replace(report, summary=f"Dry run: {report.summary.partition('. ')[0]}; nothing is changed.")
    if any(outcome.change is not Change.LEFT or outcome.detail != _FORGOTTEN for outcome in outcomes):
        return report
    forgotten = f" PostHog syncs {counted(len(outcomes), 'table')} every 30 days: {_FORGOTTEN}" if outcomes else ""
    summary = f"Nothing was given back: none of {counted(len(tables), 'table')} is out of the way.{forgotten}"
    return replace(report, summary=summary, failed=True)


def _why_left(table: Table) -> str | None:
    frequency = table.schema.sync_frequency
    if table.schema_class is not SchemaClass.SYNCABLE:
        return why_not_synced(table.schema, table.schema_class)
    if frequency is not OUT_OF_THE_WAY:
        return _why_refused(table)
    if (before := settings_before(table.schema)) is None:
        return "PostHog syncs it every 30 days anyway."
    return f"It is out of the way already; before, PostHog's frequency was {before.sync_frequency}."


def _why_refused(table: Table) -> str | None:
    """Why PostHog would refuse the longest frequency: a full refresh may not be due more often than the syncs."""
    days = table.schema.full_refresh_interval_days
    if days is None or timedelta(days=days) >= FREQUENCIES[OUT_OF_THE_WAY][0]:
        return None
    return (
        f"PostHog refuses a sync_frequency of {OUT_OF_THE_WAY} for it, because a full refresh is due every {days} days."
        " Set its full_refresh_interval_days to at least 30, or to 0 for never."
    )


def _move(table: Table, own: Cadence, *, now: datetime, rows: float | None) -> Move:
    schema = table.schema
    then = cadence(schema.model_copy(update={"sync_frequency": OUT_OF_THE_WAY})) or own
    fewer_syncs = DAY / own.every - DAY / then.every
    return Move(
        schema_id=schema.id,
        source_id=table.source.id,
        name=table.name,
        now=own,
        then=then,
        next_tick=then.next_tick(now),
        rows_per_day=None if rows is None else rows * fewer_syncs,
    )


class TakeoverParams(ChangedTablesParams):
    """What a takeover does."""

    restore: bool = Field(default=False, description="Give the tables back: restore the frequencies from before.")


TAKEOVER = Operation(
    name="takeover",
    command="takeover",
    params=TakeoverParams,
    run=take_over,
    description="""Let Dagster alone decide when tables are synced.

PostHog syncs every table by its own schedule, next to Dagster's, and bills the rows of both. A takeover moves PostHog's
schedules out of the way: it sets their frequency to 30 days, the longest there is. PostHog itself keeps the frequency
from before, in the seconds of the time of day, which it ignores. Tables stay enabled, and nothing else is changed. One
sync a month that PostHog starts by itself remains.
""",
    examples=(
        "takeover --dry-run '*'",
        "takeover stripe_acme.Customer",
        "takeover --restore stripe_acme.Customer",
    ),
)
