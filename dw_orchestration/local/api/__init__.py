"""PostHog's external data API over HTTP, as its newest servers behave."""

from dw_orchestration.local.api.app import create_app

__all__ = ["create_app"]
