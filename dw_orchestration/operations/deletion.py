"""Delete the rows of tables: guarded as a resync is, by names that are repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dw_orchestration.operations.cancelling import running_jobs
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.tables.errors import NotConfirmedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dw_orchestration.operations.catalogue import Catalogue, NamedTable, Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient

COLUMNS = ("table", "rows", "last_synced_at", "result", "note")


@dataclass(frozen=True, kw_only=True)
class DeletionPlan:
    """The tables whose rows are to be deleted; they have been confirmed."""

    tables: Sequence[NamedTable]


def delete_data(project: Project, wanted: Sequence[str], *, confirm: Sequence[str]) -> Report:
    """Delete the rows of tables. They stay switched on: their next sync imports, and bills, all rows again.

    Args:
        project: The tables' project.
        wanted: Names and patterns of tables.
        confirm: The name of each of these tables once more; no patterns.

    Raises:
        NotConfirmedError: `confirm` does not name exactly these tables; nothing was deleted.
        UsageError: A name is unknown, or a table is being synced; nothing was deleted.
        PostHogError: PostHog cannot be asked, or the key may not change anything.
    """
    tables = confirmed_tables(project, wanted, confirm=confirm)
    return apply_deletion(project.client, plan_deletion(tables, running=running_jobs(project.client, tables)))


def confirmed_tables(project: Project, wanted: Sequence[str], *, confirm: Sequence[str]) -> list[NamedTable]:
    """The tables that are named, if the confirmation names exactly these; for whatever loses their rows.

    Raises:
        NotConfirmedError: `confirm` does not name exactly these tables.
        UsageError: A name is unknown.
    """
    catalogue = project.catalogue()
    tables = catalogue.select(wanted)
    _check_confirmed(tables, confirm, catalogue=catalogue)
    return tables


def plan_deletion(tables: Sequence[NamedTable], *, running: Collection[str]) -> DeletionPlan:
    """What would be deleted.

    Args:
        tables: Confirmed ones.
        running: The ids of those that are being synced: PostHog would delete their rows under the sync.

    Raises:
        UsageError: A table is being synced.
    """
    if busy := [table.name for table in tables if table.id in running]:
        raise UsageError(f"Nothing was deleted: {', '.join(busy)} is syncing. Cancel the sync or wait for its end.")
    return DeletionPlan(tables=tables)


def apply_deletion(client: PostHogWarehouseClient, plan: DeletionPlan) -> Report:
    """Delete the rows, and look whether they are gone.

    Raises:
        PostHogError: The key may not change anything.
    """
    client.check_access(write=True)
    rows = [_delete(client, table) for table in plan.tables]
    failed = [row for row in rows if row["result"] == "failed"]
    lost = sum(_rows(table) for table, row in zip(plan.tables, rows, strict=True) if row["result"] == "deleted")
    summary = f"{counted(lost, 'row')} of {counted(len(rows) - len(failed), 'table')} deleted."
    summary += f" {counted(len(failed), 'table')} failed." if failed else " The next sync imports all rows again."
    return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(failed))


def _check_confirmed(tables: Sequence[NamedTable], confirm: Sequence[str], *, catalogue: Catalogue) -> None:
    """Let pass only what names exactly these tables.

    Raises:
        NotConfirmedError: A table is not named, or another one is.
        UnknownNameError: A name is that of no table, or of several.
    """
    named = [catalogue.table(name) for name in confirm]
    names, confirmed = {table.name for table in tables}, {table.name for table in named}
    if missing := sorted(names - confirmed):
        raise NotConfirmedError(
            f"This deletes {_loss(tables)}. If that is what you want, repeat the names to confirm it; missing:"
            f" {', '.join(missing)}."
        )
    if foreign := sorted(confirmed - names):
        raise NotConfirmedError(
            f"The confirmation names {', '.join(foreign)}, not among the chosen tables: {', '.join(sorted(names))}."
        )


def _delete(client: PostHogWarehouseClient, table: NamedTable) -> Row:
    row: Row = {
        "table": table.name,
        "id": table.id,
        "rows": _rows(table),
        "last_synced_at": table.schema.last_synced_at,
        "result": "had no rows",
        "note": None,
    }
    if table.schema.table is None:
        return row
    try:
        client.delete_schema_data(table.id)
        left = client.get_schema(table.id).table
    except PostHogError as error:
        return row | {"result": "failed", "note": str(error)}
    if left is not None:
        return row | {"result": "failed", "note": f"PostHog said yes, and still shows the table {left.name}."}
    return row | {"result": "deleted"}


def _loss(tables: Sequence[NamedTable]) -> str:
    unknown = any(table.schema.table is not None and table.schema.table.row_count is None for table in tables)
    rows = "an unknown number of rows" if unknown else counted(sum(map(_rows, tables)), "row")
    return f"{rows} of {counted(len(tables), 'table')}, which the next sync imports and PostHog bills again"


def _rows(table: NamedTable) -> int:
    return (table.schema.table.row_count or 0) if table.schema.table else 0
