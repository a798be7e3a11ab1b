"""Reports when the definitions differ from the warehouse: with a sensor, and with checks on request."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import dagster as dg

from dw_orchestration.assets.build import DEFAULT_RESOURCE_KEY
from dw_orchestration.assets.checks import Verdict
from dw_orchestration.history.asset import sync_history_key
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.drift import drift_between
from dw_orchestration.tables.errors import SetupError, SnapshotError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

STATE_IS_CURRENT = "state_is_current"
STATE_IS_FRESH = "state_is_fresh"
DEFAULT_MAX_AGE = timedelta(days=1)

View = Callable[[WarehouseSnapshot], WarehouseSnapshot]

_CURE = "Refresh the state with `dg utils refresh-defs-state`; in development, reload the code location."


def build_drift_sensor(
    snapshot: WarehouseSnapshot,
    *,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    view: View = lambda live: live,
    max_age: timedelta | None = None,
    name: str | None = None,
    interval: timedelta = timedelta(hours=1),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor that compares the state with the warehouse, and evaluates the check `state_is_current`.

    It evaluates only when its answer is another than at its last tick, so that the event log stays short.

    Args:
        snapshot: The state that the definitions are built from.
        resource_key: As for `build_posthog_assets`.
        view: What was done to the state before definitions were built from it, such as `TableSelection(...).of`. It is
            done to what the warehouse holds now before the two are compared.
        max_age: As for `build_state_age_check`, which is evaluated too; without it, it is not.
        name: The sensor's name; by default made of the resource's key.
        interval: Time between two ticks, at least.
        default_status: Whether the sensor runs before anybody switches it on. It changes nothing in PostHog.
        now: The time of day.
    """

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        current = _current(snapshot, getattr(context.resources, resource_key), view, resource_key=resource_key)
        verdicts = [current]
        if max_age is not None:
            verdicts.append(_fresh(snapshot, resource_key=resource_key, max_age=max_age, now=now()))
        # an older cursor, or one that somebody wrote, costs no more than one evaluation
        told = (context.cursor or "").split()
        answers = [_answer(verdict) for verdict in verdicts]
        news = [verdict for verdict, answer in zip(verdicts, answers, strict=True) if answer not in told]
        return dg.SensorResult(
            asset_events=[verdict.to_evaluation() for verdict in news],
            cursor=" ".join(answers),
            skip_reason=current.description,
        )

    return dg.SensorDefinition(
        name=name or f"{resource_key}_drift",
        evaluation_fn=tick,
        required_resource_keys={resource_key},
        minimum_interval_seconds=int(interval.total_seconds()),
        default_status=default_status,
        description="Warns when tables were added, removed, switched or set differently since the state was fetched.",
    )


def build_drift_check(
    snapshot: WarehouseSnapshot,
    *,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    view: View = lambda live: live,
) -> dg.AssetChecksDefinition:
    """The check `state_is_current` of the sync history, which the drift sensor evaluates too.

    Args:
        snapshot: The state that the definitions are built from.
        resource_key: As for `build_sync_history`.
        view: As for `build_drift_sensor`.
    """

    @dg.asset_check(
        asset=sync_history_key(resource_key),
        name=STATE_IS_CURRENT,
        required_resource_keys={resource_key},
        description="The assets are those of the tables that PostHog has now, with the settings that they have now.",
    )
    def state_is_current(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        warehouse = getattr(context.resources, resource_key)
        return _current(snapshot, warehouse, view, resource_key=resource_key).to_result()

    return state_is_current


def build_state_age_check(
    snapshot: WarehouseSnapshot,
    *,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    max_age: timedelta = DEFAULT_MAX_AGE,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.AssetChecksDefinition:
    """The check `state_is_fresh` of the sync history: it asks nobody, so that it answers when PostHog does not.

    Args:
        snapshot: The state that the definitions are built from.
        resource_key: As for `build_sync_history`.
        max_age: From which age on it fails. It also fails when the last refresh failed, however new the state is.
        now: The time of day.
    """

    @dg.asset_check(
        asset=sync_history_key(resource_key),
        name=STATE_IS_FRESH,
        description="The state was refreshed lately, and the last refresh did not fail.",
    )
    def state_is_fresh() -> dg.AssetCheckResult:
        return _fresh(snapshot, resource_key=resource_key, max_age=max_age, now=now()).to_result()

    return state_is_fresh


def _current(state: WarehouseSnapshot, warehouse: WarehouseResource, view: View, *, resource_key: str) -> Verdict:
    try:
        with warehouse.connect() as client:
            # without what a refresh asks beyond this: durations are no drift
            live = WarehouseSnapshot.take(client, host=warehouse.name, project_id=client.project_id)
        drift = drift_between(state, view(live))
    except (PostHogError, SetupError, SnapshotError) as error:
        return _warning(STATE_IS_CURRENT, f"Nobody knows whether it is: {error}", resource_key=resource_key)
    return _warning(
        STATE_IS_CURRENT,
        drift.summary() if drift.is_empty else f"{drift.summary()} {_CURE}",
        resource_key=resource_key,
        passed=drift.is_empty,
        metadata={
            "changes": len(drift.changes),
            "tables": len(state.schemas),
            "tables_left_out": len(state.left_out_ids),
            "drift": dg.MetadataValue.md(drift.describe()),
            # the list is cut short; this tells two long ones apart
            "digest": drift.digest,
        },
    )


def _fresh(state: WarehouseSnapshot, *, resource_key: str, max_age: timedelta, now: datetime) -> Verdict:
    fetched = f"The state was fetched at {state.taken_at:%Y-%m-%d %H:%M} UTC."
    why = f"The last refresh failed: {state.problem}" if state.problem else ""
    if not why and now - state.taken_at > max_age:
        why = f"It is older than {max_age / timedelta(days=1):g} days. {_CURE}"
    return _warning(STATE_IS_FRESH, f"{fetched} {why}".strip(), resource_key=resource_key, passed=not why)


def _warning(
    check_name: str,
    description: str,
    *,
    resource_key: str,
    passed: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Verdict:
    """A verdict that, if it is bad, warns: nothing has failed, and the known tables are synced all the same."""
    return Verdict(
        key=sync_history_key(resource_key),
        check_name=check_name,
        passed=passed,
        description=description,
        metadata=metadata or {},
        severity=dg.AssetCheckSeverity.WARN,
    )


def _answer(verdict: Verdict) -> str:
    """In one word: the same for the same verdict with the same reasons, another for any other."""
    return blake2b(repr(verdict).encode(), digest_size=16).hexdigest()
