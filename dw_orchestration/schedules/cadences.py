"""Schedules that tick when PostHog does: one for all tables of a source that share a cadence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from dw_orchestration.assets.factory import DEFAULT_RESOURCE_KEY, StepPer, steps_of
from dw_orchestration.assets.keys import source_slug, unique_names
from dw_orchestration.assets.specs import SpecOf, TableAsset, asset_spec, table_assets
from dw_orchestration.posthog.cadence import Cadence
from dw_orchestration.resources.snapshot import WarehouseSnapshot
from dw_orchestration.schedules.mode import SchedulingMode
from dw_orchestration.sync.classify import SchemaClass

# PostHog's clock and ours may differ by seconds: a sync that seems to have begun just before the tick belongs to it
TICK_TOLERANCE = timedelta(seconds=30)


@dataclass(frozen=True)
class ScheduledTables:
    """The tables of one source that are due together."""

    name: str
    cadence: Cadence
    assets: tuple[TableAsset, ...]


def build_posthog_schedules(
    snapshot: WarehouseSnapshot,
    *,
    mode: SchedulingMode = SchedulingMode.ENSURE,
    spec_of: SpecOf = asset_spec,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    step_per: StepPer = "source",
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> list[dg.ScheduleDefinition]:
    """Schedules for the cadences that PostHog's `sync_frequency` and `sync_time_of_day` make.

    Args:
        snapshot: What the warehouse holds.
        mode: `ENSURE` takes the sync that PostHog began for the tick and starts one only if there is none; `DRIVE`
            starts one at each tick; `OBSERVE` gives no schedules.
        spec_of: As for `build_posthog_assets`.
        resource_key: As for `build_posthog_assets`.
        step_per: As for `build_posthog_assets`.
        default_status: Whether the schedules run before anybody switches them on.

    Raises:
        SetupError: `spec_of` gives two tables the same key.
    """
    if mode is SchedulingMode.OBSERVE:
        return []
    assets = table_assets(snapshot, spec_of=spec_of)
    ops = {
        asset.key: step.name
        for step in steps_of(assets, step_per=step_per, resource_key=resource_key)
        for asset in step.assets
    }
    return [_schedule(group, ops=ops, mode=mode, default_status=default_status) for group in scheduled_tables(assets)]


def scheduled_tables(assets: Sequence[TableAsset]) -> list[ScheduledTables]:
    """The syncable tables by source and cadence; the name comes from both, never from a table.

    A changed time of day is another cadence and so another schedule: Dagster then has no ticks to catch up with.
    """
    groups: dict[tuple[str, Cadence], list[TableAsset]] = {}
    for asset in assets:
        if asset.table.schema_class is SchemaClass.SYNCABLE and asset.table.cadence is not None:
            groups.setdefault((asset.table.source.id, asset.table.cadence), []).append(asset)
    names = unique_names(
        [f"{source_slug(group[0].table.source)}_{cadence.slug()}" for (_, cadence), group in groups.items()],
        [source_id for source_id, _ in groups],
    )
    return [
        ScheduledTables(name=name, cadence=cadence, assets=tuple(group))
        for name, ((_, cadence), group) in zip(names, groups.items(), strict=True)
    ]


def _schedule(
    group: ScheduledTables,
    *,
    ops: dict[dg.AssetKey, str],
    mode: SchedulingMode,
    default_status: dg.DefaultScheduleStatus,
) -> dg.ScheduleDefinition:
    keys = [asset.key for asset in group.assets]
    op_names = sorted({ops[key] for key in keys})

    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        due = context.scheduled_execution_time.astimezone(UTC)
        if group.cadence.previous_tick(due) != due:
            yield dg.SkipReason(f"PostHog's next tick is {group.cadence.next_tick(due):%Y-%m-%d %H:%M} UTC.")
            return
        yield dg.RunRequest(
            run_key=f"{group.name}:{due.isoformat()}",
            run_config=_run_config(op_names, due=due, mode=mode),
            tags={"posthog/tick": due.strftime("%Y-%m-%dT%H.%M")},
        )

    return dg.ScheduleDefinition(
        name=group.name,
        target=dg.AssetSelection.assets(*keys),
        cron_schedule=_cron(group.cadence),
        execution_timezone="UTC",
        execution_fn=tick,
        default_status=default_status,
        description=f"{len(keys)} tables that PostHog syncs {group.cadence.describe()}.",
    )


def _run_config(op_names: Sequence[str], *, due: datetime, mode: SchedulingMode) -> dg.RunConfig | dict[str, object]:
    if mode is SchedulingMode.DRIVE:
        return {}
    config = {"accept_jobs_since": (due - TICK_TOLERANCE).isoformat()}
    return {"ops": {name: {"config": config} for name in op_names}}


def _cron(cadence: Cadence) -> list[str]:
    """The cadence itself where cron can say it, else every day at its time: the tick then asks whether it is due."""
    if (exact := cadence.cron()) is not None:
        return exact
    minutes = int(cadence.offset.total_seconds() // 60)
    return [f"{minutes % 60} {minutes // 60 % 24} * * *"]
