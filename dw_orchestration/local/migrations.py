"""The state database's tables, as a list of steps that `PRAGMA user_version` counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

# Append only: a step that has been released is never edited.
STEPS = (
    """
    CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE api_keys (
        hash TEXT PRIMARY KEY, scopes TEXT NOT NULL, project_ids TEXT, created_at TEXT NOT NULL
    );
    CREATE TABLE sources (
        id TEXT PRIMARY KEY,
        project_id INTEGER NOT NULL REFERENCES projects (id),
        source_type TEXT NOT NULL,
        prefix TEXT,
        description TEXT,
        created_via TEXT NOT NULL,
        created_at TEXT NOT NULL,
        job_inputs TEXT NOT NULL,
        next_discovery TEXT NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE schemas (
        id TEXT PRIMARY KEY,
        project_id INTEGER NOT NULL REFERENCES projects (id),
        source_id TEXT NOT NULL REFERENCES sources (id),
        name TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        target_schema TEXT NOT NULL,
        target_name TEXT NOT NULL,
        should_sync INTEGER NOT NULL,
        status TEXT,
        latest_error TEXT,
        last_synced_at TEXT,
        sync_type TEXT,
        incremental_field TEXT,
        incremental_field_type TEXT,
        incremental_field_lookback_seconds INTEGER,
        sync_frequency TEXT NOT NULL,
        sync_time_of_day TEXT,
        primary_key_columns TEXT,
        enabled_columns TEXT,
        discovered TEXT NOT NULL,
        synced TEXT,
        reset_pipeline INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    );
    CREATE INDEX schemas_by_source ON schemas (source_id);
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        source_id TEXT NOT NULL REFERENCES sources (id),
        schema_id TEXT NOT NULL REFERENCES schemas (id),
        created_at TEXT NOT NULL,
        finished_at TEXT,
        status TEXT NOT NULL,
        rows_synced INTEGER NOT NULL,
        latest_error TEXT,
        workflow_run_id TEXT NOT NULL,
        started_by TEXT NOT NULL,
        was_reset INTEGER NOT NULL,
        counts_in_streak INTEGER NOT NULL
    );
    CREATE INDEX jobs_by_source ON jobs (source_id, created_at);
    CREATE INDEX jobs_by_schema ON jobs (schema_id, created_at);
    CREATE INDEX jobs_running ON jobs (status) WHERE status = 'Running';
    CREATE TABLE schedules (
        schema_id TEXT PRIMARY KEY REFERENCES schemas (id),
        every_s INTEGER NOT NULL,
        offset_s INTEGER NOT NULL,
        start_at TEXT NOT NULL,
        paused INTEGER NOT NULL,
        next_tick TEXT NOT NULL
    );
    CREATE TABLE log_lines (
        schema_id TEXT NOT NULL REFERENCES schemas (id),
        job_id TEXT NOT NULL REFERENCES jobs (id),
        timestamp TEXT NOT NULL,
        level TEXT NOT NULL,
        message TEXT NOT NULL
    );
    CREATE INDEX log_lines_by_schema ON log_lines (schema_id, timestamp);
    """,
    """
    ALTER TABLE schemas ADD COLUMN full_refresh_interval_days INTEGER;
    ALTER TABLE schemas ADD COLUMN full_refresh_time_of_day TEXT;
    ALTER TABLE schemas ADD COLUMN next_full_refresh_at TEXT;
    ALTER TABLE jobs ADD COLUMN billable INTEGER;
    ALTER TABLE jobs ADD COLUMN cdc_write_mode TEXT;
    ALTER TABLE sources ADD COLUMN webhook_id TEXT;
    CREATE TABLE pushed_rows (schema_id TEXT NOT NULL REFERENCES schemas (id), content TEXT NOT NULL);
    ALTER TABLE sources ADD COLUMN auto_sync_new_schemas INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sources ADD COLUMN auto_sync_schema_patterns TEXT;
    """,
)


def migrate(db: sqlite3.Connection) -> None:
    """Migrate the database to the newest step; each step is one transaction.

    Raises:
        RuntimeError: the database was written by a newer version of the package.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise RuntimeError(
            f"The state database is at step {version}, this version knows {len(STEPS)}. "
            "Install the newer version again, or delete state.sqlite to begin without sources."
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
