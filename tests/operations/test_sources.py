"""Sources are created, changed, refreshed and deleted; deleting asks for the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dw_orchestration.operations.fields import show_fields
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.settings import enable_tables
from dw_orchestration.operations.sources import create_source, delete_source, refresh_source, update_source
from dw_orchestration.posthog.errors import BadRequestError, NotFoundError
from dw_orchestration.tables.errors import NotConfirmedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hubspot(embedded_warehouse) -> Iterator[tuple[Project, Path]]:
    """A folder of files for the type Hubspot; what a test makes of it is removed."""
    folder = Path(embedded_warehouse.resource.fixtures) / "Hubspot"
    folder.mkdir(parents=True)
    (folder / "Contact.jsonl").write_text(json.dumps({"id": 1}) + "\n")
    yield Project(embedded_warehouse.client, "embedded warehouse"), folder
    for source in embedded_warehouse.client.list_sources(search="Hubspot"):
        if source.source_type == "Hubspot":
            embedded_warehouse.client.delete_source(source.id)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_source_is_created_with_its_tables(hubspot) -> None:
    """The report names the tables, and what is on."""
    project, _ = hubspot
    schemas = [{"name": "Contact", "should_sync": False, "sync_type": "full_refresh"}]

    report = create_source(project, "Hubspot", {"access_token": "t", "schemas": schemas}, prefix="crm")

    assert [("hubspot_crm.Contact", False, "added")] == [
        (row["table"], row["enabled"], row["result"]) for row in report.rows
    ]
    assert report.summary.endswith("has 1 table, 0 enabled.")


def test_refused_source_leaves_nothing(hubspot) -> None:
    """PostHog's own words say why, and no source is there."""
    project, _ = hubspot
    with pytest.raises(BadRequestError, match="Schemas given do not exist in source"):
        create_source(project, "Hubspot", {"schemas": [{"name": "Kontakt"}]})
    with pytest.raises(UsageError, match="has no type"):
        create_source(project, " ", {})
    assert [] == [source for source in project.client.list_sources() if source.source_type == "Hubspot"]


def test_refresh_names_what_came_and_went(hubspot) -> None:
    """New tables are disabled; the report lists their names, not just their number."""
    project, folder = hubspot
    create_source(project, "Hubspot", {"schemas": [{"name": "Contact", "sync_type": "full_refresh"}]})
    (folder / "Deal.jsonl").write_text(json.dumps({"id": 1}) + "\n")
    (folder / "Contact.jsonl").unlink()

    report = refresh_source(project, "hubspot")

    assert [("hubspot.Contact", "gone"), ("hubspot.Deal", "added")] == [
        (row["table"], row["result"]) for row in report.rows
    ]
    assert "hubspot: 1 table added, 1 table gone." == report.summary


def test_table_that_was_never_configured_is_enabled_in_one_step(hubspot) -> None:
    """PostHog chooses the settings that nobody has, and the report shows them."""
    project, _ = hubspot
    create_source(project, "Hubspot", {"schemas": [{"name": "Contact"}]})
    assert None is project.tables(settings=True).table("hubspot.Contact").schema.sync_type

    report = enable_tables(project, ["hubspot.Contact"])

    assert not report.failed, report
    rows = {row["setting"]: (row["after"], row["result"]) for row in report.rows}
    assert (True, "changed") == rows.pop("should_sync")
    live = project.tables(settings=True).table("hubspot.Contact").schema
    assert (live.sync_type, "chosen by PostHog") == rows["sync_type"]
    assert (live.sync_frequency, "chosen by PostHog") == rows["sync_frequency"]


def test_new_tables_that_posthog_enables_by_itself_are_set(hubspot) -> None:
    """A source names the tables for PostHog to enable as they are found; what the server shows afterwards counts."""
    project, _ = hubspot
    create_source(project, "Hubspot", {"schemas": [{"name": "Contact"}]})

    report = update_source(project, "hubspot", auto_sync_new_schemas=True, auto_sync_schema_patterns=["Deal*", "Con*"])

    assert "hubspot: auto_sync_new_schemas, auto_sync_schema_patterns changed." == report.summary
    source = project.client.get_source(project.tables().source("hubspot").id)
    assert (True, ("Deal*", "Con*")) == (source.auto_sync_new_schemas, source.auto_sync_schema_patterns)


def test_description_is_changed_and_nothing_is_nothing(project, stripe) -> None:
    """A change without content is refused before anything is sent."""
    report = update_source(project, "acme", description="Payments")

    assert "stripe_acme: description changed." == report.summary
    assert ["Payments"] == [source.description for source in stripe.client.list_sources()]
    with pytest.raises(UsageError, match="Nothing to change"):
        update_source(project, "acme")


def test_prefix_of_imported_tables_is_not_changed(project, stripe) -> None:
    """PostHog would answer 200 and keep it: it is in the name of every table."""
    with pytest.raises(UsageError, match="The prefix of stripe_acme cannot be changed"):
        update_source(project, "acme", prefix="other")


def test_source_is_not_deleted_without_its_full_name(project, synced, everything) -> None:
    """Half a name is none; the text says what would be lost."""
    before = everything()
    for confirm in ("", "acme", "Stripe", "stripe_acm"):
        with pytest.raises(NotConfirmedError, match="the source stripe_acme with 2 tables and 2 rows, for good"):
            delete_source(project, "acme", confirm=confirm)
    assert before == everything()


def test_source_is_deleted_with_its_full_name(hubspot) -> None:
    """It is gone afterwards, with its tables."""
    project, _ = hubspot
    create_source(project, "Hubspot", {"schemas": [{"name": "Contact"}]})
    source_id = project.tables().source("hubspot").id

    report = delete_source(project, "hubspot", confirm="hubspot")

    assert ([("hubspot.Contact", "deleted")], False) == (
        [(row["table"], row["result"]) for row in report.rows],
        report.failed,
    )
    with pytest.raises(NotFoundError):
        project.client.get_source(source_id)


def test_fields_tell_how_a_table_can_be_synced(project) -> None:
    """What can be followed comes first, with the type to give for it."""
    report = show_fields(project, "Customer")

    assert "stripe_acme.Customer can be synced: full_refresh, incremental, append. Now: full_refresh." == report.summary
    assert {"id": "integer", "updated": "integer", "name": None} == {
        row["column"]: row["incremental_field_type"] and str(row["incremental_field_type"]) for row in report.rows
    }
