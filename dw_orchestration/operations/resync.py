"""Resync tables from a job of their own, exactly as a run that materializes them would."""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import dagster as dg

from dw_orchestration.assets.build import CheckName
from dw_orchestration.assets.checks import check_specs
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.spec import TableAsset
from dw_orchestration.assets.step import StepResult, sync_tables
from dw_orchestration.operations.catalogue import NamedTable
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.syncing import Outcomes
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import UsageError

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation
_FIELDS_OF_A_CHECK = ("asset_key", "check_name", "passed", "severity", "description", "metadata")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables as the code location has them.

    Attributes:
        assets: By the ids of their schemas.
        checks: The checks that each has.
        sync_defaults: How they are synced.
    """

    assets: Mapping[str, TableAsset]
    checks: Collection[CheckName]
    sync_defaults: PostHogSyncConfig

    def keys(self) -> dict[str, str]:
        """The asset keys, as users type them."""
        return {schema_id: asset.key.to_user_string() for schema_id, asset in self.assets.items()}

    def chosen(self, tables: Sequence[NamedTable]) -> list[TableAsset]:
        """The assets of these tables.

        Raises:
            UsageError: One has none: nobody would see what becomes of it.
        """
        if missing := [table.name for table in tables if table.id not in self.assets]:
            raise UsageError(
                f"No asset of this code location: {', '.join(missing)}. If it is new, refresh the state of the"
                " definitions. `dw sync --resync` takes any table."
            )
        return [self.assets[table.id] for table in tables]

    def check_keys(self, chosen: Sequence[TableAsset]) -> set[dg.AssetCheckKey]:
        """The checks of some of the assets."""
        specs = [spec for asset in chosen for spec in check_specs(asset.table, asset.key)]
        return {spec.key for spec in specs if spec.name in self.checks}


def resync_tables(
    context: dg.OpExecutionContext,
    tables: Sequence[NamedTable],
    *,
    wait: bool,
    warehouse: WarehouseResource,
    known: Tables,
) -> Generator[AssetEvent, None, Report]:
    """Resync tables and yield each one's events as it ends; the report is returned at last.

    A job's step is no asset's, and yet its events are those of the assets: what it adopts and reports is in their log,
    where the job-status sensor and other runs look before they report a sync.

    Args:
        context: The step's.
        tables: Confirmed ones.
        wait: Whether to stay until they have ended.
        warehouse: Where they are.
        known: The code location's tables.

    Raises:
        UsageError: A table is no asset; nothing was sent.
    """
    chosen = known.chosen(tables)
    outcomes = Outcomes(tables)
    names = [asset.table.schema.name for asset in chosen]
    wanted = {"sync_mode": "resync", "confirm_resync": names, "wait": wait}
    results = sync_tables(
        dg.AssetExecutionContext(context),
        known.sync_defaults.model_copy(update=wanted),
        {asset.key: asset.table for asset in chosen},
        warehouse=warehouse,
        checks=known.check_keys(chosen),
        watch=outcomes.note,
    )
    try:
        for result in results:
            yield _event_of(result)
    except dg.Failure as failure:
        return replace(outcomes.report(), summary=failure.description or "", failed=True)
    return outcomes.report()


def _event_of(result: StepResult) -> AssetEvent:
    """What Dagster makes of a result where the step is the asset's own."""
    if isinstance(result, dg.AssetCheckResult):
        fields: dict[str, Any] = {name: getattr(result, name) for name in _FIELDS_OF_A_CHECK}
        return dg.AssetCheckEvaluation(**fields)
    key, version = cast("dg.AssetKey", result.asset_key), cast("dg.DataVersion", result.data_version)
    tags = {"dagster/data_version": version.value, "dagster/data_version_is_user_provided": "true"}
    return dg.AssetMaterialization(asset_key=key, metadata=result.metadata, tags=tags)
