"""What can go wrong between this package and PostHog.

The tree; catch the narrowest that you can act on:

    PostHogError
    ├── TransportError               no whole answer came
    │   ├── UnreachableError         nothing was sent: the request had no effect
    │   └── LostAnswerError          sent, and the answer was lost: the request may have had its effect
    │       └── AnswerTimeoutError   ... because it took too long
    ├── ReadOnlyError                the client was made read-only; nothing was sent
    └── ApiError                     PostHog answered, and this is not what was asked for
        ├── BadRequestError          400
        │   └── BillingLimitError    400 with the monthly limit's text
        ├── AuthenticationError      401
        ├── PermissionDeniedError    403
        │   └── MissingScopeError    403 naming a scope
        ├── NotFoundError            404
        │   └── ProjectNotFoundError
        ├── RateLimitedError         429
        ├── ServerError              5xx
        │   └── PartialUpdateError   503 of a bulk update: the named tables were not saved, the others were
        ├── RedirectRefusedError     3xx
        └── UnexpectedAnswerError    2xx, but not the JSON that was expected

PostHog's `type` is no guide (a 403 has the type `authentication_error`): the HTTP status decides.
"""

from dataclasses import dataclass

__all__ = [
    "AnswerTimeoutError",
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "BillingLimitError",
    "LostAnswerError",
    "MissingScopeError",
    "NotFoundError",
    "PartialUpdateError",
    "PermissionDeniedError",
    "PostHogError",
    "ProjectNotFoundError",
    "RateLimitedError",
    "ReadOnlyError",
    "RedirectRefusedError",
    "ServerError",
    "TransportError",
    "UnexpectedAnswerError",
    "UnreachableError",
]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What an answer said. Holds no header, no body and no query string, so that it can be shown anywhere."""

    status: int
    method: str
    path: str
    host: str
    detail: str = ""
    code: str | None = None
    attr: str | None = None
    retry_after_s: float | None = None


class PostHogError(Exception):
    """Base of all errors of this package's API client."""


class TransportError(PostHogError):
    """No whole answer came."""


class UnreachableError(TransportError):
    """PostHog could not be reached. Nothing was sent, so the request had no effect."""


class LostAnswerError(TransportError):
    """The request was sent, and its answer was lost: it may have had its effect. Look before repeating it."""


class AnswerTimeoutError(LostAnswerError):
    """The answer took too long."""


class ReadOnlyError(PostHogError):
    """The client was made read-only and was asked to change something. Nothing was sent."""


class ApiError(PostHogError):
    """PostHog answered with something other than success.

    Subclasses say what happened and what to do about it; the rest of the message comes from the answer.
    """

    happened = "PostHog refused the request"
    cure = "The detail is PostHog's own: correct the request accordingly."

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        said = self.problem
        detail = f": {said.detail.rstrip('.')}" if said.detail else ""
        where = f"({said.status} for {said.method} {said.path} at {said.host})"
        return f"{self.happened}{detail} {where}. {self.cure}"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def method(self) -> str:
        """The HTTP method of the request."""
        return self.problem.method

    @property
    def path(self) -> str:
        """The path of the request, without its query string."""
        return self.problem.path

    @property
    def detail(self) -> str:
        """What the server said, cut to 300 characters."""
        return self.problem.detail

    @property
    def code(self) -> str | None:
        """The server's code, where it sent one."""
        return self.problem.code

    @property
    def attr(self) -> str | None:
        """The field at fault, nested names joined with `__`, where the server named it."""
        return self.problem.attr


class BadRequestError(ApiError):
    """400: the request breaks one of PostHog's rules. PostHog names only the first one."""

    happened = "PostHog refused the values sent"

    @property
    def field(self) -> str | None:
        """The field at fault, where the server named it."""
        return self.attr

    def __str__(self) -> str:
        return super().__str__() + (f" The field: {self.field}." if self.field else "")


class BillingLimitError(BadRequestError):
    """400: the project is over its monthly limit."""

    happened = "The project is over its billing limit"
    cure = "Raise the limit in PostHog or wait for the next period; repeating the request is useless."


class AuthenticationError(ApiError):
    """401: the key is missing, wrong or of another region."""

    happened = "PostHog does not accept the API key"
    cure = "Use a personal API key (phx_...) made on this host; project keys do not work here."


class PermissionDeniedError(ApiError):
    """403: the key is known, and may not do this."""

    happened = "The API key may not do this"
    cure = (
        "Check the projects that the key is limited to and the role of its user; "
        "self-hosted servers from before April 2026 accept no API key here at all."
    )


class MissingScopeError(PermissionDeniedError):
    """403: the key lacks a scope."""

    happened = "The API key lacks a scope"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.cure = f"Add the scope {self.scope} to the key in PostHog (write includes read)."

    @property
    def scope(self) -> str:
        """The scope that the key lacks."""
        return self.detail.rpartition("scope ")[2].strip("'.")


class NotFoundError(ApiError):
    """404: the id is unknown, malformed, deleted, or belongs to another project."""

    happened = "PostHog has nothing under this id"
    cure = "It may have been deleted, or belong to another project: list the sources to see what there is."


class ProjectNotFoundError(NotFoundError):
    """404: the project is unknown to this host."""

    happened = "PostHog does not know the project"
    cure = "Check the project id (the number in PostHog's URLs), and that the host is the project's region."


class RateLimitedError(ApiError):
    """429, and waiting within the request was not worth it; `retry_after_s` says when to come back."""

    happened = "PostHog's rate limit is reached"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        wait = "later" if self.retry_after_s is None else f"in {self.retry_after_s:.0f} s"
        self.cure = f"Try again {wait}; everything that uses this key shares the limit."

    @property
    def retry_after_s(self) -> float | None:
        """How long PostHog asks to wait, in seconds; None if it did not say."""
        return self.problem.retry_after_s


class ServerError(ApiError):
    """5xx: the server or a gateway failed. A request that starts something may have done so: look first."""

    happened = "PostHog failed"
    cure = "Try again later, and look first whether the request had its effect."


class PartialUpdateError(ServerError):
    """503 of a bulk update: the tables in the detail were not saved, the others were."""

    happened = "PostHog saved only part of the bulk update"
    cure = "Repeat it for the tables named; the others are saved."


class RedirectRefusedError(ApiError):
    """3xx to another host or scheme, or of a change; the key is not sent there."""

    happened = "PostHog redirects elsewhere, and the key is not sent there"
    cure = "If that address is right, configure it as the host."


class UnexpectedAnswerError(ApiError):
    """2xx, but not the JSON that this endpoint gives: a login page, a proxy's page or a truncated answer."""

    happened = "The answer is not what PostHog's API sends"
    cure = "Check that the host is a PostHog server's own address, without a login page or proxy in between."
