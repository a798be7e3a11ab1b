"""The sync history in DuckDB: one row per job."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource
from duckdb import (
    ConnectionException,
    DuckDBPyConnection,
    Error,
    FatalException,
    InternalException,
    IOException,
    NotImplementedException,
    SerializationException,
    connect,
)

from dw_orchestration.files import private_files
from dw_orchestration.history.database import connected, is_address, is_duckdbs, refuse_secrets
from dw_orchestration.history.reading import Known
from dw_orchestration.history.views import VIEWS
from dw_orchestration.posthog.jobs import duration_s, is_over
from dw_orchestration.posthog.models import Job, Source
from dw_orchestration.tables.errors import SetupError

# Times are UTC and without a zone: DuckDB needs an extension to calculate with zones, and pytz to show them to Python.
_TABLE = """
    create table if not exists sync_history (
        job_id varchar {constraint},
        project varchar not null,
        source_id varchar not null,
        source_type varchar not null,
        prefix varchar,
        schema_id varchar not null,
        table_name varchar not null,
        status varchar not null,
        is_over boolean not null,
        created_at timestamp not null,
        finished_at timestamp,
        duration_s double,
        rows_synced bigint,
        error varchar,
        billable boolean not null,
        read_at timestamp not null
    )
"""

_DAMAGE = (IOException, SerializationException, InternalException, FatalException)
_LOCKED = "Could not set lock"
_PASSING = (_LOCKED, "No space left")
# for how long a writer waits for another one, which holds the file for the time of a statement
WAIT_S = 120.0
_POLL_S = 0.5
# how often rows are saved that a server's other writer has changed meanwhile
_TRIES = 5

_KNOWN = """
    select max(created_at) from sync_history where project = $project and source_id = $source_id
"""

_UNFINISHED = """
    select job_id, created_at from sync_history
    where project = $project and source_id = $source_id and not is_over and created_at >= $since
"""

# Lists are two hundred times as fast as a statement per row. Not every database behind DuckDB has `on conflict`, so the
# rows are staged, and the older ones of the same jobs make way.
_STAGE = """
    create or replace temp table incoming as select
        unnest($job_id::varchar[]) as job_id,
        $project as project,
        $source_id as source_id,
        $source_type as source_type,
        $prefix::varchar as prefix,
        unnest($schema_id::varchar[]) as schema_id,
        unnest($table_name::varchar[]) as table_name,
        unnest($status::varchar[]) as status,
        unnest($is_over::boolean[]) as is_over,
        unnest($created_at::timestamp[]) as created_at,
        unnest($finished_at::timestamp[]) as finished_at,
        unnest($duration_s::double[]) as duration_s,
        unnest($rows_synced::bigint[]) as rows_synced,
        unnest($error::varchar[]) as error,
        unnest($billable::boolean[]) as billable,
        $read_at::timestamp as read_at
"""
# of two runs at once, the one that read later is right
_REMOVE_OLDER = """
    delete from sync_history where job_id in (select job_id from incoming) and read_at <= $read_at
"""
_INSERT = """
    insert into sync_history by name select * from incoming where job_id not in (
        select job_id from sync_history where job_id in (select job_id from incoming)
    )
"""


class HistoryStore:
    """One project's part of the table `sync_history` in a DuckDB file, or in another database through DuckDB.

    Args:
        duckdb: The database. A file is open only while a statement runs: DuckDB lets one process at a time write.
        project: Identifies the project, because projects can share the database.
        wait_s: For how many seconds to wait for another process that has the file open.
        sleep: How to wait.
    """

    def __init__(
        self,
        duckdb: DuckDBResource,
        *,
        project: str,
        wait_s: float = WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        refuse_secrets(duckdb.database)
        self.duckdb = duckdb
        self.project = project
        self._wait_s = wait_s
        self._sleep = sleep

    @contextmanager
    def connection(self) -> Iterator[DuckDBPyConnection]:
        """A connection to the database, in which the table exists.

        Raises:
            SetupError: The file is damaged or stays in use, or the database cannot be reached.
        """
        database = self.duckdb.database
        try:
            with private_files(), closing(self._opened()) as connection:
                _create_table(connection)
                if is_duckdbs(database):
                    _create_views(connection)
                yield connection
        except Error as error:
            if is_address(database):
                raise _unreachable(database, error) from None
            if not isinstance(error, _DAMAGE) or any(text in str(error) for text in _PASSING):
                raise
            raise _damaged(Path(database), error) from None

    def _opened(self) -> DuckDBPyConnection:
        """Open the database; wait for a while if another process has the file open.

        Raises:
            SetupError: It has it open still.
        """
        database, waited_s = self.duckdb.database, 0.0
        # as the resource itself does it, which neither ends its retries in time nor names the other process
        config = {"custom_user_agent": "dagster", **self.duckdb.connection_config}
        if is_address(database):
            return connected(database, config)
        _check_file(Path(database))
        while True:
            try:
                return connect(database, config=config)
            except (IOException, ConnectionException) as error:
                if isinstance(error, IOException) and _LOCKED not in str(error):
                    raise
                if waited_s >= self._wait_s:
                    raise _in_use(database, error, waited_s=waited_s) from None
                if not waited_s:
                    dg.get_dagster_logger("dw_orchestration").warning(
                        f"The sync history {database} is in use: {_reason(error)}. Waiting for at most"
                        f" {self._wait_s:.0f} s."
                    )
            self._sleep(_POLL_S)
            waited_s += _POLL_S

    def known(self, source_id: str, *, unfinished_since: datetime) -> Known:
        """What is stored of a source; unfinished jobs that were created before the given time are given up."""
        of_source = {"project": self.project, "source_id": source_id}
        with self.connection() as connection:
            (newest,) = connection.execute(_KNOWN, of_source).fetchone() or (None,)
            rows = connection.execute(_UNFINISHED, of_source | {"since": stored(unfinished_since)}).fetchall()
        return Known(
            newest=newest and newest.replace(tzinfo=UTC),
            unfinished={job_id: created_at.replace(tzinfo=UTC) for job_id, created_at in rows},
        )

    def save(self, source: Source, jobs: Iterable[Job], *, read_at: datetime) -> None:
        """Store the jobs of a source, all or none; those that are there already are updated."""
        of_source = {
            "project": self.project,
            "source_id": source.id,
            "source_type": source.source_type,
            "prefix": source.prefix or None,
            "read_at": stored(read_at),
        }
        if columns := _columns(jobs):
            with self.connection() as connection:
                connection.execute(_STAGE, of_source | columns)
                _replace_rows(
                    connection, read_at=stored(read_at), tries=_TRIES if is_address(self.duckdb.database) else 1
                )


def _create_table(connection: DuckDBPyConnection) -> None:
    try:
        connection.execute(_TABLE.format(constraint="primary key"))
    except NotImplementedException:
        # a lake has no keys
        connection.execute(_TABLE.format(constraint="not null"))


def _create_views(connection: DuckDBPyConnection) -> None:
    for name, query in VIEWS.items():
        connection.execute(f"create view if not exists {name} as {query}")


def _replace_rows(connection: DuckDBPyConnection, *, read_at: datetime, tries: int) -> None:
    """Store the staged rows, all or none. On a server another writer may store the same ones: then again."""
    connection.begin()
    try:
        connection.execute(_REMOVE_OLDER, {"read_at": read_at})
        connection.execute(_INSERT)
        connection.commit()
    except Error:
        connection.rollback()
        if tries == 1:
            raise
        _replace_rows(connection, read_at=read_at, tries=tries - 1)


def _reason(error: Error) -> str:
    """What DuckDB says, in one line; for a file in use, this names the other process."""
    return str(error).splitlines()[0].rstrip(".")


def _in_use(database: str, error: Error, *, waited_s: float) -> SetupError:
    return SetupError(
        f"The sync history {database} is still in use after {waited_s:.0f} s: {_reason(error)}. End the other process,"
        " or close its connection, and run this again. For several writers, use a server such as `md:` or `postgres:`."
    )


def _unreachable(address: str, error: Error) -> SetupError:
    return SetupError(
        f"The sync history at {address} cannot be used ({_reason(error)}). Check the address, the credentials in the"
        " environment, and that DuckDB has or may download the extension for it."
    )


def _check_file(path: Path) -> None:
    """Report a damaged file at once: the resource would try for minutes, as for a file that is locked.

    Raises:
        SetupError: There is no DuckDB file in its place.
    """
    if not path.exists():
        return
    try:
        connect(path, read_only=True).close()
    except Error as error:
        # open in this process, or in another one: the resource waits for that
        if isinstance(error, ConnectionException) or any(text in str(error) for text in _PASSING):
            return
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Error) -> SetupError:
    return SetupError(
        f"The sync history {path} cannot be used ({str(error).splitlines()[0]}). Restore it from a backup, or move it"
        " away: the next run begins a new one with what PostHog still lists."
    )


def stored(moment: datetime) -> datetime:
    """A time as stored in the table: UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _columns(jobs: Iterable[Job]) -> dict[str, list[object]]:
    """The jobs' values by column; empty if there are none."""
    columns: dict[str, list[object]] = {}
    for job in jobs:
        for name, value in _row(job).items():
            columns.setdefault(name, []).append(value)
    return columns


def _row(job: Job) -> dict[str, object]:
    return {
        "job_id": job.id,
        "schema_id": job.schema_id,
        "table_name": job.table.name,
        "status": str(job.status),
        "is_over": is_over(job),
        "created_at": stored(job.created_at),
        "finished_at": job.finished_at and stored(job.finished_at),
        "duration_s": duration_s(job),
        "rows_synced": job.rows_synced,
        "error": job.latest_error,
        # PostHog bills every sync that is not marked otherwise, and older servers mark none
        "billable": job.billable is not False,
    }
