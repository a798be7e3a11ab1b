"""Create, change and delete sources, and look for new tables in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.operations.secrets import names_of
from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.errors import NotFoundError
from dw_orchestration.tables.errors import NotConfirmedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dw_orchestration.operations.catalogue import NamedSource, Project
    from dw_orchestration.posthog.models import Source

TABLE_COLUMNS = ("table", "on", "sync_type", "result")
CHANGE_COLUMNS = ("source", "setting", "result")


def create_source(
    project: Project,
    source_type: str,
    payload: Mapping[str, object],
    *,
    prefix: str | None = None,
    description: str | None = None,
    access_method: str | None = None,
) -> Report:
    """Create a source, and say which tables it has. PostHog tests the connection first, which takes long.

    Args:
        project: The source's project.
        source_type: As PostHog spells it.
        payload: The connection's fields, and the `schemas` that are wanted; no value of it comes into the report.
        prefix: Goes before every table's name, and cannot be changed.
        description: For people.
        access_method: `warehouse` or `direct`.

    Raises:
        UsageError: The type is empty.
        PostHogError: The connection, the prefix or the payload is wrong, or PostHog cannot be asked.
    """
    if not source_type.strip():
        raise UsageError("The source has no type: give one as PostHog spells it, Postgres for example.")
    source_id = project.client.create_source(
        source_type,
        payload,
        prefix=prefix or None,
        description=description or None,
        access_method=AccessMethod(access_method) if access_method else None,
    )
    source = project.catalogue().source(source_id)
    on = sum(schema.should_sync for schema in source.source.schemas)
    rows = [_table_row(source, name, result="added") for name in _tables(source.source)]
    summary = f"The source {source.name} ({source_id}) has {counted(len(rows), 'table')}, {on} switched on."
    return Report(summary=summary, rows=rows, columns=TABLE_COLUMNS)


def update_source(
    project: Project,
    name: str,
    *,
    description: str | None = None,
    job_inputs: Mapping[str, object] | None = None,
) -> Report:
    """Change a source's description or connection; PostHog tests the connection first.

    Args:
        project: The source's project.
        name: The source.
        description: For people; an empty text clears it.
        job_inputs: Merged into the connection's fields; what is left out stays, secrets too. No value of it comes into
            the report.

    Raises:
        UsageError: The name is unknown, or there is nothing to change.
        PostHogError: The connection does not work, or PostHog cannot be asked.
    """
    if description is None and not job_inputs:
        raise UsageError("There is nothing to change: give a description or fields of the connection.")
    source = project.catalogue().source(name)
    project.client.update_source(source.id, description=description, job_inputs=job_inputs or None)
    changed = [*(["description"] if description is not None else []), *names_of(job_inputs or {})]
    rows: list[Row] = [
        {"source": source.name, "id": source.id, "setting": setting, "result": "changed"} for setting in changed
    ]
    summary = f"{source.name}: {', '.join(changed)} changed."
    return Report(summary=summary, rows=rows, columns=CHANGE_COLUMNS)


def delete_source(project: Project, name: str, *, confirm: str) -> Report:
    """Delete a source with its tables, their rows and its webhook; a running sync is cancelled.

    Args:
        project: The source's project.
        name: The source.
        confirm: The source's full name, or its id, again.

    Raises:
        NotConfirmedError: `confirm` is not the source's name; nothing was deleted.
        UsageError: The name is unknown.
        PostHogError: PostHog cannot be asked, or the key may not change anything.
    """
    source = project.catalogue().source(name)
    tables = source.source.schemas
    if confirm not in (source.name, source.id):
        rows = sum((schema.table.row_count or 0) for schema in tables if schema.table)
        raise NotConfirmedError(
            f"This deletes the source {source.name} with {counted(len(tables), 'table')} and {counted(rows, 'row')},"
            f" for good. If that is what you want, repeat its name to confirm it: {source.name}."
        )
    project.client.delete_source(source.id)
    is_gone = _is_gone(project, source.id)
    result = "deleted" if is_gone else "failed"
    summary = f"The source {source.name} " + ("is deleted." if is_gone else "is still there, though PostHog said yes.")
    deleted = [_table_row(source, each, result=result) for each in _tables(source.source)]
    return Report(summary=summary, rows=deleted, columns=TABLE_COLUMNS, failed=not is_gone)


def refresh_source(project: Project, name: str) -> Report:
    """Look for new and vanished tables in the customer's source, and name them. New ones are switched off at first.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: The source or PostHog could not be asked.
    """
    source = project.catalogue().source(name)
    before = {schema.id: schema for schema in source.source.schemas}
    found = project.client.refresh_schemas(source.id)
    now = project.client.get_source(source.id)
    after = {schema.id: schema for schema in now.schemas}
    refreshed = type(source)(name=source.name, source=now)
    rows = [_table_row(refreshed, after[key].name, result="added") for key in after if key not in before]
    rows += [_table_row(source, before[key].name, result="gone") for key in before if key not in after]
    rows += [
        _table_row(refreshed, schema.name, result="switched off")
        for key, schema in after.items()
        if key in before and before[key].should_sync and not schema.should_sync
    ]
    summary = f"{source.name}: {counted(found.added, 'table')} added, {counted(found.deleted, 'table')} gone."
    return Report(summary=summary, rows=sorted(rows, key=lambda row: str(row["table"])), columns=TABLE_COLUMNS)


def _is_gone(project: Project, source_id: str) -> bool:
    try:
        project.client.get_source(source_id)
    except NotFoundError:
        return True
    return False


def _tables(source: Source) -> list[str]:
    return sorted(schema.name for schema in source.schemas)


def _table_row(source: NamedSource, name: str, *, result: str) -> Row:
    schema = next(schema for schema in source.source.schemas if schema.name == name)
    return {
        "table": f"{source.name}.{name}",
        "id": schema.id,
        "source_id": source.id,
        "on": schema.should_sync,
        "sync_type": schema.sync_type,
        "result": result,
    }
