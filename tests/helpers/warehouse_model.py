"""A model of what the list of sources and the jobs endpoint show, with its clock in the test's hands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dw_orchestration.posthog.errors import Problem, ServerError
from dw_orchestration.posthog.models import Job, Schema, Source

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class ModelJob:
    """A row of the jobs table; `visible_from` may lie after its own time, as when a worker commits late."""

    id: str
    table: str
    created_at: datetime
    visible_from: datetime
    finished_at: datetime | None = None
    status: str = "Running"
    error: str = "it broke"
    rows: int = 1


@dataclass
class ModelSource:
    """A source with its tables, and whether it answers."""

    id: str
    tables: list[str]
    jobs: list[ModelJob] = field(default_factory=list)
    is_down: bool = False


class WarehouseModel:
    """Answers what the job-status sensor asks, as PostHog does; counts the requests by kind."""

    def __init__(self, *, sources: int = 1, tables: int = 2, page: int = 50, frequency: str | None = None) -> None:
        self.now = START
        self.frequency = frequency
        self.should_sync = True
        self.row_count: int | None = None
        self.next_full_refresh_at: datetime | None = None
        self.unreadable = ()
        self.page = page
        self.sources = {
            f"source{s}": ModelSource(f"source{s}", [f"s{s}t{t}" for t in range(tables)]) for s in range(sources)
        }
        self.requests = {"sources": 0, "jobs": 0}
        self._ids = iter(range(10**9))

    # --- what happens in the warehouse

    def start(self, source_id: str, table: str, *, late_s: float = 0) -> ModelJob | None:
        """Begin a sync; a table that is being synced drops the trigger, as PostHog does."""
        source = self.sources[source_id]
        if any(job.table == table and job.finished_at is None for job in source.jobs):
            return None
        visible_from = self.now + timedelta(seconds=late_s)
        job = ModelJob(f"job{next(self._ids):06d}", table, created_at=self.now, visible_from=visible_from)
        source.jobs.append(job)
        return job

    def finish(self, job: ModelJob, status: str = "Completed", *, error: str = "it broke", rows: int = 1) -> None:
        """End a sync."""
        job.status, job.finished_at, job.error, job.rows = status, self.now, error, rows

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def running(self) -> list[ModelJob]:
        """The running syncs."""
        return [job for source in self.sources.values() for job in source.jobs if job.finished_at is None]

    # --- what the sensor asks

    @property
    def server_time(self) -> datetime:
        """The time at the last answer."""
        return self.now

    def list_sources(self) -> Iterator[Source]:
        """Every source; one request a hundred."""
        for index, source in enumerate(list(self.sources.values())):
            if index % 100 == 0:
                self.requests["sources"] += 1
            yield Source(
                id=source.id,
                source_type="Postgres",
                prefix=source.id,
                schemas=tuple(self._schema(source, table) for table in source.tables),
            )

    def list_jobs(
        self,
        source_id: str,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        schemas: Sequence[str] = (),
    ) -> Iterator[Job]:
        """The visible jobs, newest first; a page more is a request more."""
        source = self.sources[source_id]
        self.requests["jobs"] += 1
        if source.is_down:
            raise ServerError(Problem(status=500, method="GET", path=f"/{source_id}/jobs/", host="model"))
        visible = [
            job
            for job in source.jobs
            if job.visible_from <= self.now
            and (after is None or job.created_at > after)
            and (before is None or job.created_at < before)
            and (not schemas or job.table in schemas)
        ]
        for index, job in enumerate(sorted(visible, key=lambda job: (job.created_at, job.id), reverse=True)):
            if index and index % self.page == 0:
                self.requests["jobs"] += 1
            yield self._job(job)

    def _schema(self, source: ModelSource, table: str) -> Schema:
        jobs = sorted((job for job in source.jobs if job.table == table), key=lambda job: job.created_at)
        completed = [job for job in jobs if job.status == "Completed"]
        return Schema(
            id=table,
            name=table,
            should_sync=self.should_sync,
            status=jobs[-1].status if jobs else None,
            sync_type="full_refresh",
            sync_frequency=self.frequency,
            next_full_refresh_at=self.next_full_refresh_at,
            table={"id": table, "name": table, "row_count": self.row_count},
            last_synced_at=completed[-1].created_at if completed else None,
        )

    def _job(self, job: ModelJob) -> Job:
        shown_end = job.finished_at if job.finished_at and job.finished_at <= self.now else None
        return Job.model_validate(
            {
                "id": job.id,
                "created_at": job.created_at,
                "finished_at": shown_end,
                "status": job.status,
                "rows_synced": job.rows,
                "latest_error": None if job.status in ("Running", "Completed") else job.error,
                "schema": {"id": job.table, "name": job.table, "should_sync": True},
            }
        )
