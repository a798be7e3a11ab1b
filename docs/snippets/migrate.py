"""An op that starts a sync by hand, and the job that replaces it."""

import os

import dagster as dg
import httpx


# region before
@dg.op
def reload_charges() -> None:
    """Starts a sync of one table."""
    project = f"{os.environ['POSTHOG_HOST']}/api/projects/{os.environ['POSTHOG_PROJECT_ID']}"
    httpx.post(
        f"{project}/external_data_schemas/{os.environ['CHARGE_ID']}/reload/",
        headers={"Authorization": f"Bearer {os.environ['POSTHOG_PERSONAL_API_KEY']}"},
    ).raise_for_status()


# endregion
# region after
charges_job = dg.define_asset_job("charges", dg.AssetSelection.assets(["posthog", "stripe", "acme", "charge"]))
charges_at_seven = dg.ScheduleDefinition(job=charges_job, cron_schedule="0 7 * * *", execution_timezone="Europe/Berlin")
# endregion
