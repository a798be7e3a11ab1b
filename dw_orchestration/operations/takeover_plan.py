"""What a takeover would change, before it changes anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dw_orchestration.assets.spec import SpecOf, TableAsset, asset_spec, table_assets
from dw_orchestration.operations.takeover_file import OUT_OF_THE_WAY, TakeoverFile
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.jobs import newest_job_per_table
from dw_orchestration.posthog.models import Job
from dw_orchestration.schedules.overrides import selected, table_name
from dw_orchestration.tables.cadence import DAY, Cadence, cadence
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.snapshot import WarehouseSnapshot


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
        rows_saved_per_day: What PostHog's own syncs would bring, and bill, less; None if nobody knows what one brings.
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


def plan_takeover(
    snapshot: WarehouseSnapshot,
    *,
    now: datetime,
    tables: Sequence[str] = (),
    taken: TakeoverFile | None = None,
    rows_per_sync: Mapping[str, int] | None = None,
    spec_of: SpecOf = asset_spec,
) -> TakeoverPlan:
    """What a takeover would change; asks nobody and changes nothing.

    Args:
        snapshot: What the warehouse holds.
        now: From when on to look for PostHog's next tick.
        tables: Patterns as in `ScheduleOverride.tables`; none means all tables.
        taken: What was taken over before.
        rows_per_sync: How many rows a sync brings, by schema id, where known.
        spec_of: As for `build_posthog_assets`, for patterns of asset keys.

    Raises:
        SetupError: A pattern names no table, or `spec_of` gives two tables the same key.
    """
    chosen = selected(table_assets(snapshot, spec_of=spec_of), tables)
    rows = rows_per_sync or {}
    moves, left = [], {}
    for asset in chosen:
        own, why = asset.table.cadence, _why_left(asset, taken)
        if own is None or why is not None:
            left[table_name(asset.table)] = why or "Dagster cannot tick by its frequency in PostHog."
        else:
            moves.append(_move(asset, own, now=now, rows=rows.get(asset.table.schema.id)))
    return TakeoverPlan(made_at=now, moves=tuple(moves), left=left)


def newest_rows_per_sync(client: PostHogWarehouseClient, snapshot: WarehouseSnapshot) -> dict[str, int]:
    """How many rows the last completed sync of each table brought, by schema id; one request per source.

    Raises:
        PostHogError: PostHog cannot be asked.
    """
    rows: dict[str, int] = {}
    for source in snapshot.sources:
        newest = newest_job_per_table(client, source.id, where=_has_counted_rows)
        rows |= {schema_id: job.rows_synced or 0 for schema_id, job in newest.items()}
    return rows


def _has_counted_rows(job: Job) -> bool:
    return job.status is JobStatus.COMPLETED and job.rows_synced is not None


def _why_left(asset: TableAsset, taken: TakeoverFile | None) -> str | None:
    table, frequency = asset.table, asset.table.schema.sync_frequency
    if table.schema_class is not SchemaClass.SYNCABLE:
        return table.schema_class.reason
    if frequency is not OUT_OF_THE_WAY:
        return None
    if taken is None or not taken.holds(table.schema):
        return "PostHog syncs it every 30 days anyway."
    return f"It is out of the way already; before, PostHog's frequency was {taken.tables[table.schema.id].frequency}."


def _move(asset: TableAsset, own: Cadence, *, now: datetime, rows: int | None) -> Move:
    schema = asset.table.schema
    then = cadence(schema.model_copy(update={"sync_frequency": OUT_OF_THE_WAY})) or own
    saved_syncs = DAY / own.every - DAY / then.every
    return Move(
        schema_id=schema.id,
        source_id=asset.table.source.id,
        name=table_name(asset.table),
        now=own,
        then=then,
        next_tick=then.next_tick(now),
        rows_saved_per_day=None if rows is None else rows * saved_syncs,
    )
