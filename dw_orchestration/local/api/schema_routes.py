"""The endpoints under `external_data_schemas/`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from dw_orchestration.local import schema_actions
from dw_orchestration.local.api.access import ChangedSchema, Reader, Writer
from dw_orchestration.local.api.bodies import body_of, documented
from dw_orchestration.local.api.documents import BODY, COMMON, DETAIL, LIVE, TIMES
from dw_orchestration.local.api.errors import DetailError, rule_error
from dw_orchestration.local.api.offer_views import SyncOptionsOut, sync_options, table_of
from dw_orchestration.local.api.paging import Paged, PageOut
from dw_orchestration.local.api.schema_views import (
    LogLineOut,
    SchemaOut,
    log_line_out,
    schema_out,
)
from dw_orchestration.local.api.times import read_moments
from dw_orchestration.local.discovery import describe, discovered
from dw_orchestration.local.requests import SchemaPatch
from dw_orchestration.local.rows import StartedBy
from dw_orchestration.local.schema_actions import Cancelled

router = APIRouter(prefix="/api/projects/{project_id}/external_data_schemas", tags=["schemas"], responses=COMMON)


@router.get("/")
def list_schemas(access: Reader, paging: Paged, search: str = "") -> PageOut[SchemaOut]:
    """All schemas of the project, newest first."""
    schemas = access.services.store.schemas(access.project.id, search=search)
    return paging.page(schemas, schema_out)


@router.get("/{schema_id}/")
def get_schema(access: Reader, schema_id: str) -> SchemaOut:
    """One schema, with its source."""
    schema = access.schema(schema_id)
    return schema_out(schema, source=access.services.store.source(schema.source_id))


@router.patch("/{schema_id}/", responses=BODY, openapi_extra=documented(SchemaPatch))
def update_schema(
    access: Writer, schema: ChangedSchema, patch: Annotated[SchemaPatch, Depends(body_of(SchemaPatch))]
) -> SchemaOut:
    """Change how and whether a schema is synced."""
    if not patch.has_strict_time():
        raise rule_error("Invalid sync time of day")
    return schema_out(schema_actions.update_schema(access.services, schema, changes=patch.changes()))


@router.delete("/{schema_id}/", status_code=204, responses=LIVE)
def delete_schema(access: Writer, schema_id: str) -> None:
    """Delete a schema and its table."""
    schema_actions.delete_schema(access.services, access.schema(schema_id))


@router.post("/{schema_id}/reload/", response_class=Response, responses=DETAIL)
def reload_schema(access: Writer, schema_id: str) -> Response:
    """Sync now as configured; dropped without a word while a run is on."""
    access.services.runner.trigger(access.schema(schema_id), started_by=StartedBy.API)
    return Response()


@router.post("/{schema_id}/resync/", response_class=Response, responses=DETAIL)
def resync_schema(access: Writer, schema_id: str) -> Response:
    """Sync from scratch."""
    schema_actions.resync(access.services, access.schema(schema_id))
    return Response()


@router.post("/{schema_id}/cancel/", response_class=Response, responses=DETAIL)
def cancel_schema(access: Writer, schema_id: str) -> Response:
    """End the running sync before answering."""
    match schema_actions.cancel(access.services, access.schema(schema_id)):
        case Cancelled.STOPPED:
            return Response()
        case Cancelled.STATUS_REPAIRED:
            return JSONResponse({"detail": "No sync was running. The sync status has been updated."})
        case Cancelled.NOTHING_RUNNING:
            raise DetailError("No running sync to cancel.")
        case Cancelled.FINISHED_FIRST:
            raise DetailError("The sync already finished.")


@router.delete("/{schema_id}/delete_data/", response_class=Response, responses=LIVE)
def delete_schema_data(access: Writer, schema_id: str) -> Response:
    """Empty a schema; its next run imports everything again."""
    schema_actions.delete_data(access.services, access.schema(schema_id))
    return Response()


@router.post("/{schema_id}/incremental_fields/", responses=LIVE)
def incremental_fields(access: Writer, schema_id: str) -> SyncOptionsOut:
    """Ask the source how the table could be synced."""
    schema = access.schema(schema_id)
    source = access.source(str(schema.source_id))
    tables = access.services.connect(source.source_type, source.job_inputs).discover()
    table = table_of(tables, schema.name)
    describe(access.services, schema, table)
    return sync_options(discovered(table))


@router.get("/{schema_id}/logs/", responses=TIMES)
def schema_logs(
    access: Reader,
    schema_id: str,
    *,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: str | None = None,
    before: str | None = None,
    search: str = "",
    level: Annotated[list[str] | None, Query()] = None,
    instance_id: str | None = None,
) -> PageOut[LogLineOut]:
    """The log lines of a schema's jobs, newest first; `instance_id` is a job's `workflow_run_id`."""
    schema = access.schema(schema_id)
    start, end = read_moments(after=after, before=before)
    levels = {name.upper() for name in level or ()}
    lines = [
        line
        for line in access.services.store.log_lines(schema.id)
        if (start is None or line.timestamp > start)
        and (end is None or line.timestamp < end)
        and search.lower() in line.message.lower()
        and (not levels or line.level in levels)
        and instance_id in {None, str(line.workflow_run_id)}
    ]
    shown = [log_line_out(line) for line in lines[:limit]]
    return PageOut(count=len(shown), next=None, previous=None, results=shown)
