"""The errors of PostHog's API and of the way to it.

Catch the narrowest class that you can act on:

    PostHogError
    ├── TransportError               no complete answer was received
    │   ├── UnreachableError         nothing was sent: the request had no effect
    │   └── LostAnswerError          sent, but the answer was lost: it may have taken effect, unless it only reads
    │       └── AnswerTimeoutError   ... because it took too long
    ├── ReadOnlyError                the client is read-only; nothing was sent
    ├── BudgetSpentError             the request budget is used up for longer than the caller waits; nothing was sent
    ├── TooManyRowsError             a query has more rows than one answer
    └── ApiError                     PostHog answered with an error
        ├── BadRequestError          400
        │   └── BillingLimitError    400 with the monthly limit's text
        ├── AuthenticationError      401
        ├── PermissionDeniedError    403
        │   └── MissingScopeError    403 that names a scope
        ├── NotFoundError            404
        │   └── ProjectNotFoundError
        ├── QueryError               400 or 5xx of a query: PostHog could not run it
        ├── RateLimitedError         429
        ├── ServerError              5xx
        ├── PartialUpdateError       400 or 503 of a bulk update: some tables were not saved
        ├── RedirectRefusedError     3xx
        └── UnexpectedAnswerError    an answer that is not PostHog's: a gateway's page, another JSON, or too large

    SetupError                       the client cannot be made from its settings and the environment
    └── UsageError                   a request cannot work as it was made; nothing was sent

The HTTP status decides the class. PostHog's `type` does not: a 403 has the type `authentication_error`. But a 400, 401,
403 or 404 without PostHog's own body, as a gateway sends it, is an `UnexpectedAnswerError`.
"""

from dataclasses import dataclass

from dw_orchestration.text import VisibleError

__all__ = [
    "AnswerTimeoutError",
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "BillingLimitError",
    "BudgetSpentError",
    "LostAnswerError",
    "MissingScopeError",
    "NotFoundError",
    "PartialUpdateError",
    "PermissionDeniedError",
    "PostHogError",
    "ProjectNotFoundError",
    "QueryError",
    "RateLimitedError",
    "ReadOnlyError",
    "RedirectRefusedError",
    "ServerError",
    "SetupError",
    "TooManyRowsError",
    "TransportError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "UsageError",
]

# requests that have no effect, even if their answer is lost
ONLY_READ = frozenset({"GET", "HEAD", "OPTIONS"})

FIRST_SERVER_ERROR = 500
# how PostHog and its database report that a query takes too long or is too large
_TOO_MUCH = ("memory", "timeout", "timed out", "too long", "execution time", "too large", "larger than")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The parts of an error answer. Contains no header, body or query string, so it is safe to log."""

    status: int
    method: str
    path: str
    host: str
    detail: str = ""
    code: str | None = None
    attr: str | None = None
    retry_after_s: float | None = None


class SetupError(VisibleError):
    """The settings contradict each other or lack something; the text says what to set."""


class UsageError(SetupError):
    """It cannot be done as it was asked for; the text says how to ask. Nothing was changed."""


class PostHogError(VisibleError):
    """Base of the errors of PostHog's API and of the way to it."""


class TransportError(PostHogError):
    """No complete answer was received."""


class UnreachableError(TransportError):
    """PostHog could not be reached. Nothing was sent, so the request had no effect."""


class LostAnswerError(TransportError):
    """The request was sent, but its answer was lost. Unless it only reads, it may have taken effect."""


class AnswerTimeoutError(LostAnswerError):
    """The answer did not arrive in time."""


class ReadOnlyError(PostHogError):
    """The client is read-only, and the request would change something. Nothing was sent."""


class BudgetSpentError(PostHogError):
    """The request budget is used up, and the caller has no time to wait for it. Nothing was sent.

    Attributes:
        retry_after_s: When the next request is allowed, in seconds.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"The request budget of the API key is used up: the next request is allowed in {retry_after_s:.0f} s."
            " Raise `requests_per_minute`, or give what sends the most requests another key."
        )
        self.retry_after_s = retry_after_s


class TooManyRowsError(PostHogError):
    """A query has more rows than fit into one answer. No row was returned, because some would be missing."""


class ApiError(PostHogError):
    """PostHog answered with an error.

    Subclasses state what happened and what to do about it. The rest of the message comes from the answer.
    """

    happened = "PostHog rejected the request"
    cure = "Correct the request as PostHog's message says."

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def text(self) -> str:
        """What happened to which request, PostHog's message, and the cure."""
        problem = self.problem
        detail = f": {problem.detail.rstrip('.')}" if problem.detail else ""
        where = f"({problem.status} for {problem.method} {problem.path} at {problem.host})"
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
        """The server's message, cut to 300 characters."""
        return self.problem.detail

    @property
    def code(self) -> str | None:
        """The server's error code, if it sent one."""
        return self.problem.code

    @property
    def attr(self) -> str | None:
        """The name of the wrong field, if the server sent it; nested names are joined with `__`."""
        return self.problem.attr


class BadRequestError(ApiError):
    """400: the request breaks one of PostHog's rules. PostHog reports only the first one."""

    happened = "PostHog rejected the values"

    @property
    def field(self) -> str | None:
        """The name of the wrong field, if the server sent it."""
        return self.attr

    @property
    def text(self) -> str:
        """With the name of the wrong field."""
        return super().text + (f" Field: {self.field}." if self.field else "")


class BillingLimitError(BadRequestError):
    """400: the project is over its monthly billing limit."""

    happened = "The project is over its billing limit"
    cure = "Raise the limit in PostHog, or wait for the next billing period. Retrying does not help."


class AuthenticationError(ApiError):
    """401: the key is missing, wrong, or from another region."""

    happened = "PostHog does not accept the API key"
    cure = "Use a personal API key (phx_...) that was created on this host. Project keys do not work here."


class PermissionDeniedError(ApiError):
    """403: the key is valid, but is not allowed to do this."""

    happened = "The API key is not allowed to do this"
    cure = (
        "Check which projects the key is limited to, and the role of its user. "
        "Self-hosted servers from before April 2026 accept no API key for this."
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

    happened = "PostHog does not know this id"
    cure = "It may have been deleted, or belong to another project. List the sources to see what exists."


class ProjectNotFoundError(NotFoundError):
    """404: the project is unknown to this host."""

    happened = "PostHog does not know the project"
    cure = "Check the project id (the number in PostHog's URLs), and that the host is in the project's region."


class QueryError(ApiError):
    """400 or 5xx of a query: PostHog could not run it. The detail is the text of the parser or of the database."""

    happened = "PostHog could not run the query"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        detail = problem.detail.lower()
        is_too_much = problem.status >= FIRST_SERVER_ERROR or any(text in detail for text in _TOO_MUCH)
        self.cure = (
            "It may need too much time or memory: select fewer rows or columns, aggregate in the query, read on by key"
            " with `in_batches`, or let it run `in_background`."
            if is_too_much
            else "Correct the query."
        )


class RateLimitedError(ApiError):
    """429, and the wait is too long for a retry within the request. `retry_after_s` says when to try again."""

    happened = "PostHog's rate limit is reached"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        wait = "later" if self.retry_after_s is None else f"in {self.retry_after_s:.0f} s"
        self.cure = f"Try again {wait}. Everything that uses this key shares the limit."

    @property
    def retry_after_s(self) -> float | None:
        """The wait that PostHog asks for, in seconds; None if it states none."""
        return self.problem.retry_after_s


class ServerError(ApiError):
    """5xx: the server or a gateway failed. A request that starts something may have started it."""

    happened = "PostHog's server failed"
    cure = "Try again later. First check whether the request took effect."

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        if problem.method in ONLY_READ:
            self.cure = "Try again later."


class PartialUpdateError(ApiError):
    """400 or 503 of a bulk update: PostHog saved all tables but those in the detail. Its code decides, not its status.

    A table that breaks a rule makes it a 400, a schedule that could not be set a 503.
    """

    happened = "PostHog saved only part of the bulk update"
    cure = "Repeat the update for the tables named above. The others are saved."


class RedirectRefusedError(ApiError):
    """3xx to another host or scheme, or for a request that changes something. The key is not sent there."""

    happened = "PostHog redirected to another address, and the key is not sent there"
    cure = "If that address is right, configure it as the host."


class UnexpectedAnswerError(ApiError):
    """An answer that is not PostHog's: a login page, a gateway's page, another product's JSON, or an endless body.

    Its status means nothing: a gateway's 404 does not say that a table is gone, and its 401 nothing about the key.
    """

    happened = "The answer is not from PostHog's API"
    cure = (
        "A gateway may have answered for PostHog: try again later. If that does not help, check that the host is the "
        "address of a PostHog server, with no login page or proxy in between."
    )
