"""What a component makes of a snapshot: the tables with all that goes with them, and their history."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster_duckdb import DuckDBResource

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.history.asset import build_sync_history, build_sync_history_schedule
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.schedules.schedules import build_posthog_schedules
from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor, build_state_age_check
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.sensors.terminated_runs import build_terminated_runs_sensor

if TYPE_CHECKING:
    from dw_orchestration.component.warehouse_component import PostHogWarehouseComponent
    from dw_orchestration.tables.tables import Tables


def table_definitions(component: PostHogWarehouseComponent, tables: Tables) -> dg.Definitions:
    """The tables, and what starts, follows and reports their syncs."""
    defaults = PostHogSyncConfig(**component.sync)
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    return dg.Definitions(
        assets=build_posthog_assets(
            tables,
            retry_policy=component.retry_policy,
            pool=component.pool,
            op_tags=component.op_tags,
            sync_defaults=defaults,
            execute=component.execute,
        ),
        schedules=build_posthog_schedules(
            tables,
            mode=component.scheduling,
            overrides=component.overrides,
            default_status=running if component.schedules_running else stopped,
        ),
        jobs=build_maintenance_jobs(tables, sync_defaults=defaults, takeover_file=component.takeover_file),
        sensors=[
            build_job_status_sensor(tables, auto_heal=component.auto_heal),
            build_terminated_runs_sensor(tables),
        ],
        resources={tables.resource_key: component.warehouse},
    )


def history_definitions(component: PostHogWarehouseComponent, tables: Tables, ever_enabled: Tables) -> dg.Definitions:
    """The sync history, and what reports that the state is out of date.

    Args:
        component: The component, with its `history_file`.
        tables: The tables that the definitions are built from.
        ever_enabled: The same with the disabled ones: a disabled table may have been synced, and billed, before.
    """
    history_key = f"{tables.resource_key}_sync_history"
    max_age = timedelta(days=component.max_state_age_days)
    return dg.Definitions(
        assets=[build_sync_history(ever_enabled, history_resource_key=history_key)],
        asset_checks=[build_drift_check(tables), build_state_age_check(tables, max_age=max_age)],
        schedules=[build_sync_history_schedule(resource_key=tables.resource_key)],
        sensors=[build_drift_sensor(tables, max_age=max_age)],
        resources={history_key: DuckDBResource(database=str(component.history_file))},
    )
