"""The three shapes in which PostHog says no, and how exceptions become them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from dw_orchestration.local.services import RefusedError, RuleError
from dw_orchestration.local.syncing import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request
    from pydantic_core import ErrorDetails

logger = logging.getLogger(__name__)


class ErrorOut(BaseModel):
    """The usual shape: what went wrong, for programs and for people."""

    type: str
    code: str
    detail: str
    attr: str | None


class MessageOut(BaseModel):
    """The shape of calls that talk to the source."""

    message: str


class DetailOut(BaseModel):
    """The shape of calls that start or stop a sync."""

    detail: str


class AnswerError(Exception):
    """An answer other than success, in the usual shape."""

    def __init__(
        self,
        status: int,
        *,
        code: str,
        detail: str,
        attr: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = ErrorOut(type=_type(status, code), code=code, detail=detail, attr=attr)
        self.headers = headers


class DetailError(Exception):
    """A 400 whose body has only a detail."""


def _type(status: int, code: str) -> str:
    if code == "bulk_schema_save_failed":
        return "server_error"
    if status == 400:  # noqa: PLR2004 - bad request
        return "invalid_request" if code == "parse_error" else "validation_error"
    by_status = {
        401: "authentication_error",
        403: "authentication_error",
        429: "throttled_error",
        500: "server_error",
    }
    return by_status.get(status, "invalid_request")


def not_found(detail: str = "Not found.") -> AnswerError:
    """The 404 for anything that does not exist."""
    return AnswerError(404, code="not_found", detail=detail)


def rule_error(detail: str, *, attr: str | None = None) -> AnswerError:
    """The 400 for a rule that a request breaks as a whole, or by one field."""
    return AnswerError(400, code="invalid_input", detail=detail, attr=attr)


# pydantic's name of a problem: the code and text that PostHog has for it
_TEXTS = {
    "missing": ("required", "This field is required."),
    "bool_parsing": ("invalid_input", "Must be a valid boolean."),
    "bool_type": ("invalid_input", "Must be a valid boolean."),
    "int_parsing": ("invalid_input", "A valid integer is required."),
    "int_from_float": ("invalid_input", "A valid integer is required."),
    "int_type": ("invalid_input", "A valid integer is required."),
    "greater_than_equal": ("min_value", "Ensure this value is greater than or equal to {ge}."),
    "less_than_equal": ("max_value", "Ensure this value is less than or equal to {le}."),
    "literal_error": ("invalid_choice", '"{input}" is not a valid choice.'),
    "string_pattern_mismatch": ("invalid_choice", '"{input}" is not a valid choice.'),
    "string_type": ("invalid_input", "Not a valid string."),
    "string_too_short": ("blank", "This field may not be blank."),
    "string_too_long": ("max_length", "Ensure this field has no more than {max_length} characters."),
    "list_type": ("not_a_list", 'Expected a list of items but got type "{input_type}".'),
    "dict_type": ("not_a_dict", 'Expected a dictionary of items but got type "{input_type}".'),
    "uuid_parsing": ("invalid_input", "Must be a valid UUID."),
    "uuid_type": ("invalid_input", "Must be a valid UUID."),
    "model_type": ("invalid_input", "Invalid data. Expected a dictionary, but got {input_type}."),
}


def field_error(problem: ErrorDetails, *, depth: int = 0) -> AnswerError:
    """The 400 for a field, `depth` levels down in its location; PostHog reports the first problem only."""
    value = problem["input"]
    place = [str(part) for part in problem["loc"][depth:]]
    attr = "__".join(place) or None
    if problem["type"] == "too_short":
        return AnswerError(400, code="", detail="This list may not be empty.", attr=f"{attr}__non_field_errors")
    if value is None and problem["type"] != "missing":
        return AnswerError(400, code="null", detail="This field may not be null.", attr=attr)
    code, text = _TEXTS.get(problem["type"], (problem["type"], "{msg}"))
    values: dict[str, Any] = {
        **problem.get("ctx", {}),
        "input": value,
        "input_type": type(value).__name__,
        "msg": problem["msg"],
    }
    return AnswerError(400, code=code, detail=text.format_map(values), attr=attr)


def throttled(*, wait_s: int) -> AnswerError:
    """The 429 for a call too many, with the time of the next try."""
    text = f"Request was throttled. Expected available in {wait_s} seconds."
    return AnswerError(429, code="throttled", detail=text, headers={"Retry-After": str(wait_s)})


def typed(error: AnswerError) -> JSONResponse:
    """The answer in the usual shape."""
    return JSONResponse(error.body.model_dump(), status_code=error.status, headers=error.headers)


def install(app: FastAPI) -> None:
    """Make the application answer exceptions in PostHog's shapes."""

    @app.exception_handler(AnswerError)
    async def _on_api_error(_: Request, error: AnswerError) -> JSONResponse:
        return typed(error)

    @app.exception_handler(RuleError)
    async def _on_rule_error(_: Request, error: RuleError) -> JSONResponse:
        return typed(rule_error(str(error), attr=error.attr))

    @app.exception_handler(RefusedError)
    @app.exception_handler(SourceError)
    async def _on_refusal(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"message": str(error)}, status_code=400)

    @app.exception_handler(DetailError)
    async def _on_detail_error(_: Request, error: DetailError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=400)

    @app.exception_handler(RequestValidationError)
    async def _on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return typed(field_error(error.errors()[0], depth=1))

    @app.exception_handler(HTTPException)
    async def _on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:  # noqa: PLR2004 - method not allowed
            text = f'Method "{request.method}" not allowed.'
            return typed(AnswerError(405, code="method_not_allowed", detail=text, headers=error.headers))
        return typed(AnswerError(error.status_code, code="not_found", detail="Not found."))

    @app.exception_handler(Exception)
    async def _on_surprise(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s broke off", request.method, request.url.path, exc_info=error)
        return typed(AnswerError(500, code="error", detail="A server error occurred."))
