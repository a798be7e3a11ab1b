"""The three shapes in which PostHog says no, and how exceptions become them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from dw_orchestration.local.errors import RefusedError, RuleError
from dw_orchestration.local.syncing import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastapi import FastAPI, Request
    from pydantic_core import ErrorDetails

logger = logging.getLogger(__name__)

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


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
    "too_short": ("empty", "This list may not be empty."),
    "list_type": ("not_a_list", 'Expected a list of items but got type "{input_type}".'),
    "dict_type": ("not_a_dict", 'Expected a dictionary of items but got type "{input_type}".'),
    "uuid_parsing": ("invalid_input", "Must be a valid UUID."),
    "uuid_type": ("invalid_input", "Must be a valid UUID."),
    "model_type": ("invalid_input", "Invalid data. Expected a dictionary, but got {input_type}."),
}


def body_error(problems: Sequence[ErrorDetails]) -> AnswerError:
    """The 400 for a body; PostHog reports the first problem only, and those inside a list of objects as printed."""
    is_of_item = problems[0]["loc"][:1] == ("schemas",) and len(problems[0]["loc"]) > 1
    return _printed(problems) if is_of_item else field_error(problems[0])


def field_error(problem: ErrorDetails, *, depth: int = 0) -> AnswerError:
    """The 400 for a field, `depth` levels down in its location."""
    place = "__".join(str(part) for part in problem["loc"][depth:])
    if place == "schemas" and problem["input"] is not None and problem["type"] in {"too_short", "list_type"}:
        place = "schemas__non_field_errors"
    code, text = _code_and_text(problem)
    return AnswerError(400, code=code, detail=text, attr=place or None)


def _code_and_text(problem: ErrorDetails) -> tuple[str, str]:
    value = problem["input"]
    if value is None and problem["type"] != "missing":
        return "null", "This field may not be null."
    code, text = _TEXTS.get(problem["type"], (problem["type"], "{msg}"))
    values: dict[str, Any] = {
        **problem.get("ctx", {}),
        "input": value,
        "input_type": type(value).__name__,
        "msg": problem["msg"],
    }
    return code, text.format_map(values)


class _ErrorDetail(NamedTuple):
    """A problem as Django REST Framework prints it."""

    string: str
    code: str

    def __repr__(self) -> str:
        return f"ErrorDetail(string={self.string!r}, code={self.code!r})"


def _printed(problems: Sequence[ErrorDetails]) -> AnswerError:
    """The 400 for items of a list: the problems of the first item, or nothing at all if it is another's."""
    codes: dict[Any, Any] = {}
    details: dict[Any, Any] = {}
    for problem in problems:
        _, number, *place = problem["loc"]
        if number == 0:
            code, text = _code_and_text(problem)
            code = "invalid" if code == "invalid_input" else code
            _put(codes, place or ["non_field_errors"], code)
            _put(details, place or ["non_field_errors"], _ErrorDetail(text, code))
    return AnswerError(400, code=str(codes), detail=str(details), attr="schemas")


def _put(tree: dict[Any, Any], place: Sequence[Any], leaf: object) -> None:
    for part in place[:-1]:
        tree = tree.setdefault(part, {})
    tree.setdefault(place[-1], []).append(leaf)


def throttled(*, wait_s: int) -> AnswerError:
    """The 429 for a call too many, with the time of the next try."""
    text = f"Request was throttled. Expected available in {wait_s} seconds."
    return AnswerError(429, code="throttled", detail=text, headers={"Retry-After": str(wait_s)})


def typed(error: AnswerError) -> JSONResponse:
    """The answer in the usual shape."""
    return JSONResponse(error.body.model_dump(), status_code=error.status, headers=error.headers)


def _without_handler(request: Request, *, routes: Sequence[BaseRoute]) -> JSONResponse:
    """The answer to a method that a path does not have; OPTIONS describes the path."""
    routes = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    matching = [route for route in routes if isinstance(route, Route)]
    methods = [method for method in _METHODS if any(method in (route.methods or ()) for route in matching)]
    if "GET" in methods:
        methods.append("HEAD")
    allow = {"Allow": ", ".join([*methods, "OPTIONS"])}
    if request.method != "OPTIONS":
        text = f'Method "{request.method}" not allowed.'
        return typed(AnswerError(405, code="method_not_allowed", detail=text, headers=allow))
    parses = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
    name = matching[0].name.replace("_", " ").title()
    described = {"name": name, "description": "", "renders": ["application/json"], "parses": parses}
    return JSONResponse(described, headers=allow)


def install(app: FastAPI, *, routes: Sequence[BaseRoute], check_caller: Callable[[Request], None]) -> None:
    """Make the application answer exceptions in PostHog's shapes; `check_caller` refuses who has no key."""

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
            try:
                check_caller(request)
            except AnswerError as refusal:
                return typed(refusal)
            return _without_handler(request, routes=routes)
        return typed(AnswerError(error.status_code, code="not_found", detail="Not found."))

    @app.exception_handler(Exception)
    async def _on_surprise(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s broke off", request.method, request.url.path, exc_info=error)
        return typed(AnswerError(500, code="error", detail="A server error occurred."))
