"""The PostHog external data API as Python."""
