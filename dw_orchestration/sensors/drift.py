"""Telling when the definitions no longer say what the warehouse holds: by a sensor, and by a check on request."""

from datetime import timedelta

import dagster as dg

from dw_orchestration.assets.checks import Verdict
from dw_orchestration.assets.factory import DEFAULT_RESOURCE_KEY
from dw_orchestration.assets.history import sync_history_key
from dw_orchestration.resources.drift import Drift, drift_between
from dw_orchestration.resources.snapshot import WarehouseSnapshot
from dw_orchestration.resources.warehouse import WarehouseResource

STATE_IS_CURRENT = "state_is_current"

_CURE = "Refresh the state with `dg utils refresh-defs-state`; in development, reload the code location."


def build_drift_sensor(
    snapshot: WarehouseSnapshot,
    *,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    name: str | None = None,
    interval: timedelta = timedelta(hours=1),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that compares the state with the warehouse, and evaluates the check `state_is_current`.

    It evaluates only when its answer is another than at its last tick, so that the event log stays short.

    Args:
        snapshot: The state that the definitions are built from.
        resource_key: As for `build_posthog_assets`.
        name: The sensor's name; by default made of the resource's key.
        interval: Time between two ticks, at least.
        default_status: Whether the sensor runs before anybody switches it on. It changes nothing in PostHog.
    """

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        drift = _drift(snapshot, getattr(context.resources, resource_key))
        # an older cursor, or one that somebody wrote, costs no more than one evaluation
        is_news = drift.digest != context.cursor
        events = [_verdict(drift, resource_key=resource_key).to_evaluation()] if is_news else []
        return dg.SensorResult(asset_events=events, cursor=drift.digest, skip_reason=drift.summary())

    return dg.SensorDefinition(
        name=name or f"{resource_key}_drift",
        evaluation_fn=tick,
        required_resource_keys={resource_key},
        minimum_interval_seconds=int(interval.total_seconds()),
        default_status=default_status,
        description="Warns when tables were added, removed, switched or set differently since the state was fetched.",
    )


def build_drift_check(
    snapshot: WarehouseSnapshot, *, resource_key: str = DEFAULT_RESOURCE_KEY
) -> dg.AssetChecksDefinition:
    """The check `state_is_current` of the sync history, which the drift sensor evaluates too.

    Args:
        snapshot: The state that the definitions are built from.
        resource_key: As for `build_sync_history`.
    """

    @dg.asset_check(
        asset=sync_history_key(resource_key),
        name=STATE_IS_CURRENT,
        required_resource_keys={resource_key},
        description="The assets are those of the tables that PostHog has now, with the settings that they have now.",
    )
    def state_is_current(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        drift = _drift(snapshot, getattr(context.resources, resource_key))
        return _verdict(drift, resource_key=resource_key).to_result()

    return state_is_current


def _drift(state: WarehouseSnapshot, warehouse: WarehouseResource) -> Drift:
    return drift_between(state, warehouse.take_snapshot())


def _verdict(drift: Drift, *, resource_key: str) -> Verdict:
    return Verdict(
        key=sync_history_key(resource_key),
        check_name=STATE_IS_CURRENT,
        passed=drift.is_empty,
        description=drift.summary() if drift.is_empty else f"{drift.summary()} {_CURE}",
        metadata={"changes": len(drift.changes), "drift": dg.MetadataValue.md(drift.describe())},
        # nothing has failed: the tables that are known are synced all the same
        severity=dg.AssetCheckSeverity.WARN,
    )
