"""A check that is executed by itself, as the button on its page does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing import fails, unavailable

if TYPE_CHECKING:
    from collections.abc import Collection

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

KEY = dg.AssetKey(["posthog", "stripe", "customer"])


@pytest.fixture
def stripe(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """A warehouse with one table, which has never been synced."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}, {"id": 2}]})
    return embedded_warehouse


def execute(
    warehouse: EmbeddedWarehouse, *names: str, instance: dg.DagsterInstance | None = None
) -> dg.ExecuteInProcessResult:
    """Execute some of the table's checks, and nothing else."""
    checks = [dg.AssetCheckKey(KEY, name) for name in names]
    defs = dg.Definitions(
        assets=build_posthog_assets(Tables(warehouse.snapshot(), include_disabled=True)),
        jobs=[dg.define_asset_job("checks", selection=dg.AssetSelection.checks(*checks))],
        resources={"posthog_warehouse": warehouse.resource},
    )
    return defs.resolve_job_def("checks").execute_in_process(raise_on_error=False, instance=instance)


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str | None]]:
    """What each check says."""
    return {each.check_name: (each.passed, each.description) for each in result.get_asset_check_evaluations()}


@pytest.mark.parametrize("names", [("sync_succeeded",), ("sync_succeeded", "data_as_usual")])
def test_it_looks_and_starts_no_sync(stripe: EmbeddedWarehouse, names: Collection[str]) -> None:
    """The selected checks have a result from what PostHog shows, the others have none, and nothing is synced."""
    job = stripe.sync("Customer")
    result = execute(stripe, *names)
    found = verdicts(result)
    assert dict.fromkeys(names, True) == {name: passed for name, (passed, _) in found.items()}
    assert (True, "stripe.Customer: Completed") == found["sync_succeeded"]
    assert [job.id] == [each.id for each in stripe.jobs("Customer")]
    assert [] == result.get_asset_materialization_events()


def test_rows_are_compared_with_earlier_syncs(stripe: EmbeddedWarehouse) -> None:
    """The last sync's rows are compared too, with the syncs that Dagster knows; with too few of them it passes."""
    stripe.sync("Customer")
    expected = (True, "2 rows synced; nothing is usual before 5 earlier syncs, there are 0. 2 rows. 1 columns")
    assert {"data_as_usual": expected} == verdicts(execute(stripe, "data_as_usual"))


def test_a_sync_is_not_compared_with_its_own_report(stripe: EmbeddedWarehouse) -> None:
    """Rows that the last sync lost are lost also after it has been reported, by a run or the sensor, or by both."""
    many = [{"id": number} for number in range(10)]
    with dg.DagsterInstance.ephemeral() as instance:
        for rows in (many, many[:1]):
            stripe.set_rows("Customer", rows)
            metadata = {"posthog/job_id": stripe.sync("Customer").id, "dagster/row_count": len(rows)}
            for _ in range(2):
                instance.report_runless_asset_event(dg.AssetMaterialization(KEY, metadata=metadata))
        passed, text = verdicts(execute(stripe, "data_as_usual", instance=instance))["data_as_usual"]
    assert not passed
    assert text is not None
    assert text.startswith("rows_dropped: 1 rows, 10 after the sync before. 1 rows synced; nothing is usual")


def test_a_failed_sync_and_none_at_all_are_red(stripe: EmbeddedWarehouse) -> None:
    """The last sync that has ended counts; a table without one has not succeeded."""
    assert (False, "The table has never been synced.") == verdicts(execute(stripe, "sync_succeeded"))["sync_succeeded"]
    stripe.behave("Customer", fails("Stripe is down"))
    stripe.sync("Customer")
    expected = (False, "stripe.Customer: Failed. Stripe is down")
    assert expected == verdicts(execute(stripe, "sync_succeeded"))["sync_succeeded"]


def test_a_warehouse_that_does_not_answer_is_a_failure(stripe: EmbeddedWarehouse) -> None:
    """The check gives no result then: the run fails with the reason."""
    state = build_posthog_assets(Tables(stripe.snapshot(), include_disabled=True))
    stripe.answer(unavailable())
    defs = dg.Definitions(
        assets=state,
        jobs=[
            dg.define_asset_job("checks", selection=dg.AssetSelection.checks(dg.AssetCheckKey(KEY, "data_as_usual")))
        ],
        resources={"posthog_warehouse": stripe.resource},
    )
    result = defs.resolve_job_def("checks").execute_in_process(raise_on_error=False)
    assert not result.success
    assert {} == verdicts(result)
