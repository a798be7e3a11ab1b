"""Settings of many tables at once: shown first, then changed, then read back."""

from __future__ import annotations

import json
from datetime import time
from typing import TYPE_CHECKING

import httpx
import pytest

from dw_orchestration.operations.project import Project
from dw_orchestration.operations.settings import TableChange, plan_settings, settings_update, update_tables
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import IncrementalFieldType, SyncFrequency, SyncType
from dw_orchestration.posthog.models import Schema, SchemaUpdate, Source, WarehouseTable
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from dw_orchestration.tables.table import Table


def table(**settings) -> Table:
    given = {"id": "t", "name": "t", "sync_type": SyncType.FULL_REFRESH, "should_sync": True, **settings}
    return Tables.live([Source(id="s", source_type="Stripe", schemas=(Schema(**given),))])[0]


FOLLOWING = {"sync_type": "incremental", "incremental_field": "at", "incremental_field_type": "timestamp"}


def planned(before, **update) -> TableChange:
    (change,) = plan_settings([before], SchemaUpdate(**update)).changes
    return change


def rows_of(report) -> list[tuple[object, ...]]:
    return [(row["table"], row["setting"], row["before"], row["after"], row["result"]) for row in report.rows]


def test_dry_run_shows_the_difference_and_changes_nothing(project, everything) -> None:
    """What is so already is not shown as a change, and nothing is sent."""
    before = everything()

    report = update_tables(
        project,
        ["stripe_acme.*"],
        settings_update({"sync_frequency": "1hour", "sync_time_of_day": "03:00"}),
        dry_run=True,
    )

    assert before == everything()
    assert [
        ("stripe_acme.Charge", "sync_frequency", "6hour", "1hour", "would change"),
        ("stripe_acme.Charge", "sync_time_of_day", None, time(3), "would change"),
        ("stripe_acme.Customer", "sync_frequency", "6hour", "1hour", "would change"),
        ("stripe_acme.Customer", "sync_time_of_day", None, time(3), "would change"),
    ] == rows_of(report)
    assert report.summary == "Dry run: nothing is changed. 4 settings of 2 tables would change."


def test_change_is_applied_and_a_second_one_finds_it_done(project, stripe) -> None:
    """The settings are PostHog's afterwards; what is so already is left alone."""
    update = settings_update({"sync_frequency": "1hour", "sync_time_of_day": "03:00"})

    first = update_tables(project, ["Charge"], update, dry_run=False)
    second = update_tables(project, ["*"], update, dry_run=False)

    assert ["changed", "changed"] == [row["result"] for row in first.rows]
    assert [("stripe_acme.Charge", None, None, None, "unchanged")] == rows_of(second)[:1]
    assert second.summary == "1 table changed, 1 unchanged."
    after = stripe.schema("Customer")
    assert (SyncFrequency.ONE_HOUR, time(3)) == (after.sync_frequency, after.sync_time_of_day)


def test_time_of_day_is_cleared_by_none(project, stripe) -> None:
    """PostHog chooses the minute again."""
    update_tables(project, ["Charge"], settings_update({"sync_time_of_day": "03:00"}), dry_run=False)

    update_tables(project, ["Charge"], settings_update({"sync_time_of_day": "none"}), dry_run=False)

    assert None is stripe.schema("Charge").sync_time_of_day


def test_type_of_a_field_is_asked_of_the_source(project, stripe) -> None:
    """A field is enough: the source knows its type, and all that belongs together is sent together."""
    update = settings_update({"sync_type": "incremental", "incremental_field": "updated"})

    report = update_tables(project, ["Customer"], update, dry_run=False)

    assert report.failed is False
    after = stripe.schema("Customer")
    assert ("incremental", "updated", "integer") == (
        after.sync_type,
        after.incremental_field,
        after.incremental_field_type,
    )


def test_field_that_the_source_lacks_keeps_all_tables_as_they_are(project, everything) -> None:
    """One impossible table stops the whole change, and the text says which fields there are."""
    update = settings_update({"sync_type": "incremental", "incremental_field": "updated"})
    before = everything()

    shown = update_tables(project, ["*"], update, dry_run=True)
    with pytest.raises(UsageError, match=r"stripe_acme\.Charge: It has no column 'updated' that a sync can follow"):
        update_tables(project, ["*"], update, dry_run=False)

    assert before == everything()
    assert (True, "impossible") == (shown.failed, shown.rows[0]["result"])


def test_switching_on_says_what_it_brings_about(project, stripe) -> None:
    """PostHog syncs a table when it is enabled for the first time: the change states that."""
    update_tables(project, ["Charge"], SchemaUpdate(should_sync=False), dry_run=False)
    report = update_tables(project, ["Charge"], SchemaUpdate(should_sync=True), dry_run=False)

    assert [("stripe_acme.Charge", "should_sync", False, True, "changed")] == rows_of(report)
    assert "PostHog syncs it immediately" in report.rows[0]["note"]
    assert stripe.schema("Charge").should_sync


@pytest.mark.parametrize(
    ("before", "update", "problem"),
    [
        (
            {"sync_type": None, "should_sync": False},
            {"primary_key_columns": ("id",)},
            "How it is synced was never chosen",
        ),
        ({}, {"full_refresh_interval_days": 7}, "Only a sync_type of append, incremental, xmin"),
        (
            FOLLOWING | {"sync_frequency": "30day"},
            {"full_refresh_interval_days": 29},
            "A full_refresh_interval_days of 29 is shorter than its sync_frequency, 30day.",
        ),
        (
            FOLLOWING | {"full_refresh_interval_days": 7},
            {"sync_frequency": "30day"},
            "A full_refresh_interval_days of 7 is shorter than its sync_frequency, 30day.",
        ),
        (FOLLOWING | {"full_refresh_interval_days": 7}, {"sync_type": "full_refresh"}, "set it to 0"),
        ({}, {"sync_type": "append"}, "A sync_type of append needs an incremental_field."),
        (
            {
                "sync_type": "incremental",
                "incremental_field": "at",
                "primary_key_columns": ("id",),
                "table": WarehouseTable(id="w", name="stripe_t"),
            },
            {"primary_key_columns": ("other",)},
            "delete its data first",
        ),
    ],
)
def test_what_posthog_would_refuse_is_told_before(before, update, problem) -> None:
    """A plan knows what cannot be done, and says what to do instead."""
    change = planned(table(**before), **update)
    assert None is change.update
    assert problem in change.problem


@pytest.mark.parametrize(
    ("before", "update", "note"),
    [
        ({"should_sync": False}, {"should_sync": True}, "enabled for the first time, PostHog syncs it immediately"),
        ({"should_sync": False, "sync_type": "webhook"}, {"should_sync": True}, "imports it again from the start"),
        ({}, {"should_sync": False}, "A sync that is running is stopped."),
        (
            {"sync_type": None, "should_sync": False},
            {"should_sync": True},
            "PostHog chooses how to sync it, because nobody has yet, and syncs it immediately.",
        ),
        (
            FOLLOWING | {"table": WarehouseTable(id="w", name="stripe_t", row_count=12_000)},
            {"full_refresh_interval_days": 7},
            "PostHog imports all rows, 12,000 today, again every 7 days, and bills them.",
        ),
        ({"should_sync": False}, {"sync_frequency": "1hour"}, "this applies once it is enabled"),
        (
            {"table": WarehouseTable(id="w", name="stripe_t")},
            {"sync_type": "append", "incremental_field": "id", "incremental_field_type": "integer"},
            "may read all rows again, at once, and bill them",
        ),
    ],
)
def test_consequences_are_told_with_the_change(before, update, note) -> None:
    """Syncs that start or stop with a setting, and rows that are billed again, are in the dry run."""
    assert note in planned(table(**before), **update).note


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ({"full_refresh_interval_days": 0}, {"full_refresh_interval_days": None}),
        ({"full_refresh_time_of_day": "none"}, {"full_refresh_time_of_day": None}),
        ({"full_refresh_time_of_day": "04:30"}, {"full_refresh_time_of_day": "04:30:00"}),
        ({"enabled_columns": ["*"]}, {"enabled_columns": None}),
        ({"enabled_columns": ["id", "email"]}, {"enabled_columns": ["id", "email"]}),
        ({"row_filters": "[]"}, {"row_filters": None}),
        ({"row_filters": '[{"column": "a"}]'}, {"row_filters": [{"column": "a"}]}),
        ({"cdc_table_mode": "both"}, {"cdc_table_mode": "both"}),
    ],
)
def test_settings_are_typed_and_removed(typed, sent) -> None:
    """A person types 0, `none`, `*` and `[]` to remove a setting, which PostHog takes as null."""
    assert sent == settings_update(typed).body()


def test_table_that_was_never_configured_is_enabled_with_posthogs_settings() -> None:
    """One step enables it: PostHog chooses the settings that nobody has chosen."""
    change = planned(table(sync_type=None, should_sync=False), should_sync=True)

    assert {"should_sync": True, "apply_sync_defaults": True} == change.update.body()


def test_frequency_alone_is_sent_alone() -> None:
    """With a sync type, PostHog would ask the customer's source for every table."""
    change = planned(table(sync_frequency="6hour"), sync_frequency="1hour")
    assert {"sync_frequency": "1hour"} == change.update.body()


def test_what_belongs_together_is_sent_together() -> None:
    """Older servers lose a field without its sync type, and clear the fields that are left out next to one."""
    before = table(
        sync_type="incremental",
        incremental_field="at",
        incremental_field_type=IncrementalFieldType.TIMESTAMP,
        primary_key_columns=("id",),
    )
    change = planned(before, incremental_field="id", incremental_field_type="integer")
    assert {
        "sync_type": "incremental",
        "incremental_field": "id",
        "incremental_field_type": "integer",
        "primary_key_columns": ["id"],
    } == change.update.body()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({}, "Nothing to change"),
        ({"sync_frequency": "never"}, "disable the table"),
        ({"sync_frequency": "15mins"}, "Invalid sync_frequency '15mins'. Did you mean 15min?"),
        ({"sync_type": "zzz"}, "Choose full_refresh, incremental, append"),
        ({"sync_time_of_day": "3 pm"}, "use HH:MM or HH:MM:SS in UTC"),
        ({"sync_time_of_day": "03:00+02:00"}, "in UTC"),
        ({"sync_time_of_day": "03"}, "HH:MM"),
        ({"incremental_field_lookback_seconds": -1}, "incremental_field_lookback_seconds: "),
        ({"full_refresh_interval_days": 91}, "full_refresh_interval_days: "),
        ({"full_refresh_time_of_day": "noon"}, "Invalid full_refresh_time_of_day 'noon': use HH:MM"),
        ({"row_filters": "status = 'paid'"}, "use a JSON list of objects"),
        ({"cdc_table_mode": "bth"}, "Did you mean both?"),
    ],
)
def test_mistyped_setting_is_told(typed, said) -> None:
    """A value that PostHog does not take is refused here, with what it takes."""
    with pytest.raises(UsageError) as caught:
        settings_update(typed)
    assert said in str(caught.value)


def test_table_that_the_server_does_not_save_is_a_failure(stripe) -> None:
    """An answer of 200 proves nothing: what is not so afterwards has failed, and the others have not."""
    charge = stripe.schema("Charge").id

    class Forgetful(httpx.HTTPTransport):
        """The network to a server that keeps one table as it is, and says yes."""

        def handle_request(self, request) -> httpx.Response:
            if request.url.path.rstrip("/").endswith("bulk_update_schemas"):
                kept = [item for item in json.loads(request.content)["schemas"] if item["id"] != charge]
                key = {"authorization": request.headers["authorization"]}
                request = httpx.Request(request.method, request.url, headers=key, json={"schemas": kept})
            elif request.method == "PATCH" and charge in request.url.path:
                request = httpx.Request("GET", request.url, headers={"authorization": request.headers["authorization"]})
            return super().handle_request(request)

    endpoint = stripe.resource.ensure_running()
    with PostHogWarehouseClient(
        endpoint["host"], 1, endpoint["api_key"], rate_limits=None, http_transport=Forgetful()
    ) as client:
        report = update_tables(
            Project(client, "embedded warehouse"), ["*"], SchemaUpdate(sync_frequency="1hour"), dry_run=False
        )

    assert ["failed", "changed"] == [row["result"] for row in report.rows]
    assert "PostHog said yes, and kept 6hour." == report.rows[0]["note"]
    assert (True, "1 table changed. 1 table failed; repeat it for them.") == (report.failed, report.summary)


def test_refused_table_is_named_and_the_others_are_changed(project, stripe) -> None:
    """Where PostHog refuses one table of many, the report shows its message next to that table."""
    report = update_tables(project, ["*"], SchemaUpdate(sync_type=SyncType.CDC), dry_run=False)

    assert ["failed", "failed"] == [row["result"] for row in report.rows]
    assert "CDC is not enabled for this team" in report.rows[0]["note"]
    assert SyncType.FULL_REFRESH is stripe.schema("Charge").sync_type
