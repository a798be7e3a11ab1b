"""The sync history in DuckDB: one row per job."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dagster_duckdb import DuckDBResource
from duckdb import (
    ConnectionException,
    DuckDBPyConnection,
    Error,
    FatalException,
    InternalException,
    IOException,
    SerializationException,
    connect,
)

from dw_orchestration.files import private_files
from dw_orchestration.history.reading import Known
from dw_orchestration.posthog.jobs import duration_s, is_over
from dw_orchestration.posthog.models import Job, Source
from dw_orchestration.tables.errors import SetupError

# Times are UTC and without a zone: DuckDB needs an extension to calculate with zones, and pytz to show them to Python.
_TABLE = """
    create table if not exists sync_history (
        job_id varchar primary key,
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
        billable boolean,
        read_at timestamp not null
    )
"""

_DAMAGE = (IOException, SerializationException, InternalException, FatalException)
_PASSING = ("Could not set lock", "No space left")

_KNOWN = """
    select max(created_at) from sync_history where project = $project and source_id = $source_id
"""

_UNFINISHED = """
    select job_id, created_at from sync_history
    where project = $project and source_id = $source_id and not is_over and created_at >= $since
"""

# one statement is one transaction, and lists are two hundred times as fast as a statement per row
_SAVE = """
    insert into sync_history by name
    select
        unnest($job_id::varchar[]) as job_id,
        $project as project,
        $source_id as source_id,
        $source_type as source_type,
        $prefix as prefix,
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
        $read_at as read_at
    on conflict (job_id) do update set
        table_name = excluded.table_name,
        status = excluded.status,
        is_over = excluded.is_over,
        finished_at = excluded.finished_at,
        duration_s = excluded.duration_s,
        rows_synced = excluded.rows_synced,
        error = excluded.error,
        billable = excluded.billable,
        read_at = excluded.read_at
    where excluded.read_at >= sync_history.read_at  -- of two runs at once, the one that read later is right
"""


class HistoryStore:
    """One project's part of the table `sync_history` in a DuckDB file.

    Args:
        duckdb: The file. It is open only while a statement runs: DuckDB lets one process at a time write.
        project: Identifies the project, because projects can share the file.
    """

    def __init__(self, duckdb: DuckDBResource, *, project: str) -> None:
        self.duckdb = duckdb
        self.project = project

    @contextmanager
    def connection(self) -> Iterator[DuckDBPyConnection]:
        """A connection to the file, in which the table exists.

        Raises:
            SetupError: The file is damaged.
        """
        path = Path(self.duckdb.database)
        _check_file(path)
        try:
            # the resource itself leaves a connection open, and so the file locked, when an error ends its use
            with private_files(), self.duckdb.get_connection() as connection, closing(connection):
                connection.execute(_TABLE)
                yield connection
        except _DAMAGE as error:
            if any(text in str(error) for text in _PASSING):
                raise
            raise _damaged(path, error) from None

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
                connection.execute(_SAVE, of_source | columns)


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
        "billable": job.billable,
    }
