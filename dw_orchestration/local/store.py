"""The state of the embedded warehouse in one SQLite file; every statement it runs stands here."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from pydantic import BaseModel

from dw_orchestration.local.migrations import migrate
from dw_orchestration.local.rows import (
    ApiKey,
    Job,
    LogLine,
    Project,
    PushedRow,
    Row,
    Schedule,
    Schema,
    ShownLine,
    Source,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

R = TypeVar("R", bound=Row)

JOBS_CAP = 50  # PostHog never answers with more
LOG_LINES_KEPT = 1_000  # for each schema


def _encode(value: object) -> object:
    """A value as SQLite keeps it; times in one fixed form, so that text order is time order."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case time():
            return value.isoformat()
        case UUID():
            return str(value)
        case BaseModel():
            return value.model_dump_json()
        case dict() | list() | tuple():
            return json.dumps(value)
    return value


class Store:
    """Reads and writes the state; safe to share between threads.

    One connection behind a lock: every statement is short, and a reader then never sees half a change.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # it holds the passwords of the sources
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._db.row_factory = sqlite3.Row
        # A commit survives kill -9 without an extra fsync; only a power cut could lose the last ones.
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
        (damage, *_) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        migrate(self._db)

    def close(self) -> None:
        """Close the database; later calls fail."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes inside one; a nested use joins the outer one."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, model: type[R], sql: str, *values: object) -> list[R]:
        with self._lock:
            found = self._db.execute(sql, [_encode(value) for value in values]).fetchall()
        return [model.model_validate(dict(row)) for row in found]

    def _execute(self, sql: str, *values: object) -> int:
        with self._lock:
            return self._db.execute(sql, [_encode(value) for value in values]).rowcount

    def insert(self, row: Row) -> None:
        """Add a row; one with the same key is replaced."""
        fields = type(row).model_fields
        marks = ", ".join("?" for _ in fields)
        # the names are those of our models
        sql = f"INSERT OR REPLACE INTO {row.table} ({', '.join(fields)}) VALUES ({marks})"  # noqa: S608
        self._execute(sql, *(getattr(row, name) for name in fields))

    def update(self, model: type[Row], key: object, **changes: object) -> None:
        """Set the given columns of one row.

        Raises:
            KeyError: the model has no such column.
        """
        if unknown := changes.keys() - model.model_fields.keys():
            raise KeyError(f"{model.__name__} has no {sorted(unknown)}")
        sets = ", ".join(f"{name} = ?" for name in changes)
        sql = f"UPDATE {model.table} SET {sets} WHERE {model.key} = ?"  # noqa: S608 - names of our models
        self._execute(sql, *changes.values(), key)

    # --- projects and keys ---

    def ensure_project(self) -> Project:
        """The project; made at the first start."""
        self._execute("INSERT OR IGNORE INTO projects (id, name) VALUES (1, 'Embedded warehouse')")
        return self.projects()[0]

    def projects(self) -> list[Project]:
        """All projects, oldest first."""
        return self._rows(Project, "SELECT * FROM projects ORDER BY id")

    def add_key(self, *, scopes: Sequence[str], at: datetime, project_ids: Sequence[int] | None = None) -> str:
        """Make a personal API key; its text is known to the caller alone."""
        token = f"phx_{secrets.token_urlsafe(32)}"
        limits = tuple(project_ids) if project_ids is not None else None
        self.insert(ApiKey(hash=_hash(token), scopes=tuple(scopes), project_ids=limits, created_at=at))
        return token

    def api_key(self, token: str) -> ApiKey | None:
        """The key with this text, if there is one."""
        return _first(self._rows(ApiKey, "SELECT * FROM api_keys WHERE hash = ?", _hash(token)))

    # --- sources ---

    def sources(self, project_id: int, *, search: str = "") -> list[Source]:
        """Sources of a project, newest first; `search` matches type and prefix."""
        sql = """SELECT * FROM sources WHERE project_id = ? AND NOT deleted
                 AND instr(lower(source_type || ' ' || coalesce(prefix, '')), lower(?))
                 ORDER BY created_at DESC, rowid DESC"""
        return self._rows(Source, sql, project_id, search)

    def source(self, source_id: UUID) -> Source | None:
        """The source with this id, unless it was deleted."""
        return _first(self._rows(Source, "SELECT * FROM sources WHERE id = ? AND NOT deleted", source_id))

    def due_discoveries(self, now: datetime) -> list[Source]:
        """Sources whose tables should be listed again."""
        return self._rows(Source, "SELECT * FROM sources WHERE NOT deleted AND next_discovery <= ?", now)

    # --- schemas ---

    def schemas(self, project_id: int, *, search: str = "") -> list[Schema]:
        """Schemas of a project, newest first; `search` matches the name."""
        sql = """SELECT * FROM schemas WHERE project_id = ? AND NOT deleted
                 AND instr(lower(name), lower(?)) ORDER BY created_at DESC, rowid DESC"""
        return self._rows(Schema, sql, project_id, search)

    def schemas_of(self, source_id: UUID, *, deleted_too: bool = False) -> list[Schema]:
        """Schemas of a source, ordered by name."""
        sql = "SELECT * FROM schemas WHERE source_id = ? AND deleted <= ? ORDER BY name"
        return self._rows(Schema, sql, source_id, deleted_too)

    def schema(self, schema_id: UUID) -> Schema | None:
        """The schema with this id, unless it was deleted."""
        return _first(self._rows(Schema, "SELECT * FROM schemas WHERE id = ? AND NOT deleted", schema_id))

    # --- jobs ---

    def jobs(
        self,
        source_id: UUID,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        names: Sequence[str] = (),
    ) -> list[Job]:
        """The newest jobs of a source, at most 50, strictly between `after` and `before`."""
        sql = """SELECT * FROM jobs WHERE source_id = ?
                 AND created_at > coalesce(?, '') AND created_at < coalesce(?, '~')
                 AND (? OR schema_id IN (
                     SELECT id FROM schemas WHERE name IN (SELECT value FROM json_each(?))))
                 ORDER BY created_at DESC, rowid DESC LIMIT ?"""
        return self._rows(Job, sql, source_id, after, before, not names, list(names), JOBS_CAP)

    def jobs_of(self, schema_id: UUID, *, limit: int = JOBS_CAP) -> list[Job]:
        """The newest jobs of a schema, newest first."""
        sql = "SELECT * FROM jobs WHERE schema_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?"
        return self._rows(Job, sql, schema_id, limit)

    def latest_completed(self, source_id: UUID) -> Job | None:
        """The newest good job of a source."""
        sql = "SELECT * FROM jobs WHERE source_id = ? AND status = ? ORDER BY created_at DESC LIMIT 1"
        return _first(self._rows(Job, sql, source_id, Status.COMPLETED))

    def running_jobs(self) -> list[Job]:
        """All jobs that have not ended."""
        return self._rows(Job, "SELECT * FROM jobs WHERE status = ?", Status.RUNNING)

    def finish_job(self, job: Job) -> bool:
        """Write a job's end; False if it had ended before, and then nothing changes."""
        sql = """UPDATE jobs SET status = ?, finished_at = ?, latest_error = ?, rows_synced = ?,
                 counts_in_streak = ? WHERE id = ? AND status = ?"""
        end = (job.status, job.finished_at, job.latest_error, job.rows_synced, job.counts_in_streak)
        return self._execute(sql, *end, job.id, Status.RUNNING) == 1

    # --- schedules ---

    def schedule(self, schema_id: UUID) -> Schedule | None:
        """The schedule of a schema; None before its first enable."""
        return _first(self._rows(Schedule, "SELECT * FROM schedules WHERE schema_id = ?", schema_id))

    def due_schedules(self, now: datetime) -> list[Schedule]:
        """Enabled schedules whose next tick has come."""
        sql = "SELECT * FROM schedules WHERE NOT paused AND next_tick <= ? ORDER BY next_tick"
        return self._rows(Schedule, sql, now)

    def delete_schedule(self, schema_id: UUID) -> None:
        """Forget the schedule of a schema."""
        self._execute("DELETE FROM schedules WHERE schema_id = ?", schema_id)

    # --- rows that arrived by webhook ---

    def source_of_webhook(self, webhook_id: UUID) -> Source | None:
        """The source that a webhook belongs to."""
        return _first(self._rows(Source, "SELECT * FROM sources WHERE webhook_id = ? AND NOT deleted", webhook_id))

    def pushed_rows(self, schema_id: UUID) -> list[PushedRow]:
        """The rows that wait for a sync, oldest first."""
        sql = "SELECT * FROM pushed_rows WHERE schema_id = ? ORDER BY rowid"
        return self._rows(PushedRow, sql, schema_id)

    def forget_pushed_rows(self, schema_id: UUID, *, count: int) -> None:
        """Remove the oldest rows, which a sync has taken."""
        sql = """DELETE FROM pushed_rows WHERE rowid IN (
                 SELECT rowid FROM pushed_rows WHERE schema_id = ? ORDER BY rowid LIMIT ?)"""
        self._execute(sql, schema_id, count)

    # --- log lines ---

    def add_log_line(self, line: LogLine) -> None:
        """Keep a line of a job's log; the oldest lines of the schema make room."""
        with self.transaction():
            self.insert(line)
            sql = """DELETE FROM log_lines WHERE schema_id = ? AND rowid <= (
                     SELECT rowid FROM log_lines WHERE schema_id = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?)"""
            self._execute(sql, line.schema_id, line.schema_id, LOG_LINES_KEPT)

    def log_lines(self, schema_id: UUID) -> list[ShownLine]:
        """The kept lines of a schema, newest first."""
        sql = """SELECT log_lines.*, jobs.workflow_run_id FROM log_lines JOIN jobs ON jobs.id = log_lines.job_id
                 WHERE log_lines.schema_id = ? ORDER BY log_lines.rowid DESC"""
        return self._rows(ShownLine, sql, schema_id)


def _hash(token: str) -> str:
    # A random key of 256 bits needs no slow hash.
    return hashlib.sha256(token.encode()).hexdigest()


def _first(rows: list[R]) -> R | None:
    return rows[0] if rows else None
