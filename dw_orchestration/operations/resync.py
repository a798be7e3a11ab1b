"""Resync tables from a maintenance job, exactly as a run that materializes them would."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import cast

import dagster as dg
from pydantic import Field

from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.step import StepResult, sync_tables
from dw_orchestration.operations.confirmation import confirmed_tables
from dw_orchestration.operations.operation import ConfirmedTablesParams
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.syncing import Outcomes
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import visible

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation


class ResyncParams(ConfirmedTablesParams):
    """The tables that are dropped and imported again."""

    wait: bool = Field(default=True, description=PostHogSyncConfig.model_fields["wait"].description)


def resync_tables(
    context: dg.OpExecutionContext,
    project: Project,
    params: ResyncParams,
    *,
    warehouse: WarehouseResource,
    tables: Tables,
    sync_defaults: PostHogSyncConfig,
) -> Generator[AssetEvent, None, Report]:
    """Resync tables, yield the events of each as it ends, and return the report.

    The step of a job belongs to no asset, but its events are those of the assets: the job-status sensor and other runs
    find in the event log what this run adopted and reported.

    Args:
        context: The context of the step.
        project: The project of the tables.
        params: The tables, and their confirmation.
        warehouse: The warehouse of the tables.
        tables: The tables of the code location.
        sync_defaults: Defaults of a run's config.

    Raises:
        NotConfirmedError: The confirmation does not name exactly these tables; nothing was sent.
        UsageError: A table is not an asset; nothing was sent.
    """
    confirmed = confirmed_tables(project, params.tables, confirm=params.confirm)
    chosen = _assets_of(confirmed, tables)
    outcomes = Outcomes(confirmed)
    names = [table.name for table in chosen]
    wanted = {"sync_mode": "resync", "confirm_resync": names, "wait": params.wait}
    results = sync_tables(
        dg.AssetExecutionContext(context),
        sync_defaults.model_copy(update=wanted),
        chosen,
        warehouse=warehouse,
        on_event=outcomes.note,
    )
    try:
        for result in results:
            yield _event_of(result)
    except dg.Failure as failure:
        return replace(outcomes.report(), summary=failure.description or "", failed=True)
    return outcomes.report()


def _assets_of(confirmed: Sequence[Table], tables: Tables) -> list[Table]:
    """The tables as the code location has them.

    Raises:
        UsageError: A table is not an asset: nobody would see how its resync ends.
    """
    if missing := [visible(table.name) for table in confirmed if table.id not in tables.by_id]:
        raise UsageError(
            f"Not an asset of this code location: {', '.join(missing)}. If the table is new, refresh the state of the"
            " definitions. `dw sync --resync` accepts any table."
        )
    return [tables.by_id[table.id] for table in confirmed]


def _event_of(result: StepResult) -> AssetEvent:
    """The event that Dagster makes of a result in an asset's own step."""
    if isinstance(result, dg.AssetCheckEvaluation):
        return result
    key, version = cast("dg.AssetKey", result.asset_key), cast("dg.DataVersion", result.data_version)
    tags = {"dagster/data_version": version.value, "dagster/data_version_is_user_provided": "true"}
    return dg.AssetMaterialization(asset_key=key, metadata=result.metadata, tags=tags)
