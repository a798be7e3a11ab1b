"""Queries over the synced tables: one request for a short one, and a poll for one that runs in the background."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic import Field, TypeAdapter, field_validator

from dw_orchestration.posthog.answers import Answer
from dw_orchestration.posthog.errors import (
    AnswerTimeoutError,
    ApiError,
    BadRequestError,
    QueryError,
    ServerError,
    TooManyRowsError,
    UnexpectedAnswerError,
    UsageError,
)
from dw_orchestration.posthog.limits import ROWS_PER_QUERY
from dw_orchestration.posthog.models import ApiModel
from dw_orchestration.posthog.query_text import after_key, filled, limited
from dw_orchestration.posthog.query_types import ValueType, value_type

FIRST_POLL_S = 0.5
LONGEST_POLL_S = 10.0
BACKGROUND_TIMEOUT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class QueryResult:
    """The rows of a query as PostHog's JSON has them.

    Attributes:
        columns: The names of the columns.
        types: The types of the columns; empty if the server does not name them.
        rows: The values in the order of the columns.
        has_more: Whether there are rows that the answer leaves out.
    """

    columns: tuple[str, ...]
    types: tuple[ValueType, ...]
    rows: list[list[Any]]
    has_more: bool = False

    def column(self, index: int) -> list[Any]:
        """The values of a column as Python's: times, dates and decimals instead of their text."""
        values = [row[index] for row in self.rows]
        read = self.types[index].read if self.types else None
        return values if read is None else [value if value is None else read(value) for value in values]


class _Answer(ApiModel):
    """The rows, in the answer itself or in the status of a query that ran in the background."""

    results: list[list[Any]] | None = None
    columns: list[str] = Field(default_factory=list)
    types: list[str] = Field(default_factory=list)
    has_more: bool | None = Field(default=None, alias="hasMore")
    error: str | None = None

    @field_validator("columns", "types", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        """Nothing for null; of a pair of column and type the type."""
        return [each if isinstance(each, str) else each[-1] for each in value or ()]


class _Status(ApiModel):
    """How far a query is that runs in the background."""

    id: str
    complete: bool = False
    error: bool = False
    error_message: str | None = None
    results: _Answer | None = None


class _Posted(_Answer):
    query_status: _Status | None = None


class _Polled(ApiModel):
    query_status: _Status


_POSTED = TypeAdapter(_Posted)
_POLLED = TypeAdapter(_Polled)


class SendsRequest(Protocol):
    """Sends a request about queries."""

    def __call__(self, method: str, *path: str, json: object = None) -> Answer:
        """The answer, always a 2xx."""


class Queries:
    """Reads the tables of a project. Needs a key with the scope `query:read`, which is apart from those for syncs.

    Every call may raise `TransportError`, `ApiError` and their subclasses: `MissingScopeError` without the scope,
    `QueryError` for what PostHog or its database report about the query itself.

    Args:
        call: Sends a request about queries: the method, the parts of the path after `query`, and the body.
        sleep: Waits between polls.
        now: Seconds that never run backwards.
    """

    def __init__(
        self,
        call: SendsRequest,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = call
        self._sleep = sleep
        self._now = now

    def run(
        self,
        text: str,
        *,
        tables: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        in_background: bool = False,
        timeout_s: float = BACKGROUND_TIMEOUT_S,
    ) -> QueryResult:
        """All rows of a query, or as many as its own LIMIT asks for.

        Args:
            text: HogQL, with placeholders for tables and values: `select * from {table} where id > {least}`.
            tables: The name in queries of each table, by placeholder.
            values: The values by placeholder. They are sent next to the text and never become a part of it.
            in_background: Let PostHog calculate without an open connection, for queries of more than a minute.
            timeout_s: How long a query in the background may take. Then it is cancelled.

        Raises:
            TooManyRowsError: The query has more than 50,000 rows, the most that PostHog returns at once.
            QueryError: PostHog could not run the query.
            MissingScopeError: The key lacks the scope `query:read`.
            UsageError: A placeholder has nothing that fills it, or a value is not possible. Nothing was sent.
        """
        ready, sent = filled(text, tables=tables or {}, values=values or {})
        # one more than there can be: a server that fills a LIMIT exactly does not report whether there are others
        ready, own_limit = limited(ready, ROWS_PER_QUERY + 1)
        result = self._result(ready, sent, in_background=in_background, timeout_s=timeout_s)
        is_all = own_limit is not None and own_limit <= ROWS_PER_QUERY
        if result.has_more and not is_all:
            raise TooManyRowsError(
                f"The query has more than {ROWS_PER_QUERY:,} rows, the most that PostHog returns at once. Read on by"
                f" key with `in_batches(key=...)`, aggregate in the query, or end it with `limit {ROWS_PER_QUERY}` if"
                " any of its rows will do."
            )
        return result

    def in_batches(
        self,
        text: str,
        *,
        key: str,
        tables: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        rows: int = ROWS_PER_QUERY,
        in_background: bool = False,
        timeout_s: float = BACKGROUND_TIMEOUT_S,
    ) -> Iterator[QueryResult]:
        """The rows of a query of any size, in the order of a key and in answers of at most so many rows.

        Each answer continues at the key where the one before ended, so that rows which arrive meanwhile shift nothing.
        A query without rows has one answer, which names the columns.

        Args:
            text: As for `run`.
            key: A column of the result, best a unique one: text, whole number, date or time.
            tables: As for `run`.
            values: As for `run`.
            rows: How many rows an answer has at most.
            in_background: As for `run`.
            timeout_s: As for `run`, for each answer.

        Raises:
            UsageError: The result has no such column, more rows than fit into an answer share a key or have none, or
                as for `run`.
            QueryError: As for `run`.
            MissingScopeError: As for `run`.
        """
        if not 1 < rows <= ROWS_PER_QUERY:
            raise UsageError(f"{rows:,} rows at once are not possible: choose between 2 and {ROWS_PER_QUERY:,}.")
        given = dict(values or {})
        is_first = True
        while True:
            ready, sent = filled(
                after_key(text, key=key, rows=rows, is_first=is_first), tables=tables or {}, values=given
            )
            result = self._result(ready, sent, in_background=in_background, timeout_s=timeout_s)
            if len(result.rows) < rows:
                if result.rows or is_first:
                    yield result
                return
            whole, given["last_key"] = _whole_keys(result, key)
            yield whole
            is_first = False

    def _result(self, text: str, values: Mapping[str, Any], *, in_background: bool, timeout_s: float) -> QueryResult:
        body = {
            "query": {"kind": "HogQLQuery", "query": text, "values": values},
            # an asset reads what was just synced: never an answer from PostHog's cache
            "refresh": "force_async" if in_background else "force_blocking",
            "name": "dw_orchestration",
        }
        deadline = self._now() + timeout_s
        posted = self._call("POST", json=body).parse(_POSTED)
        status = posted.query_status
        if posted.results is None and status is not None:
            return _result_of(self._awaited(status, deadline=deadline, timeout_s=timeout_s))
        return _result_of(posted)

    def _awaited(self, status: _Status, *, deadline: float, timeout_s: float) -> _Answer:
        """The answer of a query in the background, polled until it is there."""
        pause_s = FIRST_POLL_S
        while not status.complete:
            if self._now() >= deadline:
                self._call("DELETE", status.id)
                raise AnswerTimeoutError(f"The query took more than {timeout_s:.0f} s and was cancelled.")
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_POLL_S)
            polled = self._call("GET", status.id)
            status = polled.parse(_POLLED).query_status
            if status.error:
                # most servers answer 400 for it
                raise QueryError(polled.problem(status.error_message or "no reason given"))
        return status.results or _Answer()

    def _call(self, method: str, *parts: str, json: object = None) -> Answer:
        failure: QueryError
        try:
            return self._send(method, *parts, json=json)
        except (BadRequestError, ServerError, UnexpectedAnswerError) as exc:
            if not _is_about_the_query(exc):
                raise
            failure = QueryError(exc.problem)
        raise failure


def _is_about_the_query(error: ApiError) -> bool:
    if isinstance(error, UnexpectedAnswerError):
        # an answer that is too large is PostHog's; a page of a gateway is not
        return "larger than" in error.detail
    return isinstance(error, BadRequestError) or bool(error.code)


def _result_of(answer: _Answer) -> QueryResult:
    rows = answer.results or []
    has_more = answer.has_more if answer.has_more is not None else len(rows) >= ROWS_PER_QUERY
    types = tuple(map(value_type, answer.types))
    return QueryResult(columns=tuple(answer.columns), types=types, rows=rows, has_more=has_more)


def _whole_keys(result: QueryResult, key: str) -> tuple[QueryResult, Any]:
    """A full answer without the rows of its last key, of which there may be more, and that key.

    Raises:
        UsageError: The key does not lead on.
    """
    if key not in result.columns:
        raise UsageError(f"The result has no column {key!r}: choose one of {', '.join(result.columns)}.")
    keys = result.column(result.columns.index(key))
    last, count = keys[-1], len(keys)
    while count and keys[count - 1] == last:
        count -= 1
    if last is None or not count:
        raise UsageError(
            f"{len(keys) - count:,} rows or more have {'no' if last is None else 'the same'} {key!r}"
            f"{'' if last is None else f', {last!r}'}: choose a key that is unique, or leave out these rows."
        )
    return replace(result, rows=result.rows[:count]), last
