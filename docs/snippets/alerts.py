"""Alerts for failed syncs: of runs, and of syncs that PostHog started."""

import dagster as dg

from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.resources.warehouse import WarehouseResource

IMPORTANT = [dg.AssetKey(["posthog", "stripe", "acme", table]) for table in ("charge", "customer")]

# region condition
A_CHECK_HAS_FAILED = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed()).newly_true()
)
# endregion


def notify(text: str) -> None:
    """Send the text to your team. Replace this with a call to your chat or mail."""
    dg.get_dagster_logger().warning(text)


# region checks
@dg.asset(deps=IMPORTANT, automation_condition=A_CHECK_HAS_FAILED)
def alert_of_tables(posthog_warehouse: dg.ResourceParam[WarehouseResource]) -> None:
    """Reports which tables PostHog could not sync, and why. Requested once for each check that fails."""
    with posthog_warehouse.client() as client:
        failed = [schema for schema in client.list_schemas() if schema.status is SyncStatus.FAILED]
    for schema in failed:
        notify(f"{schema.name}: {schema.latest_error}")
    if not failed:
        notify("The last syncs completed, but a check failed: open the checks of the important tables.")


# endregion
# region runs
@dg.run_failure_sensor(default_status=dg.DefaultSensorStatus.RUNNING)
def alert_of_runs(context: dg.RunFailureSensorContext) -> None:
    """Reports each failed run, with the reason for each failed table."""
    for event in context.get_step_failure_events():
        failure = event.step_failure_data.user_failure_data
        notify(f"{event.step_key}: {failure.description if failure else event.message}")


# endregion
defs = dg.Definitions(assets=[alert_of_tables], sensors=[alert_of_runs])
