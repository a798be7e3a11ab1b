"""The schemas' records after a sync, read with as few requests as give fresh answers."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from dw_orchestration.assets.tables import Table
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.posthog.models import Job, Schema, Source


class RecordApi(Protocol):
    """What reading records asks of a client."""

    def get_schema(self, schema_id: str) -> Schema:
        """One schema with its table."""

    def get_source(self, source_id: str) -> Source:
        """A source with all its schemas and their tables."""


class RecordReader:
    """Reads a schema's row count and columns once its sync has ended.

    Several tables of a source tend to end together, and a source's record answers for all of them: it is read again
    only for a job that was still going on when it was last read.
    """

    def __init__(self, api: RecordApi, tables: Iterable[Table]) -> None:
        tables = list(tables)
        self._api = api
        self._source_of = {table.schema.id: table.source.id for table in tables}
        self._tables_of = Counter(table.source.id for table in tables)
        self._read: dict[str, Source] = {}

    def after(self, job: Job) -> Schema | None:
        """The schema as it stands after a completed job; None if it cannot be read, which is no failure of the sync."""
        source_id = self._source_of[job.schema_id]
        try:
            if self._tables_of[source_id] == 1:
                return self._api.get_schema(job.schema_id)
            return self._in_source(source_id, job) or self._in_source(source_id, job, again=True)
        except PostHogError:
            return None

    def _in_source(self, source_id: str, job: Job, *, again: bool = False) -> Schema | None:
        if again or source_id not in self._read:
            self._read[source_id] = self._api.get_source(source_id)
        records = {schema.id: schema for schema in self._read[source_id].schemas}
        record = records.get(job.schema_id)
        # PostHog dates a schema's last sync at the start of its job
        is_fresh = record is not None and record.last_synced_at is not None and record.last_synced_at >= job.created_at
        return record if is_fresh or again else None
