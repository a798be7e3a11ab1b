"""PostHog data warehouse tables as Dagster assets: synced, scheduled and watched."""
