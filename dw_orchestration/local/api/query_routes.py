"""The query endpoint: SQL over the synced tables."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from dw_orchestration.local.api.access import Access, Asker
from dw_orchestration.local.api.bodies import body_of, documented
from dw_orchestration.local.api.documents import BODY, COMMON
from dw_orchestration.local.api.errors import AnswerError, not_found
from dw_orchestration.local.queries import BackgroundQuery, QueryAnswer, QueryRefusedError
from dw_orchestration.local.requests import QueryRequest

router = APIRouter(prefix="/api/projects/{project_id}/query", tags=["query"], responses=COMMON)

_IN_BACKGROUND = ("async", "force_async", "lazy_async")


class StatusOut(BaseModel):
    """How far a query in the background is."""

    id: str
    team_id: int
    complete: bool
    error: bool = False
    error_message: str | None = None
    query_async: bool = True
    results: dict[str, Any] | None = None


class PolledOut(BaseModel):
    """A query in the background, in the answer to a poll."""

    query_status: StatusOut


class AnswerOut(BaseModel):
    """The rows of a query, or the status of one that was begun in the background."""

    results: list[list[Any]] | None
    columns: list[str] | None = None
    types: list[list[str]] | None = None
    hasMore: bool | None = None  # noqa: N815 - the API's spelling
    limit: int | None = None
    offset: int | None = None
    is_cached: bool = False
    query_status: StatusOut | None = None


class CancelledOut(BaseModel):
    """A query that was asked to stop."""

    message: str


@router.post(
    "/",
    responses={**BODY, 200: {"model": AnswerOut}, 202: {"model": AnswerOut}},
    response_class=Response,
    openapi_extra=documented(QueryRequest),
)
def run_query(access: Asker, request: Annotated[QueryRequest, Depends(body_of(QueryRequest))]) -> Response:
    """Run a query, or begin one in the background."""
    query = request.query
    values, tables = query.values or {}, _tables_of(access)
    if request.refresh in _IN_BACKGROUND:
        begun = access.services.queries.start(query.query, values, tables=tables)
        return _as_json(AnswerOut(results=None, query_status=_status(begun, access)).model_dump(), status=202)
    try:
        answer = access.services.queries.run(query.query, values, tables=tables)
    except QueryRefusedError as error:
        raise _refused(error) from None
    return _as_json(_content(answer) | {"is_cached": False, "query_status": None})


@router.get("/{query_id}/", responses={status: {"model": PolledOut} for status in (200, 202, 400)})
def poll_query(access: Asker, query_id: str) -> Response:
    """How far a query in the background is; its rows once it has ended."""
    status = _status(_begun(access, query_id), access)
    code = 400 if status.error else 200 if status.complete else 202
    return _as_json({"query_status": status.model_dump()}, status=code)


@router.delete("/{query_id}/")
def cancel_query(access: Asker, query_id: str) -> CancelledOut:
    """Stop a query in the background."""
    _begun(access, query_id).cancelled.set()
    return CancelledOut(message="Query task revoked")


def _begun(access: Access, query_id: str) -> BackgroundQuery:
    query = access.services.queries.started(query_id)
    if query is None:
        raise not_found(f"Query {query_id} not found for team {access.project.id}")
    return query


def _tables_of(access: Access) -> set[tuple[str, str]]:
    schemas = access.services.store.schemas(access.project.id)
    return {(schema.target_schema, schema.target_name) for schema in schemas if schema.synced is not None}


def _refused(error: QueryRefusedError) -> AnswerError:
    return AnswerError(400, code="query_error", detail=str(error))


def _status(query: BackgroundQuery, access: Access) -> StatusOut:
    return StatusOut(
        id=query.id,
        team_id=access.project.id,
        complete=query.ended.is_set(),
        error=query.error is not None,
        error_message=query.error,
        results=None if query.answer is None else _content(query.answer),
    )


def _content(answer: QueryAnswer) -> dict[str, Any]:
    return {
        "results": answer.results,
        "columns": answer.columns,
        "types": answer.types,
        "hasMore": answer.has_more,
        "limit": answer.limit,
        "offset": 0,
    }


def _as_json(content: object, *, status: int = 200) -> Response:
    """The answer. Validating fifty thousand rows would take longer than the query."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(text, status_code=status, media_type="application/json")
