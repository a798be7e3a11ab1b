"""Commands that change nothing."""

from typing import Annotated

import typer

from dw_orchestration.cli.options import Json, SomeTables, Table
from dw_orchestration.cli.output import carry_out
from dw_orchestration.operations.fields import show_fields
from dw_orchestration.operations.listing import list_jobs, list_sources, list_tables


def sources(ctx: typer.Context, *, as_json: Json = False) -> int:
    """List the sources."""
    return carry_out(ctx, list_sources, as_json=as_json)


def tables(ctx: typer.Context, wanted: SomeTables = None, *, as_json: Json = False) -> int:
    """List tables with how and when they are synced."""
    return carry_out(ctx, lambda project: list_tables(project, wanted or ()), as_json=as_json)


def jobs(
    ctx: typer.Context,
    wanted: SomeTables = None,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> int:
    """List the newest syncs of tables."""
    return carry_out(ctx, lambda project: list_jobs(project, wanted or (), limit=limit), as_json=as_json)


def fields(ctx: typer.Context, table: Table, *, as_json: Json = False) -> int:
    """Show a table's columns, and which of them a sync can follow; asks its source."""
    return carry_out(ctx, lambda project: show_fields(project, table), as_json=as_json)
