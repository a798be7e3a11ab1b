"""One table from all sides."""

from __future__ import annotations

from dw_orchestration.operations.settings import disable_tables
from dw_orchestration.operations.showing import show_table
from dw_orchestration.operations.takeover import take_over
from dw_orchestration.testing import fails


def test_table_from_all_sides(project, stripe) -> None:
    """The key, the cadence with its next sync, the last syncs with the newest first, and why the last one failed."""
    completed = stripe.sync("Customer")
    stripe.behave("Customer", fails("Stripe is down"))
    failed = stripe.sync("Customer")

    report = show_table(project, "acme.Customer")

    (row,) = report.rows
    assert ("stripe_acme.Customer", "posthog/stripe/acme/customer") == (row["table"], row["asset_key"])
    assert row["next_sync_at"] > row["last_synced_at"]
    assert [True, True] == [
        each.endswith(job.id) for each, job in zip(row["last_syncs"], (failed, completed), strict=True)
    ]
    assert "Failed" in row["last_syncs"][0]
    assert "Stripe is down" in row["error"]
    assert "stripe_acme.Customer can be synced by Dagster." == report.summary


def test_a_takeover_is_shown(project, stripe) -> None:
    """When PostHog synced the table before Dagster took it over, and the way back."""
    (before,) = show_table(project, "Charge").rows
    take_over(project, ["Charge"])

    report = show_table(project, "Charge")

    (row,) = report.rows
    assert "dw takeover --restore stripe_acme.Charge" in report.summary
    assert (None, before["synced"]) == (before["before_takeover"], row["before_takeover"])
    assert row["synced"].startswith("every 30 days")


def test_reason_why_a_table_is_not_synced(project, stripe) -> None:
    """A disabled table says what to do."""
    disable_tables(project, ["Charge"])

    assert "stripe_acme.Charge: " in (summary := show_table(project, "Charge").summary)
    assert "nable the table" in summary
