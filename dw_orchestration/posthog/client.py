"""The client: every call to the external data API of one PostHog project."""

import heapq
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack
from urllib.parse import quote

from pydantic import TypeAdapter

from dw_orchestration.posthog.answers import Answer
from dw_orchestration.posthog.enums import AccessMethod, CancelOutcome, LogLevel
from dw_orchestration.posthog.errors import (
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    SetupError,
    UsageError,
)
from dw_orchestration.posthog.limits import DEFAULT_QUERIES_PER_HOUR, DEFAULT_QUERIES_PER_MINUTE, ROWS_PER_PAGE
from dw_orchestration.posthog.models import (
    ApiModel,
    IncrementalFields,
    Job,
    LogLine,
    RefreshedSchemas,
    Schema,
    SchemaUpdate,
    Source,
    WebhookCreated,
    WebhookDeleted,
    WebhookInfo,
)
from dw_orchestration.posthog.paging import Page, Row, as_parameter, by_offset, names_per_request, newest_first
from dw_orchestration.posthog.queries import Queries
from dw_orchestration.posthog.rate_limit import DEFAULT_RATE_LIMITS, RateBudget, RateLimits
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.posthog.rows import Rows, UnreadableRow
from dw_orchestration.posthog.transport import HttpTransport, RequestOptions, Timeouts, Transport, normalised_host

T = TypeVar("T")

logger = logging.getLogger(__name__)

SCHEMAS: Final = "external_data_schemas"
SOURCES: Final = "external_data_sources"
NO_SCHEMA = "00000000-0000-0000-0000-000000000000"

# How servers of several years phrase that there was nothing to cancel, in lower case.
NOTHING_TO_CANCEL = ("no running sync to cancel", "already finished")
BULK_UPDATE_REFUSED = "does not support personal api key access"
# The settings that the bulk endpoint stores on every server. It answers 200 and drops the others on many of them.
BULK_SETTINGS = frozenset(
    {
        "should_sync",
        "sync_type",
        "incremental_field",
        "incremental_field_type",
        "sync_frequency",
        "sync_time_of_day",
        "cdc_table_mode",
        "enabled_columns",
        # the only endpoint that knows it; a server that does not refuses to enable the table
        "apply_sync_defaults",
    }
)


# The unreadable rows that the log of this process names already: a sensor makes a client for each of its ticks.
_NAMED: set[tuple[str, UnreadableRow]] = set()


class _Created(ApiModel):
    """The answer to a creation: servers send only the id, or the whole object."""

    id: str


# Built once: making an adapter takes longer than most parsing.
_CREATED = TypeAdapter(_Created)
_INCREMENTAL_FIELDS = TypeAdapter(IncrementalFields)
_JOBS = TypeAdapter(Rows[Job])
_LOG_PAGE = TypeAdapter(Page[LogLine])
_REFRESHED = TypeAdapter(RefreshedSchemas)
_SCHEMA = TypeAdapter(Schema)
_SCHEMA_PAGE = TypeAdapter(Page[Schema])
_SCHEMAS_OR_PAGE: TypeAdapter[Rows[Schema] | Page[Schema]] = TypeAdapter(Rows[Schema] | Page[Schema])
_SOURCE = TypeAdapter(Source)
_SOURCE_PAGE = TypeAdapter(Page[Source])
_WEBHOOK_CREATED = TypeAdapter(WebhookCreated)
_WEBHOOK_DELETED = TypeAdapter(WebhookDeleted)
_WEBHOOK_INFO = TypeAdapter(WebhookInfo)


def checked_project_id(project_id: str | int) -> str:
    """A project id as a part of addresses and of names of files.

    Raises:
        SetupError: It is neither a number nor `@current`. The text is without it: it may be a key.
    """
    found = str(project_id).strip()
    if not re.fullmatch("[0-9]+|@current", found):
        raise SetupError(
            f"The project id is {'not a number' if found else 'empty'}: use the number in the address of the project's"
            " pages in PostHog, or `@current`."
        )
    return found


class PostHogWarehouseClient:
    """The external data sources, schemas and jobs of a PostHog project. Safe to use from many threads.

    Every method may raise `TransportError`, `ApiError` and their subclasses; the module `errors` draws the tree. The
    `Raises:` section of a method lists only what is special about that call. Requests that are safe to repeat are
    retried. A request that starts something is not retried once it was sent.

    A row of a list that cannot be read is left out, named once in the log, and is in `unreadable`; the others are
    returned. If none of several rows can be read, the call raises `UnexpectedAnswerError`.

    Args:
        host: Such as `https://us.posthog.com`; not `us.i.posthog.com`, which only ingests events.
        project_id: The number in PostHog's URLs, or `@current`.
        api_key: A personal API key (`phx_...`) with the scope `external_data_source:read` or `:write`.
        read_only: Refuse everything that is not a GET, before it is sent.
        timeouts: How long to wait for the network.
        retry: What to retry, and how often.
        rate_limits: How many requests to send; None for no limit.
        sleep: Waits between attempts.
        now: The clock for a `Retry-After` date, if the answer has no `Date`.
        notify: Called with a sentence for people when a request waits for long; by default it is logged.
        http_transport: Replaces the network in tests.

    Attributes:
        transport: The connection.
        project_id: The project, as text.
        queries: Reads the synced tables.

    Raises:
        SetupError: The host, the project id or the key is invalid, or the environment names a proxy or certificates
            that cannot be used.

    Example:
        >>> with PostHogWarehouseClient("https://eu.posthog.com", 42, "phx_...") as client:  # doctest: +SKIP
        ...     for source in client.list_sources():
        ...         print(source.source_type, [schema.name for schema in source.schemas])
    """

    def __init__(
        self,
        host: str,
        project_id: str | int,
        api_key: str,
        *,
        read_only: bool = False,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        rate_limits: RateLimits | None = DEFAULT_RATE_LIMITS,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        notify: Callable[[str], None] = logger.warning,
        http_transport: HttpTransport | None = None,
    ) -> None:
        origin = normalised_host(host)
        self.project_id = checked_project_id(project_id)
        self._unreadable: dict[UnreadableRow, None] = {}
        # queries have other limits, and must not use up what syncs need
        query_limits = rate_limits and replace(
            rate_limits, per_minute=DEFAULT_QUERIES_PER_MINUTE, per_hour=DEFAULT_QUERIES_PER_HOUR
        )
        budget_of = partial(RateBudget.for_key, api_key, host=origin, sleep=sleep, notify=notify)
        budget = budget_of(limits=rate_limits) if rate_limits else None
        query_budget = budget_of(limits=query_limits, purpose="_queries") if query_limits else None
        self.transport = Transport(
            origin,
            api_key,
            read_only=read_only,
            timeouts=timeouts,
            retry=retry,
            budget=budget,
            query_budget=query_budget,
            sleep=sleep,
            now=now,
            notify=notify,
            http_transport=http_transport,
        )
        self.queries = Queries(self._about_queries, sleep=sleep)

    def __repr__(self) -> str:
        return f"PostHogWarehouseClient(host={self.host!r}, project_id={self.project_id!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the connection ---

    @property
    def host(self) -> str:
        """The host, without a trailing slash."""
        return self.transport.host

    @property
    def server_time(self) -> datetime | None:
        """The server's clock at its last answer, in UTC; None before the first answer."""
        return self.transport.server_time

    @property
    def requests(self) -> int:
        """How many requests were sent, retries included."""
        return self.transport.requests

    @property
    def unreadable(self) -> tuple[UnreadableRow, ...]:
        """The rows of lists that could not be read so far, each once. The lists do not include them."""
        return tuple(self._unreadable)

    @property
    def waited_s(self) -> float:
        """How long requests waited for the rate limit. Subtract this time from deadlines."""
        return self.transport.waited_s

    def finish_within(self, seconds: float) -> None:
        """From now on, wait for nothing past this time: neither for the rate limit, nor to repeat a request.

        For callers with a deadline. A request that the rate limit does not allow until then raises `BudgetSpentError`.
        """
        self.transport.finish_within(seconds)

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()

    def check_access(self, *, write: bool = False) -> None:
        """Check that host, project and key fit together. Changes nothing.

        Args:
            write: Also check the scope that changing and syncing needs.

        Raises:
            UnreachableError: Nothing answers at the host.
            AuthenticationError: The key is wrong.
            ProjectNotFoundError: The project is unknown.
            MissingScopeError: The key lacks a scope, which the error names.
            PermissionDeniedError: The key is limited to other projects.
        """
        self._parse(self._call("GET", SOURCES, params={"limit": 1}), _SOURCE_PAGE)
        if write:
            # PostHog checks the scope before it looks up the schema, so a 404 means that the key has the scope.
            try:
                self._call("PATCH", SCHEMAS, NO_SCHEMA, json={})
            except NotFoundError:
                return

    # --- schemas ---

    def list_schemas(self, *, search: str | None = None, page_size: int = ROWS_PER_PAGE) -> Iterator[Schema]:
        """All schemas of the project with their full settings, newest first.

        A schema in this list does not name its source. Combine it with `list_sources`, where newer servers in turn
        leave out the settings.

        Args:
            search: Part of a table's name.
            page_size: Rows per request.
        """
        return self._list(_SCHEMA_PAGE, SCHEMAS, search=search, page_size=page_size)

    def get_schema(self, schema_id: str) -> Schema:
        """A schema as it is now. Slow in big projects: to follow a sync, use `list_jobs`.

        Its `status` is Running before a job exists. While a job runs, its `latest_error` is that of an earlier job.

        Raises:
            NotFoundError: The id is unknown, deleted, or belongs to another project.
        """
        return self._parse(self._call("GET", SCHEMAS, schema_id), _SCHEMA)

    def update_schema(self, schema_id: str, update: SchemaUpdate) -> Schema:
        """Change the settings of a schema that `update` sets.

        The first `should_sync=True` starts a sync at once; later ones do not. With a `sync_type`, PostHog may
        connect to the customer's source before it answers.

        Raises:
            UsageError: PostHog would lose the change or break the schema. Nothing was sent.
            BadRequestError: The change breaks a rule. `field` names the setting if the server does.
        """
        slow = update.sync_type is not None
        return self._parse(self._call("PATCH", SCHEMAS, schema_id, json=update.body(), slow=slow), _SCHEMA)

    def delete_schema(self, schema_id: str) -> None:
        """Delete a schema and its table.

        PostHog's discovery restores the schema within hours. To stop a table permanently, update it with
        `should_sync=False` instead.
        """
        self._call("DELETE", SCHEMAS, schema_id).expect_done()

    def cancel_schema(self, schema_id: str) -> CancelOutcome:
        """Cancel the running job of a schema.

        Older servers cancel after they have answered. PostHog has no status for it: the job ends as Failed, with an
        error that says it was cancelled.

        Returns:
            NOTHING_RUNNING if the job had already ended, or there was none.

        Raises:
            BadRequestError: PostHog could not cancel. Try again.
        """
        try:
            answer = self._call("POST", SCHEMAS, schema_id, "cancel")
        except BadRequestError as exc:
            if any(text in exc.detail.lower() for text in NOTHING_TO_CANCEL):
                return CancelOutcome.NOTHING_RUNNING
            raise
        answer.expect_done()
        # Newer servers repair a schema that shows Running without a job, and answer with a message about it. After a
        # real cancellation the body is empty.
        return CancelOutcome.NOTHING_RUNNING if answer.message() else CancelOutcome.REQUESTED

    def delete_schema_data(self, schema_id: str) -> None:
        """Delete a schema's rows.

        The schedule stays, so the next sync imports, and PostHog bills, all rows again.
        """
        self._call("DELETE", SCHEMAS, schema_id, "delete_data").expect_done()

    def get_incremental_fields(self, schema_id: str) -> IncrementalFields:
        """How a schema can be synced. PostHog connects to the customer's source, which takes seconds to minutes.

        Raises:
            BadRequestError: PostHog could not read the source. The detail is the source's own error.
        """
        return self._parse(self._call("POST", SCHEMAS, schema_id, "incremental_fields", slow=True), _INCREMENTAL_FIELDS)

    def list_logs(
        self,
        schema_id: str,
        *,
        run_id: str | None = None,
        levels: Collection[LogLevel] = (),
        after: datetime | None = None,
        limit: int = 50,
    ) -> list[LogLine]:
        """The last lines that PostHog logged while it synced a schema, newest first. Servers since November 2026.

        Args:
            schema_id: The schema.
            run_id: Only of one sync: the `workflow_run_id` of its job, not the job's id.
            levels: Only these; empty for all.
            after: Only lines logged later.
            limit: How many lines, from 1 to 500.

        Raises:
            NotFoundError: The server does not have this endpoint, or the id is unknown.
        """
        params: dict[str, str | int | list[str]] = {"limit": limit}
        if run_id is not None:
            params["instance_id"] = run_id
        if levels:
            params["level"] = [str(level) for level in levels]
        if after is not None:
            params["after"] = as_parameter(after)
        return list(self._parse(self._call("GET", SCHEMAS, schema_id, "logs", params=params), _LOG_PAGE).results)

    def reload_schema(self, schema_id: str) -> datetime | None:
        """Sync a schema now.

        The answer names no job, and a 200 does not promise one: PostHog drops the request while a job of the schema
        runs, and may defer a table that keeps failing. Find the new job with `list_jobs`.

        Returns:
            The server's clock when it accepted, to compare with a job's `created_at`; None if the answer has no date.

        Raises:
            LostAnswerError: PostHog may have started a sync. Check for a new job before you try again.
            ServerError: As for `LostAnswerError`.
            BillingLimitError: The project is over its billing limit.
        """
        return self._trigger(schema_id, "reload")

    def resync_schema(self, schema_id: str) -> datetime | None:
        """Drop a schema's table and import everything again. PostHog bills every row, and cancels a running job.

        Returns:
            The server's clock when it accepted; None if the answer has no date.

        Raises:
            LostAnswerError: PostHog may have started a resync. Check for a new job before you try again.
            ServerError: As for `LostAnswerError`.
            BillingLimitError: The project is over its billing limit.
        """
        return self._trigger(schema_id, "resync")

    # --- sources ---

    def list_sources(self, *, search: str | None = None, page_size: int = ROWS_PER_PAGE) -> Iterator[Source]:
        """All sources that the key's user may see, newest first, each with its schemas.

        Newer servers leave out the cadence and sync settings of these schemas; `list_schemas` returns them in full.

        Args:
            search: Part of a source type or prefix. Older servers search their internal ids instead.
            page_size: Rows per request.
        """
        return self._list(_SOURCE_PAGE, SOURCES, search=search, page_size=page_size)

    def create_source(
        self,
        source_type: str,
        payload: Mapping[str, object],
        *,
        prefix: str | None = None,
        description: str | None = None,
        access_method: AccessMethod | None = None,
    ) -> str:
        """Create a source. Slow: PostHog first tests the connection and lists the tables.

        Every schema in the payload with `should_sync` is synced at once. PostHog ignores a `sync_frequency` in the
        payload: update the schemas afterwards.

        Args:
            source_type: As PostHog spells it, such as `Postgres`.
            payload: The fields of the connection, and `schemas`. Instead of the fields, `credential_id` names
                credentials that PostHog already has from its own connect page; then no secret is sent.
            prefix: Starts the name of every table. It cannot be changed later.
            description: For people.
            access_method: Import the rows (the default) or query them in place.

        Returns:
            The id of the new source.

        Raises:
            BadRequestError: The connection, the prefix or the payload is wrong.
            LostAnswerError: PostHog may have created the source. Check before you try again.
            ServerError: As for `LostAnswerError`.
        """
        optional = {"prefix": prefix, "description": description, "access_method": access_method}
        body = {"source_type": source_type, "payload": dict(payload), **_given(optional)}
        return self._parse(self._call("POST", SOURCES, json=body, slow=True), _CREATED).id

    def get_source(self, source_id: str) -> Source:
        """A source with its schemas in full.

        Raises:
            NotFoundError: The id is unknown, deleted, or belongs to another project.
        """
        return self._parse(self._call("GET", SOURCES, source_id), _SOURCE)

    def update_source(
        self,
        source_id: str,
        *,
        description: str | None = None,
        job_inputs: Mapping[str, object] | None = None,
        prefix: str | None = None,
        auto_sync_new_schemas: bool | None = None,
        auto_sync_schema_patterns: Collection[str] | None = None,
    ) -> Source:
        """Change a source's description or connection, or which new tables PostHog enables by itself.

        Args:
            source_id: The source.
            description: For people; an empty text clears it.
            job_inputs: Merged into the fields of the connection; secrets that are left out stay. PostHog tests the
                connection before it answers.
            prefix: The name of a direct-query source. PostHog answers 200 and keeps the old prefix of any other
                source, because it is in the name of every table.
            auto_sync_new_schemas: Whether discovery enables new tables. Servers since November 2026.
            auto_sync_schema_patterns: Only new tables whose names match one of these.

        Raises:
            UsageError: Nothing was given. Nothing was sent.
            BadRequestError: The connection does not work, or the prefix is empty.
        """
        patterns = None if auto_sync_schema_patterns is None else list(auto_sync_schema_patterns)
        body = _given(
            {
                "description": description,
                "job_inputs": job_inputs and dict(job_inputs),
                "prefix": prefix,
                "auto_sync_new_schemas": auto_sync_new_schemas,
                "auto_sync_schema_patterns": patterns,
            }
        )
        if not body:
            raise UsageError(f"Nothing to change in source {source_id}: set at least one argument.")
        return self._parse(self._call("PATCH", SOURCES, source_id, json=body, slow=job_inputs is not None), _SOURCE)

    def delete_source(self, source_id: str) -> None:
        """Delete a source with its schemas, tables, stored rows and webhook. Cancels a running job."""
        self._call("DELETE", SOURCES, source_id, slow=True).expect_done()

    def bulk_update_schemas(self, source_id: str, updates: Mapping[str, SchemaUpdate]) -> list[Schema]:
        """Change the settings of several schemas of a source.

        Older servers allow no API key on the bulk endpoint, and it silently drops some settings. This method updates
        those schemas one by one instead. If one of these updates fails, the earlier ones are already saved.

        Args:
            source_id: The source.
            updates: The changes by schema id.

        Returns:
            The schemas after the change, in the order of `updates`.

        Raises:
            UsageError: PostHog would lose a change or break a schema. Nothing was sent.
            PartialUpdateError: Some tables, which the detail names, were not saved.
            BadRequestError: A change breaks a rule.
        """
        # Every body is made, and so checked, before the first request.
        items = {schema_id: {"id": schema_id, **update.body()} for schema_id, update in updates.items()}
        in_bulk = [items[key] for key, update in updates.items() if update.model_fields_set <= BULK_SETTINGS]
        saved = self._save_in_bulk(source_id, in_bulk) if in_bulk else {}
        return [saved.get(key) or self.update_schema(key, update) for key, update in updates.items()]

    def refresh_schemas(self, source_id: str) -> RefreshedSchemas:
        """Discover new and removed tables in the customer's source. New tables are disabled at first.

        Raises:
            BadRequestError: PostHog could not read the source.
        """
        return self._parse(self._call("POST", SOURCES, source_id, "refresh_schemas", slow=True), _REFRESHED)

    def create_webhook(self, source_id: str, *, inputs: Mapping[str, object] | None = None) -> WebhookCreated:
        """Register PostHog's webhook with the provider of a source.

        A second call may register a second webhook: check `webhook_info` first. If the provider refuses, this raises
        no error but returns `success=False` with the reason. Use the URL to set the webhook up manually then.

        Args:
            source_id: The source.
            inputs: What newer servers require, such as a signing secret.

        Raises:
            BadRequestError: The source type has no webhooks, or the source is not set up.
        """
        body = None if inputs is None else {"inputs": dict(inputs)}
        return self._parse(
            self._call("POST", SOURCES, source_id, "create_webhook", json=body, slow=True), _WEBHOOK_CREATED
        )

    def delete_webhook(self, source_id: str) -> WebhookDeleted:
        """Remove the webhook of a source.

        Raises:
            BadRequestError: Tables still use it.
        """
        return self._parse(self._call("POST", SOURCES, source_id, "delete_webhook", slow=True), _WEBHOOK_DELETED)

    def webhook_info(self, source_id: str) -> WebhookInfo:
        """Whether the webhook of a source exists. Older servers may refuse API keys here."""
        return self._parse(self._call("GET", SOURCES, source_id, "webhook_info"), _WEBHOOK_INFO)

    # --- jobs ---

    def list_jobs(
        self,
        source_id: str,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        schemas: Collection[str] = (),
    ) -> Iterator[Job]:
        """The jobs of all tables of a source, newest first. Lazy: one request per 50 jobs read.

        Both times are exclusive and are compared with `created_at`. A job that was created before `after` and has
        ended since is not included.

        Args:
            source_id: The source.
            after: Only jobs created later.
            before: Only jobs created earlier.
            schemas: Names of tables (not ids); empty for all. Of many names, some in each request.

        Raises:
            UsageError: A time has no time zone.
            NotFoundError: The source is unknown.
        """
        streams = [
            self._jobs_of(source_id, after=after, before=before, schemas=names)
            for names in names_per_request(schemas) or [[]]
        ]
        yield from heapq.merge(*streams, key=lambda job: job.created_at, reverse=True)

    # --- requests ---

    def _call(self, method: str, *path: str, **options: Unpack[RequestOptions]) -> Answer:
        """Send a request inside the project. Ids are quoted, so that none with a slash reaches another endpoint."""
        quoted = "/".join(quote(part, safe="", errors="replace") for part in (self.project_id, *path))
        return self.transport.request(method, f"/api/projects/{quoted}/", **options)

    def _about_queries(self, method: str, *path: str, json: object = None) -> Answer:
        return self._call(method, "query", *path, json=json, slow=True, is_query=True)

    def _parse(self, answer: Answer, adapter: TypeAdapter[T]) -> T:
        """The body of an answer. A row of it that cannot be read is named once in the log of the process."""
        rows: list[UnreadableRow] = []
        value = answer.parse(adapter, unreadable=rows)
        for row in dict.fromkeys(rows):
            self._unreadable[row] = None
            if (self.host, row) not in _NAMED:
                _NAMED.add((self.host, row))
                logger.warning(
                    "Left out, because it cannot be read: %s (%s %s at %s).", row, answer.method, answer.path, self.host
                )
        return value

    def _list(self, page: TypeAdapter[Page[Row]], path: str, *, search: str | None, page_size: int) -> Iterator[Row]:
        params: dict[str, str | int] = {"limit": page_size} | ({"search": search} if search else {})
        return by_offset(lambda offset: self._parse(self._call("GET", path, params={**params, "offset": offset}), page))

    def _jobs_of(
        self, source_id: str, *, after: datetime | None, before: datetime | None, schemas: Collection[str]
    ) -> Iterator[Job]:
        fetch = partial(self._jobs, source_id, after=after, schemas=schemas)
        # A server that does not know a filter ignores it, so each filter is applied again here.
        for job in newest_first(fetch, before=before):
            if after is not None and job.created_at <= after:
                return
            if (not schemas or job.table.name in schemas) and (before is None or job.created_at < before):
                yield job

    def _jobs(
        self, source_id: str, before: datetime | None, *, after: datetime | None, schemas: Collection[str]
    ) -> Rows[Job]:
        params: dict[str, str | list[str]] = {"schemas": list(schemas)} if schemas else {}
        times = _given({"after": after, "before": before})
        params.update({name: as_parameter(moment) for name, moment in times.items()})
        return self._parse(self._call("GET", SOURCES, source_id, "jobs", params=params), _JOBS)

    def _trigger(self, schema_id: str, action: str) -> datetime | None:
        answer = self._call("POST", SCHEMAS, schema_id, action)
        answer.expect_done()
        return answer.server_time

    def _save_in_bulk(self, source_id: str, items: list[dict[str, object]]) -> dict[str, Schema]:
        """The saved schemas by id; empty if the server allows no API key on this endpoint."""
        try:
            answer = self._call("PATCH", SOURCES, source_id, "bulk_update_schemas", json={"schemas": items}, slow=True)
        except PermissionDeniedError as exc:
            if BULK_UPDATE_REFUSED in exc.detail.lower():
                return {}
            raise
        saved = self._parse(answer, _SCHEMAS_OR_PAGE)
        return {schema.id: schema for schema in (saved.results if isinstance(saved, Page) else saved)}


def _given(values: Mapping[str, T | None]) -> dict[str, T]:
    return {name: value for name, value in values.items() if value is not None}
