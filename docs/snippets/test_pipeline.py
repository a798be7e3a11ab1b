import dagster as dg

from dw_orchestration import build_posthog_assets
from dw_orchestration.tables.tables import Tables


def test_report_is_made_of_what_was_synced(embedded_warehouse):
    embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1, "amount": 5}, {"id": 2, "amount": 7}]})

    @dg.asset(deps=[["posthog", "stripe", "charge"]])
    def revenue() -> int:
        return sum(row["amount"] for row in embedded_warehouse.rows("Charge"))

    run = dg.materialize(
        [*build_posthog_assets(Tables(embedded_warehouse.snapshot())), revenue],
        resources={"posthog_warehouse": embedded_warehouse.resource},
    )

    assert 12 == run.output_for_node("revenue")
