"""All tables of a source, with their schedules, sensors and jobs, in one call."""

import dagster as dg

from dw_orchestration import PostHogWarehouseResource, build_posthog_definitions

WAREHOUSE = PostHogWarehouseResource(
    host=dg.EnvVar("POSTHOG_HOST"),
    project_id=dg.EnvVar("POSTHOG_PROJECT_ID"),
    api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"),
)
defs = build_posthog_definitions(WAREHOUSE, select=["stripe_acme.*"])
