"""Reports when the definitions differ from the warehouse: with a sensor, and with checks on request."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import dagster as dg

from dw_orchestration.assets.checks import CheckOutcome
from dw_orchestration.assets.spec import sync_history_key
from dw_orchestration.posthog.errors import BudgetSpentError, PostHogError
from dw_orchestration.resources.failure import errors_as_failure
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.drift import drift_between, tables_to_come
from dw_orchestration.tables.errors import SetupError, SnapshotError
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import in_markdown

STATE_IS_CURRENT = "state_is_current"
STATE_IS_FRESH = "state_is_fresh"
DEFAULT_MAX_AGE = timedelta(days=1)
# a tick waits for nothing after this time, because Dagster ends it after a minute
TICK_BUDGET_S = 20.0

_CURE = "Refresh the state with `dg utils refresh-defs-state`; in development, reload the code location."


def build_drift_sensor(
    tables: Tables,
    *,
    max_age: timedelta | None = None,
    name: str | None = None,
    interval: timedelta = timedelta(hours=1),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor that compares the state with the warehouse, and evaluates the check `state_is_current`.

    It evaluates only when its answer is another than at its last tick, so that the event log stays short.

    Args:
        tables: The tables that the definitions are built from.
        max_age: As for `build_state_age_check`, which is evaluated too; without it, it is not.
        name: The sensor's name; by default made of the resource's key.
        interval: Time between two ticks, at least.
        default_status: Whether the sensor runs before anybody switches it on. It changes nothing in PostHog.
        now: The time of day.
    """

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            current = _current(tables, getattr(context.resources, tables.resource_key), finish_within_s=TICK_BUDGET_S)
        except BudgetSpentError as error:
            return dg.SkipReason(f"The state is not compared before the next tick: {error}")
        outcomes = [current]
        if max_age is not None:
            outcomes.append(_fresh(tables, max_age=max_age, now=now()))
        # an older cursor, or one that somebody wrote, costs no more than one evaluation
        told = (context.cursor or "").split()
        answers = [_answer(outcome) for outcome in outcomes]
        news = [outcome for outcome, answer in zip(outcomes, answers, strict=True) if answer not in told]
        return dg.SensorResult(
            asset_events=[outcome.to_evaluation() for outcome in news],
            cursor=" ".join(answers),
            skip_reason=current.description,
        )

    return dg.SensorDefinition(
        name=name or f"{tables.resource_key}_drift",
        evaluation_fn=tick,
        required_resource_keys={tables.resource_key},
        minimum_interval_seconds=int(interval.total_seconds()),
        default_status=default_status,
        description="Warns when tables were added, removed, switched or set differently since the state was fetched.",
    )


def build_drift_check(
    tables: Tables,
) -> dg.AssetChecksDefinition:
    """The check `state_is_current` of the sync history, which the drift sensor evaluates too.

    Args:
        tables: The tables that the definitions are built from.
    """

    @dg.asset_check(
        asset=sync_history_key(tables.resource_key),
        name=STATE_IS_CURRENT,
        required_resource_keys={tables.resource_key},
        description="The assets are those of the tables that PostHog has now, with the settings that they have now.",
    )
    def state_is_current(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with errors_as_failure(context):
            return _current(tables, getattr(context.resources, tables.resource_key)).to_result()

    return state_is_current


def build_state_age_check(
    tables: Tables,
    *,
    max_age: timedelta = DEFAULT_MAX_AGE,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.AssetChecksDefinition:
    """The check `state_is_fresh` of the sync history: it asks nobody, so that it answers when PostHog does not.

    Args:
        tables: The tables that the definitions are built from.
        max_age: From which age on it fails. It also fails when the last refresh failed, however new the state is.
        now: The time of day.
    """

    @dg.asset_check(
        asset=sync_history_key(tables.resource_key),
        name=STATE_IS_FRESH,
        description="The state was refreshed lately, and the last refresh did not fail.",
    )
    def state_is_fresh() -> dg.AssetCheckResult:
        return _fresh(tables, max_age=max_age, now=now()).to_result()

    return state_is_fresh


def _current(tables: Tables, warehouse: WarehouseResource, *, finish_within_s: float | None = None) -> CheckOutcome:
    try:
        with warehouse.connect(finish_within_s=finish_within_s) as client:
            # without what a refresh asks beyond this: durations are no drift
            live = WarehouseSnapshot.take(
                client, host=warehouse.name, project_id=client.project_id, previous=tables.snapshot
            )
        drift = drift_between(tables, tables.of(live))
    except BudgetSpentError:
        raise
    except (PostHogError, SetupError, SnapshotError) as error:
        return _warning(tables, STATE_IS_CURRENT, f"Unknown, because the check failed: {in_markdown(error.text)}")
    summary = drift.summary() if drift.is_empty else f"{drift.summary()} {_CURE}"
    return _warning(
        tables,
        STATE_IS_CURRENT,
        f"{summary} {tables_to_come(live.sources)}".strip(),
        passed=drift.is_empty,
        metadata={
            "changes": len(drift.changes),
            "tables": len(tables),
            "tables_left_out": len(tables.left_out_ids),
            "drift": dg.MetadataValue.md(drift.describe()),
            # the list is cut short; this distinguishes two long lists
            "digest": drift.digest,
        },
    )


def _fresh(tables: Tables, *, max_age: timedelta, now: datetime) -> CheckOutcome:
    state = tables.snapshot
    fetched = f"The state was fetched at {state.taken_at:%Y-%m-%d %H:%M} UTC."
    why = f"The last refresh failed: {in_markdown(state.problem)}" if state.problem else ""
    if not why and now - state.taken_at > max_age:
        why = f"It is older than {max_age / timedelta(days=1):g} days. {_CURE}"
    return _warning(tables, STATE_IS_FRESH, f"{fetched} {why}".strip(), passed=not why)


def _warning(
    tables: Tables,
    check_name: str,
    description: str,
    *,
    passed: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> CheckOutcome:
    """An outcome that warns if it is bad: nothing has failed, and the known tables are still synced."""
    return CheckOutcome(
        key=sync_history_key(tables.resource_key),
        check_name=check_name,
        passed=passed,
        description=description,
        metadata=metadata or {},
        severity=dg.AssetCheckSeverity.WARN,
    )


def _answer(outcome: CheckOutcome) -> str:
    """In one word: the same for the same outcome with the same reasons, another for any other."""
    return blake2b(repr(outcome).encode(), digest_size=16).hexdigest()
