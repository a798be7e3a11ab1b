"""The client without Dagster: which tables are disabled, and why."""

import os

from dw_orchestration import PostHogWarehouseClient, errors

with PostHogWarehouseClient(
    os.environ["POSTHOG_HOST"], os.environ["POSTHOG_PROJECT_ID"], os.environ["POSTHOG_PERSONAL_API_KEY"]
) as client:
    try:
        for schema in client.list_schemas():
            if not schema.should_sync:
                print(f"{schema.name} is disabled. Last error: {schema.latest_error or 'none'}")
    except errors.PostHogError as error:
        print(error)
