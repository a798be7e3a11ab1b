"""A local instance that refuses what Dagster+ refuses to user code."""

from collections.abc import Callable, Mapping
from copy import copy
from typing import NoReturn

import dagster as dg

# The methods of dagster_cloud 1.13.27's GraphQL storages that only raise, "Not callable from user cloud" most of them:
# dagster_cloud/storage/event_logs/storage.py, storage/schedules/storage.py and storage/runs/storage.py.
# `handle_run_event` is missing here: a local instance calls it itself as it stores an event, which Dagster+ does on its
# own side.
REFUSED: Mapping[str, tuple[str, ...]] = {
    "event_log_storage": (
        "watch",
        "end_watch",
        "get_freshness_state_records",
        "update_asset_cached_status_data",
        "get_concurrency_run_ids",
        "get_asset_check_execution_history",
        "get_asset_check_partition_info",
    ),
    "schedule_storage": (
        "wipe",
        "delete_instigator_state",
        "get_tick",
        "get_ticks_by_ids",
        "get_tick_summaries",
        "purge_ticks",
        "add_auto_materialize_asset_evaluations",
        "get_auto_materialize_asset_evaluations",
        "get_auto_materialize_evaluations_for_evaluation_id",
        "purge_asset_evaluations",
        "upgrade",
    ),
    "run_storage": ("build_missing_indexes", "delete_run", "wipe_daemon_heartbeats", "wipe", "get_backfills_count"),
}


def refuse_as_dagster_plus(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """Make the instance's storages refuse what those of Dagster+ refuse."""
    for attribute, names in REFUSED.items():
        storage = getattr(instance, attribute)
        if storage is None:
            continue
        # what Dagster+ answers itself is made of refused methods here
        own = copy(storage)
        for name in names:
            setattr(storage, name, _refusal(type(storage).__name__, name))
        if attribute == "event_log_storage":
            storage.get_asset_check_summary_records = own.get_asset_check_summary_records
    return instance


def _refusal(storage: str, name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_more: object) -> NoReturn:
        raise NotImplementedError(f"Not callable from user cloud: {storage}.{name}")

    return refuse
