"""Whether and how a table can be synced."""

from typing import Any

import pytest

from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.classify import SchemaClass, classify, why_not_synced


@pytest.mark.parametrize(
    ("traits", "access", "expected"),
    [
        ({}, AccessMethod.WAREHOUSE, SchemaClass.SYNCABLE),
        ({"sync_type": "a_new_one"}, AccessMethod.WAREHOUSE, SchemaClass.SYNCABLE),
        ({}, AccessMethod.DIRECT, SchemaClass.EXTERNAL),
        ({"sync_type": "cdc"}, AccessMethod.WAREHOUSE, SchemaClass.OBSERVE_ONLY),
        ({"sync_type": "cdc", "should_sync": False}, AccessMethod.WAREHOUSE, SchemaClass.OBSERVE_ONLY),
        ({"sync_type": None, "should_sync": False}, AccessMethod.WAREHOUSE, SchemaClass.DISABLED),
        ({"should_sync": False}, AccessMethod.WAREHOUSE, SchemaClass.DISABLED),
        (
            {"should_sync": False, "status": "Failed", "latest_error": "no such host"},
            AccessMethod.WAREHOUSE,
            SchemaClass.DISABLED_BY_POSTHOG,
        ),
        (
            {"should_sync": False, "incremental_sync_blocked": "duplicate_primary_key"},
            AccessMethod.WAREHOUSE,
            SchemaClass.DISABLED_BY_POSTHOG,
        ),
        (
            {"should_sync": False, "status": "Failed", "latest_error": "Sync cancelled by user"},
            AccessMethod.WAREHOUSE,
            SchemaClass.DISABLED,
        ),
    ],
)
def test_a_table_is_classified_from_its_record_alone(
    traits: dict[str, Any], access: AccessMethod, expected: SchemaClass
) -> None:
    """Where no job is known, the table's own status and error say who disabled it."""
    schema = Schema.model_validate(
        {"id": "t", "name": "users", "should_sync": True, "sync_type": "incremental"} | traits
    )

    assert expected is classify(schema, access_method=access)
    assert (expected is SchemaClass.SYNCABLE) is (expected.reason == "")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("missing_primary_key", "the table has none. Set its primary_key_columns"),
        ("duplicate_primary_key", "several rows of the source have the same one"),
        ("a_new_one", SchemaClass.DISABLED_BY_POSTHOG.reason),
        (None, SchemaClass.DISABLED.reason),
    ],
)
def test_the_cause_of_a_disabled_table_has_its_own_cure(block: str | None, said: str) -> None:
    """Where PostHog records why it disabled a table, the reason says what to do about that."""
    schema = Schema.model_validate(
        {"id": "t", "name": "users", "sync_type": "incremental", "incremental_sync_blocked": block}
    )
    assert said in why_not_synced(schema, classify(schema, access_method=AccessMethod.WAREHOUSE))
