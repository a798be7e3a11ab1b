"""Create a source, unless it is there, and set how often its tables are synced."""

import os

from dw_orchestration import PostHogWarehouseClient
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import SchemaUpdate

TABLES = [{"name": "Invoice", "should_sync": True, "sync_type": "full_refresh"}]
PAYLOAD = {"stripe_secret_key": os.environ["STRIPE_KEY"], "schemas": TABLES}

with PostHogWarehouseClient(
    os.environ["POSTHOG_HOST"], os.environ["POSTHOG_PROJECT_ID"], os.environ["POSTHOG_PERSONAL_API_KEY"]
) as client:
    if ("Stripe", "eu") not in {(source.source_type, source.prefix) for source in client.list_sources()}:
        source = client.get_source(client.create_source("Stripe", PAYLOAD, prefix="eu"))
        hourly = {each.id: SchemaUpdate(sync_frequency=SyncFrequency.ONE_HOUR) for each in source.schemas}
        client.bulk_update_schemas(source.id, hourly)
