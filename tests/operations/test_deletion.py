"""Rows are deleted only where their tables' names are repeated, and not under a running sync."""

from __future__ import annotations

import pytest

from dw_orchestration.operations.deletion import delete_data, delete_tables
from dw_orchestration.posthog.errors import NotFoundError
from dw_orchestration.tables.errors import NotConfirmedError, UsageError
from dw_orchestration.testing import never_ends

WRONG_CONFIRMATIONS = [
    ([], "This deletes 2 rows of 1 table, which the next sync imports and PostHog bills again."),
    (["Charge"], "missing: stripe_acme.Customer"),
    (["Customer", "Charge"], "names stripe_acme.Charge, not among the chosen tables: stripe_acme.Customer"),
    (["*"], "No table is named '*'"),
]


def test_nothing_is_deleted_without_the_names(project, synced, everything) -> None:
    """The confirmation names exactly the chosen tables, without patterns; else nothing happens."""
    before = everything()
    for confirm, said in WRONG_CONFIRMATIONS:
        with pytest.raises(UsageError) as caught:
            delete_data(project, ["Customer"], confirm=confirm)
        assert said in str(caught.value)
    assert before == everything()


def test_confirmed_rows_are_gone_and_their_number_is_told(project, synced) -> None:
    """The table is as if it had never been synced; one without rows is left."""
    report = delete_data(project, ["*"], confirm=["stripe_acme.Customer", "acme/Charge"])

    assert [("stripe_acme.Charge", "had no rows"), ("stripe_acme.Customer", "deleted")] == [
        (row["table"], row["result"]) for row in report.rows
    ]
    assert "2 rows of 2 tables deleted. The next sync imports all rows again." == report.summary
    assert (None, True) == (synced.schema("Customer").table, synced.schema("Customer").should_sync)


def test_table_that_is_being_synced_is_refused(project, synced) -> None:
    """PostHog would delete the rows under the sync."""
    synced.behave("Customer", never_ends())
    synced.start("Customer")

    with pytest.raises(UsageError, match=r"stripe_acme\.Customer is syncing\. Cancel the sync or wait for its end"):
        delete_data(project, ["Customer"], confirm=["Customer"])

    assert 2 == len(synced.rows("Customer"))


def test_confirmation_of_an_unconfirmed_resync_has_its_own_class(project) -> None:
    """Callers can distinguish a missing confirmation from a mistyped name."""
    with pytest.raises(NotConfirmedError):
        delete_data(project, ["Customer"], confirm=[])


def test_deleted_tables_are_gone_and_may_be_found_again(project, synced) -> None:
    """A table goes with its rows, only where its name is repeated; the report names what stops it for good."""
    schema_id = synced.schema("Customer").id
    with pytest.raises(NotConfirmedError, match="This deletes 2 rows of 1 table"):
        delete_tables(project, ["Customer"], confirm=[])

    report = delete_tables(project, ["Customer"], confirm=["Customer"])

    assert [("stripe_acme.Customer", 2, "deleted")] == [
        (row["table"], row["rows"], row["result"]) for row in report.rows
    ]
    assert "To stop a table for good, disable it instead." in report.summary
    with pytest.raises(NotFoundError):
        project.client.get_schema(schema_id)
