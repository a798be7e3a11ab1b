"""Take over: move PostHog's own schedules out of the way, so that Dagster alone decides when tables are synced.

Tables stay enabled, at PostHog's longest frequency of 30 days: PostHog ends the long syncs of tables that are disabled.
Only the frequency is changed. The time of day stays, so that the one sync a month that PostHog still starts falls on a
tick of the table's own cadence, where the run of that tick adopts it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dw_orchestration.operations.operation import Operation, SomeTablesParams
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.operations.takeover_file import OUT_OF_THE_WAY, TakenTable, TakeoverFile, TakeoverStore
from dw_orchestration.posthog.enums import JobStatus, SyncFrequency
from dw_orchestration.posthog.errors import ApiError
from dw_orchestration.posthog.models import Schema, SchemaUpdate
from dw_orchestration.posthog.rows import includes
from dw_orchestration.tables.cadence import DAY, FREQUENCIES, Cadence, cadence
from dw_orchestration.tables.classify import SchemaClass, why_not_synced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.tables.table import Table
    from dw_orchestration.tables.tables import Tables

# One request: PostHog shows this many jobs of a source at once.
JOBS_READ = 50


class TakeoverAction(StrEnum):
    """What to do."""

    PLAN = "plan"
    APPLY = "apply"
    GIVE_BACK = "give_back"


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
        rows_saved_per_day: How many rows fewer PostHog's own syncs would import and bill; None if unknown.
    """

    schema_id: str
    source_id: str
    name: str
    now: Cadence
    then: Cadence
    next_tick: datetime
    rows_saved_per_day: float | None


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
    name: str
    source_id: str
    frequency: SyncFrequency


def take_over(
    project: Project,
    tables: Sequence[str] = (),
    *,
    action: str = TakeoverAction.PLAN,
    file: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
) -> Report:
    """Plan, apply or give back a takeover of the tables as PostHog has them now.

    Args:
        project: The project whose schedules move.
        tables: Names and patterns of tables; none means all.
        action: What to do. All three can be repeated; repeating one that failed half-way completes it.
        file: The file that remembers the frequencies; by default that of the project.
        now: The time of day.

    Raises:
        UnknownNameError: A name or pattern names no table, or a name several.
        SetupError: The file belongs to another project, or is in use.
        SnapshotError: The file cannot be read.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    store = project.takeover_store(file)
    live = project.tables(settings=True)
    chosen = live.matching(tables) if tables else list(live)
    if action == TakeoverAction.GIVE_BACK:
        # a deleted table matches no name: it is forgotten when everything is given back
        only = {table.id for table in chosen} if tables else None
        return report_of_outcomes(give_back(project.client, store, only=only))
    rows = newest_rows_per_sync(project.client, live)
    plan = plan_takeover(chosen, now=now(), taken=store.read(), rows_per_sync=rows)
    if action == TakeoverAction.PLAN:
        return report_of_plan(plan)
    return report_of_outcomes(apply_takeover(project.client, plan, store))


def plan_takeover(
    tables: Sequence[Table],
    *,
    now: datetime,
    taken: TakeoverFile | None = None,
    rows_per_sync: Mapping[str, int] | None = None,
) -> TakeoverPlan:
    """What a takeover would change. Sends no request and changes nothing.

    Args:
        tables: The tables to take over.
        now: When the plan is made; PostHog's next tick comes after it.
        taken: What was taken over before.
        rows_per_sync: How many rows a sync imports, by schema id, where known.
    """
    rows = rows_per_sync or {}
    moves, left = [], {}
    for table in tables:
        own, why = table.cadence, _why_left(table, taken)
        if own is None or why is not None:
            left[table.name] = why or "Dagster cannot tick at this table's frequency in PostHog."
        else:
            moves.append(_move(table, own, now=now, rows=rows.get(table.id)))
    return TakeoverPlan(made_at=now, moves=tuple(moves), left=left)


def newest_rows_per_sync(client: PostHogWarehouseClient, tables: Tables) -> dict[str, int]:
    """How many rows the last completed sync of each table imported, by schema id; one request per source.

    Raises:
        PostHogError: PostHog is unreachable.
    """
    rows: dict[str, int] = {}
    for source in tables.sources:
        for job in islice(client.list_jobs(source.id), JOBS_READ):
            if job.status is JobStatus.COMPLETED and job.rows_synced is not None:
                rows.setdefault(job.schema_id, job.rows_synced)
    return rows


def apply_takeover(client: PostHogWarehouseClient, plan: TakeoverPlan, store: TakeoverStore) -> list[Outcome]:
    """Move PostHog's own schedules out of the way, and remember what they were.

    What was there is on the disk before it is changed, as PostHog has it now and not as the plan saw it. When this ends
    half-way, do it again: tables that are moved already are not stored again.

    Returns:
        What happened to each table of the plan. One that failed is as it was, and the others are moved.

    Raises:
        SetupError: The file is of another project, or in use.
        SnapshotError: The file cannot be read.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    # a key that may only read should leave no trace in the file either
    client.check_access(write=True)
    with store.locked():
        file, live = store.read(), _live(client)
        taken = {move.schema_id: table for move in plan.moves if (table := _taken(move, live, plan=plan)) is not None}
        # those that fail stay in it too: a server that timed out may still be at it, and they do no harm there
        store.write(file.with_tables(taken))
        wishes = {key: _wish(table, OUT_OF_THE_WAY) for key, table in taken.items()}
        outcomes = _fulfil(client, wishes, done=Change.MOVED)
    passed_over = [_passed_over(move, live.get(move.schema_id)) for move in plan.moves if move.schema_id not in taken]
    return [*outcomes.values(), *passed_over]


def give_back(
    client: PostHogWarehouseClient, store: TakeoverStore, *, only: Collection[str] | None = None
) -> list[Outcome]:
    """Set the frequencies that the takeover found, and forget them.

    A table that somebody set to another frequency since keeps that, and one that was deleted is forgotten; both are
    named. When this ends half-way, do it again.

    Args:
        client: Of the project that was taken over.
        store: What was there before.
        only: The ids of the schemas to give back; None means all.

    Raises:
        SetupError: The file is of another project, or in use.
        SnapshotError: The file cannot be read.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    client.check_access(write=True)
    with store.locked():
        file, live = store.read(), _live(client)
        chosen = {key: table for key, table in file.tables.items() if only is None or key in only}
        wishes = {
            key: _wish(table, table.frequency) for key, table in chosen.items() if key in live and file.holds(live[key])
        }
        outcomes = _fulfil(client, wishes, done=Change.GIVEN_BACK)
        hidden = chosen.keys() - live.keys() if includes(client.unreadable, "schema") else frozenset()
        outcomes |= {key: _hidden(chosen[key]) for key in sorted(hidden)}
        failed = {key for key, outcome in outcomes.items() if outcome.change is Change.FAILED}
        store.write(file.without(chosen.keys() - failed))
    released = [_released(table, live.get(key)) for key, table in chosen.items() if key not in outcomes]
    return [*outcomes.values(), *released]


def _live(client: PostHogWarehouseClient) -> dict[str, Schema]:
    return {schema.id: schema for schema in client.list_schemas()}


def _taken(move: Move, live: Mapping[str, Schema], *, plan: TakeoverPlan) -> TakenTable | None:
    """What to remember of a table; None if there is nothing to move any more."""
    schema = live.get(move.schema_id)
    if schema is None or not schema.should_sync or schema.sync_frequency in (None, OUT_OF_THE_WAY):
        return None
    return TakenTable(name=move.name, source_id=move.source_id, frequency=schema.sync_frequency, taken_at=plan.made_at)


def _wish(table: TakenTable, frequency: SyncFrequency) -> _Wish:
    return _Wish(name=table.name, source_id=table.source_id, frequency=frequency)


def _fulfil(client: PostHogWarehouseClient, wishes: Mapping[str, _Wish], *, done: Change) -> dict[str, Outcome]:
    """Set the frequencies, and read them back: an answer of 200 or 500 proves nothing."""
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
    updates = {
        key: SchemaUpdate(sync_frequency=wish.frequency) for key, wish in wishes.items() if wish.source_id == source_id
    }
    try:
        client.bulk_update_schemas(source_id, updates)
    except ApiError as error:
        return error.text
    return None


def _outcome(wish: _Wish, schema: Schema | None, *, done: Change, problem: str | None) -> Outcome:
    said = f"PostHog said: {problem}" if problem else "PostHog said yes."
    if schema is None:
        return Outcome(name=wish.name, change=Change.FAILED, detail=f"The table is gone. {said}")
    is_done = schema.sync_frequency is wish.frequency
    detail = f"PostHog's frequency is {schema.sync_frequency}{' now' if is_done else ''}. {said}"
    return Outcome(name=wish.name, change=done if is_done else Change.FAILED, detail=detail)


def _passed_over(move: Move, schema: Schema | None) -> Outcome:
    if schema is None:
        return Outcome(name=move.name, change=Change.GONE, detail="It was deleted since the plan was made.")
    detail = f"Since the plan was made, it was {_state(schema)}."
    return Outcome(name=move.name, change=Change.LEFT, detail=detail)


def _hidden(table: TakenTable) -> Outcome:
    detail = "PostHog shows records that cannot be read, and this may be one of them. Its frequency stays in the file."
    return Outcome(name=table.name, change=Change.FAILED, detail=detail)


def _released(table: TakenTable, schema: Schema | None) -> Outcome:
    before = f"before the takeover, its frequency was {table.frequency}"
    if schema is None:
        return Outcome(name=table.name, change=Change.GONE, detail=f"It was deleted; {before}.")
    if schema.sync_frequency is table.frequency:
        return Outcome(name=table.name, change=Change.GIVEN_BACK, detail="It was as before already.")
    detail = f"Somebody set its frequency to {schema.sync_frequency} since, which stays; {before}."
    return Outcome(name=table.name, change=Change.LEFT, detail=detail)


def _state(schema: Schema) -> str:
    return f"set to {schema.sync_frequency}" if schema.should_sync else "disabled"


def report_of_plan(plan: TakeoverPlan) -> Report:
    """What a takeover would change, and what it would not."""
    known = [move.rows_saved_per_day for move in plan.moves if move.rows_saved_per_day is not None]
    saved = f", which saves about {sum(known):,.0f} rows a day" if known else ""
    summary = (
        f"Nothing is changed yet. {counted(len(plan.moves), 'table')} would move out of the way{saved};"
        f" {len(plan.left)} would stay as they are."
    )
    moves: list[Row] = [
        {
            "table": move.name,
            "now": move.now.describe(),
            "then": move.then.describe(),
            "next_own_sync": move.next_tick,
            "rows_saved_per_day": None if move.rows_saved_per_day is None else round(move.rows_saved_per_day),
            "why": None,
        }
        for move in plan.moves
    ]
    unknown = dict.fromkeys(("then", "next_own_sync", "rows_saved_per_day"))
    stays: list[Row] = [
        {"table": name, "now": "stays as it is", **unknown, "why": why} for name, why in plan.left.items()
    ]
    columns = ("table", "now", "then", "next_own_sync", "rows_saved_per_day", "why")
    return Report(summary=summary, rows=[*moves, *stays], columns=columns)


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


def _why_left(table: Table, taken: TakeoverFile | None) -> str | None:
    frequency = table.schema.sync_frequency
    if table.schema_class is not SchemaClass.SYNCABLE:
        return why_not_synced(table.schema, table.schema_class)
    if frequency is not OUT_OF_THE_WAY:
        return _why_refused(table)
    if taken is None or not taken.holds(table.schema):
        return "PostHog syncs it every 30 days anyway."
    return f"It is out of the way already; before, PostHog's frequency was {taken.tables[table.id].frequency}."


def _why_refused(table: Table) -> str | None:
    """Why PostHog would refuse the longest frequency: a full refresh may not be due more often than the syncs."""
    days = table.schema.full_refresh_interval_days
    if days is None or timedelta(days=days) >= FREQUENCIES[OUT_OF_THE_WAY][0]:
        return None
    return (
        f"PostHog refuses a sync_frequency of {OUT_OF_THE_WAY} for it, because a full refresh is due every {days} days."
        " Set its full_refresh_interval_days to at least 30, or to 0 for never."
    )


def _move(table: Table, own: Cadence, *, now: datetime, rows: int | None) -> Move:
    schema = table.schema
    then = cadence(schema.model_copy(update={"sync_frequency": OUT_OF_THE_WAY})) or own
    saved_syncs = DAY / own.every - DAY / then.every
    return Move(
        schema_id=schema.id,
        source_id=table.source.id,
        name=table.name,
        now=own,
        then=then,
        next_tick=then.next_tick(now),
        rows_saved_per_day=None if rows is None else rows * saved_syncs,
    )


class TakeoverParams(SomeTablesParams):
    """What a takeover does."""

    action: Literal["plan", "apply", "give_back"] = Field(
        default="plan",
        description="`plan` changes nothing and shows what would change. `apply` moves PostHog's schedules out of"
        " the way."
        " `give_back` restores them.",
    )
    file: str | None = Field(
        default=None,
        description="The file that remembers the frequencies from before; by default the takeover file of the code"
        " location.",
    )


TAKEOVER = Operation(
    name="takeover",
    command="takeover",
    params=TakeoverParams,
    run=take_over,
    description="""Let Dagster alone decide when PostHog's tables are synced (`scheduling: drive`).

PostHog syncs every table by its own schedule, next to Dagster's, and bills the rows of both. A takeover moves PostHog's
schedules out of the way: it sets their frequency to 30 days, the longest there is, and remembers the frequencies from
before in a file. Tables stay enabled, and nothing else is changed. One sync a month that PostHog starts by itself
remains.
""",
)
