"""Delete the rows of tables, or tables with their rows: guarded as a resync is, by names that are repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from dw_orchestration.operations.cancelling import running_jobs
from dw_orchestration.operations.confirmation import confirmed_tables, loss, rows_of
from dw_orchestration.operations.operation import ConfirmedTablesParams, Operation
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.posthog.errors import NotFoundError, PostHogError
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.tables.table import Table

# The result, and a note.
Deleted: TypeAlias = tuple[str, str | None]

REVIVED = (
    "PostHog finds deleted tables again when it reads their source, every six hours, and newer servers enable them as"
    " before. To stop a table for good, disable it instead."
)
COLUMNS = ("table", "rows", "last_synced_at", "result", "note")


def delete_data(
    project: Project, tables: Sequence[str], *, confirm: Sequence[str] = (), dry_run: bool = False
) -> Report:
    """Delete the rows of tables. They stay enabled: their next sync imports, and bills, all rows again.

    Args:
        project: The tables' project.
        tables: Names and patterns of tables.
        confirm: The name of each of these tables again; no patterns.
        dry_run: Only show what would be lost, without a confirmation.

    Raises:
        NotConfirmedError: `confirm` does not name exactly these tables; nothing was deleted.
        UsageError: A name is unknown, or a table is being synced; nothing was deleted.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    if dry_run:
        return _plan(project, tables)
    return _delete_each(
        project, tables, confirm=confirm, delete=_delete_rows, then="The next sync imports all rows again."
    )


def delete_tables(
    project: Project, tables: Sequence[str], *, confirm: Sequence[str] = (), dry_run: bool = False
) -> Report:
    """Delete tables with their rows. PostHog finds them again in their sources; `disable_tables` stops them for good.

    Args:
        project: The tables' project.
        tables: Names and patterns of tables.
        confirm: The name of each of these tables again; no patterns.
        dry_run: Only show what would be lost, without a confirmation.

    Raises:
        NotConfirmedError: `confirm` does not name exactly these tables; nothing was deleted.
        UsageError: A name is unknown, or a table is being synced; nothing was deleted.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    if dry_run:
        return _plan(project, tables)
    return _delete_each(project, tables, confirm=confirm, delete=_delete_table, then=REVIVED)


def _plan(project: Project, tables: Sequence[str]) -> Report:
    chosen = project.tables().matching(tables)
    rows = [_row(table, "would be deleted", None) for table in chosen]
    return Report(summary=f"Dry run: nothing is deleted. It would be {loss(chosen)}.", rows=rows, columns=COLUMNS)


def _delete_each(
    project: Project,
    tables: Sequence[str],
    *,
    confirm: Sequence[str],
    delete: Callable[[PostHogWarehouseClient, Table], Deleted],
    then: str,
) -> Report:
    """Delete what was confirmed, and read back whether it is gone."""
    chosen = confirmed_tables(project, tables, confirm=confirm)
    running = running_jobs(project.client, chosen)
    if busy := [visible(table.name) for table in chosen if table.id in running]:
        raise UsageError(f"Nothing was deleted: {', '.join(busy)} is syncing. Cancel the sync or wait for its end.")
    project.client.check_access(write=True)
    rows = [_row(table, *_attempt(project.client, table, delete)) for table in chosen]
    failed = [row for row in rows if row["result"] == "failed"]
    lost = sum(rows_of(table) for table, row in zip(chosen, rows, strict=True) if row["result"] == "deleted")
    summary = f"{counted(lost, 'row')} of {counted(len(rows) - len(failed), 'table')} deleted."
    summary += f" {counted(len(failed), 'table')} failed." if failed else f" {then}"
    return Report(summary=summary, rows=rows, columns=COLUMNS, failed=bool(failed))


def _attempt(
    client: PostHogWarehouseClient, table: Table, delete: Callable[[PostHogWarehouseClient, Table], Deleted]
) -> Deleted:
    try:
        return delete(client, table)
    except PostHogError as error:
        return "failed", error.text


def _delete_rows(client: PostHogWarehouseClient, table: Table) -> Deleted:
    if table.schema.table is None:
        return "had no rows", None
    client.delete_schema_data(table.id)
    left = client.get_schema(table.id).table
    return ("deleted", None) if left is None else ("failed", f"PostHog answered yes, and still shows {left.name}.")


def _delete_table(client: PostHogWarehouseClient, table: Table) -> Deleted:
    client.delete_schema(table.id)
    try:
        client.get_schema(table.id)
    except NotFoundError:
        return "deleted", None
    return "failed", "PostHog answered yes, and still shows the table."


def _row(table: Table, result: str, note: str | None) -> Row:
    return {
        "table": table.name,
        "id": table.id,
        "rows": rows_of(table),
        "last_synced_at": table.schema.last_synced_at,
        "result": result,
        "note": note,
    }


DELETE_DATA = Operation(
    name="delete_data",
    command="delete-data",
    params=ConfirmedTablesParams,
    run=delete_data,
    deletes=True,
    description="Delete the rows of tables in PostHog. The tables stay enabled: their next sync imports all rows"
    " again, and PostHog bills them again. `confirm` has to repeat the names of the tables.",
    examples=("delete-data --dry-run 'stripe.*'", "delete-data stripe.Charge --confirm stripe.Charge"),
)
DELETE_TABLES = Operation(
    name="delete_tables",
    command="delete-table",
    params=ConfirmedTablesParams,
    run=delete_tables,
    deletes=True,
    description=f"Delete tables in PostHog, with their rows. {REVIVED} `confirm` has to repeat the tables' names.",
    examples=("delete-table --dry-run stripe.Charge", "delete-table stripe.Charge --confirm stripe.Charge"),
)
