"""What Dagster's event log knows of jobs: which were adopted by a run, and which have been reported."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, repeat
from typing import TypeVar

import dagster as dg

from dw_orchestration.assets.checks import SYNC_SUCCEEDED, ReportedSyncs
from dw_orchestration.assets.metadata import JOB_CREATED_AT, JOB_ID, PROJECT, SYNCED_AS_OF, SyncMetadata
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job

T = TypeVar("T")

# what is read of a table's events at first, and at a time if its syncs in question are older
_NEWEST_EVENTS = 20
_EVENTS_PER_PAGE = 200
# Dagster keeps times as floats; a table's syncs begin further apart than this
_A_MOMENT_S = 0.001


@dataclass(frozen=True)
class Note:
    """An observation of a sync: a run has adopted it, or the sensor has reported one that was overtaken."""

    run_id: str
    said: SyncMetadata

    @property
    def is_report(self) -> bool:
        """Whether it has the end of the sync."""
        return self.said.status is not None


@dataclass(frozen=True)
class Adoption:
    """A run took a job as the one it waits for, and wrote that down before it waited."""

    job_id: str
    run_id: str
    started: bool
    """Whether the run had started the job, rather than found it."""
    began_at: datetime
    full_refresh: bool
    """Whether it imports all rows again."""
    ends_with_run: bool
    """Whether the job is to be cancelled when a user terminates the run."""


class EventLog:
    """The events of tables, by their job.

    Args:
        instance: Where the events are.
        project: The project whose events count. Another code location may have a table with the same asset key.
    """

    def __init__(self, instance: dg.DagsterInstance, *, project: str | None = None) -> None:
        self._instance = instance
        self._project = project

    def of_table(self, key: dg.AssetKey, *, since: datetime | None = None) -> "TableLog":
        """What the event log has of a table's syncs: the newest, and all since the oldest sync in question began."""
        return TableLog(self, key, since=since)

    def syncs_of(self, key: dg.AssetKey, *, since: datetime | None = None) -> ReportedSyncs:
        """The table's last completed syncs that have been reported, the newest first."""
        found = self._records(self._instance.fetch_materializations, key, since=since)
        records = [record for record in found if self._is_ours(_metadata_of(record))]
        return ReportedSyncs(
            metadata=tuple(_metadata_of(record) for record in records),
            run_ids=tuple(record.run_id for record in records),
            of_others=self._of_others([_metadata_of(record) for record in found]),
        )

    def notes_of(self, key: dg.AssetKey, *, since: datetime | None = None) -> list[Note]:
        """What has been observed of the table's syncs, the newest first."""
        records = self._records(self._instance.fetch_observations, key, since=since)
        found = ((record.run_id, _metadata_of(record)) for record in records)
        return [Note(run_id, SyncMetadata.of(metadata)) for run_id, metadata in found if self._is_sync(metadata)]

    def ends_of(self, key: dg.AssetKey, *, since: datetime | None = None) -> list[dg.AssetCheckEvaluation]:
        """How the table's syncs ended, as its check `sync_succeeded` has it, the newest first."""
        check = dg.AssetCheckKey(asset_key=key, name=SYNC_SUCCEEDED)
        pages = ([evaluation for evaluation in page if evaluation] for page in self._evaluation_pages(check))
        found = _back_to(since, pages, lambda evaluation: evaluation.metadata)
        return [evaluation for evaluation in found if self._is_ours(evaluation.metadata)]

    def adoptions_by(self, run_id: str) -> dict[dg.AssetKey, Adoption]:
        """The last job that the run adopted for each table.

        Read from the run's own log, which is written before the index by tables: a run that was killed in between is
        in the first alone.
        """
        adoptions: dict[dg.AssetKey, Adoption] = {}
        for record in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION):
            event = record.dagster_event
            if event is not None and event.asset_key is not None:
                metadata = event.asset_observation_data.asset_observation.metadata
                if self._is_sync(metadata) and (adoption := _adoption(Note(run_id, SyncMetadata.of(metadata)))):
                    adoptions[event.asset_key] = adoption
        return adoptions

    def _is_sync(self, metadata: Mapping[str, dg.MetadataValue]) -> bool:
        return JOB_ID in metadata and self._is_ours(metadata)

    def _is_ours(self, metadata: Mapping[str, dg.MetadataValue]) -> bool:
        return self._project is None or _project_of(metadata) in (None, self._project)

    def _of_others(self, newest_first: Sequence[Mapping[str, dg.MetadataValue]]) -> dict[str, datetime]:
        """The other projects that have reported a sync after one of ours, and when their newest one began.

        A project that has reported before all of ours has left the key to us.
        """
        ours = [index for index, metadata in enumerate(newest_first) if self._is_ours(metadata)]
        after_ours = newest_first[: ours[-1]] if ours else []
        others: dict[str, datetime] = {}
        for metadata in after_ours:
            if not self._is_ours(metadata) and (project := _project_of(metadata)) is not None:
                others.setdefault(project, datetime.fromtimestamp(_began_s(metadata), tz=UTC))
        return others

    def is_over(self, run_id: str) -> bool:
        """Whether the run has ended, or is not known any more."""
        run = self._instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    def is_red(self, check: dg.AssetCheckKey) -> bool:
        """Whether the last evaluation of the check failed."""
        evaluation = self.last_evaluation(check)
        return evaluation is not None and not evaluation.passed

    def is_awaited(self, check: dg.AssetCheckKey) -> bool:
        """Whether a run that is alive has planned the check and not evaluated it yet."""
        newest = self._instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
        return any(_evaluation_of(record.event) is None and not self.is_over(record.run_id) for record in newest)

    def last_evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        """The last evaluation of the check; None before the first."""
        return next(self._evaluations(check), None)

    def _evaluations(self, check: dg.AssetCheckKey) -> Iterator[dg.AssetCheckEvaluation]:
        """The evaluations of the check, the newest first; one that a run has only planned is left out."""
        return (evaluation for page in self._evaluation_pages(check) for evaluation in page if evaluation)

    def _evaluation_pages(self, check: dg.AssetCheckKey) -> Iterator[list[dg.AssetCheckEvaluation | None]]:
        fetch, cursor = self._instance.event_log_storage.get_asset_check_execution_history, None
        for limit in _page_sizes():
            page = fetch(check, limit=limit, cursor=cursor)
            yield [_evaluation_of(record.event) for record in page]
            if len(page) < limit:
                return
            cursor = page[-1].id

    @staticmethod
    def _records(
        fetch: Callable[..., dg.EventRecordsResult], key: dg.AssetKey, *, since: datetime | None
    ) -> list[dg.EventLogRecord]:
        def pages() -> Iterator[list[dg.EventLogRecord]]:
            cursor = None
            for limit in _page_sizes():
                page = fetch(key, limit=limit, cursor=cursor)
                yield list(page.records)
                if len(page.records) < limit:
                    return
                cursor = page.cursor

        return _back_to(since, pages(), _metadata_of)


class TableLog:
    """What the event log has of one table's syncs, each kind of event read once and only if needed.

    Args:
        events: The event log.
        key: The table's asset.
        since: The start of the oldest sync in question.
    """

    def __init__(self, events: EventLog, key: dg.AssetKey, *, since: datetime | None) -> None:
        self._events = events
        self._key = key
        self._since = since
        self._added: dict[dg.AssetCheckKey, bool] = {}

    @cached_property
    def syncs(self) -> ReportedSyncs:
        """The completed syncs that have been reported."""
        return self._events.syncs_of(self._key, since=self._since)

    @cached_property
    def _notes(self) -> list[Note]:
        return self._events.notes_of(self._key, since=self._since)

    @cached_property
    def _ends(self) -> list[dg.AssetCheckEvaluation]:
        return self._events.ends_of(self._key, since=self._since)

    def has_report_of(self, job: Job) -> bool:
        """Whether the end of the job has been reported, by a run or by the sensor.

        For a completed one that is the materialization: a check alone may come from a user who executed it, or be the
        first half of a report that was cut short.
        """
        if any(note.is_report and note.said.job_id == job.id for note in self._notes):
            return True
        if job.status is JobStatus.COMPLETED:
            return self.syncs.include(job.id)
        return any(_job_id(evaluation.metadata) == job.id for evaluation in self._ends)

    def is_overtaken(self, job: Job) -> bool:
        """Whether a later sync of the table has been reported, so that this one is not the current state any more."""
        return self.later_sync(job) is not None or any(_is_later(each.metadata, job) for each in self._ends)

    def later_sync(self, job: Job) -> Mapping[str, dg.MetadataValue] | None:
        """The newest report of a completed sync that began after this one; None if there is none."""
        return next((each for each in self.syncs.metadata if JOB_ID in each and _is_later(each, job)), None)

    def adoptions_of(self, job: Job) -> list[Adoption]:
        """The runs that have adopted the job, the last one first."""
        adoptions = (_adoption(note) for note in self._notes if note.said.job_id == job.id)
        return [adoption for adoption in adoptions if adoption is not None]

    def is_red(self, check: dg.AssetCheckKey) -> bool:
        """Whether the last evaluation of the check failed."""
        return not self._added[check] if check in self._added else self._events.is_red(check)

    def is_awaited(self, check: dg.AssetCheckKey) -> bool:
        """Whether a run that is alive has planned the check and not evaluated it yet."""
        return self._events.is_awaited(check)

    def add(self, events: Iterable[dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetObservation]) -> None:
        """Take in what is about to be stored: the next sync of the same table is reported after it."""
        for event in events:
            if isinstance(event, dg.AssetMaterialization):
                self.syncs = self.syncs.followed_by(event.metadata)
            elif isinstance(event, dg.AssetCheckEvaluation):
                self._added[event.asset_check_key] = event.passed
                if event.check_name == SYNC_SUCCEEDED:
                    self._ends.insert(0, event)


def shared_keys(ours: str, others: Mapping[str, datetime]) -> str:
    """What is wrong if other projects report syncs under our asset keys, and what to do.

    Args:
        ours: Our project.
        others: The other projects, and when the newest sync of each began.
    """
    named = " and ".join(
        f"project {project} (a sync of {began:%Y-%m-%d %H:%M} UTC)" for project, began in others.items()
    )
    return (
        f"Two code locations share their asset keys: the tables here are of project {ours}, and {named} reports under"
        " the same keys, so that their histories and checks are mixed. Give the component of one of them another `name`"
    )


def jobs_of_earlier_tries(
    context: dg.AssetExecutionContext, keys: Iterable[dg.AssetKey], *, log: EventLog, within_run: bool = False
) -> dict[dg.AssetKey, Adoption]:
    """What an earlier try of this step, or a run that this one re-executes, adopted last for each table.

    With `within_run`, also what another step of this run adopted.

    A sync that a run has given as its result is not taken up again: a user who re-executes a completed run wants
    another sync. One that the sensor alone has reported is, because no run has its result. A retry within the run takes
    up each.
    """
    adoptions: dict[dg.AssetKey, Adoption] = {}
    for run_id in _earlier_runs(context, within_run=within_run):
        adoptions = log.adoptions_by(run_id) | adoptions
    return {
        key: adoptions[key]
        for key in keys
        if key in adoptions and (adoptions[key].run_id == context.run.run_id or not _is_given(adoptions[key], key, log))
    }


def _is_given(adoption: Adoption, key: dg.AssetKey, log: EventLog) -> bool:
    return bool(log.syncs_of(key, since=adoption.began_at).given_by(adoption.job_id))


def _earlier_runs(context: dg.AssetExecutionContext, *, within_run: bool) -> Iterator[str]:
    """This run, if the step is tried again in it, or is one of several; then the runs that it repeats, newest first."""
    if context.retry_number > 0 or within_run:
        yield context.run.run_id
    parent_id = context.run.parent_run_id
    while parent_id is not None:
        yield parent_id
        parent = context.instance.get_run_by_id(parent_id)
        parent_id = parent.parent_run_id if parent is not None else None


def _adoption(note: Note) -> Adoption | None:
    said = note.said
    if note.is_report or said.job_created_at is None:
        return None
    return Adoption(
        job_id=said.job_id,
        run_id=note.run_id,
        started=said.triggered_by == "dagster",
        began_at=said.job_created_at,
        full_refresh=bool(said.full_refresh),
        ends_with_run=said.on_termination == "cancel",
    )


def _page_sizes() -> Iterator[int]:
    return chain([_NEWEST_EVENTS], repeat(_EVENTS_PER_PAGE))


def _back_to(
    since: datetime | None, pages: Iterable[Sequence[T]], metadata_of: Callable[[T], Mapping[str, dg.MetadataValue]]
) -> list[T]:
    """The events of the pages back to those of syncs that began before the given time; without one, of the first page.

    Runs and ticks write side by side, so that events may be in another order than their syncs: the older half of a page
    decides. Events of other origin do not.
    """
    found: list[T] = []
    for page in pages:
        found += page
        began_s = [_began_s(metadata_of(event)) for event in page[len(page) // 2 :]]
        newest_s = max(began_s, default=-math.inf)
        if since is None or -math.inf < newest_s < since.timestamp() - _A_MOMENT_S:
            break
    return found


def _is_later(metadata: Mapping[str, dg.MetadataValue], job: Job) -> bool:
    return _began_s(metadata) > job.created_at.timestamp() + _A_MOMENT_S


def _project_of(metadata: Mapping[str, dg.MetadataValue]) -> str | None:
    value = metadata.get(PROJECT)
    return str(value.value) if value is not None else None


def _began_s(metadata: Mapping[str, dg.MetadataValue]) -> float:
    """The start of an event's sync, in seconds since 1970; long ago if the event does not contain it."""
    value = metadata.get(SYNCED_AS_OF) or metadata.get(JOB_CREATED_AT)
    return value.value if isinstance(value, dg.TimestampMetadataValue) else -math.inf


def _metadata_of(record: dg.EventLogRecord) -> Mapping[str, dg.MetadataValue]:
    event = record.asset_materialization or record.asset_observation
    return event.metadata if event is not None else {}


def _evaluation_of(entry: dg.EventLogEntry | None) -> dg.AssetCheckEvaluation | None:
    event = entry.dagster_event if entry is not None else None
    if event is None or event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return None
    return event.asset_check_evaluation_data


def _job_id(metadata: Mapping[str, dg.MetadataValue]) -> str | None:
    value = metadata.get(JOB_ID)
    return str(value.value) if value is not None else None
