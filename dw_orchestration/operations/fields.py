"""How a table could be synced, as its source answers at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.operations.operation import Operation, TableParams
from dw_orchestration.operations.report import Report, Row

if TYPE_CHECKING:
    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.models import IncrementalFields
    from dw_orchestration.tables.table import Table

COLUMNS = ("column", "type", "incremental_field_type", "nullable", "indexed", "primary_key", "in_use")
DISPENSABLE = ("nullable", "indexed", "in_use")


def show_fields(project: Project, table: str) -> Report:
    """The columns of a table, and which of them a sync can follow; asks the customer's source.

    Raises:
        UnknownNameError: The name is that of no table, or of several.
        PostHogError: The source or PostHog is unreachable.
    """
    found = project.tables(settings=True).table(table)
    return report_of_fields(found, project.client.get_incremental_fields(found.id))


def report_of_fields(table: Table, found: IncrementalFields) -> Report:
    """The same from an answer."""
    offered = {
        "full_refresh": found.full_refresh_available,
        "incremental": found.incremental_available,
        "append": found.append_available,
        "cdc": bool(found.cdc_available),
        "webhook": bool(found.supports_webhooks),
    }
    types = ", ".join(name for name, is_offered in offered.items() if is_offered) or "in no way"
    now = table.schema.sync_type or "not chosen yet"
    follows = f", following {table.schema.incremental_field}" if table.schema.incremental_field else ""
    summary = f"{table.name} can be synced: {types}. Now: {now}{follows}."
    return Report(summary=summary, rows=_rows(table, found), columns=COLUMNS, dispensable=DISPENSABLE)


def _rows(table: Table, found: IncrementalFields) -> list[Row]:
    """All columns of the source, those that can be followed first."""
    followed = {each.field: each for each in found.incremental_fields}
    others = {each.field: each for each in found.available_columns if each.field not in followed}
    types = {each.field: each.type for each in found.available_columns}
    keys = found.detected_primary_keys or ()
    return [
        {
            "column": name,
            "type": types.get(name) or (followed[name].type if name in followed else None),
            "incremental_field_type": followed[name].field_type if name in followed else None,
            "nullable": (followed.get(name) or others[name]).nullable,
            "indexed": followed[name].is_indexed if name in followed else None,
            "primary_key": name in keys,
            "in_use": name == table.schema.incremental_field,
        }
        for name in (*followed, *others)
    ]


SHOW_FIELDS = Operation(
    name="show_fields",
    command="fields",
    params=TableParams,
    run=show_fields,
    description="Show the columns of a table, and which of them an incremental sync can follow. PostHog asks the"
    " source of the table, which can take a minute. Changes nothing.",
    examples=("fields postgres_shop.orders",),
)
