"""Calls about external data sources and their jobs."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TypeVar

from pydantic import TypeAdapter

from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.errors import PermissionDeniedError
from dw_orchestration.posthog.limits import ROWS_PER_PAGE
from dw_orchestration.posthog.models import (
    ApiModel,
    Job,
    RefreshedSchemas,
    Schema,
    SchemaUpdate,
    Source,
    WebhookCreated,
    WebhookDeleted,
    WebhookInfo,
)
from dw_orchestration.posthog.paging import Page, as_parameter, by_offset, newest_first
from dw_orchestration.posthog.schema_calls import SchemaCalls

T = TypeVar("T")

SOURCES = "external_data_sources"
# What the bulk endpoint stores; it ignores other settings, or did for long, and still answers 200.
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
    }
)


class Created(ApiModel):
    """The answer to a creation: servers send the id alone or the whole object."""

    id: str


CREATED = TypeAdapter(Created)
SOURCE = TypeAdapter(Source)
SOURCE_PAGE = TypeAdapter(Page[Source])
SCHEMAS_OR_PAGE: TypeAdapter[list[Schema] | Page[Schema]] = TypeAdapter(list[Schema] | Page[Schema])
JOBS = TypeAdapter(list[Job])
REFRESHED = TypeAdapter(RefreshedSchemas)
WEBHOOK_CREATED = TypeAdapter(WebhookCreated)
WEBHOOK_DELETED = TypeAdapter(WebhookDeleted)
WEBHOOK_INFO = TypeAdapter(WebhookInfo)


class SourceCalls(SchemaCalls):
    """One method per documented endpoint, and the state of a webhook.

    Builds on the calls about schemas, since a bulk update can fall back to single ones.
    """

    def list_sources(self, *, search: str | None = None, page_size: int = ROWS_PER_PAGE) -> Iterator[Source]:
        """All sources that the key's user may see, newest first, each with its schemas.

        Newer servers trim these schemas (no cadence, no sync settings): `list_schemas` has them whole.

        Args:
            search: Part of a source type or prefix; older servers search their internal ids instead.
            page_size: Rows per request.
        """
        params: dict[str, str | int] = {"limit": page_size} | ({"search": search} if search else {})
        path = self._path(SOURCES)
        return by_offset(lambda offset: self._read(SOURCE_PAGE, path, params={**params, "offset": offset}))

    def create_source(
        self,
        source_type: str,
        payload: Mapping[str, object],
        *,
        prefix: str | None = None,
        description: str | None = None,
        access_method: AccessMethod | None = None,
    ) -> str:
        """Create a source. PostHog tests the connection and lists the tables first, which takes long.

        Every schema of the payload with `should_sync` is synced at once. A `sync_frequency` in the payload is
        ignored: update the schemas afterwards.

        Args:
            source_type: As PostHog spells it, `Postgres` for example.
            payload: The connection's fields, and `schemas`.
            prefix: Goes before every table's name; it cannot be changed later.
            description: For people.
            access_method: Import the rows (the default) or query them in place.

        Returns:
            The new source's id.

        Raises:
            BadRequestError: The connection, the prefix or the payload is wrong.
            LostAnswerError: The source may have been created: look before trying again.
            ServerError: As above.
        """
        optional = {"prefix": prefix, "description": description, "access_method": access_method}
        body = {"source_type": source_type, "payload": dict(payload), **_given(optional)}
        answer = self.transport.request("POST", self._path(SOURCES), json=body, slow=True)
        return answer.parse(CREATED).id

    def get_source(self, source_id: str) -> Source:
        """A source with its schemas in full.

        Raises:
            NotFoundError: The id is unknown, deleted, or of another project.
        """
        return self._read(SOURCE, self._path(SOURCES, source_id))

    def update_source(
        self,
        source_id: str,
        *,
        description: str | None = None,
        job_inputs: Mapping[str, object] | None = None,
    ) -> Source:
        """Change a source's description or connection.

        There is no `prefix` here: PostHog answers 200 and keeps the old one, which is in every table's name.

        Args:
            source_id: The source.
            description: For people; an empty text clears it.
            job_inputs: Merged into the connection's fields; secrets that are left out stay. PostHog tests
                the connection before it answers.

        Raises:
            ValueError: There is nothing to change; nothing was sent.
            BadRequestError: The connection does not work.
        """
        body = _given({"description": description, "job_inputs": job_inputs and dict(job_inputs)})
        if not body:
            raise ValueError(f"Nothing to change in source {source_id}: give a description or job_inputs.")
        slow = job_inputs is not None
        answer = self.transport.request("PATCH", self._path(SOURCES, source_id), json=body, slow=slow)
        return answer.parse(SOURCE)

    def delete_source(self, source_id: str) -> None:
        """Delete a source with its schemas, tables, stored rows and webhook; cancels a running sync."""
        self.transport.request("DELETE", self._path(SOURCES, source_id), slow=True).expect_no_page()

    def bulk_update_schemas(self, source_id: str, updates: Mapping[str, SchemaUpdate]) -> list[Schema]:
        """Change the settings of several schemas of a source.

        Older servers allow no API key here, and the endpoint loses some settings without a word: what it
        can't do is done one schema at a time, so that part of it may be done when a later one fails.

        Args:
            source_id: The source.
            updates: The changes by schema id.

        Returns:
            The schemas as they are afterwards, in the order of `updates`.

        Raises:
            ValueError: PostHog would lose a change or break a schema; nothing was sent.
            PartialUpdateError: Some tables, which the detail names, were not saved.
            BadRequestError: A change breaks a rule.
        """
        items = {schema_id: {"id": schema_id, **update.body()} for schema_id, update in updates.items()}
        in_bulk = [items[key] for key, update in updates.items() if update.model_fields_set <= BULK_SETTINGS]
        saved = self._save_in_bulk(source_id, in_bulk) if in_bulk else {}
        return [saved.get(key) or self.update_schema(key, update) for key, update in updates.items()]

    def _save_in_bulk(self, source_id: str, items: list[dict[str, object]]) -> dict[str, Schema]:
        """What was saved, by id: nothing where the server allows no API key."""
        path = self._path(SOURCES, source_id, "bulk_update_schemas")
        try:
            answer = self.transport.request("PATCH", path, json={"schemas": items}, slow=True)
        except PermissionDeniedError as exc:
            if "does not support personal api key access" in exc.detail.lower():
                return {}
            raise
        saved = answer.parse(SCHEMAS_OR_PAGE)
        return {schema.id: schema for schema in (saved.results if isinstance(saved, Page) else saved)}

    def create_webhook(self, source_id: str, *, inputs: Mapping[str, object] | None = None) -> WebhookCreated:
        """Register PostHog's webhook at a source's provider.

        A second call may register a second one: ask `webhook_info` first. A refusal of the provider is no
        error here, but `success=False` with the reason; the URL is then good for setting it up by hand.

        Args:
            source_id: The source.
            inputs: What newer servers ask for, a signing secret for example.

        Raises:
            BadRequestError: The source type has no webhooks, or the source is not set up.
        """
        path = self._path(SOURCES, source_id, "create_webhook")
        body = None if inputs is None else {"inputs": dict(inputs)}
        return self.transport.request("POST", path, json=body, slow=True).parse(WEBHOOK_CREATED)

    def delete_webhook(self, source_id: str) -> WebhookDeleted:
        """Remove the webhook of a source.

        Raises:
            BadRequestError: Tables still use it.
        """
        path = self._path(SOURCES, source_id, "delete_webhook")
        return self.transport.request("POST", path, slow=True).parse(WEBHOOK_DELETED)

    def webhook_info(self, source_id: str) -> WebhookInfo:
        """Whether the webhook of a source exists. Older servers may refuse API keys here."""
        return self._read(WEBHOOK_INFO, self._path(SOURCES, source_id, "webhook_info"))

    def list_jobs(
        self,
        source_id: str,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        schemas: Collection[str] = (),
    ) -> Iterator[Job]:
        """The syncs of all tables of a source, newest first; one request per 50 jobs, as they are used.

        Both times exclude themselves and mean `created_at`: a job that was created before `after` and has
        ended since is not in the answer.

        Args:
            source_id: The source.
            after: Only jobs created later.
            before: Only jobs created earlier.
            schemas: Names of tables (not ids); none means all.

        Raises:
            ValueError: A time has no time zone.
            NotFoundError: The source is unknown.
        """
        fetch = partial(self._jobs, source_id, after=after, schemas=schemas)
        # Servers that do not know a filter ignore it, so that each is applied here again.
        for job in newest_first(fetch, before=before):
            if after is not None and job.created_at <= after:
                return
            if (not schemas or job.table.name in schemas) and (before is None or job.created_at < before):
                yield job

    def _jobs(
        self, source_id: str, before: datetime | None, *, after: datetime | None, schemas: Collection[str]
    ) -> list[Job]:
        params: dict[str, str | list[str]] = {"schemas": list(schemas)} if schemas else {}
        times = _given({"after": after, "before": before})
        params.update({name: as_parameter(moment) for name, moment in times.items()})
        return self._read(JOBS, self._path(SOURCES, source_id, "jobs"), params=params)

    def refresh_schemas(self, source_id: str) -> RefreshedSchemas:
        """Look for new and vanished tables in the customer's source. New ones are disabled at first.

        Raises:
            BadRequestError: The source could not be asked.
        """
        path = self._path(SOURCES, source_id, "refresh_schemas")
        return self.transport.request("POST", path, slow=True).parse(REFRESHED)


def _given(values: Mapping[str, T | None]) -> dict[str, T]:
    return {name: value for name, value in values.items() if value is not None}
