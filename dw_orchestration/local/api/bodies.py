"""Request bodies: read only where PostHog reads them, and only after the key was checked."""

import json
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.message import Message
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from dw_orchestration.local.api.errors import AnswerError, body_error
from dw_orchestration.local.requests import (
    BulkPatch,
    DatabaseSchemaRequest,
    QueryRequest,
    SchemaPatch,
    SourceCreate,
    SourcePatch,
)

M = TypeVar("M", bound=BaseModel)

REQUESTS: tuple[type[BaseModel], ...] = (
    BulkPatch,
    DatabaseSchemaRequest,
    QueryRequest,
    SchemaPatch,
    SourceCreate,
    SourcePatch,
)


def body_of(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads the request's body as `model`."""

    async def read(request: Request) -> M:
        content = _parse(await request.body(), media_type=request.headers.get("content-type", ""), model=model)
        try:
            return model.model_validate(content)
        except ValidationError as error:
            raise body_error(error.errors()) from error

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


def _parse(raw: bytes, *, media_type: str, model: type[BaseModel]) -> object:
    kind = media_type.partition(";")[0].strip().lower()
    if not raw:
        return {}
    if kind == "application/x-www-form-urlencoded":
        return _form(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True), model=model)
    if kind == "multipart/form-data":
        return _form(_parts(raw, media_type=media_type), model=model)
    if kind != "application/json":
        text = f'Unsupported media type "{media_type}" in request.'
        raise AnswerError(415, code="unsupported_media_type", detail=text)
    try:
        return json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise AnswerError(400, code="parse_error", detail=f"JSON parse error - {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


def _parts(raw: bytes, *, media_type: str) -> list[tuple[str, str]]:
    """The fields of a multipart form."""
    message = message_from_bytes(f"Content-Type: {media_type}\r\n\r\n".encode() + raw)
    parts = message.get_payload() if message.is_multipart() else []
    named = [
        (part.get_param("name", header="content-disposition"), part) for part in parts if isinstance(part, Message)
    ]
    values = [(name, part.get_payload(decode=True)) for name, part in named]
    return [
        (name, value.decode(errors="replace"))
        for name, value in values
        if isinstance(name, str) and isinstance(value, bytes)
    ]


def _form(pairs: list[tuple[str, str]], *, model: type[BaseModel]) -> dict[str, Any]:
    """A form as Django REST Framework takes it: an empty value is null, and of a list only the last item stays."""
    fields = model.model_json_schema()["properties"]
    content: dict[str, Any] = {name: {} for name, schema in fields.items() if schema.get("type") == "object"}
    for name, value in pairs:
        outer, _, inner = name.partition(".")
        if inner and isinstance(content.get(outer), dict):
            content[outer][inner] = value
        elif outer not in content or not isinstance(content[outer], dict):
            is_list = '"array"' in json.dumps(fields.get(name, {}))
            content[name] = [value] if is_list else value or None
    return content
