"""What Dagster's event log knows of jobs: which were adopted by a run, and which have been reported."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from dw_orchestration.assets.checks import SYNC_SUCCEEDED
from dw_orchestration.assets.metadata import JOB_ID, SyncMetadata
from dw_orchestration.assets.reported import ReportedSyncs
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.models import Job

# a table's newest events: no more syncs of one table end between two looks
_EVENTS_LOOKED_AT = 20


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
    """The events of tables, read by the job that they speak of."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def syncs_of(self, key: dg.AssetKey) -> ReportedSyncs:
        """The table's last completed syncs that have been reported, in one read of Dagster's storage."""
        records = self._instance.fetch_materializations(key, limit=_EVENTS_LOOKED_AT).records
        return ReportedSyncs(tuple(_metadata_of(record.asset_materialization) for record in records))

    def has_report_of(self, job: Job, key: dg.AssetKey, *, syncs: ReportedSyncs) -> bool:
        """Whether the end of the job has been reported, by a run or by the sensor.

        For a completed one that is the materialization: a check alone may be a user's look at the table, or the first
        half of a report that was cut short.
        """
        if job.status is JobStatus.COMPLETED:
            return syncs.include(job.id)
        evaluations = self._evaluations(dg.AssetCheckKey(asset_key=key, name=SYNC_SUCCEEDED))
        return any(_job_id(evaluation.metadata) == job.id for evaluation in evaluations)

    def adoption_of(self, job_id: str, key: dg.AssetKey) -> Adoption | None:
        """The last run that adopted the job."""
        return next((adoption for adoption in self._adoptions(key) if adoption.job_id == job_id), None)

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
                if (adoption := _adoption(metadata, run_id=run_id)) is not None:
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

    def _adoptions(self, key: dg.AssetKey) -> Iterator[Adoption]:
        for record in self._instance.fetch_observations(key, limit=_EVENTS_LOOKED_AT).records:
            adoption = _adoption(_metadata_of(record.asset_observation), run_id=record.run_id)
            if adoption is not None:
                yield adoption

    def _evaluations(self, check: dg.AssetCheckKey) -> Iterator[dg.AssetCheckEvaluation]:
        history = self._instance.event_log_storage.get_asset_check_execution_history(check, limit=_EVENTS_LOOKED_AT)
        for record in history:
            event = record.event and record.event.dagster_event
            if event and event.event_type_value == "ASSET_CHECK_EVALUATION":
                yield event.asset_check_evaluation_data


def _adoption(metadata: Mapping[str, dg.MetadataValue], *, run_id: str) -> Adoption | None:
    """What an observation says of an adoption; None for one that says something else."""
    if JOB_ID not in metadata:
        return None
    said = SyncMetadata.of(metadata)
    if said.job_created_at is None:
        return None
    return Adoption(
        job_id=said.job_id,
        run_id=run_id,
        started=said.triggered_by == "dagster",
        began_at=said.job_created_at,
        ends_with_run=said.on_termination == "cancel",
    )


def _metadata_of(event: dg.AssetMaterialization | dg.AssetObservation | None) -> Mapping[str, dg.MetadataValue]:
    return event.metadata if event is not None else {}


def _job_id(metadata: Mapping[str, dg.MetadataValue]) -> str | None:
    value = metadata.get(JOB_ID)
    return str(value.value) if value is not None else None
