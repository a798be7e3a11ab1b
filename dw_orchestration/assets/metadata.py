"""The metadata of tables and of their syncs: the one statement of its keys and types, for writing and for reading."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import dagster as dg
from pydantic import AfterValidator, BaseModel, ConfigDict, InstanceOf

from dw_orchestration.assets.lineage import column_lineage
from dw_orchestration.posthog.models import Job, Schema, WarehouseTable
from dw_orchestration.tables.table import Table
from dw_orchestration.text import visible_lines

# who asked for the sync: this run, or anybody else (PostHog's schedule, a colleague, another run)
TriggeredBy = Literal["dagster", "adopted", "posthog"]
# to the millisecond, which is what people read
Seconds = Annotated[float, AfterValidator(lambda seconds: round(seconds, 3))]

_NAMED_BY_DAGSTER = frozenset(
    {"table_name", "storage_kind", "row_count", "column_schema", "column_lineage", "last_updated_timestamp"}
)


def _key(name: str) -> str:
    return f"dagster/{name}" if name in _NAMED_BY_DAGSTER else f"posthog/{name}"


class _Metadata(BaseModel):
    """Fields whose key is `posthog/<name>`, or `dagster/<name>` where Dagster itself knows what it is."""

    model_config = ConfigDict(frozen=True, alias_generator=_key, populate_by_name=True, extra="ignore")

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """Read it from a spec or an event; keys that are not of this package are passed over.

        Args:
            metadata: Values as Dagster was given them, or as it shows them (`dagster.MetadataValue`).

        Raises:
            pydantic.ValidationError: A key that is always there is missing, or a value has another type.
        """
        return cls.model_validate({key: _plain(value) for key, value in metadata.items()})

    def to_metadata(self) -> dict[str, Any]:
        """As Dagster takes it; what is not known is left out."""
        return {_key(name): _shown(name, value) for name, value in vars(self).items() if value is not None}


class TableMetadata(_Metadata):
    """What a table's asset says before any run.

    Example:
        ```python
        TableMetadata.of(spec.metadata).cadence
        ```
    """

    schema_id: str
    """The table's id in PostHog's API, which calls it an external data schema."""
    source_id: str
    """The id of its source."""
    source_table: str
    """The table's name at the source, which is its name in PostHog's lists."""
    sync_type: str | None = None
    """`full_refresh`, `incremental`, `append`, `xmin`, `webhook` or `cdc`; None for a table that was never set up."""
    cadence: str
    """When PostHog or, if so stated, a schedule of Dagster's syncs it, in words; times without a zone are UTC."""
    incremental_field: str | None = None
    """The column by which PostHog finds new rows."""
    full_refresh_interval_days: int | None = None
    """After how many days PostHog imports all rows again, and bills them; None for never."""
    next_full_refresh_at: datetime | None = None
    """When the next full refresh is due, as of the last refresh of the state. The newest sync has the current time."""
    primary_keys: str | None = None
    """The columns by which PostHog merges rows, with commas between them."""
    link: str | None = None
    """The page of its source in PostHog; the embedded warehouse has no pages."""
    table_name: str | None = None
    """The table's name in queries; None before its first sync."""
    storage_kind: str = "posthog"
    """Where the rows are."""


class SyncMetadata(_Metadata):
    """The metadata of a sync in an event: a materialization, a run's note that it waits for it, or a failed check.

    The job is always there; what else there is depends on the event, as a running sync has no duration.

    Example:
        ```python
        event = instance.get_latest_materialization_event(key)
        sync = SyncMetadata.of(event.asset_materialization.metadata)
        ```
    """

    error: str | None = None
    """Why it failed; of a check in PostHog's words, of an observation in those of the run. Pages show it first."""
    status: str | None = None
    """How it ended, in PostHog's word; of a check, and of a sync that a later one had overtaken."""
    job_id: str
    """The id of the sync, which PostHog's API calls a job."""
    project: str | None = None
    """The project and its host, by which the syncs of two projects under one asset key are kept apart."""
    triggered_by: TriggeredBy | None = None
    """`dagster`: a run asked for it. `adopted`: a run found it running and joined. `posthog`: no run knew of it."""
    job_created_at: datetime | None = None
    """When it began; of a check, and of a run's note."""
    on_termination: Literal["cancel", "leave"] | None = None
    """What happens to this sync if a user terminates the run. Set only on observations of syncs the run started."""
    released: bool | None = None
    """True if the run ended without waiting for this sync: another run reports it. Set only on observations."""
    completion: str | None = None
    """The key of the run that was requested to report this sync. Set only on observations."""
    synced_as_of: datetime | None = None
    """When it began, which is the moment as of which the rows are complete."""
    last_updated_timestamp: datetime | None = None
    """The same moment, where Dagster's own readers of freshness look for it, rather than at the event's."""
    duration_s: Seconds | None = None
    """Seconds that it took."""
    queue_s: Seconds | None = None
    """Seconds between a run's request and its beginning; None if no run asked for it."""
    full_refresh: bool | None = None
    """True if it imported all rows again: a full refresh that was due, or a resync that a run asked for."""
    next_full_refresh_at: datetime | None = None
    """When PostHog imports all rows again next; None if it never does."""
    rows_synced: int | None = None
    """The rows that it imported, by which PostHog bills."""
    row_count: int | None = None
    """The rows of the whole table after it."""
    column_schema: InstanceOf[dg.TableSchema] | None = None
    """The table's columns and their types after it."""
    column_lineage: InstanceOf[dg.TableColumnLineage] | None = None
    """The columns at the source that the table's columns come from."""
    table_name: str | None = None
    """The table's name in queries."""
    link: str | None = None
    """The page of its source in PostHog; the embedded warehouse has no pages."""


JOB_ID = _key("job_id")
PROJECT = _key("project")
JOB_CREATED_AT = _key("job_created_at")
SYNCED_AS_OF = _key("synced_as_of")
ROWS_SYNCED = _key("rows_synced")
FULL_REFRESH = _key("full_refresh")
COLUMNS = _key("column_schema")
LINEAGE = _key("column_lineage")


def adoption_metadata(
    job: Job,
    *,
    project: str | None = None,
    triggered_by: TriggeredBy,
    on_termination: Literal["cancel", "leave"] = "cancel",
    full_refresh: bool = False,
    released: bool = False,
) -> dict[str, Any]:
    """What is written down before the wait: a retry finds the job by it, and the sensor leaves the job to its run."""
    return SyncMetadata(
        job_id=job.id,
        project=project,
        triggered_by=triggered_by,
        job_created_at=job.created_at,
        on_termination=on_termination if triggered_by == "dagster" else None,
        full_refresh=full_refresh or None,
        released=released or None,
    ).to_metadata()


def completion_metadata(table: Table, job: Job, *, run_key: str) -> dict[str, Any]:
    """What is written down when a run is requested that reports how the job ended."""
    return SyncMetadata(job_id=job.id, project=table.project, completion=run_key).to_metadata()


def result_metadata(
    table: Table,
    job: Job,
    *,
    record: Schema | None,
    triggered_by: TriggeredBy,
    full_refresh: bool = False,
    queue_s: float | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of a completed sync; numbers stay numbers, so that Dagster plots them.

    Args:
        table: The synced table.
        job: The sync.
        record: The schema as PostHog showed it after the sync; without it, there is no row count and no columns.
        triggered_by: Who asked for the sync.
        full_refresh: Whether it imported all rows again.
        queue_s: Seconds between asking for the sync and its beginning.
        before: The metadata of the sync before. The columns last seen stay where the record has none, as in a list of
            sources, or the asset's page would have none.
    """
    synced = record.table if record is not None else None
    metadata = SyncMetadata(
        job_id=job.id,
        project=table.project,
        triggered_by=triggered_by,
        full_refresh=full_refresh or None,
        next_full_refresh_at=record.next_full_refresh_at if record else None,
        rows_synced=job.rows_synced or 0,
        synced_as_of=job.created_at,
        last_updated_timestamp=job.created_at,
        duration_s=(job.finished_at - job.created_at).total_seconds() if job.finished_at else None,
        queue_s=queue_s,
        row_count=synced.row_count if synced else None,
        column_schema=_column_schema(synced) if synced else None,
        column_lineage=column_lineage(table, record) if record else None,
        table_name=synced.name if synced else None,
        link=table.url,
    ).to_metadata()
    if COLUMNS not in metadata and before:
        metadata |= {name: before[name] for name in (COLUMNS, LINEAGE) if name in before}
    return metadata


def end_metadata(table: Table, job: Job, *, triggered_by: TriggeredBy | None = None) -> dict[str, Any]:
    """How a job ended, whether it completed or not."""
    return SyncMetadata(
        job_id=job.id,
        project=table.project,
        triggered_by=triggered_by,
        status=str(job.status),
        error=visible_lines(job.latest_error or "") or None,
        job_created_at=job.created_at,
        rows_synced=job.rows_synced or 0,
        link=table.url,
    ).to_metadata()


def failure_metadata(table: Table, job: Job, *, error: str, triggered_by: TriggeredBy) -> dict[str, Any]:
    """Why a run's sync failed. Without its status and time: the report of how it ended follows its check."""
    return SyncMetadata(
        job_id=job.id, project=table.project, triggered_by=triggered_by, error=visible_lines(error)
    ).to_metadata()


def _column_schema(synced: WarehouseTable) -> dg.TableSchema | None:
    columns = [dg.TableColumn(name=column.name, type=column.type) for column in synced.columns]
    return dg.TableSchema(columns=columns) if columns else None


def _plain(value: object) -> object:
    return value.value if isinstance(value, dg.MetadataValue) else value


def _shown(name: str, value: object) -> object:
    if isinstance(value, datetime):
        return dg.MetadataValue.timestamp(value)
    return dg.MetadataValue.url(str(value)) if name == "link" else value
