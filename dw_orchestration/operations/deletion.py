"""Delete the rows of tables: guarded as a resync is, by names that are repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dw_orchestration.operations.cancelling import running_jobs
from dw_orchestration.operations.confirmation import confirmed_tables, rows_of
from dw_orchestration.operations.operation import ConfirmedTablesParams, Operation
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.tables.table import Table

COLUMNS = ("table", "rows", "last_synced_at", "result", "note")


@dataclass(frozen=True, kw_only=True)
class DeletionPlan:
    """The tables whose rows are to be deleted; they have been confirmed."""

    tables: Sequence[Table]


def delete_data(project: Project, tables: Sequence[str], *, confirm: Sequence[str]) -> Report:
    """Delete the rows of tables. They stay enabled: their next sync imports, and bills, all rows again.

    Args:
        project: The tables' project.
        tables: Names and patterns of tables.
        confirm: The name of each of these tables again; no patterns.

    Raises:
        NotConfirmedError: `confirm` does not name exactly these tables; nothing was deleted.
        UsageError: A name is unknown, or a table is being synced; nothing was deleted.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    chosen = confirmed_tables(project, tables, confirm=confirm)
    return apply_deletion(project.client, plan_deletion(chosen, running=running_jobs(project.client, chosen)))


def plan_deletion(tables: Sequence[Table], *, running: Collection[str]) -> DeletionPlan:
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
    lost = sum(rows_of(table) for table, row in zip(plan.tables, rows, strict=True) if row["result"] == "deleted")
    summary = f"{counted(lost, 'row')} of {counted(len(rows) - len(failed), 'table')} deleted."
    summary += f" {counted(len(failed), 'table')} failed." if failed else " The next sync imports all rows again."
    return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(failed))


def _delete(client: PostHogWarehouseClient, table: Table) -> Row:
    row: Row = {
        "table": table.name,
        "id": table.id,
        "rows": rows_of(table),
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


DELETE_DATA = Operation(
    name="delete_data",
    command="delete-data",
    params=ConfirmedTablesParams,
    run=delete_data,
    deletes=True,
    description="Delete the rows of tables in PostHog. The tables stay enabled: their next sync imports all rows"
    " again, and"
    " PostHog bills them again. `confirm` has to repeat the names of the tables.",
)
