"""Running syncs are cancelled and seen to end."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

import httpx
import pytest

from dw_orchestration.operations.cancelling import cancel_syncs
from dw_orchestration.operations.project import Project
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.errors import ReadOnlyError
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.testing import never_ends


class Clock:
    """A clock that only sleeping moves."""

    slept_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 3, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


def test_running_sync_is_cancelled_and_others_are_left(project, stripe) -> None:
    """The sync of the table ends as cancelled; a table without one is counted, and has no row."""
    stripe.behave("Customer", never_ends())
    job = stripe.start("Customer")

    report = cancel_syncs(project, ["*"])

    assert [("stripe_acme.Customer", "cancelled", job.id)] == [
        (row["table"], row["result"], row["job_id"]) for row in report.rows
    ]
    assert (False, "1 sync cancelled, of 2 tables.") == (report.failed, report.summary)
    assert "Failed" == stripe.jobs("Customer")[0].status


def test_every_running_sync_is_found_and_seen_to_end(embedded_warehouse) -> None:
    """Also where more run than PostHog lists in one answer."""
    names = [f"t{number}" for number in range(60)]
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={name: [{"id": 1}] for name in names})
    for name in names:
        embedded_warehouse.behave(name, never_ends())
        embedded_warehouse.start(name)
    project = Project(embedded_warehouse.client, "embedded warehouse")

    assert 60 == len(cancel_syncs(project, ["*"], dry_run=True).rows)
    report = cancel_syncs(project, ["*"])

    assert {"cancelled": 60} == Counter(row["result"] for row in report.rows)
    assert all(row["job_id"] for row in report.rows)


def test_mistyped_table_cancels_nothing(project, stripe) -> None:
    """One wrong name keeps the others running."""
    stripe.behave("Customer", never_ends())
    stripe.start("Customer")

    with pytest.raises(UsageError, match=r"Did you mean stripe_acme\.Charge"):
        cancel_syncs(project, ["Customer", "Chrge"])

    assert "Running" == stripe.jobs("Customer")[0].status


def test_client_that_may_only_read_cancels_nothing(stripe) -> None:
    """A read-only client cancels nothing."""
    stripe.behave("Customer", never_ends())
    stripe.start("Customer")
    endpoint = stripe.resource.ensure_running()

    with (
        PostHogWarehouseClient(endpoint["host"], 1, endpoint["api_key"], rate_limits=None, read_only=True) as client,
        pytest.raises(ReadOnlyError),
    ):
        cancel_syncs(Project(client, "embedded warehouse"), ["Customer"])

    assert "Running" == stripe.jobs("Customer")[0].status


def test_sync_that_does_not_end_is_a_failure(stripe) -> None:
    """What PostHog was asked for and has not done in time is not called done; no real time passes."""
    stripe.behave("Customer", never_ends())
    stripe.start("Customer")
    endpoint, clock = stripe.resource.ensure_running(), Clock()

    class Deaf(httpx.HTTPTransport):
        """The network to an older server, which answers first and cancels later: in this case never."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.rstrip("/").endswith("cancel"):
                return httpx.Response(200)
            return super().handle_request(request)

    with PostHogWarehouseClient(
        endpoint["host"], 1, endpoint["api_key"], rate_limits=None, http_transport=Deaf()
    ) as client:
        report = cancel_syncs(Project(client, "embedded warehouse"), ["Customer"], wait_s=30, clock=clock)

    assert (True, "still running") == (report.failed, report.rows[0]["result"])
    assert clock.slept_s >= 30


class QuickClock(Clock):
    """A clock on which twenty seconds pass in one."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        time.sleep(seconds / 20)


@pytest.mark.parametrize("is_asked_first", [False, True], ids=["before the warehouse has seen it", "after it"])
def test_a_cancel_survives_an_outage(stripe, is_asked_first) -> None:
    """A request without an answer is sent again, and an outage while its end is awaited loses no report."""
    stripe.behave("Customer", never_ends())
    job = stripe.start("Customer")
    endpoint = stripe.resource.ensure_running()

    class Broken(httpx.HTTPTransport):
        """A network that breaks at the request to cancel, and at the three after it."""

        failures_left = 0
        was_asked = False

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            is_cancel = request.url.path.rstrip("/").endswith("cancel")
            if is_cancel and not self.was_asked:
                self.was_asked, self.failures_left = True, 4
                if is_asked_first:
                    super().handle_request(request)
            if self.failures_left:
                self.failures_left -= 1
                raise httpx.ReadError("the network is broken", request=request)
            return super().handle_request(request)

    with PostHogWarehouseClient(
        endpoint["host"], 1, endpoint["api_key"], rate_limits=None, sleep=lambda _: None, http_transport=Broken()
    ) as client:
        project = Project(client, "embedded warehouse")
        report = cancel_syncs(project, ["Customer"], wait_s=600, clock=QuickClock())

    assert (False, "cancelled", job.id) == (report.failed, report.rows[0]["result"], report.rows[0]["job_id"])


def test_a_cancel_that_nobody_answers_is_a_failure(stripe) -> None:
    """When the time is up, the table is named with the reason; no real time passes."""
    stripe.behave("Customer", never_ends())
    stripe.start("Customer")
    endpoint, clock = stripe.resource.ensure_running(), Clock()

    class Mute(httpx.HTTPTransport):
        """A network on which no request to cancel arrives."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.rstrip("/").endswith("cancel"):
                raise httpx.ConnectError("no route", request=request)
            return super().handle_request(request)

    with PostHogWarehouseClient(
        endpoint["host"], 1, endpoint["api_key"], rate_limits=None, sleep=lambda _: None, http_transport=Mute()
    ) as client:
        report = cancel_syncs(Project(client, "embedded warehouse"), ["Customer"], wait_s=30, clock=clock)

    assert (True, "no answer") == (report.failed, report.rows[0]["result"])
    assert "no route" in str(report.rows[0]["note"])
    assert clock.slept_s >= 30
