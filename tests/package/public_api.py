"""A user's project in one module, which uses every public name; `test_types.py` lets a type checker read it.

What has to be an error carries its `ignore`: an ignore that is not needed is an error as well, so that none of the
names can turn into `Any` unseen.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

import dagster as dg

import dw_orchestration
from dw_orchestration import (
    LocalWarehouse,
    PostHogSyncConfig,
    PostHogWarehouseClient,
    PostHogWarehouseComponent,
    PostHogWarehouseResource,
    ScheduleOverride,
    SchedulingMode,
    SyncMetadata,
    Table,
    TableMetadata,
    Tables,
    WarehouseResource,
    WarehouseSnapshot,
    asset_spec,
    build_drift_sensor,
    build_job_status_sensor,
    build_maintenance_jobs,
    build_posthog_assets,
    build_posthog_schedules,
    build_terminated_runs_sensor,
    errors,
    load_state,
)
from dw_orchestration.testing import TableBehaviour, fails, runs_for, throttled
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

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
    PostHogWarehouseComponent(warehouse=PROJECT, select=[ours])  # type: ignore[list-item]
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


def is_incremental(table: Table) -> bool:
    """Whether PostHog asks the source for new rows alone."""
    return table.schema.incremental_field is not None


def ours(table: Table) -> dg.AssetSpec:
    """The spec of a table's asset."""
    return asset_spec(table).replace_attributes(group_name="ingest")


def definitions(snapshot: WarehouseSnapshot) -> dg.Definitions:
    """The definitions without the component."""
    assert_type(snapshot.taken_at, datetime)
    chosen = Tables(
        snapshot,
        select=["stripe.*", is_incremental],
        exclude=[lambda table: bool(table.url)],
        spec_of=ours,
        scheduling=SchedulingMode.DRIVE,
        overrides=[WEEKDAYS],
    )
    assets = build_posthog_assets(chosen, sync_defaults=PostHogSyncConfig(start_timeout_s=900))
    schedules = build_posthog_schedules(chosen)
    Tables(snapshot, step_per="schema")  # type: ignore[arg-type]
    build_posthog_assets(snapshot)  # type: ignore[arg-type]
    return dg.Definitions(
        assets=assets,
        schedules=assert_type(schedules, list[dg.ScheduleDefinition]),
        sensors=[
            assert_type(build_job_status_sensor(chosen, interval=timedelta(minutes=1)), dg.SensorDefinition),
            build_drift_sensor(chosen),
            build_terminated_runs_sensor(chosen),
        ],
        jobs=assert_type(build_maintenance_jobs(chosen), list[dg.JobDefinition]),
        resources={"posthog_warehouse": PROJECT},
    )


def rows_a_second(spec: dg.AssetSpec, event: dg.AssetMaterialization) -> str:
    """What a table's spec and one of its events say, with types."""
    assert_type(TableMetadata.of(spec.metadata).cadence, str)
    sync = assert_type(SyncMetadata.of(event.metadata), SyncMetadata)
    assert_type(sync.synced_as_of, datetime | None)
    assert_type(sync.column_schema, dg.TableSchema | None)
    return f"{sync.rows_synced / sync.duration_s:.1f}" if sync.rows_synced and sync.duration_s else "unknown"


@dg.asset(deps=[["posthog", "stripe", "charge"]])
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


def definitions_of(path: Path) -> dg.Definitions:
    """The definitions from the state in a file."""
    return definitions(assert_type(load_state(PROJECT, path), WarehouseSnapshot))


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
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Charge": [{"id": 1, "amount": 5}]})
    embedded_warehouse.behave("Charge", assert_type(fails("Stripe is down") | runs_for(2), TableBehaviour))
    embedded_warehouse.behave("Charge", throttled())  # type: ignore[arg-type]
    assert embedded_warehouse.sync("Charge").latest_error == "Stripe is down"
    assert embedded_warehouse.resource.database.exists()
