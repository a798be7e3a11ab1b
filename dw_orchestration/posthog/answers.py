"""Turns an HTTP answer into a value or an error."""

import email.utils
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.limits import LONGEST_RATE_WINDOW_S
from dw_orchestration.posthog.rows import UnreadableRow

T = TypeVar("T")

DETAIL_LIMIT = 300
SUCCESS = 2
CLIENT_ERROR = 4
OWN_TYPES = ("validation_error", "invalid_request", "authentication_error", "throttled_error", "server_error")
# The bodies without a content.
NOTHING = ("", "{}", "null", '""')
# Errors name wrong fields without their values: the answer for a source may contain connection details.
FAULTS_SHOWN = 3

# PostHog distinguishes these only by a text in the detail; compared in lower case.
BY_TEXT: Sequence[tuple[int, str, type[errors.ApiError]]] = (
    (400, "monthly sync limit reached", errors.BillingLimitError),
    (403, "missing required scope", errors.MissingScopeError),
    (404, "project not found", errors.ProjectNotFoundError),
)
# These codes state what happened, with more than one status.
BY_CODE: Mapping[str | None, type[errors.ApiError]] = {"bulk_schema_save_failed": errors.PartialUpdateError}
BY_STATUS: Mapping[int, type[errors.ApiError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    429: errors.RateLimitedError,
}
BY_HUNDREDS: Mapping[int, type[errors.ApiError]] = {3: errors.RedirectRefusedError, 5: errors.ServerError}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of the server. Contains nothing secret of the request."""

    status: int
    method: str
    path: str
    host: str
    text: str
    server_time: datetime | None = None
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether its status is a 2xx."""
        return self.status // 100 == SUCCESS

    def parse(self, adapter: TypeAdapter[T], *, unreadable: list[UnreadableRow] | None = None) -> T:
        """The body as a typed value.

        Args:
            adapter: The expected type.
            unreadable: Takes the rows of the body's lists that could not be read.

        Raises:
            UnexpectedAnswerError: The body is not JSON, or not of this shape.
        """
        try:
            return adapter.validate_json(self.text, context=unreadable)
        except ValidationError as exc:
            faults = exc.errors(include_url=False, include_input=False, include_context=False)
        # Raised outside the handler: pydantic's error quotes the body, and would otherwise be kept as the context.
        raise self.unexpected(_describe(faults, self.text))

    def expect_done(self) -> None:
        """Accept what PostHog answers when it has done what was asked: nothing, or a message.

        A page or another product's JSON with status 200 is not a success.

        Raises:
            UnexpectedAnswerError: The body is something else.
        """
        if self.text.strip() in NOTHING or self.message():
            return
        raise self.unexpected(self.text)

    def message(self) -> str | None:
        """The text of `detail` or `message`, or of the error of a query; None if the answer has none."""
        body = self._fields()
        status = body.get("query_status")
        failure = status.get("error_message") if isinstance(status, dict) else None
        text = body.get("detail") or body.get("message") or failure
        return text if isinstance(text, str) or text is None else json.dumps(text)

    def error(self) -> errors.ApiError:
        """The error for this answer, chosen by its status if it is PostHog's own."""
        problem = self.problem(_cut(self._explanation()))
        if not self._is_posthogs:
            return errors.UnexpectedAnswerError(problem)
        return _error_class(problem)(problem)

    @property
    def _is_posthogs(self) -> bool:
        """Whether PostHog itself has answered; True where that makes no difference.

        A server error and a 429 are worth another try, no matter who reports them. But a gateway's 404 while PostHog
        restarts must not be taken for a deleted table, its 403 for a missing permission, or its 400 for a refusal.
        """
        fields = self._fields()
        match self.status:
            case 400:
                return self.message() is not None
            case 401 | 403:
                return fields.get("type") == "authentication_error"
            case 404:
                return (fields.get("type"), fields.get("code")) == ("invalid_request", "not_found")
            case 429:
                return True
            case _ if self.status // 100 == CLIENT_ERROR:
                return fields.get("type") in OWN_TYPES
            case _:
                return True

    def unexpected(self, detail: str) -> errors.UnexpectedAnswerError:
        """The error for an answer that is not PostHog's."""
        return errors.UnexpectedAnswerError(self.problem(_cut(detail)))

    def _explanation(self) -> str:
        """The server's message, or all of the answer where the message explains nothing.

        If a value inside of a list is invalid, PostHog prints a Python dict as the detail, and often an empty one.
        """
        detail = self._fields().get("detail")
        is_printed_dict = isinstance(detail, str) and detail.startswith("{")
        return self.text if is_printed_dict else self.message() or self.text

    def problem(self, detail: str) -> errors.Problem:
        """The parts of an error with this answer."""
        fields = self._fields()
        return errors.Problem(
            status=self.status,
            method=self.method,
            path=self.path,
            host=self.host,
            detail=detail,
            code=_text_or_none(fields.get("code")),
            attr=_text_or_none(fields.get("attr")),
            retry_after_s=self.retry_after_s if self.retry_after_s is not None else _wait_in(detail),
        )

    def _fields(self) -> Mapping[str, object]:
        body = _as_json(self.text)
        return body if isinstance(body, dict) else {}


def http_date(header: str | None) -> datetime | None:
    """An HTTP date in UTC; None if missing or invalid."""
    try:
        parsed = email.utils.parsedate_to_datetime(header or "")
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after_s(header: str | None, *, now: datetime) -> float | None:
    """The wait that a `Retry-After` of seconds or an HTTP date asks for; None if missing or invalid.

    At least 0, and at most the longest window of PostHog's rate limits: a gateway may ask for years.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(float(header), LONGEST_RATE_WINDOW_S)
    date = http_date(header)
    return None if date is None else min(max(0.0, (date - now).total_seconds()), LONGEST_RATE_WINDOW_S)


def _error_class(problem: errors.Problem) -> type[errors.ApiError]:
    if (by_code := BY_CODE.get(problem.code)) is not None:
        return by_code
    for status, text, error_class in BY_TEXT:
        if problem.status == status and text in problem.detail.lower():
            return error_class
    return BY_STATUS.get(problem.status) or BY_HUNDREDS.get(problem.status // 100, errors.ApiError)


def _describe(faults: Sequence[ErrorDetails], text: str) -> str:
    """The fields that are wrong; for a body that is not JSON, its beginning."""
    if any(fault["type"] == "json_invalid" for fault in faults):
        return f"not JSON: {_cut(text)}"
    named = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:FAULTS_SHOWN])
    return _cut("; ".join(named))


def _wait_in(detail: str) -> float | None:
    """The wait that the text of a 429 states, because some proxies drop `Retry-After`."""
    named = re.search(r"available in (\d+) second", detail)
    return min(float(named.group(1)), LONGEST_RATE_WINDOW_S) if named else None


def _as_json(text: str) -> object:
    """The value; None if the text is not JSON."""
    try:
        # not the standard library's parser, which has no limit on nesting but the interpreter's stack
        value: object = from_json(text)
    except ValueError:
        return None
    return value


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _cut(text: str) -> str:
    page = re.search(r"^\s*<.*?<title[^>]*>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
    flat = " ".join((page.group(1) if page else text).split())
    flat = f"a web page, {flat!r}" if page else flat
    return flat if len(flat) <= DETAIL_LIMIT else f"{flat[: DETAIL_LIMIT - 3]}..."
