"""What Dagster's event log knows of jobs: which were adopted by a run, and which have been reported."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from dw_orchestration.assets.checks import SYNC_SUCCEEDED, ReportedSyncs
from dw_orchestration.assets.metadata import JOB_CREATED_AT, JOB_ID, SYNCED_AS_OF, SyncMetadata
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job

# a table's newest events: no more syncs of one table end between two ticks
_EVENTS_LOOKED_AT = 20
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
    ends_with_run: bool
    """Whether the job is to be cancelled when a user terminates the run."""


class EventLog:
    """The events of tables, by their job."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def syncs_of(self, key: dg.AssetKey) -> ReportedSyncs:
        """The table's last completed syncs that have been reported, in one read of Dagster's storage."""
        records = self._instance.fetch_materializations(key, limit=_EVENTS_LOOKED_AT).records
        return ReportedSyncs(tuple(_metadata_of(record.asset_materialization) for record in records))

    def notes_of(self, key: dg.AssetKey) -> list[Note]:
        """What has been observed of the table's syncs, the newest first, in one read of Dagster's storage."""
        records = self._instance.fetch_observations(key, limit=_EVENTS_LOOKED_AT).records
        found = ((record.run_id, _metadata_of(record.asset_observation)) for record in records)
        return [Note(run_id, SyncMetadata.of(metadata)) for run_id, metadata in found if JOB_ID in metadata]

    def has_report_of(self, job: Job, key: dg.AssetKey, *, syncs: ReportedSyncs, notes: Sequence[Note]) -> bool:
        """Whether the end of the job has been reported, by a run or by the sensor.

        For a completed one that is the materialization: a check alone may come from a user who executed it, or be the
        first half of a report that was cut short.
        """
        if any(note.is_report and note.said.job_id == job.id for note in notes):
            return True
        if job.status is JobStatus.COMPLETED:
            return syncs.include(job.id)
        evaluations = self._evaluations(_sync_succeeded(key))
        return any(_job_id(evaluation.metadata) == job.id for evaluation in evaluations)

    def is_overtaken(self, job: Job, key: dg.AssetKey, *, syncs: ReportedSyncs) -> bool:
        """Whether a later sync of the table has been reported, so that this one is not the current state any more."""
        evaluation = next(self._evaluations(_sync_succeeded(key)), None)
        reported = (syncs.last, evaluation.metadata if evaluation else {})
        return any(_began_s(metadata) > job.created_at.timestamp() + _A_MOMENT_S for metadata in reported)

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
                if JOB_ID in metadata and (adoption := _adoption(Note(run_id, SyncMetadata.of(metadata)))):
                    adoptions[event.asset_key] = adoption
        return adoptions

    def is_over(self, run_id: str) -> bool:
        """Whether the run has ended, or is not known any more."""
        run = self._instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    def is_red(self, check: dg.AssetCheckKey) -> bool:
        """Whether the last evaluation of the check failed."""
        evaluation = next(self._evaluations(check), None)
        return evaluation is not None and not evaluation.passed

    def _evaluations(self, check: dg.AssetCheckKey) -> Iterator[dg.AssetCheckEvaluation]:
        history = self._instance.event_log_storage.get_asset_check_execution_history(check, limit=_EVENTS_LOOKED_AT)
        for record in history:
            event = record.event and record.event.dagster_event
            if event and event.event_type_value == "ASSET_CHECK_EVALUATION":
                yield event.asset_check_evaluation_data


def adoption_in(notes: Sequence[Note], *, job_id: str) -> Adoption | None:
    """The last run that adopted the job."""
    adoptions = (_adoption(note) for note in notes if note.said.job_id == job_id)
    return next((adoption for adoption in adoptions if adoption is not None), None)


def jobs_of_earlier_tries(
    context: dg.AssetExecutionContext, keys: Iterable[dg.AssetKey], *, log: EventLog
) -> dict[dg.AssetKey, Adoption]:
    """What an earlier try of this step, or a run that this one re-executes, adopted last for each table.

    A sync that has been reported is not taken up again: a user who re-executes a completed run wants
    another sync. Only a retry within the run keeps it, because the run has its result.
    """
    adoptions: dict[dg.AssetKey, Adoption] = {}
    for run_id in _earlier_runs(context):
        adoptions = log.adoptions_by(run_id) | adoptions
    return {
        key: adoptions[key]
        for key in keys
        if key in adoptions
        and (adoptions[key].run_id == context.run.run_id or not log.syncs_of(key).include(adoptions[key].job_id))
    }


def _earlier_runs(context: dg.AssetExecutionContext) -> Iterator[str]:
    """This run, if the step is tried again in it, then the runs that it repeats; the newest first."""
    if context.retry_number > 0:
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
        ends_with_run=said.on_termination == "cancel",
    )


def _sync_succeeded(key: dg.AssetKey) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(asset_key=key, name=SYNC_SUCCEEDED)


def _began_s(metadata: Mapping[str, dg.MetadataValue]) -> float:
    """The start of an event's sync, in seconds since 1970; long ago if the event does not contain it."""
    value = metadata.get(SYNCED_AS_OF) or metadata.get(JOB_CREATED_AT)
    return value.value if isinstance(value, dg.TimestampMetadataValue) else -math.inf


def _metadata_of(event: dg.AssetMaterialization | dg.AssetObservation | None) -> Mapping[str, dg.MetadataValue]:
    return event.metadata if event is not None else {}


def _job_id(metadata: Mapping[str, dg.MetadataValue]) -> str | None:
    value = metadata.get(JOB_ID)
    return str(value.value) if value is not None else None
