"""The sync history: every job of every source, kept in DuckDB, as an asset."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource
from pydantic import Field

from dw_orchestration.assets.spec import sync_history_key
from dw_orchestration.history.reading import Reading, bring_up_to_date
from dw_orchestration.history.report import report_metadata, report_of
from dw_orchestration.history.store import HistoryStore
from dw_orchestration.resources.failure import errors_as_failure, plain_failure, retry_policy_of
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.text import in_markdown

DEFAULT_HISTORY_RESOURCE_KEY = "posthog_sync_history"
SOURCES_READ = "sources_read"


class SyncHistoryConfig(dg.Config):
    """How the sync history is read."""

    days: int = Field(
        default=30,
        gt=0,
        description="How many days the first reading of a source goes back. Later ones continue from what is stored."
        " The default is the span that the asset's report covers.",
    )


def build_sync_history(
    tables: Tables,
    *,
    history_resource_key: str = DEFAULT_HISTORY_RESOURCE_KEY,
    now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
) -> dg.AssetsDefinition:
    """The asset that keeps every job of every source in the DuckDB table `sync_history`.

    PostHog answers with at most fifty jobs at a time; this keeps them all, and shows rows (which PostHog bills),
    failures and durations of the last thirty days. It reads only what it lacks, so that it can run as often as wanted.

    Args:
        tables: The tables of the project. The jobs of sources that are added later are kept too; the jobs of sources of
            which the selection takes no table are not.
        history_resource_key: The key of a `dagster_duckdb.DuckDBResource` among the resources. Projects can share it.
        now: The time of day.

    Example:
        ```python
        defs = dg.Definitions(
            assets=[build_sync_history(tables)],
            schedules=[build_sync_history_schedule()],
            resources={
                "posthog_warehouse": PostHogWarehouseResource(project_id="1", api_key=dg.EnvVar("POSTHOG_KEY")),
                "posthog_sync_history": DuckDBResource(database="sync_history.duckdb"),
            },
        )
        ```
    """
    resource_key = tables.resource_key
    left_out = {table.source.id for table in tables.all} - {table.source.id for table in tables}

    @dg.asset(
        key=sync_history_key(resource_key),
        group_name=resource_key,
        kinds={"posthog", "duckdb"},
        required_resource_keys={resource_key, history_resource_key},
        description="Every sync of every table, one row each, in the DuckDB table `sync_history` (times in UTC).",
        metadata=_spec_metadata(tables),
        check_specs=[
            dg.AssetCheckSpec(
                SOURCES_READ,
                asset=sync_history_key(resource_key),
                description="The jobs of every source could be read when the history was last updated.",
            )
        ],
    )
    def sync_history(context: dg.AssetExecutionContext, config: SyncHistoryConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes no parametrized one where there are checks
        moment = now()
        warehouse, duckdb = (getattr(context.resources, key) for key in (resource_key, history_resource_key))
        with errors_as_failure(context):
            store, reading = _bring_up_to_date(warehouse, duckdb, days=config.days, now=moment, left_out=left_out)
            _say_what_failed(context, reading)
            return dg.MaterializeResult(
                metadata=report_metadata(report_of(store, now=moment)) | _reading_metadata(reading),
                check_results=[_sources_read(reading)],
            )

    return sync_history


def build_sync_history_schedule(
    *,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    name: str | None = None,
    cron_schedule: str = "15 0 * * *",
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
    run_tags: Mapping[str, Any] | None = None,
) -> dg.ScheduleDefinition:
    """The schedule that updates the sync history, by default every day at 00:15 UTC.

    Args:
        resource_key: As for `build_sync_history`.
        name: The schedule's name; by default made of the resource's key.
        cron_schedule: When, in UTC.
        default_status: Whether the schedule runs before anybody switches it on.
        run_tags: Tags of its runs.
    """
    return dg.ScheduleDefinition(
        name=name or f"{resource_key}_sync_history",
        target=dg.AssetSelection.assets(sync_history_key(resource_key)),
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=default_status,
        # without a function, a schedule gives its tags to its runs
        tags=run_tags,
        description="Keeps the jobs of all sources, before PostHog's list of them moves on.",
    )


def _bring_up_to_date(
    warehouse: WarehouseResource, duckdb: DuckDBResource, *, days: int, now: datetime, left_out: Collection[str]
) -> tuple[HistoryStore, Reading]:
    with warehouse.connect() as api:
        store = HistoryStore(duckdb, project=f"{warehouse.name} {api.project_id}")
        return store, bring_up_to_date(api, store, days=days, now=now, left_out=left_out)


def _spec_metadata(tables: Tables) -> dict[str, Any]:
    metadata: dict[str, Any] = {"dagster/table_name": "sync_history"}
    if url := tables.snapshot.project_url:
        metadata["posthog/link"] = dg.MetadataValue.url(f"{url}/data-warehouse")
    return metadata


def _reading_metadata(reading: Reading) -> dict[str, Any]:
    metadata: dict[str, Any] = {"jobs_read": reading.jobs, "sources_failed": len(reading.problems)}
    if reading.problems:
        metadata["problems"] = dg.MetadataValue.md(_lines(reading))
    if reading.unreadable:
        metadata["unreadable"] = dg.MetadataValue.md(
            "\n".join(f"- {in_markdown(str(row))}" for row in reading.unreadable)
        )
    return metadata


def _say_what_failed(context: dg.AssetExecutionContext, reading: Reading) -> None:
    """Warn once of the sources that could not be read.

    Raises:
        Failure: No source could be read: nothing was updated.
    """
    if reading.all_failed:
        raise plain_failure(
            f"None of the {reading.sources} sources could be read.\n{_lines(reading)}",
            allow_retries=retry_policy_of(context) is not None,
        )
    if reading.problems:
        context.log.warning(_not_read(reading))


def _sources_read(reading: Reading) -> dg.AssetCheckResult:
    description = _not_read(reading) if reading.problems else "Every source was read."
    return dg.AssetCheckResult(check_name=SOURCES_READ, passed=not reading.problems, description=description)


def _not_read(reading: Reading) -> str:
    return f"{len(reading.problems)} of {reading.sources} sources were not read:\n{_lines(reading)}"


def _lines(reading: Reading) -> str:
    return "\n".join(f"- {in_markdown(name)}: {in_markdown(problem)}" for name, problem in reading.problems.items())
