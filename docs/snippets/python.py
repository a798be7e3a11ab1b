"""Definitions in Python: a project with a translator, our own step and job, and tables that something else syncs."""

# region definitions
from collections.abc import Iterator
from typing import Any

import dagster as dg

from dw_orchestration import (
    PostHogTranslator,
    PostHogWarehouseResource,
    Table,
    WarehouseResource,
    asset_key_for,
    build_posthog_definitions,
    load_posthog_asset_specs,
    posthog_assets,
)

WAREHOUSE = PostHogWarehouseResource(
    host=dg.EnvVar("POSTHOG_HOST"),
    project_id=dg.EnvVar("POSTHOG_PROJECT_ID"),
    api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"),
)
# endregion


# region selector
def is_incremental(table: Table) -> bool:
    """Whether PostHog imports new rows alone."""
    return table.schema.incremental_field is not None


# endregion
# region translator
class Ours(PostHogTranslator):
    """Keys that begin with `raw`, an owner, and one asset upstream of all tables of a source."""

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset."""
        spec = super().get_asset_spec(table)
        return spec.replace_attributes(key=["raw", *table.key_path[1:]], owners=["team:data"])

    def get_upstream_spec(self, table: Table) -> dg.AssetSpec | None:
        """The spec of what the rows come from; None where that is not worth an asset."""
        return None if table.source.source_type == "Hubspot" else dg.AssetSpec(["vendors", table.group])


OURS = Ours()

# endregion


# region body
@posthog_assets(WAREHOUSE, select=["stripe_acme.*"], translator=OURS)
def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
    """The tables of Stripe, and what has to happen before and after their syncs."""
    context.log.info("This happens before anything is synced.")
    yield from posthog_warehouse.sync(context)
    context.log.info("All selected tables are synced.")


# endregion


# region key
@dg.asset(deps=[asset_key_for("acme.Charge", WAREHOUSE, translator=OURS)])
def revenue(posthog_warehouse: WarehouseResource) -> float:
    """The sum of all charges."""
    found = posthog_warehouse.query("select sum(amount) as total from {table}", table="acme.Charge")
    return float(found["total"][0].as_py())


# endregion


# region op
@dg.op
def refresh_charges(posthog_warehouse: WarehouseResource) -> int:
    """Syncs a table, waits until it is synced, and returns how many rows were."""
    (job,) = posthog_warehouse.sync_and_wait("acme.Charge")
    return job.rows_synced or 0


@dg.job
def month_end() -> None:
    """A job that needs fresh charges in one of its ops."""
    refresh_charges()


# endregion


# region all
@dg.definitions
def defs() -> dg.Definitions:
    """All tables, two assets of our own and a job."""
    tables = build_posthog_definitions(WAREHOUSE, translator=OURS, assets=[stripe, revenue])
    return dg.Definitions.merge(tables, dg.Definitions(jobs=[month_end]))


# endregion


# region specs
def incremental_tables() -> list[dg.AssetSpec]:
    """External assets: they are in the lineage, and somebody else starts and reports their syncs."""
    return load_posthog_asset_specs(WAREHOUSE, select=[is_incremental], exclude=["*.Event"])


# endregion
