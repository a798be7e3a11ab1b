"""Resync deletes what was synced and bills it again, so it takes a person who names the tables."""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.models import Schema
from dw_orchestration.resources.failure import plain_failure
from dw_orchestration.tables.errors import UnknownNameError
from dw_orchestration.tables.selection import NameIndex, table_tiers
from dw_orchestration.tables.table import Table, by_source
from dw_orchestration.text import visible, visible_lines

# the tags by which Dagster says that nobody pressed a button for a run
UNATTENDED_TAGS = (
    "dagster/schedule_name",
    "dagster/sensor_name",
    "dagster/from_automation_condition",
    "dagster/auto_materialize",
)
_RETRY_TAGS = ("dagster/retry_number", "dagster/auto_retry_run_id")


def check_resync(context: dg.AssetExecutionContext, config: PostHogSyncConfig, tables: Sequence[Table]) -> None:
    """Let a resync pass only if a person asked for it by the tables' names.

    Raises:
        dagster.Failure: The resync is refused; nothing was sent to PostHog.
    """
    if config.sync_mode == "resync":
        _refuse_unattended(context)
        _refuse_unconfirmed(config.confirm_resync, tables)
    elif config.confirm_resync:
        raise _refusal(
            "`confirm_resync` is set, but `sync_mode` is `reload`. Set `sync_mode: resync`, or leave it out."
        )


def check_repeated_resync(context: dg.AssetExecutionContext, config: PostHogSyncConfig, names: Iterable[str]) -> None:
    """Let a retry or a re-execution take up the resync that an earlier try began, and never begin another one.

    Args:
        context: The step's.
        config: The run's; a re-execution has the confirmation of the run that it repeats.
        names: The tables of which no earlier try has a sync to take up.

    Raises:
        dagster.Failure: The resync is refused; nothing was sent to PostHog.
    """
    is_repeated = context.retry_number > 0 or context.run.parent_run_id is not None
    if config.sync_mode == "resync" and is_repeated and (tables := ", ".join(sorted(names))):
        raise _refusal(
            f"A retry or re-execution does not resync again, and no resync of {tables} is there to be taken up. See in"
            " PostHog whether one has begun; if it has not, launch a new run."
        )


def losses(api: WarehouseApi, tables: Iterable[Table]) -> Iterator[str]:
    """What a resync of the tables drops, a line for each; one request per source.

    Raises:
        PostHogError: The tables cannot be read: then nothing should be dropped either.
    """
    for source_id, group in by_source(list(tables)).items():
        records = {schema.id: schema for schema in api.get_source(source_id).schemas}
        yield from (_loss(table.name, records.get(table.schema.id)) for table in group)


def _loss(name: str, record: Schema | None) -> str:
    if record is None or record.table is None:
        return f"{visible(name)}: the resync drops nothing, PostHog has no table of it yet"
    rows = "an unknown number of" if record.table.row_count is None else f"{record.table.row_count:,}"
    synced = f"{record.last_synced_at:%Y-%m-%d %H:%M:%S} UTC" if record.last_synced_at else "an unknown time"
    return f"{visible(name)}: the resync drops {rows} rows, last synced at {synced}, and PostHog bills the new ones"


def _refuse_unattended(context: dg.AssetExecutionContext) -> None:
    tags = context.run.tags
    if found := [tag for tag in (*UNATTENDED_TAGS, *_RETRY_TAGS) if tag in tags]:
        raise _refusal(
            f"A resync deletes data and is billed, so it is not done in a run tagged {found[0]}. Launch it by hand."
        )


def _refuse_unconfirmed(confirmed: Sequence[str], tables: Sequence[Table]) -> None:
    names = sorted(table.name for table in tables)
    index = NameIndex("table", tables, table_tiers)
    try:
        named = {index.one(name).name for name in confirmed}
    except UnknownNameError as error:
        raise _refusal(f"`confirm_resync` has to name the selected tables: {', '.join(names)}. {error}") from None
    if missing := [name for name in names if name not in named]:
        raise _refusal(
            f"A resync deletes and bills again every row of {', '.join(missing)}. If that is what you want, name the"
            f" tables in the run's config: `confirm_resync: [{', '.join(names)}]`."
        )


def _refusal(text: str) -> dg.Failure:
    return plain_failure(visible_lines(text))
