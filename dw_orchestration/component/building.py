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
from dw_orchestration.operations.takeover_job import build_takeover_job
from dw_orchestration.schedules.schedules import build_posthog_schedules
from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor, build_state_age_check
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.sensors.terminated_runs import build_terminated_runs_sensor

if TYPE_CHECKING:
    from dw_orchestration.assets.spec import SpecOf
    from dw_orchestration.assets.tables import Table
    from dw_orchestration.component.warehouse_component import PostHogWarehouseComponent
    from dw_orchestration.tables.snapshot import WarehouseSnapshot


def table_definitions(component: PostHogWarehouseComponent, snapshot: WarehouseSnapshot) -> dg.Definitions:
    """The tables, and what starts, follows and reports their syncs."""
    spec_of, defaults = _remembering(component), PostHogSyncConfig(**component.sync)
    assets = build_posthog_assets(
        snapshot,
        spec_of=spec_of,
        resource_key=component.name,
        step_per=component.step_per,
        retry_policy=component.retry_policy,
        pool=component.pool,
        op_tags=component.op_tags,
        sync_defaults=defaults,
        checks=component.checks,
        execute=component.execute,
    )
    jobs = build_maintenance_jobs(
        snapshot, resource_key=component.name, spec_of=spec_of, checks=component.checks, sync_defaults=defaults
    )
    return dg.Definitions(
        assets=assets,
        schedules=_schedules(component, snapshot, spec_of),
        jobs=[*jobs, *_takeover_jobs(component, snapshot, spec_of)],
        sensors=_sensors(component, snapshot, spec_of),
        resources={component.name: component.warehouse},
    )


def history_definitions(
    component: PostHogWarehouseComponent, snapshot: WarehouseSnapshot, whole: WarehouseSnapshot
) -> dg.Definitions:
    """Every sync kept, and what tells when the state is out of date.

    Args:
        component: The component, with its `history_file`.
        snapshot: The state as its definitions are built from.
        whole: The state with all of its tables.
    """
    key, history_key = component.name, f"{component.name}_sync_history"
    # a table that has been switched off was synced, and billed, before
    ever_on = component.selection.model_copy(update={"include_off": True}).of(whole)
    max_age = timedelta(days=component.max_state_age_days)
    return dg.Definitions(
        assets=[build_sync_history(ever_on, resource_key=key, history_resource_key=history_key)],
        asset_checks=[
            build_drift_check(snapshot, resource_key=key, view=component.view),
            build_state_age_check(snapshot, resource_key=key, max_age=max_age),
        ],
        schedules=[build_sync_history_schedule(resource_key=key)],
        sensors=[build_drift_sensor(snapshot, resource_key=key, view=component.view, max_age=max_age)],
        resources={history_key: DuckDBResource(database=str(component.history_file))},
    )


def _schedules(
    component: PostHogWarehouseComponent, snapshot: WarehouseSnapshot, spec_of: SpecOf
) -> list[dg.ScheduleDefinition]:
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    return build_posthog_schedules(
        snapshot,
        mode=component.scheduling,
        spec_of=spec_of,
        resource_key=component.name,
        step_per=component.step_per,
        overrides=component.overrides,
        default_status=running if component.schedules_running else stopped,
    )


def _takeover_jobs(
    component: PostHogWarehouseComponent, snapshot: WarehouseSnapshot, spec_of: SpecOf
) -> list[dg.JobDefinition]:
    path = component.takeover_file
    if path is None:
        return []
    return [build_takeover_job(snapshot, takeover_path=path, resource_key=component.name, spec_of=spec_of)]


def _sensors(
    component: PostHogWarehouseComponent, snapshot: WarehouseSnapshot, spec_of: SpecOf
) -> list[dg.SensorDefinition]:
    return [
        build_job_status_sensor(
            snapshot,
            spec_of=spec_of,
            resource_key=component.name,
            auto_heal=component.auto_heal,
            checks=component.checks,
            date_events_back=component.date_events_back,
        ),
        build_terminated_runs_sensor(snapshot, spec_of=spec_of, resource_key=component.name),
    ]


def _remembering(component: PostHogWarehouseComponent) -> SpecOf:
    """`get_asset_spec`, asked once for each table: assets, schedules, sensors and jobs all want to know."""
    known: dict[str, dg.AssetSpec] = {}

    def spec_of(table: Table) -> dg.AssetSpec:
        if table.schema.id not in known:
            known[table.schema.id] = component.get_asset_spec(table)
        return known[table.schema.id]

    return spec_of
