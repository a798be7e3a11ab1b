"""Which tables there are, what each is called, and when and how PostHog syncs it. No Dagster, no requests."""
