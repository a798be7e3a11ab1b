"""A subclass of the component that gives every table an owner; tables about money belong to finance."""

import dagster as dg

from dw_orchestration import PostHogWarehouseComponent, Table

MONEY = ("invoice", "charge")


class OurWarehouse(PostHogWarehouseComponent):
    """The warehouse with our owners."""

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset."""
        about_money = table.schema.name.lower().startswith(MONEY)
        owner = "team:finance" if about_money else "team:data"
        return super().get_asset_spec(table).replace_attributes(owners=[owner])
