"""The endpoints under `external_data_sources/`."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from dw_orchestration.local import discovery, schema_actions, source_actions, webhooks
from dw_orchestration.local.api.access import Access, ChangedSource, Reader, Writer
from dw_orchestration.local.api.bodies import body_of, documented
from dw_orchestration.local.api.documents import BODY, BULK, COMMON, DETAIL, LIVE, LIVE_BODY, TIMES
from dw_orchestration.local.api.errors import AnswerError, not_found, rule_error
from dw_orchestration.local.api.offer_views import OfferedTableOut, offered_table
from dw_orchestration.local.api.paging import Paged, PageOut
from dw_orchestration.local.api.schema_views import SchemaOut, schema_out
from dw_orchestration.local.api.source_views import (
    CreatedOut,
    JobOut,
    ReceivedOut,
    RefreshOut,
    SourceListOut,
    SourceOut,
    WebhookCreatedOut,
    WebhookDeletedOut,
    WebhookInfoOut,
    job_out,
    source_list_out,
    source_out,
)
from dw_orchestration.local.api.times import read_moments
from dw_orchestration.local.behaviours import SyncBehaviour
from dw_orchestration.local.errors import RefusedError, RuleError
from dw_orchestration.local.requests import (
    BulkItem,
    BulkPatch,
    DatabaseSchemaRequest,
    SourceCreate,
    SourcePatch,
    WebhookEvent,
)
from dw_orchestration.local.rows import Schema, Source, StartedBy

router = APIRouter(prefix="/api/projects/{project_id}/external_data_sources", tags=["sources"], responses=COMMON)
receiver = APIRouter(include_in_schema=False)


@router.get("/")
def list_sources(access: Reader, paging: Paged, search: str = "") -> PageOut[SourceListOut]:
    """All sources of the project with their schemas in brief, newest first."""
    store = access.services.store
    return paging.page(store.sources(access.project.id, search=search), lambda row: source_list_out(store, row))


@router.post("/", status_code=201, responses=LIVE_BODY, openapi_extra=documented(SourceCreate))
def create_source(access: Writer, request: Annotated[SourceCreate, Depends(body_of(SourceCreate))]) -> CreatedOut:
    """Add a source and start the first syncs of its tables."""
    source = source_actions.create_source(access.services, request, project_id=access.project.id)
    return CreatedOut(id=source.id)


@router.post("/database_schema/", responses=LIVE_BODY, openapi_extra=documented(DatabaseSchemaRequest))
def database_schema(
    access: Writer, request: Annotated[DatabaseSchemaRequest, Depends(body_of(DatabaseSchemaRequest))]
) -> list[OfferedTableOut]:
    """Try connection fields and list the tables behind them, without making a source."""
    if not isinstance(request.source_type, str):
        raise RefusedError("Missing required parameter: source_type")
    connector = access.services.connect(request.source_type, request.model_extra or {})
    connector.check()
    tables = [(table.name, discovery.discovered(table)) for table in connector.discover()]
    return [offered_table(name, table) for name, table in tables]


@router.get("/{source_id}/")
def get_source(access: Reader, source_id: str) -> SourceOut:
    """One source with its schemas in full."""
    return source_out(access.services.store, access.source(source_id))


@router.patch("/{source_id}/", responses=BODY, openapi_extra=documented(SourcePatch))
def update_source(
    access: Writer, source: ChangedSource, patch: Annotated[SourcePatch, Depends(body_of(SourcePatch))]
) -> SourceOut:
    """Change a source's description or connection; a sent prefix is ignored."""
    changed = source_actions.update_source(access.services, source, patch=patch)
    return source_out(access.services.store, changed)


@router.delete("/{source_id}/", status_code=204, responses=LIVE)
def delete_source(access: Writer, source_id: str) -> None:
    """Delete a source with all it holds."""
    source_actions.delete_source(access.services, access.source(source_id))


@router.patch("/{source_id}/bulk_update_schemas/", responses=BULK, openapi_extra=documented(BulkPatch))
def bulk_update_schemas(
    access: Writer, source: ChangedSource, patch: Annotated[BulkPatch, Depends(body_of(BulkPatch))]
) -> list[SchemaOut]:
    """Change several schemas; one that is refused does not keep the others from being saved."""
    pairs = _bulk_pairs(access, source, items=patch.schemas)
    failures: list[str] = []
    status = 400
    for schema, item in pairs:
        behaviour = access.services.behaviours.of(schema.id)
        if behaviour is not None and behaviour.bulk_save_fails:
            failures.append(schema.name)
            status = 503
            continue
        try:
            schema_actions.update_schema(access.services, schema, changes=item.changes())
        except RuleError as error:
            failures.append(f"{schema.name} ({error})")
    if failures:
        text = (
            f"These schemas in the batch could not be saved: {', '.join(failures)}. Any other schemas in the batch"
            " were saved successfully \N{EM DASH} retry the ones listed here."
        )
        raise AnswerError(status, code="bulk_schema_save_failed", detail=text)
    return [schema_out(access.schema(str(schema.id))) for schema, _ in pairs]


@router.post("/{source_id}/reload/", response_class=Response, responses=DETAIL)
def reload_source(access: Writer, source_id: str) -> Response:
    """Sync all enabled tables of the source."""
    for schema in access.services.store.schemas_of(access.source(source_id).id):
        if schema.should_sync:
            access.services.runner.trigger(schema, started_by=StartedBy.API)
    return Response()


@router.get("/{source_id}/jobs/", responses=TIMES)
def list_jobs(
    access: Reader,
    source_id: str,
    *,
    after: str | None = None,
    before: str | None = None,
    schemas: Annotated[list[str] | None, Query()] = None,
) -> list[JobOut]:
    """The newest jobs of the source, at most 50, as a bare list."""
    source, store = access.source(source_id), access.services.store
    start, end = read_moments(after=after, before=before)
    known = {schema.id: schema for schema in store.schemas_of(source.id, deleted_too=True)}
    jobs = store.jobs(source.id, after=start, before=end, names=schemas or ())
    behaviours = {schema_id: access.services.behaviours.of(schema_id) or SyncBehaviour() for schema_id in known}
    return [
        job_out(job, schema=known[job.schema_id], running=behaviours[job.schema_id].shows_status)
        for job in jobs
        if job.schema_id in known
    ]


@router.post("/{source_id}/refresh_schemas/", responses=LIVE)
def refresh_schemas(access: Writer, source_id: str) -> RefreshOut:
    """List the source's tables again."""
    changed = discovery.refresh(access.services, access.source(source_id))
    return RefreshOut(**asdict(changed))


@router.get("/{source_id}/webhook_info/")
def webhook_info(access: Reader, source_id: str, request: Request) -> WebhookInfoOut:
    """The source's webhook, if there is one."""
    source = access.source(source_id)
    return WebhookInfoOut(
        supports_webhooks=webhooks.supports_webhooks(access.services.store.schemas_of(source.id)),
        exists=source.webhook_id is not None,
        webhook_url=_webhook_url(request, source.webhook_id) if source.webhook_id else None,
    )


@router.post("/{source_id}/create_webhook/", responses=LIVE)
def create_webhook(access: Writer, source_id: str, request: Request) -> WebhookCreatedOut:
    """Make a webhook, to which the source's tables can be posted."""
    webhook_id = webhooks.create(access.services.store, access.source(source_id))
    return WebhookCreatedOut(webhook_url=_webhook_url(request, webhook_id))


@router.post("/{source_id}/delete_webhook/", responses=LIVE)
def delete_webhook(access: Writer, source_id: str) -> WebhookDeletedOut:
    """Remove the source's webhook."""
    webhooks.delete(access.services.store, access.source(source_id))
    return WebhookDeletedOut()


@receiver.post("/public/webhooks/dwh/{webhook_id}/", responses=BODY)
def receive_rows(
    request: Request, webhook_id: UUID, event: Annotated[WebhookEvent, Depends(body_of(WebhookEvent))]
) -> ReceivedOut:
    """Take rows of a table, as a provider posts them; the next sync merges them."""
    store = request.app.state.services.store
    source = store.source_of_webhook(webhook_id)
    if source is None:
        raise not_found()
    return ReceivedOut(received=webhooks.receive(store, source, table=event.table, rows=event.rows))


def _webhook_url(request: Request, webhook_id: UUID) -> str:
    return f"{request.base_url}public/webhooks/dwh/{webhook_id}"


def _bulk_pairs(access: Access, source: Source, *, items: list[BulkItem]) -> list[tuple[Schema, BulkItem]]:
    by_id = {schema.id: schema for schema in access.services.store.schemas_of(source.id)}
    ids = [item.id for item in items]
    if len(set(ids)) != len(ids):
        raise rule_error("Schema updates must contain unique ids")
    if any(schema_id not in by_id for schema_id in ids):
        raise rule_error("One or more schemas could not be found for this source")
    return [(by_id[item.id], item) for item in items]
