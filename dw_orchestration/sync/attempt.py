"""How to tell the job that a trigger caused. PostHog's answer to a trigger carries no job id."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.book import JobBook
from dw_orchestration.sync.settings import SyncMode

# The Date of an answer has whole seconds, and the rows' times come from other machines of PostHog's.
SERVER_CLOCKS_AGREE = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One trigger, and what was known when it was sent. All times are PostHog's.

    Attributes:
        known: The jobs seen before.
        horizon: A job as old as this that was not seen was there all the same, behind the end of the first page.
        mode: Reload or resync.
        is_accepted: Whether PostHog's answer came and was good.
        accepted_at: When that was; None when it was not, or the answer told no time.
        took_s: How long the request took.
    """

    known: frozenset[str]
    horizon: datetime | None
    mode: SyncMode
    is_accepted: bool = False
    accepted_at: datetime | None = None
    took_s: float = 0.0

    def first_new(self, book: JobBook) -> Job | None:
        """The first job that this trigger caused, or that made PostHog drop it because it was already running."""
        return next((job for job in reversed(book.jobs) if self._is_new(job)), None)

    def caused(self, job: Job) -> bool:
        """Whether the job began after the trigger was sent."""
        return self._sent_at is None or job.created_at >= self._sent_at

    def queue_s(self, job: Job | None) -> float | None:
        """From the acceptance to the job."""
        if self.accepted_at is None or job is None or not self.caused(job):
            return None
        return max(0.0, (job.created_at - self.accepted_at).total_seconds())

    def _is_new(self, job: Job) -> bool:
        if job.id in self.known or (self.horizon is not None and job.created_at <= self.horizon):
            return False
        if self._sent_at is None:
            return True
        # A resync cancels what is running; a reload is dropped in its favour.
        began_before = job.created_at < self._sent_at
        ended_before = job.finished_at is not None and job.finished_at < self._sent_at
        return not (began_before if self.mode is SyncMode.RESYNC else ended_before)

    @property
    def _sent_at(self) -> datetime | None:
        if self.accepted_at is None:
            return None
        return self.accepted_at - timedelta(seconds=self.took_s) - SERVER_CLOCKS_AGREE
