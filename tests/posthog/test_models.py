"""Values that servers add later, times, and round trips."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from dw_orchestration.posthog.enums import JobStatus, SyncFrequency, SyncStatus
from dw_orchestration.posthog.models import Job, Schema, SchemaUpdate

JOB = {
    "id": "j1",
    "created_at": "2026-01-01T00:00:00Z",
    "status": "Running",
    "schema": {"id": "s1", "name": "orders"},
}


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Running", JobStatus.RUNNING),
        ("Billing limits", JobStatus.BILLING_LIMIT),
        ("BillingLimitReached", JobStatus.BILLING_LIMIT),
        ("Billing limit too low", JobStatus.BILLING_LIMIT_TOO_LOW),
        ("Billing limits too low", JobStatus.BILLING_LIMIT_TOO_LOW),
        ("BillingLimitTooLow", JobStatus.BILLING_LIMIT_TOO_LOW),
    ],
)
def test_a_status_has_one_meaning_in_all_spellings(printed: str, expected: Any) -> None:
    """Jobs, schemas and the stored form spell the billing statuses differently."""
    assert expected is Job.model_validate(JOB | {"status": printed}).status


@pytest.mark.parametrize(
    ("printed", "expected"), [("Error", SyncStatus.FAILED), ("Billing limit too low", SyncStatus.BILLING_LIMIT_TOO_LOW)]
)
def test_a_schemas_status_has_one_meaning_too(printed: str, expected: Any) -> None:
    """The same holds for schemas and sources."""
    assert expected is SyncStatus(printed)


@pytest.mark.parametrize(
    ("printed", "known", "terminal"),
    [
        ("Running", True, False),
        ("Completed", True, True),
        ("Failed", True, True),
        ("Billing limits", True, True),
        ("Hibernating", False, False),
    ],
)
def test_an_unknown_status_is_kept_and_not_terminal(*, printed: str, known: bool, terminal: bool) -> None:
    """Only a status that this version knows can end a wait; another keeps its text."""
    status = Job.model_validate(JOB | {"status": printed}).status
    assert (printed, known, terminal) == (str(status), status.is_known, status.is_terminal)


def test_an_unknown_value_survives_storage() -> None:
    """An unknown value is the same after JSON and pickle."""
    schema = Schema(id="s1", name="t", sync_frequency="2hour")
    assert schema == Schema.model_validate_json(schema.model_dump_json())
    again = pickle.loads(pickle.dumps(schema))  # noqa: S301  # the test's own bytes
    assert (schema, "2hour") == (again, again.sync_frequency)


def test_an_enumeration_takes_only_text() -> None:
    """A number is no unknown status but a wrong answer."""
    with pytest.raises(ValidationError):
        Job.model_validate(JOB | {"status": 7})


@pytest.mark.parametrize("printed", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00"])
def test_times_are_aware_utc(printed: str) -> None:
    """A time has UTC, whether the server sends UTC, another offset, or none."""
    job = Job.model_validate(JOB | {"created_at": printed})
    assert (datetime(2026, 1, 1, tzinfo=UTC), UTC) == (job.created_at, job.created_at.tzinfo)


def test_a_job_is_stored_under_either_name() -> None:
    """A job reads back from what it was dumped to, by the API's name or by this package's."""
    job = Job.model_validate(JOB)
    assert "s1" == job.schema_id
    assert job == Job.model_validate_json(job.model_dump_json())
    assert job == Job.model_validate_json(job.model_dump_json(by_alias=True))


def test_an_update_knows_its_fields() -> None:
    """PostHog ignores a setting it does not know and answers 200: a typo is refused here."""
    with pytest.raises(ValidationError):
        SchemaUpdate.model_validate({"sync_freqency": SyncFrequency.ONE_DAY})
