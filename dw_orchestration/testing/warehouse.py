"""The embedded warehouse as a test uses it: sources from rows, scripted behaviour, jobs and tables."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dw_orchestration.posthog.jobs import is_over

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Job, Schema
    from dw_orchestration.resources.local import LocalWarehouse
    from dw_orchestration.tables.snapshot import WarehouseSnapshot
    from dw_orchestration.testing.behaviours import TableBehaviour, WarehouseBehaviour

Row = dict[str, Any]
T = TypeVar("T")

WAIT_S = 30.0
POLL_EVERY_S = 0.05
BEHAVIOURS = "/_behaviours/"
# schedules and first syncs would start jobs in the midst of a test
QUIET = {"quiet": True}


@dataclass(frozen=True)
class AddedSource:
    """A source that a test has added."""

    id: str
    source_type: str
    prefix: str | None
    tables: frozenset[str]


class EmbeddedWarehouse:
    """The warehouse of one test; nothing is synced in it but on request.

    Args:
        resource: The warehouse's process, which may be shared with tests before and after this one.

    Attributes:
        resource: To give to Dagster, as the resource of your assets and sensors.
        client: The API, to do what a colleague does in PostHog.
    """

    def __init__(self, resource: LocalWarehouse) -> None:
        self.resource = resource
        self.client: PostHogWarehouseClient = resource.client()
        self._sources: list[AddedSource] = []
        self._before: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        self.reset()
        self._before = frozenset(source.id for source in self.client.list_sources())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self.client.close()

    def add_source(
        self,
        source_type: str,
        *,
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        prefix: str | None = None,
        off: Collection[str] = (),
        sync_type: str = "full_refresh",
        **settings: object,
    ) -> AddedSource:
        """Add a source with these tables. They are on and have never been synced.

        Args:
            source_type: Any type of PostHog's but Postgres, which is read from a database.
            tables: The rows that the source has, by the name of their table.
            prefix: As PostHog asks for one from the second source of a type on.
            off: The disabled tables.
            sync_type: How all of the tables are synced.
            settings: Further settings of all the tables, such as `incremental_field`, as the API names them.

        Raises:
            ValueError: A table has no rows, or another source of this type has a table of this name.

        Example:
            ```python
            embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1}]})
            ```
        """
        folder = self._folder(source_type)
        for name, rows in tables.items():
            if (folder / f"{name}.parquet").exists():
                raise ValueError(f"There is a table {name!r} of type {source_type} already: choose another name.")
            _write(folder / f"{name}.parquet", rows)
        schemas = [
            {"name": name, "should_sync": name not in off, "sync_type": sync_type, **settings} for name in tables
        ]
        source_id = self.client.create_source(source_type, {"schemas": schemas}, prefix=prefix)
        source = AddedSource(source_id, source_type, prefix, frozenset(tables))
        self._sources.append(source)
        return source

    def set_rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Let the source have other rows from now on.

        Raises:
            KeyError: No source has the table.
            ValueError: There are no rows.
        """
        _write(self._folder(self._source_of(table).source_type) / f"{table}.parquet", rows)

    def behave(self, table: str, behaviour: TableBehaviour) -> None:
        """Let the syncs of a table behave so until `reset`, instead of what was asked for before.

        Raises:
            KeyError: No source has the table.

        Example:
            ```python
            embedded_warehouse.behave("Customer", job_appears_after(2) | runs_for(5))
            ```
        """
        script = {"source": self._source_of(table).id, "table": table, "behaviour": dict(behaviour.settings)}
        self.client.transport.request("POST", f"{BEHAVIOURS}tables/", json=script)

    def answer(self, behaviour: WarehouseBehaviour) -> None:
        """Let the warehouse answer all calls so until `reset`.

        Example:
            ```python
            embedded_warehouse.answer(throttled(5, retry_after_s=2))
            ```
        """
        self.client.transport.request("POST", f"{BEHAVIOURS}warehouse/", json=QUIET | dict(behaviour.settings))

    def reset(self) -> None:
        """Let everything behave as usual again; syncs that were held up continue."""
        self.client.transport.request("DELETE", BEHAVIOURS)
        self.client.transport.request("POST", f"{BEHAVIOURS}warehouse/", json=QUIET)

    def snapshot(self) -> WarehouseSnapshot:
        """The state to build definitions from."""
        return self.resource.take_snapshot()

    def schema(self, table: str) -> Schema:
        """A table's record at PostHog.

        Raises:
            KeyError: No source has the table.
        """
        schemas = self.client.get_source(self._source_of(table).id).schemas
        return next(schema for schema in schemas if schema.name == table)

    def jobs(self, table: str) -> list[Job]:
        """All syncs of a table, newest first.

        Raises:
            KeyError: No source has the table.
        """
        return list(self.client.list_jobs(self._source_of(table).id, schemas=[table]))

    def rows(self, table: str) -> list[Row]:
        """What has been synced of a table, in the order of its values; nothing if that is nothing.

        Raises:
            KeyError: No source has the table.
        """
        synced = self.schema(table).table
        return _select(self.resource.database, synced.name) if synced is not None else []

    def start(self, table: str) -> Job:
        """Start a sync as PostHog's schedule or a colleague would, and see it begin.

        Raises:
            KeyError: No source has the table.
            TimeoutError: No job has appeared.
        """
        known = {job.id for job in self.jobs(table)}
        self.client.reload_schema(self.schema(table).id)
        return _wait_for(lambda: next((job for job in self.jobs(table) if job.id not in known), None))

    def sync(self, table: str) -> Job:
        """Start a sync as PostHog's schedule or a colleague would, and see it end.

        Raises:
            KeyError: No source has the table.
            TimeoutError: It has not begun or not ended.
        """
        self.start(table)
        return _wait_for(lambda: next((job for job in self.jobs(table)[:1] if is_over(job)), None))

    def clear(self) -> None:
        """Reset, and remove everything that was added since the test began, also by the code that it tests."""
        self.reset()
        for source in list(self.client.list_sources()):
            if source.id not in self._before:
                self.client.delete_source(source.id)
        for added in self._sources:
            shutil.rmtree(self._folder(added.source_type), ignore_errors=True)
        self._sources.clear()

    def _source_of(self, table: str) -> AddedSource:
        found = [source for source in self._sources if table in source.tables]
        if len(found) != 1:
            raise KeyError(f"{len(found)} of the test's sources have a table {table!r}; there should be one.")
        return found[0]

    def _folder(self, source_type: str) -> Path:
        if self.resource.fixtures is None:
            raise ValueError("The resource has no folder of files for its sources: set `fixtures`.")
        return Path(self.resource.fixtures) / source_type


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not rows:
        raise ValueError(f"The table {path.stem!r} has no rows, and so no columns: give it one, at least.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    pq.write_table(pa.Table.from_pylist(list(rows)), draft)
    draft.replace(path)  # a sync that is reading continues with the file that it has opened


def _select(database: Path, table: str) -> list[Row]:
    import duckdb

    def read() -> list[Row] | None:
        try:
            with duckdb.connect(str(database), read_only=True) as connection:
                # the name comes from the warehouse, quoted where it has to be
                found = connection.execute(f"SELECT * FROM {table} ORDER BY ALL")  # noqa: S608
                names = [name for name, *_ in found.description or ()]
                return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.IOException:  # a sync has the file for a moment
            return None

    return _wait_for(read)


def _wait_for(ask: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + WAIT_S
    while (answer := ask()) is None:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"Still not so after {WAIT_S:.0f} s.")
        time.sleep(POLL_EVERY_S)
    return answer
