"""Calls about external data schemas: the tables."""

from collections.abc import Iterator
from datetime import datetime

from pydantic import TypeAdapter

from dw_orchestration.posthog.calls import ApiCalls
from dw_orchestration.posthog.enums import CancelOutcome
from dw_orchestration.posthog.errors import BadRequestError
from dw_orchestration.posthog.limits import ROWS_PER_PAGE
from dw_orchestration.posthog.models import IncrementalFields, Schema, SchemaUpdate
from dw_orchestration.posthog.paging import Page, by_offset

SCHEMAS = "external_data_schemas"
# How the servers of several years say that there was nothing to cancel, in lower case.
NOTHING_TO_CANCEL = ("no running sync to cancel", "already finished")

SCHEMA = TypeAdapter(Schema)
SCHEMA_PAGE = TypeAdapter(Page[Schema])
INCREMENTAL_FIELDS = TypeAdapter(IncrementalFields)


class SchemaCalls(ApiCalls):
    """One method per documented endpoint, and the list."""

    def list_schemas(self, *, search: str | None = None, page_size: int = ROWS_PER_PAGE) -> Iterator[Schema]:
        """All schemas of the project with their full settings, newest first.

        Newer servers trim the schemas in the list of sources; here they are whole, but do not name their
        source, so that the two lists go together.

        Args:
            search: Part of a table's name.
            page_size: Rows per request.
        """
        params: dict[str, str | int] = {"limit": page_size} | ({"search": search} if search else {})
        path = self._path(SCHEMAS)
        return by_offset(lambda offset: self._read(SCHEMA_PAGE, path, params={**params, "offset": offset}))

    def get_schema(self, schema_id: str) -> Schema:
        """A schema as it is now. Slow in big projects: to follow a sync, use `list_jobs`.

        Its `status` says Running before a job exists, and its `latest_error` is of an earlier sync while one
        is running.

        Raises:
            NotFoundError: The id is unknown, deleted, or of another project.
        """
        return self._read(SCHEMA, self._path(SCHEMAS, schema_id))

    def update_schema(self, schema_id: str, update: SchemaUpdate) -> Schema:
        """Change a schema's settings, only those that `update` sets.

        The first `should_sync=True` starts a sync at once, later ones do not. With a `sync_type`, PostHog
        may ask the customer's source before it answers.

        Raises:
            ValueError: PostHog would lose the change or break the schema; nothing was sent.
            BadRequestError: The change breaks a rule; `field` names the setting where the server does.
        """
        slow = update.sync_type is not None
        answer = self.transport.request("PATCH", self._path(SCHEMAS, schema_id), json=update.body(), slow=slow)
        return answer.parse(SCHEMA)

    def delete_schema(self, schema_id: str) -> None:
        """Delete a schema and its table.

        Discovery brings it back as a disabled schema within hours: to stop a table for good, update it with
        `should_sync=False`.
        """
        self.transport.request("DELETE", self._path(SCHEMAS, schema_id)).expect_no_page()

    def cancel_schema(self, schema_id: str) -> CancelOutcome:
        """Cancel the running sync of a schema.

        Older servers cancel after they have answered. The job ends as Failed, with an error that says it was
        cancelled; there is no status for it.

        Returns:
            NOTHING_RUNNING if the sync was over, or there was none: what was wanted is so already.

        Raises:
            BadRequestError: PostHog could not cancel; try again.
        """
        try:
            answer = self.transport.request("POST", self._path(SCHEMAS, schema_id, "cancel"))
        except BadRequestError as exc:
            if any(text in exc.detail.lower() for text in NOTHING_TO_CANCEL):
                return CancelOutcome.NOTHING_RUNNING
            raise
        answer.expect_no_page()
        # Newer servers repair a schema that said Running without a job, and say so instead of being silent.
        return CancelOutcome.NOTHING_RUNNING if answer.said() else CancelOutcome.REQUESTED

    def delete_schema_data(self, schema_id: str) -> None:
        """Delete a schema's rows.

        Its schedule stays, so that the next sync imports, and bills, all rows again.
        """
        self.transport.request("DELETE", self._path(SCHEMAS, schema_id, "delete_data")).expect_no_page()

    def get_incremental_fields(self, schema_id: str) -> IncrementalFields:
        """How a schema can be synced. Asks the customer's source, so that it takes seconds to minutes.

        Raises:
            BadRequestError: The source could not be asked, with its own error.
        """
        answer = self.transport.request("POST", self._path(SCHEMAS, schema_id, "incremental_fields"), slow=True)
        return answer.parse(INCREMENTAL_FIELDS)

    def reload_schema(self, schema_id: str) -> datetime | None:
        """Sync a schema now.

        The answer names no job, and 200 does not promise one: PostHog drops a trigger while a sync of the
        schema is running, and may defer a table that keeps failing. Look for a new job with `list_jobs`.

        Returns:
            The server's clock when it accepted, to compare with a job's `created_at`; None if it did not say.

        Raises:
            LostAnswerError: The sync may have been started: look for a job before asking again.
            ServerError: As above.
            BillingLimitError: The project is over its limit.
        """
        return self._trigger(schema_id, "reload")

    def resync_schema(self, schema_id: str) -> datetime | None:
        """Drop a schema's table and import everything again, which bills every row. Cancels a running sync.

        Returns:
            The server's clock when it accepted; None if it did not say.

        Raises:
            LostAnswerError: The resync may have been started: look for a job before asking again.
            ServerError: As above.
            BillingLimitError: The project is over its limit.
        """
        return self._trigger(schema_id, "resync")

    def _trigger(self, schema_id: str, action: str) -> datetime | None:
        answer = self.transport.request("POST", self._path(SCHEMAS, schema_id, action))
        answer.expect_no_page()
        return answer.server_time
