"""Automation conditions of tables: they decide without the origin of the rows, of which Dagster learns nothing."""

from typing import Any

import dagster as dg

from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.table import Table

# as Dagster names it; to make one in order to compare names would warn that it is beta
_ANY_DOWNSTREAM = "ANY_DOWNSTREAM_CONDITIONS"


def decided_without_origin(spec: dg.AssetSpec, table: Table) -> dg.AssetSpec:
    """A table's spec whose automation condition, if it has one, neither waits for the origin nor calls it missing.

    The origin stays upstream, and the condition ignores it. A condition that decides by the conditions of the assets
    downstream evaluates them as they are, so there the origin has to go.

    Args:
        spec: The spec as a user has translated it.
        table: Its table. One that Dagster cannot sync keeps no condition, as it has no schedule.
    """
    condition = spec.automation_condition
    if condition is None:
        return spec
    if table.schema_class is not SchemaClass.SYNCABLE:
        return spec.replace_attributes(automation_condition=None)
    if table.upstream_path is None:
        return spec
    origin = dg.AssetKey(list(table.upstream_path))
    ignore = getattr(condition, "ignore", None)
    ignoring = ignore(dg.AssetSelection.assets(origin)) if ignore else condition
    if _ignores(ignoring):
        return spec.replace_attributes(automation_condition=ignoring)
    return spec.replace_attributes(deps=[dep for dep in spec.deps if dep.asset_key != origin])


def _ignores(condition: dg.AutomationCondition[Any]) -> bool:
    """Whether each part that reads dependencies leaves some out: Dagster does not pass `ignore` on to every part."""
    if hasattr(condition, "ignore_selection"):
        return condition.ignore_selection is not None
    return condition.name != _ANY_DOWNSTREAM and all(_ignores(part) for part in condition.children)
