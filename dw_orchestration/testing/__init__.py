"""Tests of your pipelines: the embedded warehouse as a pytest fixture, and the failures that it can simulate.

Example:
    ```python
    import dagster as dg
    from dw_orchestration.assets import build_posthog_assets
    from dw_orchestration.testing import fails

    def test_a_failed_sync_fails_the_run(embedded_warehouse):
        embedded_warehouse.add_source("Stripe", tables={"Charge": [{"id": 1, "amount": 5}]})
        embedded_warehouse.behave("Charge", fails("Stripe is down"))
        result = dg.materialize(
            build_posthog_assets(embedded_warehouse.snapshot()),
            resources={"posthog_warehouse": embedded_warehouse.resource},
            raise_on_error=False,
        )
        assert not result.success
    ```
"""

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

__all__ = [
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
