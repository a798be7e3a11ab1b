"""When the state differs from the warehouse, and how it is reported."""

import json
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, time

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster_duckdb import DuckDBResource
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.assets.spec import sync_history_key
from dw_orchestration.history.asset import build_sync_history
from dw_orchestration.local.server import WarehouseServer
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import SyncFrequency, SyncStatus, SyncType
from dw_orchestration.posthog.models import Schema, SchemaUpdate, Source
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.sensors.drift import STATE_IS_CURRENT, build_drift_check, build_drift_sensor
from dw_orchestration.tables.drift import ChangeKind, drift_between, tables_to_come
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

RESOURCE = "posthog_warehouse"
HISTORY = "posthog_sync_history"


def table(own_id: str = "1", **settings: object) -> Schema:
    """A table that PostHog syncs every six hours from 01:11, unless said otherwise."""
    defaults = {
        "id": own_id,
        "name": f"table{own_id}",
        "should_sync": True,
        "sync_type": "full_refresh",
        "sync_frequency": "6hour",
        "sync_time_of_day": time(7, 11),
    }
    return Schema.model_validate(defaults | settings)


def snapshot(*schemas: Schema, source_id: str = "s", prefix: str | None = "shop") -> WarehouseSnapshot:
    """A state of one Postgres source with these tables."""
    source = SourceSnapshot(
        id=source_id,
        source_type="Postgres",
        prefix=prefix,
        description=None,
        access_method="warehouse",
        upstream="db",
        schemas=schemas,
    )
    return WarehouseSnapshot(
        taken_at=datetime(2026, 11, 3, tzinfo=UTC), host="https://eu.posthog.com", project_id="1", sources=(source,)
    )


FAILED = {"should_sync": False, "status": "Failed", "latest_error": "password authentication failed"}
CANCELLED = {"should_sync": False, "status": "Failed", "latest_error": "Sync cancelled by user"}


def tables(*schemas: Schema, **source: str) -> Tables:
    """All tables of a source of these schemas."""
    return tables_of(snapshot(*schemas, **source))


def tables_of(state: WarehouseSnapshot) -> Tables:
    """All tables of a state, without the warnings about equal keys."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Tables(state, include_disabled=True)


CHANGES = {
    "a new table": ([], [table()], ["added"]),
    "a table that is gone": ([table()], [], ["removed"]),
    "another name": ([table(name="a")], [table(name="b")], ["renamed: a → b"]),
    "turned off": ([table()], [table(should_sync=False)], ["disabled by a user"]),
    "turned off after it was cancelled": ([table()], [table(**CANCELLED)], ["disabled by a user"]),
    "turned off after it failed": ([table()], [table(**FAILED)], ["disabled by PostHog"]),
    "failed once more after a user had turned it off": (
        [table(should_sync=False)],
        [table(**FAILED)],
        ["disabled by PostHog"],
    ),
    "turned on": ([table(**FAILED)], [table()], ["enabled"]),
    "another frequency": (
        [table()],
        [table(sync_frequency="24hour")],
        ["synced at other times: every 6 hours from 01:11 UTC → every day at 07:11 UTC"],
    ),
    "another time of day": (
        [table()],
        [table(sync_time_of_day=time(8, 30))],
        ["synced at other times: every 6 hours from 01:11 UTC → every 6 hours from 02:30 UTC"],
    ),
    "another time of day with the same ticks": ([table()], [table(sync_time_of_day=time(13, 11))], []),
    "a frequency that nobody knows": (
        [table()],
        [table(sync_frequency="fortnightly")],
        ["synced at other times: every 6 hours from 01:11 UTC → fortnightly"],
    ),
    "other times while it is off": (
        [table(should_sync=False)],
        [table(should_sync=False, sync_frequency="7day")],
        [],
    ),
    "another sync type": (
        [table()],
        [table(sync_type="incremental")],
        ["synced in another way: full_refresh → incremental"],
    ),
    "a first sync type": (
        [table(sync_type=None)],
        [table(sync_type="append")],
        ["synced in another way: not chosen → append"],
    ),
    "several at once": (
        [table(), table("2")],
        [table(**FAILED, sync_type="append"), table("3")],
        ["added", "removed", "disabled by PostHog", "synced in another way: full_refresh → append"],
    ),
    "another label, error or incremental field": (
        [table()],
        [table(label="New", latest_error="?", incremental_field="id")],
        [],
    ),
}


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_drift_is_what_changes_the_definitions(before, after, expected) -> None:
    """Each change is named once, with what was and what is; what changes no definition is no drift."""
    drift = drift_between(tables(*before), tables(*after))

    said = [
        f"{change.kind}: {change.before} → {change.after}" if change.before else str(change.kind)
        for change in drift.changes
    ]
    assert expected == said
    assert drift.is_empty is (not expected)


def test_change_names_table_and_source() -> None:
    """A reader finds the table without looking up ids."""
    drift = drift_between(tables(), tables(table(), table("2")))

    assert "Tables: 2 added." == drift.summary()
    assert "**Added (2)**\n\n- `table1` of Postgres (shop)\n- `table2` of Postgres (shop)" == drift.describe()


def test_same_name_in_another_source_is_another_table() -> None:
    """The id identifies a table: a source that was created again has new tables."""
    drift = drift_between(tables(table("1", name="orders")), tables(table("2", name="orders"), source_id="t"))

    assert [ChangeKind.ADDED, ChangeKind.REMOVED] == [change.kind for change in drift.changes]


def test_tables_that_posthog_will_enable_by_itself_are_told() -> None:
    """A source may let PostHog enable tables that nobody has seen yet: the check reports it."""
    record = Source(id="s", source_type="Postgres", prefix="shop", auto_sync_new_schemas=True, schemas=())
    some = record.model_copy(update={"auto_sync_schema_patterns": ("raw_*", "logs")})
    off = record.model_copy(update={"auto_sync_new_schemas": False, "auto_sync_schema_patterns": ("x",)})
    all_of, some_of, none_of = (SourceSnapshot.of(each, schemas=()) for each in (record, some, off))

    assert "PostHog will enable new tables of Postgres (shop)." == tables_to_come([all_of])
    assert "PostHog will enable new tables of Postgres (shop) that match `raw_*`, `logs`." == tables_to_come([some_of])
    assert "" == tables_to_come([none_of])


def test_long_drift_is_counted() -> None:
    """A project that gained a thousand tables does not fill the event log with their names."""
    drift = drift_between(tables(), tables(*(table(str(number)) for number in range(1000))))

    assert drift.describe().endswith("- … and 980 more")
    assert len(drift.describe().splitlines()) == 2 + 20 + 1


SCHEMAS = st.builds(
    Schema,
    id=st.sampled_from(["1", "2", "3", "4"]),
    name=st.sampled_from(["orders", "customers", ""]),
    should_sync=st.booleans(),
    status=st.none() | st.sampled_from(SyncStatus),
    latest_error=st.none() | st.sampled_from(["Sync cancelled by user", "no such host"]),
    sync_type=st.none() | st.sampled_from(SyncType),
    sync_frequency=st.none() | st.sampled_from(SyncFrequency),
    sync_time_of_day=st.none() | st.times().map(lambda moment: moment.replace(microsecond=0)),
)
STATES = st.lists(SCHEMAS, unique_by=lambda schema: schema.id).map(lambda schemas: tables(*schemas))


@given(state=STATES)
def test_nothing_drifts_from_itself(state) -> None:
    """A state never drifts from itself."""
    assert drift_between(state, tables_of(state.snapshot.model_copy(deep=True))).is_empty


@given(one=STATES, other=STATES)
def test_way_back_undoes_the_way(one, other) -> None:
    """What is added on one way is removed on the other, and as many settings change."""
    there, back = drift_between(one, other), drift_between(other, one)

    added, removed = (
        {change.schema_id for change in there.of(kind)} for kind in (ChangeKind.ADDED, ChangeKind.REMOVED)
    )
    assert removed == {change.schema_id for change in back.of(ChangeKind.ADDED)}
    assert added == {change.schema_id for change in back.of(ChangeKind.REMOVED)}
    for kind in (ChangeKind.RENAMED, ChangeKind.CADENCE, ChangeKind.SYNC_TYPE):
        swapped = {(change.schema_id, change.after, change.before) for change in back.of(kind)}
        assert swapped == {(change.schema_id, change.before, change.after) for change in there.of(kind)}
    assert len(there.changes) == len(back.changes)


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[PostHogWarehouseResource, PostHogWarehouseClient, dict[str, str]]]:
    """A running warehouse with two tables of a Stripe source: its resource, a client, and their ids."""
    folder = tmp_path / "fixtures" / "Stripe"
    folder.mkdir(parents=True)
    for name in ("invoices", "customers"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"id": 1}) + "\n")
    embedded = WarehouseServer(tmp_path / "home", fixtures=folder.parent, poll_every_s=None)
    endpoint = embedded.start()
    with closing(PostHogWarehouseClient(endpoint.host, 1, endpoint.api_key, rate_limits=None)) as client:
        schemas = [{"name": name, "sync_type": "full_refresh"} for name in ("invoices", "customers")]
        source_id = client.create_source("Stripe", {"schemas": schemas}, prefix="main")
        ids = {schema.name: schema.id for schema in client.get_source(source_id).schemas}
        resource = PostHogWarehouseResource(
            host=endpoint.host, project_id="1", api_key=endpoint.api_key, requests_per_minute=0
        )
        yield resource, client, ids
    embedded.stop()


def tick_of(
    sensor: dg.SensorDefinition, resource: PostHogWarehouseResource, *, cursor: str | None = None
) -> SensorExecutionData:
    """One tick of the sensor."""
    with dg.build_sensor_context(cursor=cursor, resources={RESOURCE: resource}) as context:
        return sensor.evaluate_tick(context)


def test_sensor_says_only_what_is_new(served) -> None:
    """One evaluation when the answer changes, none while it stays, and one when all is well again."""
    resource, client, ids = served
    state = resource.take_snapshot()
    sensor = build_drift_sensor(Tables(state, include_disabled=True))

    first = tick_of(sensor, resource)
    again = tick_of(sensor, resource, cursor=first.cursor)
    client.update_schema(
        ids["invoices"],
        SchemaUpdate(sync_type=SyncType.APPEND, incremental_field="id", incremental_field_type="integer"),
    )
    drifted = tick_of(sensor, resource, cursor=again.cursor)
    still = tick_of(sensor, resource, cursor=drifted.cursor)
    refreshed = tick_of(
        build_drift_sensor(Tables(resource.take_snapshot(), include_disabled=True)), resource, cursor=still.cursor
    )

    assert [1, 0, 1, 0, 1] == [len(tick.asset_events) for tick in (first, again, drifted, still, refreshed)]
    assert [True, False, True] == [tick.asset_events[0].passed for tick in (first, drifted, refreshed)]
    (evaluation,) = drifted.asset_events
    assert sync_history_key() == evaluation.asset_key
    assert (STATE_IS_CURRENT, dg.AssetCheckSeverity.WARN) == (evaluation.check_name, evaluation.severity)
    assert evaluation.description.startswith("Tables: 1 synced in another way. Refresh the state")
    assert "- `invoices` of Stripe (main): full_refresh → append" in evaluation.metadata["drift"].value


def test_sensor_says_again_what_came_on_top(served) -> None:
    """A second change is another answer than the first alone."""
    resource, client, ids = served
    sensor = build_drift_sensor(Tables(resource.take_snapshot(), include_disabled=True))
    client.delete_schema(ids["invoices"])
    first = tick_of(sensor, resource)
    client.delete_schema(ids["customers"])

    second = tick_of(sensor, resource, cursor=first.cursor)

    assert [1, 2] == [tick.asset_events[0].metadata["changes"].value for tick in (first, second)]


def test_check_answers_when_it_is_asked(served, tmp_path) -> None:
    """Materializing the sync history runs the check, which warns and does not fail the run."""
    resource, client, ids = served
    state = resource.take_snapshot()
    client.delete_schema(ids["customers"])
    resources = {RESOURCE: resource, HISTORY: DuckDBResource(database=str(tmp_path / "history.duckdb"))}

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [
                build_sync_history(Tables(state, include_disabled=True)),
                build_drift_check(Tables(state, include_disabled=True)),
            ],
            instance=instance,
            resources=resources,
        )

    assert result.success
    (evaluation,) = (each for each in result.get_asset_check_evaluations() if each.check_name == STATE_IS_CURRENT)
    assert (False, dg.AssetCheckSeverity.WARN) == (evaluation.passed, evaluation.severity)
    assert evaluation.description.startswith("Tables: 1 removed.")


def test_sensor_and_check_stand_in_one_code_location(served) -> None:
    """The sensor evaluates the check that the code location defines, so that its page shows both."""
    resource, _, _ = served
    state = resource.take_snapshot()
    check = build_drift_check(Tables(state, include_disabled=True, resource_key="eu_project"))
    defs = dg.Definitions(
        assets=[build_sync_history(Tables(state, include_disabled=True, resource_key="eu_project"))],
        asset_checks=[check],
        sensors=[build_drift_sensor(Tables(state, include_disabled=True, resource_key="eu_project"))],
        resources={"eu_project": resource, HISTORY: DuckDBResource(database="unused.duckdb")},
    )

    sensor = defs.resolve_sensor_def("eu_project_drift")
    with dg.build_sensor_context(resources={"eu_project": resource}) as context:
        (evaluation,) = sensor.evaluate_tick(context).asset_events

    assert 3600 == sensor.minimum_interval_seconds
    assert {evaluation.asset_check_key} == check.check_keys
    assert evaluation.asset_check_key in defs.resolve_asset_graph().asset_check_keys
