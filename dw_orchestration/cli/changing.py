"""Commands that change tables."""

from typing import Annotated

import typer

from dw_orchestration.cli.options import Confirm, Json, Source, Tables
from dw_orchestration.cli.output import carry_out
from dw_orchestration.operations.cancelling import cancel_syncs
from dw_orchestration.operations.deletion import delete_data as delete_rows
from dw_orchestration.operations.settings import change_settings
from dw_orchestration.operations.settings_input import TypedSettings, settings_update
from dw_orchestration.operations.sources import refresh_source
from dw_orchestration.posthog.models import SchemaUpdate


def cancel(ctx: typer.Context, wanted: Tables, *, as_json: Json = False) -> int:
    """Cancel the running syncs of tables, whoever has started them."""
    return carry_out(ctx, lambda project: cancel_syncs(project, wanted), as_json=as_json)


def enable(ctx: typer.Context, wanted: Tables, *, as_json: Json = False) -> int:
    """Switch tables on; PostHog syncs a table at once when it is on for the first time."""
    return _switch(ctx, wanted, should_sync=True, as_json=as_json)


def disable(ctx: typer.Context, wanted: Tables, *, as_json: Json = False) -> int:
    """Switch tables off; their rows stay, and a running sync is stopped."""
    return _switch(ctx, wanted, should_sync=False, as_json=as_json)


def change(
    ctx: typer.Context,
    wanted: Tables,
    *,
    frequency: Annotated[
        str | None, typer.Option(help="How often PostHog syncs: 5min 15min 30min 1hour 6hour 12hour 24hour 7day 30day.")
    ] = None,
    time_of_day: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="In UTC; 'none' for PostHog's own choice.")
    ] = None,
    sync_type: Annotated[
        str | None, typer.Option("--type", help="full_refresh, incremental, append, webhook, cdc or xmin.")
    ] = None,
    field: Annotated[str | None, typer.Option(help="The column that incremental and append syncs follow.")] = None,
    field_type: Annotated[str | None, typer.Option(help="Its type; if it is left out, the source is asked.")] = None,
    lookback_s: Annotated[int | None, typer.Option(help="How far an incremental sync goes back, in seconds.")] = None,
    primary_key: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Once for each column.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it, instead of showing what would change.")] = False,
    as_json: Json = False,
) -> int:
    """Change how and when tables are synced; without --yes, show what would change."""
    update = settings_update(
        TypedSettings(
            sync_frequency=frequency,
            sync_time_of_day=time_of_day,
            sync_type=sync_type,
            incremental_field=field,
            incremental_field_type=field_type,
            incremental_field_lookback_seconds=lookback_s,
            primary_key_columns=primary_key,
        )
    )
    return carry_out(ctx, lambda project: change_settings(project, wanted, update, dry_run=not yes), as_json=as_json)


def delete_data(ctx: typer.Context, wanted: Tables, *, confirm: Confirm = None, as_json: Json = False) -> int:
    """Delete the rows of tables; --confirm has to repeat the name of each."""
    return carry_out(ctx, lambda project: delete_rows(project, wanted, confirm=confirm or ()), as_json=as_json)


def refresh(ctx: typer.Context, source: Source, *, as_json: Json = False) -> int:
    """Look for new and vanished tables of a source."""
    return carry_out(ctx, lambda project: refresh_source(project, source), as_json=as_json)


def _switch(ctx: typer.Context, wanted: list[str], *, should_sync: bool, as_json: bool) -> int:
    update = SchemaUpdate(should_sync=should_sync)
    return carry_out(ctx, lambda project: change_settings(project, wanted, update, dry_run=False), as_json=as_json)
