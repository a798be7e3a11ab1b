"""Moving PostHog's own schedule out of the way, so that Dagster alone drives; and giving it back.

Tables stay switched on, at PostHog's longest frequency: PostHog ends the long syncs of tables that are off. Nothing but
the frequency is changed. The time of day stays, so that the one sync a month that PostHog goes on starting falls on a
tick of the table's own cadence, where that tick's run takes it as its own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dw_orchestration.operations.takeover_file import OUT_OF_THE_WAY, TakenTable, TakeoverStore
from dw_orchestration.operations.takeover_plan import Move, TakeoverPlan
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.errors import ApiError
from dw_orchestration.posthog.models import Schema, SchemaUpdate


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
        failed = {key for key, outcome in outcomes.items() if outcome.change is Change.FAILED}
        store.write(file.without(chosen.keys() - failed))
    released = [_released(table, live.get(key)) for key, table in chosen.items() if key not in wishes]
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
        return str(error)
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
