"""The schemas' records after a sync, read with as few requests as give fresh answers."""

from collections import Counter
from collections.abc import Iterable

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.tables.table import Table

# with more sources than this, one list of all of them is cheaper than a record of each
SOURCES_READ_ONE_BY_ONE = 3


class RecordReader:
    """Reads a schema's row count and columns once its sync has ended.

    Several tables tend to end together, and one answer covers all of them: it is requested again only for a job that
    was still running at that time.
    """

    def __init__(self, api: WarehouseApi, tables: Iterable[Table]) -> None:
        self._api = api
        self._source_of = {table.schema.id: table.source.id for table in tables}
        self._tables_of = Counter(self._source_of.values())
        self._records: dict[str, Schema] = {}

    def after(self, job: Job, *, seen: Schema | None = None) -> Schema | None:
        """The schema as it stands after a completed job; None if it cannot be read, which is no failure of the sync.

        Args:
            job: The job.
            seen: The record as the engine has read it last. A list's record may have no columns.
        """
        is_listed = len(self._tables_of) > SOURCES_READ_ONE_BY_ONE
        if seen is not None and not self._is_fresh(job) and (is_listed or (seen.table and seen.table.columns)):
            self._records[job.schema_id] = seen
        if not self._is_fresh(job):
            try:
                self._records |= {schema.id: schema for schema in self._read(job.schema_id)}
            except PostHogError:
                return None
        return self._records.get(job.schema_id)

    def _is_fresh(self, job: Job) -> bool:
        """PostHog dates a schema's last sync at the start of its job."""
        record = self._records.get(job.schema_id)
        return record is not None and record.last_synced_at is not None and record.last_synced_at >= job.created_at

    def _read(self, schema_id: str) -> list[Schema]:
        source_id = self._source_of[schema_id]
        if len(self._tables_of) > SOURCES_READ_ONE_BY_ONE:
            return [schema for source in self._api.list_sources() for schema in source.schemas]
        if self._tables_of[source_id] == 1:
            return [self._api.get_schema(schema_id)]
        return list(self._api.get_source(source_id).schemas)
