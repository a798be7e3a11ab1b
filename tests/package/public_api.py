"""A user's project in one module, which uses every public name; `test_types.py` lets a type checker read it.

What has to be an error carries its `ignore`: an ignore that is not needed is an error as well, so that none of the
names can turn into `Any` unseen.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import assert_type

import dagster as dg

import dw_orchestration
from dw_orchestration import (
    LocalWarehouse,
    PostHogSyncConfig,
    PostHogTranslator,
    PostHogWarehouseClient,
    PostHogWarehouseComponent,
    PostHogWarehouseResource,
    ScheduleOverride,
    SchedulingMode,
    SyncMetadata,
    Table,
    TableMetadata,
    WarehouseResource,
    WarehouseSnapshot,
    asset_key_for,
    build_posthog_definitions,
    errors,
    load_posthog_asset_specs,
    posthog_assets,
    testing,
)
from dw_orchestration.testing import AddedSource, EmbeddedWarehouse, TableBehaviour, WarehouseBehaviour

assert_type(dw_orchestration.__version__, str)

PROJECT = PostHogWarehouseResource(project_id="1", api_key="phx_...", host="https://eu.posthog.com")
EMBEDDED = LocalWarehouse(home=".dw_orchestration", shop=False)
WEEKDAYS = ScheduleOverride(tables=["stripe.*"], cron="30 7 * * mon-fri", timezone="Europe/Berlin")

PostHogWarehouseResource(project_id=1, api_key="phx_...")  # type: ignore[arg-type]
PostHogWarehouseResource(projectid="1", api_key="phx_...")  # type: ignore[call-arg]
LocalWarehouse(home=".dw_orchestration", shop="yes")  # type: ignore[arg-type]
ScheduleOverride(tables=["stripe.*"], timezone="Europe/Berlin")  # type: ignore[call-arg]


class OurWarehouse(PostHogWarehouseComponent):
    """A component that decides in Python."""

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec with the owners of its source."""
        assert_type(table.schema.name, str)
        return super().get_asset_spec(table).merge_attributes(owners=["team:data"])


def component(state_file: Path) -> PostHogWarehouseComponent:
    """The component from Python."""
    PostHogWarehouseComponent(warehouse="posthog")  # type: ignore[arg-type]
    PostHogWarehouseComponent(warehouse=PROJECT, select=[owners])  # type: ignore[list-item]
    PostHogWarehouseComponent(warehouse=PROJECT, step_per="tables")  # type: ignore[arg-type]
    return OurWarehouse(
        warehouse=PROJECT,
        select=["stripe.*", is_incremental],
        exclude=[lambda table: not table.schema.should_sync],
        scheduling=SchedulingMode.ENSURE,
        overrides=[WEEKDAYS],
        retry_policy=dg.RetryPolicy(max_retries=2),
        sync={"start_timeout_s": 900},
        step_per="project",
        state_file=state_file,
    )


def owners(table: Table) -> Sequence[str]:
    """No selector: it returns something else than a bool."""
    return [table.name]


def is_incremental(table: Table) -> bool:
    """Whether PostHog asks the source for new rows alone."""
    return table.schema.incremental_field is not None


class Ours(PostHogTranslator):
    """A translator that leaves the tables at the sources out."""

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset."""
        return assert_type(super().get_asset_spec(table), dg.AssetSpec).replace_attributes(group_name="ingest")

    def get_upstream_spec(self, table: Table) -> dg.AssetSpec | None:
        """No spec."""
        assert_type(super().get_upstream_spec(table), dg.AssetSpec | None)
        return None


@posthog_assets(EMBEDDED, select=["stripe.*"], translator=Ours(), sync=PostHogSyncConfig(start_timeout_s=900))
def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[object]:
    """A step that does something before and after its syncs."""
    yield from posthog_warehouse.sync(context)
    posthog_warehouse.sync("stripe.Charge")  # type: ignore[arg-type]


def definitions(snapshot: WarehouseSnapshot, path: Path) -> dg.Definitions:
    """The definitions without the component."""
    assert_type(snapshot.taken_at, datetime)
    build_posthog_definitions(PROJECT, step_per="schema")  # type: ignore[arg-type]
    build_posthog_definitions(snapshot)  # type: ignore[arg-type]
    assert_type(build_posthog_definitions(PROJECT, state=snapshot), dg.Definitions)
    assert_type(load_posthog_asset_specs(PROJECT, select=[is_incremental], state=path), list[dg.AssetSpec])
    return build_posthog_definitions(
        PROJECT,
        select=["stripe.*", is_incremental],
        exclude=[lambda table: bool(table.url)],
        translator=Ours(),
        assets=[assert_type(stripe, dg.AssetsDefinition), charges],
        scheduling=SchedulingMode.DRIVE,
        overrides=[WEEKDAYS],
        sync=PostHogSyncConfig(start_timeout_s=900),
        history_database="md:warehouse",
    )


def rows_a_second(spec: dg.AssetSpec, event: dg.AssetMaterialization) -> str:
    """What a table's spec and one of its events say, with types."""
    assert_type(TableMetadata.of(spec.metadata).cadence, str)
    sync = assert_type(SyncMetadata.of(event.metadata), SyncMetadata)
    assert_type(sync.synced_as_of, datetime | None)
    assert_type(sync.column_schema, dg.TableSchema | None)
    return f"{sync.rows_synced / sync.duration_s:.1f}" if sync.rows_synced and sync.duration_s else "unknown"


@dg.asset(deps=[assert_type(asset_key_for("acme.Charge", EMBEDDED), dg.AssetKey)])
def charges(posthog_warehouse: WarehouseResource) -> None:
    """The rows of a table, which the warehouses have in the same way."""
    posthog_warehouse.query("select {n} from {table}", table=dg.AssetKey("charge"), values={"n": 1})
    for _ in posthog_warehouse.in_batches("select * from {a}", tables={"a": ["posthog", "charge"]}, key="id"):
        pass
    posthog_warehouse.query("select 1", to="excel")  # type: ignore[call-overload]
    posthog_warehouse.in_batches("select 1")  # type: ignore[call-overload]


def failed_tables(resource: PostHogWarehouseResource | LocalWarehouse) -> Sequence[str]:
    """The tables whose last sync failed, by the client alone."""
    found = []
    with assert_type(resource.client(), PostHogWarehouseClient) as client:
        for source in client.list_sources():
            for job in client.list_jobs(source.id):
                assert_type(job.rows_synced, int | None)
                if job.latest_error is not None:
                    found.append(job.table.name)
            client.get_source(source)  # type: ignore[arg-type]
    return found


def synced_rows(warehouse: WarehouseResource) -> int:
    """How many rows are synced now."""
    return sum(job.rows_synced or 0 for job in warehouse.sync_and_wait("acme.Charge", "acme.Customer"))


def why_not(resource: PostHogWarehouseResource) -> str:
    """What is wrong with the connection, in the error's own words."""
    try:
        resource.take_snapshot()
    except errors.RateLimitedError as error:
        return f"Ask again in {assert_type(error.retry_after_s, float | None)} s."
    except (errors.PostHogError, errors.SetupError, errors.SnapshotError) as error:
        return str(error)
    return "nothing"


def test_a_failed_sync(embedded_warehouse: EmbeddedWarehouse) -> None:
    """A test with pytest's fixture."""
    charges = {"Charge": [{"id": 1, "amount": 5}]}
    assert_type(embedded_warehouse.add_source("Stripe", prefix="acme", tables=charges), AddedSource)
    for behaviour in TABLE_BEHAVIOURS:
        embedded_warehouse.behave("Charge", assert_type(behaviour | testing.runs_for(2), TableBehaviour))
    for answer in ANSWERS:
        embedded_warehouse.answer(assert_type(answer, WarehouseBehaviour))
    embedded_warehouse.behave("Charge", testing.throttled())  # type: ignore[arg-type]
    embedded_warehouse.answer(testing.fails("Stripe is down"))  # type: ignore[arg-type]
    assert embedded_warehouse.sync("Charge").latest_error == "Stripe is down"
    assert embedded_warehouse.resource.database.exists()


TABLE_BEHAVIOURS = [
    testing.billing_limit(),
    testing.billing_limit_too_low(),
    testing.fails("Stripe is down", permanent=True, times=1),
    testing.fails_to_save(),
    testing.has_two_jobs(),
    testing.is_not_billed(),
    testing.job_appears_after(2),
    testing.loses_triggers(),
    testing.never_ends(),
    testing.never_starts(),
    testing.runs_for(2),
    testing.shows_status("Snoozing"),
    testing.splits(),
]
ANSWERS = [
    testing.broken(),
    testing.down(2),
    testing.loses_answers(),
    testing.throttled(2, retry_after_s=1),
    testing.unavailable(),
]
