"""What has been seen of one table's jobs."""

from collections.abc import Iterable
from datetime import datetime
from itertools import takewhile
from statistics import median

from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.jobs import duration_s, failed, is_over, was_cancelled, was_interrupted
from dw_orchestration.posthog.limits import LONGEST_STREAK_GAP, STREAK_GAP, STREAK_LENGTH
from dw_orchestration.posthog.models import Job


class JobBook:
    """A table's jobs as last seen."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def note(self, jobs: Iterable[Job]) -> None:
        """Take the latest look at some of the jobs."""
        self._jobs.update((job.id, job) for job in jobs)

    def get(self, job_id: str | None) -> Job | None:
        """The job as last seen."""
        return self._jobs.get(job_id) if job_id is not None else None

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all jobs seen."""
        return frozenset(self._jobs)

    @property
    def jobs(self) -> list[Job]:
        """The jobs, newest first."""
        return sorted(self._jobs.values(), key=lambda job: (job.created_at, job.id), reverse=True)

    @property
    def newest(self) -> Job | None:
        """The newest job."""
        return next(iter(self.jobs), None)

    def running(self) -> list[Job]:
        """The jobs that are not over, newest first."""
        return [job for job in self.jobs if not is_over(job)]

    def running_after(self, job: Job) -> Job | None:
        """The newest job that is not over and was created later than this one."""
        return next((other for other in self.running() if other.created_at > job.created_at), None)

    def next_after(self, job: Job) -> Job | None:
        """The job that came next, whatever became of it."""
        return next((other for other in reversed(self.jobs) if other.created_at > job.created_at), None)

    def best_since(self, since: datetime, *, after: Job | None) -> Job | None:
        """The newest job created at or after `since`, and later than `after`: one that runs, else a completed one."""
        recent = [
            job for job in self.jobs if job.created_at >= since and (after is None or job.created_at > after.created_at)
        ]
        live = (job for job in recent if not is_over(job))
        completed = (job for job in recent if job.status is JobStatus.COMPLETED)
        return next(live, None) or next(completed, None) or next(iter(recent), None)

    def usual_s(self, *, besides: Job | None = None) -> float | None:
        """What the completed jobs, besides this one, took: their median, in seconds; None without any."""
        completed = (job for job in self._jobs.values() if job.status is JobStatus.COMPLETED)
        others = (job for job in completed if besides is None or job.id != besides.id)
        taken = [seconds for job in others if (seconds := duration_s(job)) is not None]
        return median(taken) if taken else None

    def streak(self) -> list[Job]:
        """The failed jobs since the last good one, newest first.

        As PostHog counts: cancelled and interrupted ones do not count, and do not end the streak.
        """
        counted = (j for j in self.jobs if is_over(j) and not was_cancelled(j) and not was_interrupted(j))
        return list(takewhile(failed, counted))

    def streak_gap_ends(self) -> datetime | None:
        """Until when PostHog defers this table's syncs; None if it is in no streak."""
        streak = self.streak()
        if len(streak) < STREAK_LENGTH:
            return None
        gap = STREAK_GAP * (1 << min(len(streak) - STREAK_LENGTH, 3))
        last = streak[0]
        return (last.finished_at or last.created_at) + min(gap, LONGEST_STREAK_GAP)
