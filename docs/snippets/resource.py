"""The resource in Python. The key is read from the environment when it is used."""

import dagster as dg

from dw_orchestration import PostHogWarehouseResource

WAREHOUSE = PostHogWarehouseResource(
    host=dg.EnvVar("POSTHOG_HOST"),
    project_id=dg.EnvVar("POSTHOG_PROJECT_ID"),
    api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"),
)
