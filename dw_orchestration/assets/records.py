"""The schemas' records after a sync, read with as few requests as give fresh answers."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from math import ceil
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dw_orchestration.files import replace_file
from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.posthog.limits import ROWS_PER_PAGE
from dw_orchestration.posthog.models import Job, Schema, Source
from dw_orchestration.posthog.rows import Rows
from dw_orchestration.tables.table import Table

# A reading serves all processes for as many seconds for each of its requests: syncs end meanwhile, each at its time.
_SERVES_S = 5.0
_RECORDS = TypeAdapter(tuple[Schema, ...])


class SharedRecords:
    """The records of a project's tables as one process of this machine has listed them last, for all of them.

    The steps of a run each need the records of one source, and the list of all tables has those of all sources.

    Args:
        api: The client.
        file: Where the processes share the list.
        tables: How many tables the project has.
        sources: How many sources the run syncs. If the list takes as many requests, it is not read.
        now: The machine's clock, in seconds since 1970.
    """

    def __init__(
        self, api: WarehouseApi, file: Path, *, tables: int, sources: int, now: Callable[[], float] = time.time
    ) -> None:
        self._api = api
        self._file = file
        self._pages = ceil(tables / ROWS_PER_PAGE)
        self._is_worth_reading = self._pages < sources
        self._now = now
        self._read_at = 0.0
        self._records: Mapping[str, Schema] = {}

    def after(self, schema_id: str, began: datetime) -> Schema | None:
        """The record of a table after the sync that began then has completed; None if no list shows it, or not yet."""
        if not self._is_worth_reading:
            return None
        if not is_after(self._records.get(schema_id), began):
            self._take_shared()
        if not is_after(self._records.get(schema_id), began):
            self._list_again()
        record = self._records.get(schema_id)
        return record if is_after(record, began) else None

    def _take_shared(self) -> None:
        """Take what another process has listed since."""
        with suppress(OSError, ValidationError):
            if (read_at := self._file.stat().st_mtime) > self._read_at:
                self._take(_RECORDS.validate_json(self._file.read_bytes()), at=read_at)

    def _list_again(self) -> None:
        """List the tables, unless the last list is still to serve."""
        if self._now() - self._read_at < _SERVES_S * self._pages:
            return
        # also if it fails, so that not each table asks for it again
        self._read_at = self._now()
        with suppress(PostHogError):
            # a project may have more tables than when its definitions were loaded
            self._take(tuple(islice(self._api.list_schemas(), self._pages * ROWS_PER_PAGE)), at=self._read_at)
            self._share()

    def _take(self, records: tuple[Schema, ...], *, at: float) -> None:
        self._records, self._read_at = {record.id: record for record in records}, at

    def _share(self) -> None:
        # a folder that cannot be written costs requests, and no sync
        with suppress(OSError):
            replace_file(self._file, _RECORDS.dump_json(tuple(self._records.values()), exclude_defaults=True))


class RecordReader:
    """Reads a schema's row count and columns once its sync has ended.

    Several tables tend to end together, and one answer covers all of them: it is requested again only for a job that
    was still running at that time.

    Args:
        api: The client.
        tables: The tables of the step.
        shared: What all steps of the run read together, if there are several sources.
    """

    def __init__(self, api: WarehouseApi, tables: Iterable[Table], *, shared: SharedRecords | None = None) -> None:
        self._api = api
        self._shared = shared
        self._tables = {table.id: table for table in tables}
        self._tables_of = Counter(table.source.id for table in self._tables.values())
        self._records: dict[str, Schema] = {}

    def known(self, began: Mapping[str, datetime]) -> dict[str, Source]:
        """The sources whose records after these syncs, by the id of the table, need no other request."""
        if self._shared is None or not self._tables.keys() <= began.keys():
            return {}
        records: dict[str, list[Schema]] = {}
        for table in self._tables.values():
            record = self._shared.after(table.id, began[table.id])
            if record is None:
                return {}
            records.setdefault(table.source.id, []).append(record)
        sources = {table.source.id: table.source for table in self._tables.values()}
        return {
            source_id: Source(
                id=source_id,
                source_type=source.source_type,
                access_method=source.access_method,
                schemas=Rows(records[source_id]),
            )
            for source_id, source in sources.items()
        }

    def after(self, job: Job, *, seen: Schema | None = None) -> Schema | None:
        """The schema as it stands after a completed job; None if it cannot be read, which is no failure of the sync.

        Args:
            job: The job.
            seen: The record as the engine has read it last. A list's record may have no columns.
        """
        began = job.created_at
        if is_after(record := self._records.get(job.schema_id), began):
            return record
        if seen is not None and seen.table and seen.table.columns and is_after(seen, began):
            return seen
        if self._shared is not None and (shared := self._shared.after(job.schema_id, began)) is not None:
            return shared
        if len(self._tables_of) > 1 and is_after(seen, began):
            # one request for each table of many sources is too dear for columns that seldom change
            return seen
        try:
            self._records |= {schema.id: schema for schema in self._read(job.schema_id)}
        except PostHogError:
            return None
        return self._records.get(job.schema_id)

    def _read(self, schema_id: str) -> Iterable[Schema]:
        source_id = self._tables[schema_id].source.id
        if self._tables_of[source_id] == 1:
            return [self._api.get_schema(schema_id)]
        return self._api.get_source(source_id).schemas


def is_after(record: Schema | None, began: datetime) -> bool:
    """Whether a record shows a completed sync; PostHog dates a schema's last sync at the start of its job."""
    return record is not None and record.last_synced_at is not None and record.last_synced_at >= began
