"""Destructive operations need confirmation: the user repeats the names of what will be deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.operations.report import counted
from dw_orchestration.tables.errors import NotConfirmedError
from dw_orchestration.text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.tables.table import Table
    from dw_orchestration.tables.tables import Tables


def confirmed_tables(project: Project, tables: Sequence[str], *, confirm: Sequence[str]) -> list[Table]:
    """The tables that are named, if the confirmation names exactly these; for operations that delete their rows.

    Raises:
        NotConfirmedError: `confirm` does not name exactly these tables.
        UsageError: A name is unknown.
    """
    live = project.tables()
    chosen = live.matching(tables)
    _check_confirmed(chosen, confirm, live=live)
    return chosen


def rows_of(table: Table) -> int:
    """How many rows PostHog has of a table; 0 where it has none, or does not say."""
    return (table.schema.table.row_count or 0) if table.schema.table else 0


def _check_confirmed(tables: Sequence[Table], confirm: Sequence[str], *, live: Tables) -> None:
    """Let pass only what names exactly these tables.

    Raises:
        NotConfirmedError: A table is not named, or another one is.
        UnknownNameError: A name is that of no table, or of several.
    """
    named = [live.table(name) for name in confirm]
    names, confirmed = {table.name for table in tables}, {table.name for table in named}
    if missing := sorted(names - confirmed):
        raise NotConfirmedError(
            f"This deletes {loss(tables)}. If that is what you want, repeat the names to confirm it; missing:"
            f" {', '.join(map(visible, missing))}.",
            missing=missing,
        )
    if foreign := sorted(confirmed - names):
        raise NotConfirmedError(
            f"The confirmation names {', '.join(map(visible, foreign))}, not among the chosen tables:"
            f" {', '.join(map(visible, sorted(names)))}."
        )


def loss(tables: Sequence[Table]) -> str:
    """How many rows of how many tables would be deleted, and what that means."""
    unknown = any(table.schema.table is not None and table.schema.table.row_count is None for table in tables)
    rows = "an unknown number of rows" if unknown else counted(sum(map(rows_of, tables)), "row")
    return f"{rows} of {counted(len(tables), 'table')}, which the next sync imports and PostHog bills again"
