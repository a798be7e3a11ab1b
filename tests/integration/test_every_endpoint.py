"""Each documented endpoint through the client, over HTTP: what it does, and how it fails."""

from datetime import time

import psycopg
import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.enums import CancelOutcome, JobStatus, SyncFrequency, SyncType
from dw_orchestration.posthog.models import Job, SchemaUpdate

NOBODY = "00000000-0000-0000-0000-000000000000"
EVERY_CALL_ON_ONE_THING = {
    "get_schema": lambda client: client.get_schema(NOBODY),
    "update_schema": lambda client: client.update_schema(NOBODY, SchemaUpdate(should_sync=False)),
    "delete_schema": lambda client: client.delete_schema(NOBODY),
    "cancel_schema": lambda client: client.cancel_schema(NOBODY),
    "delete_schema_data": lambda client: client.delete_schema_data(NOBODY),
    "get_incremental_fields": lambda client: client.get_incremental_fields(NOBODY),
    "reload_schema": lambda client: client.reload_schema(NOBODY),
    "resync_schema": lambda client: client.resync_schema(NOBODY),
    "get_source": lambda client: client.get_source(NOBODY),
    "update_source": lambda client: client.update_source(NOBODY, description="x"),
    "delete_source": lambda client: client.delete_source(NOBODY),
    "bulk_update_schemas": lambda client: client.bulk_update_schemas(NOBODY, {NOBODY: SchemaUpdate(should_sync=False)}),
    "create_webhook": lambda client: client.create_webhook(NOBODY),
    "delete_webhook": lambda client: client.delete_webhook(NOBODY),
    "list_jobs": lambda client: list(client.list_jobs(NOBODY)),
    "refresh_schemas": lambda client: client.refresh_schemas(NOBODY),
}
EVERY_CALL = EVERY_CALL_ON_ONE_THING | {
    "list_sources": lambda client: list(client.list_sources()),
    "create_source": lambda client: client.create_source("Stripe", {"schemas": []}),
}
READS = {"get_schema", "get_source", "list_jobs", "list_sources"}


@pytest.mark.parametrize("call", EVERY_CALL_ON_ONE_THING)
def test_unknown_id_is_not_found(warehouse, call) -> None:
    """Each request for something that does not exist is a NotFoundError."""
    with pytest.raises(errors.NotFoundError):
        EVERY_CALL_ON_ONE_THING[call](warehouse.client)


def test_three_wrong_set_ups_are_told_apart_for_every_call(warehouse) -> None:
    """A wrong key, an unknown project and a key without the scope each have an error class, for each call."""
    wrong_key = warehouse.client_with(api_key="phx_wrong")
    wrong_project = warehouse.client_with(project_id="404")
    read_only = warehouse.client_with(api_key=warehouse.key("external_data_source:read"))
    with wrong_key, wrong_project, read_only:
        for name, call in EVERY_CALL.items():
            with pytest.raises(errors.AuthenticationError):
                call(wrong_key)
            with pytest.raises(errors.ProjectNotFoundError):
                call(wrong_project)
            if name not in READS:
                with pytest.raises(errors.MissingScopeError, match="external_data_source:write"):
                    call(read_only)


def test_get_schema_shows_the_synced_table(warehouse) -> None:
    """A schema has its settings, and after a sync its table."""
    schema = warehouse.client.get_schema(warehouse.schema_id("orders"))

    assert (SyncType.INCREMENTAL, "updated_at", 10) == (
        schema.sync_type,
        schema.incremental_field,
        schema.table.row_count,
    )


def test_update_schema_changes_what_is_given(warehouse) -> None:
    """Settings that are named change, others stay."""
    change = SchemaUpdate(sync_frequency=SyncFrequency.ONE_HOUR, sync_time_of_day=time(7, 11))

    updated = warehouse.client.update_schema(warehouse.schema_id("orders"), change)

    assert (SyncFrequency.ONE_HOUR, time(7, 11), "updated_at") == (
        updated.sync_frequency,
        updated.sync_time_of_day,
        updated.incremental_field,
    )


def test_update_schema_refuses_to_enable_what_was_never_set_up(warehouse) -> None:
    """A table without a sync type cannot be enabled; the error names the cure in PostHog's words."""
    with pytest.raises(errors.BadRequestError, match="Sync type must be set up first"):
        warehouse.client.update_schema(warehouse.schema_id("spare"), SchemaUpdate(should_sync=True))


def test_delete_schema_removes_it(warehouse) -> None:
    """A deleted schema is not found any more."""
    schema_id = warehouse.schema_id("visits")

    warehouse.client.delete_schema(schema_id)

    with pytest.raises(errors.NotFoundError):
        warehouse.client.get_schema(schema_id)


def test_reload_brings_new_rows_as_a_new_job(warehouse, postgres_database, wait_until) -> None:
    """A reload makes one job, which imports the new rows."""
    with psycopg.connect(postgres_database.dsn, autocommit=True) as connection:
        connection.execute("insert into orders values (11, 11, '2026-02-01Z')")

    accepted_at = warehouse.client.reload_schema(warehouse.schema_id("orders"))
    warehouse.settle(wait_until)

    newest = next(warehouse.client.list_jobs(warehouse.source_id, schemas=["orders"]))
    assert JobStatus.COMPLETED is newest.status
    assert accepted_at is not None
    assert 11 == warehouse.client.get_schema(warehouse.schema_id("orders")).table.row_count


def test_resync_brings_everything_again(warehouse, wait_until) -> None:
    """A resync's job has all rows, not only the new ones."""
    warehouse.client.resync_schema(warehouse.schema_id("orders"))
    warehouse.settle(wait_until)

    assert 10 == next(warehouse.client.list_jobs(warehouse.source_id, schemas=["orders"])).rows_synced


def test_cancel_ends_the_running_sync(warehouse, postgres_database) -> None:
    """A cancelled sync has failed, with a text about the cancellation."""
    with psycopg.connect(postgres_database.dsn) as connection:
        connection.execute("lock table visits in access exclusive mode")
        warehouse.client.reload_schema(warehouse.schema_id("visits"))
        _first_running(warehouse, "visits")

        outcome = warehouse.client.cancel_schema(warehouse.schema_id("visits"))

    newest = next(warehouse.client.list_jobs(warehouse.source_id, schemas=["visits"]))
    assert (CancelOutcome.REQUESTED, JobStatus.FAILED) == (outcome, newest.status)
    assert "cancelled" in newest.latest_error.lower()


def test_cancel_without_a_running_sync_is_no_error(warehouse) -> None:
    """What has ended already need not be cancelled."""
    assert CancelOutcome.NOTHING_RUNNING is warehouse.client.cancel_schema(warehouse.schema_id("orders"))


def test_delete_schema_data_drops_the_table(warehouse) -> None:
    """The rows are gone, the settings stay."""
    schema_id = warehouse.schema_id("orders")

    warehouse.client.delete_schema_data(schema_id)

    schema = warehouse.client.get_schema(schema_id)
    assert (None, None, SyncType.INCREMENTAL) == (schema.table, schema.last_synced_at, schema.sync_type)


def test_incremental_fields_come_from_the_source(warehouse) -> None:
    """The candidates are columns of the table, the key is the table's own."""
    found = warehouse.client.get_incremental_fields(warehouse.schema_id("orders"))

    assert {"id", "updated_at"} == {field.field for field in found.incremental_fields}
    assert ("id",) == found.detected_primary_keys


def test_incremental_fields_of_an_unreachable_source_are_refused(warehouse, postgres_database) -> None:
    """The source is asked live; what it answers is in the error."""
    with psycopg.connect(postgres_database.dsn, autocommit=True) as connection:
        connection.execute("drop table orders")

    with pytest.raises(errors.BadRequestError, match="orders"):
        warehouse.client.get_incremental_fields(warehouse.schema_id("orders"))


def test_list_sources_shows_every_source(warehouse) -> None:
    """Each source, with its schemas."""
    other = warehouse.client.create_source("Stripe", {"stripe_secret_key": "sk_test_1"})

    assert {other, warehouse.source_id} == {source.id for source in warehouse.client.list_sources(page_size=1)}


def test_list_schemas_shows_every_schema_with_its_settings(warehouse) -> None:
    """All schemas in few calls, which the list of sources shows without their settings."""
    frequencies = {schema.name: schema.sync_frequency for schema in warehouse.client.list_schemas()}

    assert dict.fromkeys(["orders", "spare", "visits"], SyncFrequency.SIX_HOURS) == frequencies


def test_create_source_of_files(warehouse) -> None:
    """Any other source type is made, and served from files."""
    source_id = warehouse.client.create_source("Stripe", {"stripe_secret_key": "sk_test_1"})

    assert ["Customer"] == [schema.name for schema in warehouse.client.get_source(source_id).schemas]


def test_create_source_with_wrong_credentials_is_refused(warehouse) -> None:
    """Credentials are tried at once, and the error does not repeat them."""
    wrong = warehouse.connection_fields | {"password": "guess-1234"}

    with pytest.raises(errors.BadRequestError) as refused:
        warehouse.client.create_source("Postgres", wrong, prefix="other")

    assert "guess-1234" not in str(refused.value)


def test_get_source_holds_no_secret(warehouse) -> None:
    """What comes back of the connection settings lacks the password."""
    source = warehouse.client.get_source(warehouse.source_id)

    assert warehouse.connection_fields["password"] not in source.model_dump_json()


def test_update_source_changes_its_description(warehouse) -> None:
    """The description is the user's to change."""
    assert "new" == warehouse.client.update_source(warehouse.source_id, description="new").description


def test_update_source_tries_new_credentials(warehouse) -> None:
    """New connection settings that do not work are refused, and the old ones stay."""
    with pytest.raises(errors.BadRequestError):
        warehouse.client.update_source(warehouse.source_id, job_inputs={"password": "guess-1234"})


def test_delete_source_removes_it_and_its_schemas(warehouse) -> None:
    """Nothing of a deleted source is found any more."""
    schema_id = warehouse.schema_id("orders")

    warehouse.client.delete_source(warehouse.source_id)

    for find in (
        lambda: warehouse.client.get_source(warehouse.source_id),
        lambda: warehouse.client.get_schema(schema_id),
    ):
        with pytest.raises(errors.NotFoundError):
            find()


def test_bulk_update_changes_several_tables(warehouse) -> None:
    """Several tables in one call."""
    ids = [warehouse.schema_id(name) for name in ("orders", "visits")]
    change = SchemaUpdate(sync_frequency=SyncFrequency.ONE_DAY)

    changed = warehouse.client.bulk_update_schemas(warehouse.source_id, dict.fromkeys(ids, change))

    assert dict.fromkeys(ids, SyncFrequency.ONE_DAY) == {schema.id: schema.sync_frequency for schema in changed}


def test_bulk_update_refuses_tables_of_another_source(warehouse) -> None:
    """A table that is not the source's is an error, not silence."""
    with pytest.raises(errors.BadRequestError, match="could not be found"):
        warehouse.client.bulk_update_schemas(warehouse.source_id, {NOBODY: SchemaUpdate(should_sync=False)})


@pytest.mark.parametrize("call", ["create_webhook", "delete_webhook"])
def test_source_without_webhooks_refuses_them(warehouse, call) -> None:
    """A source type that does not push is an error with that reason."""
    with pytest.raises(errors.BadRequestError, match="webhook"):
        getattr(warehouse.client, call)(warehouse.source_id)


def test_list_jobs_shows_each_sync(warehouse) -> None:
    """The first syncs began with the source; disabled tables have none."""
    jobs = list(warehouse.client.list_jobs(warehouse.source_id))

    assert ["orders", "visits"] == sorted(job.table.name for job in jobs)
    assert {JobStatus.COMPLETED} == {job.status for job in jobs}


def test_refresh_schemas_finds_new_tables(warehouse, postgres_database) -> None:
    """A table that came after the source was made is found, disabled."""
    with psycopg.connect(postgres_database.dsn, autocommit=True) as connection:
        connection.execute("create table later (id int primary key)")

    assert 1 == warehouse.client.refresh_schemas(warehouse.source_id).added
    assert not warehouse.client.get_schema(warehouse.schema_id("later")).should_sync


def _first_running(warehouse, name: str) -> Job:
    while True:
        job = next(warehouse.client.list_jobs(warehouse.source_id, schemas=[name]))
        if job.status is JobStatus.RUNNING:
            return job
