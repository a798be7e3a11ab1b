"""What fails, fails by itself, with its own reason; what cannot be synced is refused; nothing is green for nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest
from warehouse import Shelf, events, execute, failure_of, log_of

from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.limits import STREAK_GAP, STREAK_LENGTH
from dw_orchestration.posthog.models import SchemaUpdate

TWICE = dg.RetryPolicy(max_retries=1)


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    """The tables that a run has materialized."""
    return {key.path[-1] for key in (event.asset_key for event in result.get_asset_materialization_events()) if key}


def test_a_table_that_fails_takes_no_other_with_it(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """The others are materialized first; then the step fails, with a line for the failed table and its reason."""
    execute(shelf.database, "drop table products")
    result = shelf.materialize("customers", "orders", "products", instance=instance)
    assert not result.success
    assert {"customers", "orders"} == materialized(result)
    first, second = failure_of(result).splitlines()
    assert "1 of 3 tables did not complete." == first
    error = shelf.newest("products").latest_error
    assert error
    assert f"The sync of postgres_{shelf.prefix}.products failed" in second
    assert error.rstrip(".") in second


def test_the_failed_table_fails_its_check(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """`sync_succeeded` fails for the failed table alone, with the job and PostHog's own error.

    Without a retry policy, the run shows no frames.
    """
    execute(shelf.database, "drop table products")
    result = shelf.materialize("customers", "products", instance=instance)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert [] == failed.step_failure_data.error.stack
    checks = {
        check.asset_key.path[-1]: check
        for check in result.get_asset_check_evaluations()
        if check.check_name == "sync_succeeded"
    }
    assert {"customers": True, "products": False} == {name: check.passed for name, check in checks.items()}
    job = shelf.newest("products")
    assert job.id == checks["products"].metadata["posthog/job_id"].value
    assert job.latest_error == checks["products"].metadata["posthog/error"].value


def test_a_failure_of_the_source_is_worth_a_retry(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A failure that may pass is tried again by a retry policy, which syncs only the failed table again."""
    shelf.break_products()
    before = shelf.counts()
    result = shelf.materialize("customers", "products", instance=instance, retry_policy=TWICE)
    assert "division by zero" in failure_of(result)
    assert 1 == len(events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY))
    assert {"customers": 1, "products": 2} == shelf.counts() - before
    assert {"customers"} == materialized(result)
    assert 1 == len(result.get_asset_materialization_events())


def test_posthogs_own_lines_are_in_the_run_and_in_the_check(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """What PostHog logged during a failed sync needs no visit to PostHog, and costs one request or none."""
    execute(shelf.database, "drop table products")

    result = shelf.materialize("products", instance=instance)

    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "sync_succeeded"]
    block = check.metadata["posthog/log"].value
    assert block.startswith("```text\n")
    assert " ERROR " in block
    assert f"PostHog logged during sync {shelf.newest('products').id}:" in log_of(result, instance)


def test_logs_are_not_fetched_if_that_is_off(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """With `fetch_logs: false`, a failure costs no request."""
    execute(shelf.database, "drop table products")

    result = shelf.materialize("products", instance=instance, fetch_logs=False)

    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "sync_succeeded"]
    assert "posthog/log" not in check.metadata


def test_a_retry_comes_when_posthog_takes_the_table_again(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """After five failures in a row PostHog starts nothing for ten minutes, so a try after one would be wasted."""
    shelf.break_products()
    for _ in range(STREAK_LENGTH):
        assert not shelf.materialize("products", instance=instance).success
    failed_at = shelf.newest("products").finished_at
    assert failed_at is not None
    later = shelf.first_retry("products", instance=instance, retry_policy=TWICE)
    waited_so_far = datetime.now(UTC) - failed_at
    assert later.seconds_to_wait == pytest.approx((STREAK_GAP - waited_so_far).total_seconds(), abs=30)
    assert "PostHog starts no other" in later.error.to_string()


def test_without_a_retry_policy_nothing_is_tried_again(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A time at which PostHog takes the table again causes no retry by itself: the user decides that."""
    shelf.break_products()
    for _ in range(STREAK_LENGTH + 1):
        result = shelf.materialize("products", instance=instance)
    assert "PostHog starts no other" in failure_of(result)
    assert [] == events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)


def test_a_table_that_is_gone_is_not_worth_a_retry(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A failure after which PostHog switches the table off is not tried again."""
    execute(shelf.database, "drop table products")
    result = shelf.materialize("products", instance=instance, retry_policy=TWICE)
    assert "PostHog disabled the table" in failure_of(result)
    assert [] == events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)


def test_a_table_that_is_off_is_refused_with_the_reason(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """Materializing a table that is disabled in PostHog fails at once with that reason; nothing is synced."""
    shelf.warehouse.client.update_schema(shelf.record("products").id, SchemaUpdate(should_sync=False))
    before = shelf.counts()
    result = shelf.materialize("products", "orders", instance=instance)
    assert not result.success
    assert {"orders"} == materialized(result)
    assert "disabled in PostHog" in failure_of(result)
    assert {"orders": 1} == shelf.counts() - before


def test_a_deleted_table_is_refused_with_the_reason(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """A table that was deleted in PostHog since the state was fetched fails with that reason."""
    assert shelf.snapshot.schemas
    shelf.warehouse.client.delete_schema(shelf.record("products").id)
    assert "does not exist in PostHog" in failure_of(shelf.materialize("products", instance=instance))


def test_a_running_sync_can_be_made_a_failure(shelf: Shelf, instance: dg.DagsterInstance) -> None:
    """With `if_running: fail`, a running sync fails the step at once, and is left alone."""
    with shelf.locked("orders"):
        shelf.warehouse.client.reload_schema(shelf.record("orders").id)
        job = shelf.wait_until(lambda: shelf.running("orders"))
        result = shelf.materialize("orders", instance=instance, if_running="fail")
        assert job == shelf.running("orders")
    assert f"its sync {job.id} has been running" in failure_of(result)
    shelf.settle()
    assert JobStatus.COMPLETED is shelf.newest("orders").status
