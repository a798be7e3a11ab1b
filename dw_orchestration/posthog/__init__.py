"""PostHog's external data API in Python. Imports no Dagster."""
