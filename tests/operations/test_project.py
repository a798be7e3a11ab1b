"""An operation sees the tables as they are now, by the names that the UI has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from dw_orchestration.operations.project import Project
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse


def test_names_are_those_of_the_ui(project: Project, stripe: EmbeddedWarehouse) -> None:
    """The command line calls a table what schedules and the asset graph call it."""
    in_the_ui = {table.id: (table.name, table.key) for table in Tables(stripe.snapshot())}
    assert in_the_ui == {table.id: (table.name, table.key) for table in project.tables()}


def test_settings_are_there_when_asked_for(project: Project) -> None:
    """Newer servers leave the settings out of the list of sources; the project fetches them on request."""
    assert str(project.tables(settings=True).table("Customer").schema.sync_frequency) == "6hour"
