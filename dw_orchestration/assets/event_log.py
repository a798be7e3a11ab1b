"""What Dagster's event log knows of jobs: which were adopted by a run, and which have been reported."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, reduce
from itertools import chain, repeat
from typing import TypeVar

import dagster as dg

from dw_orchestration.assets.checks import ReportedSyncs, check_keys
from dw_orchestration.assets.metadata import JOB_CREATED_AT, JOB_ID, PROJECT, SYNCED_AS_OF, SyncMetadata
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job

T = TypeVar("T")

COMPLETES_TAG = "posthog/completes"
"""The tag of a run that reports the syncs of another one, which did not wait for them: that run's id."""

# what is read of a table's events at first, and at a time if its syncs in question are older
_NEWEST_EVENTS = 20
_EVENTS_PER_PAGE = 200
# of all assets; where more were stored since a sync began, the table's own are read
_NEWEST_NOTES = 1000
# between the machines that store events and PostHog's, beyond what is known of them
_CLOCKS_DIFFER = timedelta(minutes=1)
# Dagster keeps times as floats; a table's syncs begin further apart than this
_A_MOMENT_S = 0.001


@dataclass(frozen=True)
class Note:
    """An observation of a sync: a run has adopted it, or it has been reported as failed, or as overtaken."""

    run_id: str
    said: SyncMetadata
    stored_at_s: float = math.inf
    """When Dagster stored it; later than all that is stored if it has not done so yet."""

    @property
    def is_report(self) -> bool:
        """Whether it has the end of the sync."""
        return self.said.status is not None

    def is_later(self, job: Job) -> bool:
        """Whether its sync began after the job."""
        began_at = self.said.job_created_at
        return began_at is not None and began_at.timestamp() > job.created_at.timestamp() + _A_MOMENT_S


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
    released: bool = False
    """Whether the run ended without waiting for the job."""


@dataclass(frozen=True)
class Execution:
    """An execution of a check by a run, or by nobody's; without an evaluation, the run has only planned it."""

    run_id: str
    evaluation: dg.AssetCheckEvaluation | None


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

    def of_tables(
        self, since: Mapping[dg.AssetKey, datetime], *, clock_ahead: timedelta
    ) -> dict[dg.AssetKey, "TableLog"]:
        """The same for several tables, whose newest events are read at once.

        Args:
            since: When the oldest sync in question of each table began.
            clock_ahead: How far Dagster's clock is ahead of PostHog's.
        """
        newest = self.newest(tuple(since))
        return {
            key: TableLog(self, key, since=began_at, newest=newest, clock_ahead=clock_ahead)
            for key, began_at in since.items()
        }

    def syncs_of(self, key: dg.AssetKey, *, since: datetime | None = None) -> ReportedSyncs:
        """The table's last completed syncs that have been reported, the newest first."""
        found = self._records(self._instance.fetch_materializations, key, since=since)
        records = [record for record in found if self.is_ours(_metadata_of(record))]
        return ReportedSyncs(
            metadata=tuple(_metadata_of(record) for record in records),
            run_ids=tuple(record.run_id for record in records),
            of_others=self._of_others([_metadata_of(record) for record in found]),
        )

    def notes_of(self, key: dg.AssetKey, *, since: datetime | None = None) -> list[Note]:
        """What has been observed of the table's syncs, the newest first."""
        records = self._records(self._instance.fetch_observations, key, since=since)
        return [note for record in records if (note := self._note(record)) is not None]

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
        return JOB_ID in metadata and self.is_ours(metadata)

    def is_ours(self, metadata: Mapping[str, dg.MetadataValue]) -> bool:
        """Whether an event with this metadata is of our project, or names none."""
        return self._project is None or _project_of(metadata) in (None, self._project)

    def _of_others(self, newest_first: Sequence[Mapping[str, dg.MetadataValue]]) -> dict[str, datetime]:
        """The other projects that have reported a sync after one of ours, and when their newest one began.

        A project that has reported before all of ours has left the key to us.
        """
        ours = [index for index, metadata in enumerate(newest_first) if self.is_ours(metadata)]
        after_ours = newest_first[: ours[-1]] if ours else []
        others: dict[str, datetime] = {}
        for metadata in after_ours:
            if not self.is_ours(metadata) and (project := _project_of(metadata)) is not None:
                others.setdefault(project, datetime.fromtimestamp(_began_s(metadata), tz=UTC))
        return others

    def run(self, run_id: str) -> dg.DagsterRun | None:
        """The run; None if it has been deleted."""
        return self._instance.get_run_by_id(run_id)

    def planned_by(self, run_id: str) -> set[dg.AssetKey]:
        """The assets that the run was to materialize."""
        records = self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        events = (record.dagster_event for record in records)
        return {event.asset_key for event in events if event is not None and event.asset_key is not None}

    def is_over(self, run_id: str) -> bool:
        """Whether the run has ended, or is not known any more."""
        run = self._instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    def is_silent(self, run_id: str, *, since: datetime) -> bool:
        """Whether the run has written no event since then."""
        newest = self._instance.get_records_for_run(run_id, limit=1, ascending=False).records
        return all(record.timestamp < since.timestamp() for record in newest)

    def is_red(self, check: dg.AssetCheckKey) -> bool:
        """Whether the last evaluation of the check failed."""
        return self.newest([check.asset_key]).is_red(check)

    def is_awaited(self, check: dg.AssetCheckKey) -> bool:
        """Whether a run that is alive has planned the check and not evaluated it yet."""
        return self.newest([check.asset_key]).is_awaited(check)

    def last_evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        """The last evaluation of the check; None before the first."""
        return self.newest([check.asset_key]).last_evaluation(check)

    def newest(self, keys: Sequence[dg.AssetKey]) -> "NewestEvents":
        """The newest events of several tables."""
        return NewestEvents(self, keys)

    def last_materializations(self, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, dg.EventLogRecord]:
        """The newest materialization of each table that has one, in one read."""
        entries = [record.asset_entry for record in self._instance.get_asset_records(keys)]
        newest = ((entry.asset_key, entry.last_materialization_record) for entry in entries)
        return {key: record for key, record in newest if record is not None}

    def last_executions(self, checks: Sequence[dg.AssetCheckKey]) -> dict[dg.AssetCheckKey, Execution]:
        """The newest execution of each check, in one read; Dagster+ refuses to show user code those before."""
        newest = self._instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        return {check: Execution(record.run_id, _evaluation_of(record.event)) for check, record in newest.items()}

    def last_completed_evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        """The last evaluation of a check that a run has planned again."""
        record = self._instance.event_log_storage.get_asset_check_summary_records([check])[check]
        completed = record.last_completed_check_execution_record
        return _evaluation_of(completed.event) if completed is not None else None

    @cached_property
    def newest_notes(self) -> "NewestNotes":
        """The newest observations of all assets, read once."""
        kind = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_OBSERVATION)
        records = self._instance.event_log_storage.get_event_records(kind, limit=_NEWEST_NOTES)
        notes: dict[dg.AssetKey, list[Note]] = {}
        for record in records:
            if record.asset_key is not None and (note := self._note(record)) is not None:
                notes.setdefault(record.asset_key, []).append(note)
        is_all = len(records) < _NEWEST_NOTES
        return NewestNotes(notes, since_s=-math.inf if is_all else records[-1].timestamp)

    def _note(self, record: dg.EventLogRecord) -> Note | None:
        metadata = _metadata_of(record)
        if not self._is_sync(metadata):
            return None
        return Note(record.run_id, SyncMetadata.of(metadata), stored_at_s=record.timestamp)

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


@dataclass(frozen=True)
class NewestNotes:
    """The notes of each table among the newest observations: all that were stored after `since_s`."""

    by_key: Mapping[dg.AssetKey, list[Note]]
    since_s: float


class NewestEvents:
    """The newest events of several tables, each kind read once for all of them, and only if needed."""

    def __init__(self, events: EventLog, keys: Sequence[dg.AssetKey]) -> None:
        self._events = events
        self._keys = keys

    @cached_property
    def materializations(self) -> dict[dg.AssetKey, dg.EventLogRecord]:
        """The newest materialization of each table that has one."""
        return self._events.last_materializations(self._keys)

    @cached_property
    def _executions(self) -> dict[dg.AssetCheckKey, Execution]:
        return self._events.last_executions([check for key in self._keys for check in check_keys(key)])

    def is_red(self, check: dg.AssetCheckKey) -> bool:
        """Whether the last evaluation of the check failed."""
        evaluation = self.last_evaluation(check)
        return evaluation is not None and not evaluation.passed

    def is_awaited(self, check: dg.AssetCheckKey) -> bool:
        """Whether a run that is alive has planned the check and not evaluated it yet."""
        newest = self._executions.get(check)
        return newest is not None and newest.evaluation is None and not self._events.is_over(newest.run_id)

    def last_evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        """The last evaluation of the check; None before the first."""
        newest = self._executions.get(check)
        if newest is None:
            return None
        # one that a run has only planned hides the one before
        return newest.evaluation or self._events.last_completed_evaluation(check)


class TableLog:
    """What the event log has of one table's syncs, each kind of event read once and only if needed.

    Args:
        events: The event log.
        key: The table's asset.
        since: The start of the oldest sync in question.
        newest: The newest events of this table and others.
        clock_ahead: How far Dagster's clock is ahead of PostHog's, if that is known.
    """

    def __init__(
        self,
        events: EventLog,
        key: dg.AssetKey,
        *,
        since: datetime | None,
        newest: NewestEvents | None = None,
        clock_ahead: timedelta | None = None,
    ) -> None:
        self._events = events
        self._key = key
        self._since = since
        self._newest = newest or events.newest([key])
        self._clock_ahead = clock_ahead
        self._added: dict[dg.AssetCheckKey, bool] = {}
        self._added_syncs: list[Mapping[str, dg.MetadataValue]] = []
        self._added_notes: list[Note] = []

    @property
    def syncs(self) -> ReportedSyncs:
        """The completed syncs that have been reported."""
        return reduce(ReportedSyncs.followed_by, self._added_syncs, self._stored_syncs)

    @cached_property
    def _stored_syncs(self) -> ReportedSyncs:
        return self._events.syncs_of(self._key, since=self._since) if self._last_sync else ReportedSyncs()

    @property
    def _last_sync(self) -> dg.EventLogRecord | None:
        return self._newest.materializations.get(self._key)

    def _stored_from_s(self, moment: datetime | None) -> float:
        """Dagster's time at a moment of PostHog's, or earlier: no event from before is about a sync that began then."""
        if moment is None or self._clock_ahead is None:
            return -math.inf
        return (moment + self._clock_ahead - _CLOCKS_DIFFER).timestamp()

    @cached_property
    def _stored_notes(self) -> list[Note]:
        if self._events.newest_notes.since_s < self._stored_from_s(self._since):
            return self._events.newest_notes.by_key.get(self._key, [])
        return self._events.notes_of(self._key, since=self._since)

    @property
    def _notes(self) -> list[Note]:
        return [*self._added_notes, *self._stored_notes]

    def _syncs_since(self, moment: datetime) -> ReportedSyncs:
        """Those that may have begun then or later; none are read if none have been stored since."""
        last = self._last_sync
        if last is None or last.timestamp < self._stored_from_s(moment):
            return reduce(ReportedSyncs.followed_by, self._added_syncs, ReportedSyncs())
        return self.syncs

    def has_report_of(self, job: Job) -> bool:
        """Whether the end of the job has been reported, by a run or by the sensor.

        For a completed one that is the materialization, for another an observation. A check alone may come from a user
        who executed it, or be the first half of a report that was cut short.
        """
        if job.status is JobStatus.COMPLETED:
            last = self._last_sync
            if (last is not None and _job_id(_metadata_of(last)) == job.id) or self._syncs_since(
                job.created_at
            ).include(job.id):
                return True
        return any(note.is_report and note.said.job_id == job.id for note in self._notes)

    def is_overtaken(self, job: Job) -> bool:
        """Whether a later sync of the table has been reported, so that this one is not the current state any more."""
        return self.later_sync(job) is not None or any(note.is_report and note.is_later(job) for note in self._notes)

    def later_sync(self, job: Job) -> Mapping[str, dg.MetadataValue] | None:
        """The newest report of a completed sync that began after this one; None if there is none."""
        return next(
            (each for each in self._syncs_since(job.created_at).metadata if JOB_ID in each and _is_later(each, job)),
            None,
        )

    def before(self, job: Job) -> Mapping[str, dg.MetadataValue]:
        """The metadata of the last completed sync but this one; empty if there is none."""
        last = self._last_sync
        newest = [*reversed(self._added_syncs), *([_metadata_of(last)] if last is not None else [])][:1]
        if newest and _job_id(newest[0]) not in (None, job.id) and self._events.is_ours(newest[0]):
            return newest[0]
        return self.syncs.before(job.id)

    @property
    def of_others(self) -> Mapping[str, datetime]:
        """The other projects that share the asset key, if the last report is of one, and when its sync began."""
        last = self._last_sync
        return {} if last is None or self._events.is_ours(_metadata_of(last)) else self._stored_syncs.of_others

    def adoptions_of(self, job: Job) -> list[Adoption]:
        """The runs that have adopted the job, the last one first."""
        adoptions = (_adoption(note) for note in self._notes if note.said.job_id == job.id)
        return [adoption for adoption in adoptions if adoption is not None]

    def completion_of(self, job_id: str) -> Note | None:
        """The first request for a run that reports the job; None if there is none."""
        requests = [note for note in self._notes if note.said.job_id == job_id and note.said.completion is not None]
        return requests[-1] if requests else None

    def is_synced_since(self, moment: datetime) -> bool:
        """Whether a completed sync has been reported that began then or later."""
        last, since_s = self._last_sync, moment.timestamp() - _A_MOMENT_S
        if last is not None and self._events.is_ours(_metadata_of(last)) and _began_s(_metadata_of(last)) > since_s:
            return True
        return any(_began_s(each) > since_s for each in self._syncs_since(moment).metadata)

    def is_red(self, check: dg.AssetCheckKey) -> bool:
        """Whether the last evaluation of the check failed."""
        return not self._added[check] if check in self._added else self._newest.is_red(check)

    def is_awaited(self, check: dg.AssetCheckKey) -> bool:
        """Whether a run that is alive has planned the check and not evaluated it yet."""
        return self._newest.is_awaited(check)

    def add(self, events: Iterable[dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetObservation]) -> None:
        """Take in what is about to be stored: the next sync of the same table is reported after it."""
        for event in events:
            if isinstance(event, dg.AssetMaterialization):
                self._added_syncs.append(event.metadata)
            elif isinstance(event, dg.AssetCheckEvaluation):
                self._added[event.asset_check_key] = event.passed
            else:
                self._added_notes.insert(0, Note("", SyncMetadata.of(event.metadata)))


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

    With `within_run`, also what another step of this run adopted. A run that completes another one, which did not wait
    for its syncs, takes up those of them that it has not adopted in an earlier try.

    A sync that a run has given as its result is not taken up again: a user who re-executes a completed run wants
    another sync. One that the sensor alone has reported is, because no run has its result. A retry within the run takes
    up each.
    """
    adoptions: dict[dg.AssetKey, Adoption] = {}
    for run_id in _earlier_runs(context, within_run=within_run):
        adoptions = log.adoptions_by(run_id) | adoptions
    own = context.run.run_id, completed_run(context)
    return {
        key: adoptions[key]
        for key in keys
        if key in adoptions and (adoptions[key].run_id in own or not _is_given(adoptions[key], key, log))
    }


def completed_run(context: dg.AssetExecutionContext) -> str | None:
    """The run whose syncs this run reports, since it did not wait for them; None for any other run."""
    return context.run.tags.get(COMPLETES_TAG)


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
    if (completed := completed_run(context)) is not None:
        yield completed


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
        released=bool(said.released),
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
