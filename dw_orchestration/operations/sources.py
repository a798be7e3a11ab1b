"""Create, change and delete sources, and look for new tables in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from dw_orchestration.operations.operation import (
    A_SOURCE,
    SECRETS,
    UNCHANGED,
    DryRunParams,
    Operation,
    Params,
    SourceParams,
    argument,
)
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.operations.secrets import names_of
from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.errors import NotFoundError
from dw_orchestration.tables.errors import NotConfirmedError, UsageError
from dw_orchestration.tables.selection import NamedSource
from dw_orchestration.tables.snapshot import SourceSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.posthog.models import Source

TABLE_COLUMNS = ("table", "enabled", "sync_type", "result")
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
        PostHogError: The connection, the prefix or the payload is wrong, or PostHog is unreachable.
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
    source = project.tables().source(source_id)
    on = sum(schema.should_sync for schema in source.source.schemas)
    rows = [_table_row(source, name, result="added") for name in _tables(source.source)]
    summary = f"The source {source.name} ({source_id}) has {counted(len(rows), 'table')}, {on} enabled."
    return Report(summary=summary, rows=rows, columns=TABLE_COLUMNS)


def update_source(
    project: Project,
    source: str,
    *,
    description: str | None = None,
    job_inputs: Mapping[str, object] | None = None,
    prefix: str | None = None,
    auto_sync_new_schemas: bool | None = None,
    auto_sync_schema_patterns: Sequence[str] | None = None,
) -> Report:
    """Change a source's description or connection, or which new tables PostHog enables by itself.

    PostHog tests a connection before it stores it.

    Args:
        project: The source's project.
        source: The source, by name, prefix or id.
        description: For people; an empty text clears it.
        job_inputs: Merged into the connection's fields; what is left out stays, secrets too. No value of it comes into
            the report.
        prefix: The name of a source that PostHog queries in place.
        auto_sync_new_schemas: Whether PostHog enables tables that it finds from now on.
        auto_sync_schema_patterns: It enables only tables whose names match one of these.

    Raises:
        UsageError: The name is unknown, the prefix cannot be changed, or there is nothing to change.
        PostHogError: The connection does not work, or PostHog is unreachable.
    """
    settings: dict[str, Any] = {
        "description": description,
        "prefix": prefix or None,
        "auto_sync_new_schemas": auto_sync_new_schemas,
        "auto_sync_schema_patterns": auto_sync_schema_patterns,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if not given and not job_inputs:
        raise UsageError(f"Nothing to change: give at least one of {', '.join(settings)}, or job_inputs.")
    named = project.tables().source(source)
    if prefix and named.source.access_method is not AccessMethod.DIRECT:
        raise UsageError(
            f"The prefix of {named.name} cannot be changed, because it is in the name of every table. Only a source"
            " that PostHog queries in place has a prefix that is just its name."
        )
    live = project.client.update_source(named.id, job_inputs=job_inputs or None, **given)
    rows = [_setting_row(named, name, kept=_is_kept(live, name, value)) for name, value in given.items()]
    rows += [_setting_row(named, name, kept=True) for name in names_of(job_inputs or {})]
    lost = [str(row["setting"]) for row in rows if row["result"] != "changed"]
    changed = [str(row["setting"]) for row in rows if row["result"] == "changed"]
    summary = f"{named.name}: {', '.join(changed) or 'nothing'} changed."
    if lost:
        summary += f" PostHog accepted {', '.join(lost)} and did not store it: this server may not have it."
    return Report(summary=summary, rows=rows, columns=CHANGE_COLUMNS, failed=bool(lost))


def _is_kept(live: Source, name: str, value: object) -> bool:
    """Whether the answer shows what was sent: servers accept settings that they do not have."""
    shown = getattr(live, name)
    return (shown or None) == ((tuple(value) if isinstance(value, list) else value) or None)


def _setting_row(source: NamedSource, setting: str, *, kept: bool) -> Row:
    return {
        "source": source.name,
        "id": source.id,
        "setting": setting,
        "result": "changed" if kept else "not stored",
    }


def delete_source(project: Project, source: str, *, confirm: str = "", dry_run: bool = False) -> Report:
    """Delete a source with its tables, their rows and its webhook; a running sync is cancelled.

    Args:
        project: The source's project.
        source: The source, by name, prefix or id.
        confirm: The source's full name, or its id, again.
        dry_run: Only show what would be lost, without a confirmation.

    Raises:
        NotConfirmedError: `confirm` is not the source's name; nothing was deleted.
        UsageError: The name is unknown.
        PostHogError: PostHog is unreachable, or the key may not change anything.
    """
    named = project.tables().source(source)
    tables = named.source.schemas
    rows = sum((schema.table.row_count or 0) for schema in tables if schema.table)
    loss = f"the source {named.name} with {counted(len(tables), 'table')} and {counted(rows, 'row')}, for good"
    if dry_run:
        doomed = [_table_row(named, each, result="would be deleted") for each in _tables(named.source)]
        return Report(summary=f"Dry run: nothing is deleted. It would be {loss}.", rows=doomed, columns=TABLE_COLUMNS)
    if confirm not in (named.name, named.id):
        raise NotConfirmedError(
            f"This deletes {loss}. If that is what you want, repeat its name to confirm it: {named.name}.",
            missing=[named.name],
        )
    project.client.delete_source(named.id)
    is_gone = _is_gone(project, named.id)
    result = "deleted" if is_gone else "failed"
    summary = f"The source {named.name} " + ("is deleted." if is_gone else "is still there, though PostHog said yes.")
    deleted = [_table_row(named, each, result=result) for each in _tables(named.source)]
    return Report(summary=summary, rows=deleted, columns=TABLE_COLUMNS, failed=not is_gone)


def refresh_source(project: Project, source: str) -> Report:
    """Look for new and vanished tables in the customer's source, and name them. New ones are disabled at first.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: The source or PostHog is unreachable.
    """
    named = project.tables().source(source)
    before = {schema.id: schema for schema in named.source.schemas}
    found = project.client.refresh_schemas(named.id)
    now = project.client.get_source(named.id)
    after = {schema.id: schema for schema in now.schemas}
    refreshed = NamedSource(name=named.name, source=SourceSnapshot.of(now, schemas=now.schemas))
    rows = [_table_row(refreshed, after[key].name, result="added") for key in after if key not in before]
    rows += [_table_row(named, before[key].name, result="gone") for key in before if key not in after]
    rows += [
        _table_row(refreshed, schema.name, result="disabled")
        for key, schema in after.items()
        if key in before and before[key].should_sync and not schema.should_sync
    ]
    summary = f"{named.name}: {counted(found.added, 'table')} added, {counted(found.deleted, 'table')} gone."
    return Report(summary=summary, rows=sorted(rows, key=lambda row: str(row["table"])), columns=TABLE_COLUMNS)


def _is_gone(project: Project, source_id: str) -> bool:
    try:
        project.client.get_source(source_id)
    except NotFoundError:
        return True
    return False


def _tables(source: SourceSnapshot) -> list[str]:
    return sorted(schema.name for schema in source.schemas)


def _table_row(source: NamedSource, name: str, *, result: str) -> Row:
    schema = next(schema for schema in source.source.schemas if schema.name == name)
    return {
        "table": f"{source.name}.{name}",
        "id": schema.id,
        "source_id": source.id,
        "enabled": schema.should_sync,
        "sync_type": schema.sync_type,
        "result": result,
    }


A_CONNECTION = {
    "host": "db.example.com",
    "port": 5432,
    "database": "shop",
    "user": "posthog",
    "password": {"env": "DB_PASSWORD"},
    "schema": "public",
    "schemas": [{"name": "orders", "should_sync": True, "sync_type": "full_refresh"}],
}


class CreateSourceParams(Params):
    """A new source."""

    source_type: str = argument("TYPE", "The type as PostHog spells it: `Postgres`, `Stripe`.", examples=["Postgres"])
    payload: dict[str, Any] = Field(
        description="The fields of the connection, as PostHog has them, and `schemas`, the wanted tables:"
        f" `[{{name, should_sync, sync_type, …}}]`. {SECRETS}",
        examples=[A_CONNECTION],
    )
    prefix: str | None = Field(
        default=None,
        description="Goes before every table's name. It can never be changed. Use letters, digits and `_`.",
        examples=["shop"],
    )
    description: str | None = Field(default=None, description="A note for people.")
    access_method: Literal["warehouse", "direct"] = Field(
        default="warehouse", description="`warehouse` imports the rows, `direct` queries them in place."
    )


class UpdateSourceParams(SourceParams):
    """Changes of a source."""

    left_out: ClassVar[str] = UNCHANGED

    description: str | None = Field(default=None, description="A note for people; an empty text clears it.")
    job_inputs: dict[str, Any] | None = Field(
        default=None,
        description="The fields of the connection that change; the others stay, secrets too. A new host or tunnel"
        " needs the"
        f" secrets again. {SECRETS}",
        examples=[{"password": {"env": "DB_PASSWORD"}}],
    )
    prefix: str | None = Field(
        default=None, description="The name of a source that PostHog queries in place; no other prefix can be changed."
    )
    auto_sync_new_schemas: bool | None = Field(
        default=None, description="Whether PostHog enables the tables that it finds in the source from now on."
    )
    auto_sync_schema_patterns: list[str] | None = Field(
        default=None, description="PostHog enables only new tables whose names match one of these patterns."
    )


class DeleteSourceParams(SourceParams, DryRunParams):
    """The source that is deleted."""

    confirm: str = Field(
        default="",
        description="Repeat the full name of the source to confirm, such as `postgres_shop`.",
        examples=[A_SOURCE],
    )


CREATE_SOURCE = Operation(
    name="create_source",
    command="source create",
    params=CreateSourceParams,
    run=create_source,
    description="Create a source in PostHog. PostHog tests the connection first, then syncs the tables that are"
    " enabled.",
    examples=("source create Postgres --prefix shop --payload shop.json",),
)
UPDATE_SOURCE = Operation(
    name="update_source",
    command="source update",
    params=UpdateSourceParams,
    run=update_source,
    description="Change the description or the connection of a source, or which new tables PostHog enables by itself."
    " PostHog tests the connection first.",
    examples=("source update postgres_shop --job-inputs password.json",),
)
DELETE_SOURCE = Operation(
    name="delete_source",
    command="source delete",
    params=DeleteSourceParams,
    run=delete_source,
    deletes=True,
    description="Delete a source in PostHog permanently, with its tables, their rows and its webhook. `confirm` has"
    " to repeat the name of the source.",
    examples=("source delete --dry-run postgres_shop", "source delete postgres_shop --confirm postgres_shop"),
)
REFRESH_SCHEMAS = Operation(
    name="refresh_schemas",
    command="refresh",
    params=SourceParams,
    run=refresh_source,
    description="Find new and deleted tables of a source now, as PostHog does by itself every six hours. New tables are"
    " disabled at first. Refresh the state of the definitions afterwards to see them as assets.",
    examples=("refresh postgres_shop",),
)
