"""Request bodies: read only where PostHog reads them, and only after the key was checked."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from dw_orchestration.local.api.errors import AnswerError, field_error
from dw_orchestration.local.requests import (
    BulkPatch,
    DatabaseSchemaRequest,
    SchemaPatch,
    SourceCreate,
    SourcePatch,
)

M = TypeVar("M", bound=BaseModel)

REQUESTS: tuple[type[BaseModel], ...] = (
    BulkPatch,
    DatabaseSchemaRequest,
    SchemaPatch,
    SourceCreate,
    SourcePatch,
)

_FORM = "application/x-www-form-urlencoded"


def body_of(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads the request's body as `model`."""

    async def read(request: Request) -> M:
        content = _parse(await request.body(), media_type=request.headers.get("content-type", ""))
        try:
            return model.model_validate(content)
        except ValidationError as error:
            raise field_error(error.errors()[0]) from error

    return read


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of an endpoint that reads `model`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def request_schemas() -> dict[str, Any]:
    """The OpenAPI components of all request bodies."""
    _, schema = models_json_schema(
        [(model, "validation") for model in REQUESTS], ref_template="#/components/schemas/{model}"
    )
    definitions: dict[str, Any] = schema["$defs"]
    return definitions


def _parse(raw: bytes, *, media_type: str) -> object:
    kind = media_type.partition(";")[0].strip().lower()
    if not raw:
        return {}
    if kind == _FORM:
        return dict(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))
    if kind != "application/json":
        text = f'Unsupported media type "{media_type}" in request.'
        raise AnswerError(415, code="unsupported_media_type", detail=text)
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise AnswerError(400, code="parse_error", detail=f"JSON parse error - {error}") from error
