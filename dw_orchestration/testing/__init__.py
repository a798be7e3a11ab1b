"""Tests of your pipelines: the embedded warehouse as a pytest fixture, and the failures that it can simulate.

Example:
    ```python
    import dagster as dg
    from dw_orchestration import build_posthog_definitions
    from dw_orchestration.testing import EmbeddedWarehouse, fails

    def test_a_failed_sync_fails_the_run(embedded_warehouse: EmbeddedWarehouse) -> None:
        embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1, "amount": 5}]})
        embedded_warehouse.behave("Charge", fails("Stripe is down"))
        defs = build_posthog_definitions(embedded_warehouse.resource, state=embedded_warehouse.snapshot())
        run = defs.resolve_implicit_global_asset_job_def().execute_in_process(raise_on_error=False)
        assert not run.success
    ```
"""

from typing import TYPE_CHECKING

from dw_orchestration.testing.behaviours import (
    TableBehaviour,
    WarehouseBehaviour,
    billing_limit,
    billing_limit_too_low,
    broken,
    down,
    fails,
    fails_to_save,
    has_two_jobs,
    is_not_billed,
    job_appears_after,
    loses_answers,
    loses_triggers,
    never_ends,
    never_starts,
    runs_for,
    shows_status,
    splits,
    throttled,
    unavailable,
)

if TYPE_CHECKING:
    from dw_orchestration.testing.warehouse import AddedSource as AddedSource
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse as EmbeddedWarehouse

__all__ = [
    "AddedSource",
    "EmbeddedWarehouse",
    "TableBehaviour",
    "WarehouseBehaviour",
    "billing_limit",
    "billing_limit_too_low",
    "broken",
    "down",
    "fails",
    "fails_to_save",
    "has_two_jobs",
    "is_not_billed",
    "job_appears_after",
    "loses_answers",
    "loses_triggers",
    "never_ends",
    "never_starts",
    "runs_for",
    "shows_status",
    "splits",
    "throttled",
    "unavailable",
]


def __getattr__(name: str) -> object:
    """The types of the fixtures are imported when they are first asked for: every run of pytest loads this package."""
    if name in {"AddedSource", "EmbeddedWarehouse"}:
        from dw_orchestration.testing import warehouse

        return getattr(warehouse, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
