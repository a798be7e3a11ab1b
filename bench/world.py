"""The sources, tables and jobs of the stand-in: what is planned, and how the API shows it at a moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

COLUMNS = 8
ROWS_PER_SECOND = 1000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to make: so many sources of so many tables.

    Attributes:
        sources: How many.
        tables: Of each source.
        sync_seconds: From a job's row to its end.
        spread: 0.5 lets the tables take from half to one and a half of that.
        start_delay_s: From a trigger to the job's row.
        history: Completed syncs of each table before the measurement.
    """

    sources: int
    tables: int
    sync_seconds: float
    spread: float
    start_delay_s: float
    history: int


@dataclass
class Job:
    """One sync of one table, planned when it is asked for; it has no row before `created_at`."""

    table: Table
    created_at: datetime
    ends_at: datetime
    error: str | None = None
    id: str = field(default_factory=lambda: str(uuid4()))

    def status(self, now: datetime) -> str:
        """As the API prints it."""
        if now < self.ends_at:
            return "Running"
        return "Failed" if self.error else "Completed"

    def view(self, now: datetime) -> dict[str, Any]:
        """The job as the API shows it."""
        done_s = (min(now, self.ends_at) - self.created_at).total_seconds()
        is_over = now >= self.ends_at
        return {
            "id": self.id,
            "created_at": _iso(self.created_at),
            "created_by": None,
            "finished_at": _iso(self.ends_at) if is_over else None,
            "status": self.status(now),
            "schema": self.table.short_view(now, "id", "name", "label", "should_sync", "last_synced_at", "sync_type"),
            "rows_synced": int(done_s * ROWS_PER_SECOND),
            "latest_error": self.error if is_over else None,
            "workflow_run_id": self.id,
            "cdc_write_mode": None,
            "billable": None,
            "destination_ids": [],
        }


@dataclass
class Table:
    """One external data schema; PostHog's own schedule never runs it."""

    id: str
    name: str
    sync_s: float
    jobs: list[Job] = field(default_factory=list)

    def trigger(self, now: datetime, *, start_delay_s: float) -> bool:
        """Plan a sync; PostHog drops the trigger, without a word, while one is on."""
        if self.jobs and now < self.jobs[-1].ends_at:
            return False
        created_at = now + timedelta(seconds=start_delay_s)
        self.jobs.append(Job(self, created_at, created_at + timedelta(seconds=self.sync_s)))
        return True

    def cancel(self, now: datetime) -> bool:
        """End the running sync; whether there was one."""
        job = self.jobs[-1] if self.jobs else None
        if job is None or not job.created_at <= now < job.ends_at:
            return False
        job.ends_at, job.error = now, "Sync cancelled by user"
        return True

    def view(self, now: datetime) -> dict[str, Any]:
        """The schema as the API shows it."""
        ended = [job for job in self.jobs if job.ends_at <= now]
        good = [job for job in ended if job.error is None]
        status = None
        if self.jobs:
            # Running from the trigger on, before there is a job
            status = "Running" if now < self.jobs[-1].ends_at else self.jobs[-1].status(now)
        return {
            "id": self.id,
            "name": self.name,
            "label": None,
            "should_sync": True,
            "status": status,
            "sync_type": "full_refresh",
            # dated at the start of the last good sync, as PostHog does
            "last_synced_at": _iso(good[-1].created_at) if good else None,
            "latest_error": ended[-1].error if ended else None,
            "table": self._data(good[-1]) if good else None,
            "incremental": False,
            "incremental_field": None,
            "incremental_field_type": None,
            "sync_frequency": "6hour",
            "sync_time_of_day": None,
            "description": None,
            "primary_key_columns": None,
            "cdc_table_mode": "consolidated",
            "enabled_columns": None,
            "source": None,
        }

    def short_view(self, now: datetime, *names: str) -> dict[str, Any]:
        """Some of its fields."""
        whole = self.view(now)
        return {name: whole[name] for name in names}

    def _data(self, job: Job) -> dict[str, Any]:
        columns = [{"key": f"c{n}", "name": f"c{n}", "type": "string", "schema_valid": True} for n in range(COLUMNS)]
        rows = int((job.ends_at - job.created_at).total_seconds() * ROWS_PER_SECOND)
        return {"id": self.id, "name": f"postgres.{self.name}", "columns": columns, "row_count": rows}


@dataclass
class Source:
    """One external data source."""

    number: int
    created_at: datetime
    tables: list[Table]

    @property
    def id(self) -> str:
        """The same at each start."""
        return _id(f"source/{self.number}")

    def view(self, now: datetime, *, is_listed: bool) -> dict[str, Any]:
        """The source as the API shows it; newer servers trim the schemas in lists."""
        schemas = [self._listed(table, now) if is_listed else table.view(now) for table in self.tables]
        return {
            "id": self.id,
            "created_at": _iso(self.created_at),
            "created_by": "bench@example.com",
            "status": "Completed",
            "source_type": "Postgres",
            "latest_error": None,
            "prefix": f"shop_{self.number:04}",
            "description": None,
            "access_method": "warehouse",
            "engine": None,
            "last_run_at": None,
            "schemas": schemas,
            "job_inputs": {"host": f"db{self.number}.example.com", "port": "5432"},
            "user_access_level": "editor",
            "supports_webhooks": False,
            "created_via": "api",
        }

    def jobs(self, now: datetime) -> list[Job]:
        """Those that have a row by now, newest first."""
        visible = [job for table in self.tables for job in table.jobs if job.created_at <= now]
        return sorted(visible, key=lambda job: job.created_at, reverse=True)

    def _listed(self, table: Table, now: datetime) -> dict[str, Any]:
        names = ("id", "name", "label", "should_sync", "status", "sync_type", "last_synced_at", "latest_error", "table")
        short = table.short_view(now, *names)
        if short["table"]:
            del short["table"]["columns"]
        return short


def make_sources(plan: Plan, *, now: datetime) -> list[Source]:
    """Sources with their tables, each with as many completed syncs behind it as asked for."""
    return [
        Source(
            number, now - timedelta(days=30, minutes=number), [_table(plan, number, n, now) for n in range(plan.tables)]
        )
        for number in range(plan.sources)
    ]


def _table(plan: Plan, source: int, number: int, now: datetime) -> Table:
    # spread evenly over the tables, and the same at each start
    share = number / max(plan.tables - 1, 1) * 2 - 1
    table = Table(_id(f"table/{source}/{number}"), f"table_{number:05}", plan.sync_seconds * (1 + plan.spread * share))
    for ago in range(plan.history, 0, -1):
        created_at = now - timedelta(hours=6 * ago) + timedelta(milliseconds=number)
        table.jobs.append(Job(table, created_at, created_at + timedelta(seconds=table.sync_s)))
    return table


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
