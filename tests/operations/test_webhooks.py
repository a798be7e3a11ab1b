"""A webhook is looked for before one is made. The embedded warehouse has none, so that a provider's part is played."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx
import pytest

from dw_orchestration.operations.project import Project
from dw_orchestration.operations.webhooks import create_webhook, delete_webhook, show_webhook
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.errors import BadRequestError
from dw_orchestration.tables.errors import UnknownNameError

URL = "https://webhooks.us.posthog.com/public/webhooks/dwh/1"


@dataclass
class Provider:
    """PostHog with one Stripe source, and what its provider says."""

    exists: bool = False
    refuses: str | None = None
    created: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        what = request.url.path.rstrip("/").rpartition("/")[2]
        if what == "external_data_sources":
            sources = [{"id": "s", "source_type": "Stripe", "schemas": []}]
            return httpx.Response(200, json={"count": 1, "next": None, "previous": None, "results": sources})
        if what == "webhook_info":
            return httpx.Response(200, json={"exists": self.exists, "webhook_url": URL if self.exists else None})
        if what == "create_webhook":
            self.created.append(json.loads(request.content or b"{}"))
            self.exists = self.refuses is None
            return httpx.Response(200, json={"success": self.exists, "webhook_url": URL, "error": self.refuses})
        self.exists = False
        return httpx.Response(200, json={"success": True, "external_deleted": self.refuses is None, "error": None})

    def project(self) -> Project:
        transport = httpx.MockTransport(self)
        return Project(
            PostHogWarehouseClient("http://127.0.0.1", 1, "phx_k", rate_limits=None, http_transport=transport),
            "http://127.0.0.1",
        )


def test_webhook_is_created_once() -> None:
    """A second one would deliver every event twice; what the provider needs goes along."""
    provider = Provider()

    first = create_webhook(provider.project(), "stripe", inputs={"signing_secret": "s"})
    second = create_webhook(provider.project(), "stripe")

    assert ["created", "unchanged"] == [first.rows[0]["result"], second.rows[0]["result"]]
    assert [{"inputs": {"signing_secret": "s"}}] == provider.created
    assert URL == show_webhook(provider.project(), "stripe").rows[0]["webhook_url"]


def test_refusal_of_the_provider_is_a_failure() -> None:
    """PostHog says 200 to it; the address is still good for setting it up by hand."""
    report = create_webhook(Provider(refuses="No permission").project(), "stripe")

    assert (True, "failed", URL, "No permission") == (
        report.failed,
        report.rows[0]["result"],
        report.rows[0]["webhook_url"],
        report.rows[0]["note"],
    )


def test_webhook_that_the_provider_keeps_is_told() -> None:
    """It is gone from PostHog, and somebody has to remove it at the provider."""
    report = delete_webhook(Provider(exists=True, refuses="kept").project(), "stripe")
    assert (False, "deleted") == (report.failed, report.rows[0]["result"])
    assert "remove it there" in report.rows[0]["note"]


def test_source_without_webhooks_is_refused_by_posthog(project) -> None:
    """The embedded warehouse's sources have none: its own words are passed on."""
    assert not show_webhook(project, "stripe_acme").rows[0]["exists"]
    with pytest.raises(BadRequestError, match="This source type does not support webhooks"):
        create_webhook(project, "stripe_acme")
    with pytest.raises(UnknownNameError, match="Did you mean stripe_acme"):
        create_webhook(project, "stripe_acne")
