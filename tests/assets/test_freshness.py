"""When Dagster takes a table's rows for late, and what a refresh asks for that."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from builders import snapshot_of, source_of
from dagster._core.definitions.freshness_evaluator import FRESHNESS_EVALUATORS_BY_POLICY_TYPE
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import LoadingContext
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.assets.freshness import LEAST_ALLOWANCE, allowance
from dw_orchestration.assets.metadata import JOB_ID
from dw_orchestration.assets.spec import asset_spec, table_assets
from dw_orchestration.posthog.enums import AccessMethod, SyncFrequency, SyncType
from dw_orchestration.posthog.errors import NotFoundError, PostHogError, Problem, ServerError
from dw_orchestration.posthog.limits import NAMES_PER_REQUEST
from dw_orchestration.posthog.models import Job, Schema, SchemaUpdate
from dw_orchestration.resources.durations import SOURCES_ASKED, STEP, with_usual_durations
from dw_orchestration.resources.state import refresh_state
from dw_orchestration.tables.cadence import Cadence
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

AT = time(7, 11)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def schema(name: str = "orders", **settings: Any) -> Schema:
    """A table that a user has set to be synced daily at 07:11, but for the settings that are given."""
    as_usual: dict[str, Any] = {
        "id": f"id-of-{name}",
        "name": name,
        "should_sync": True,
        "sync_type": SyncType.FULL_REFRESH,
        "sync_frequency": SyncFrequency.ONE_DAY,
        "sync_time_of_day": AT,
    }
    return Schema(**as_usual | settings)


def policy(table: Schema, *, minutes: int | None = None, **source: Any) -> dg.FreshnessPolicy | None:
    """The freshness policy of the only table of a source."""
    usual = {} if minutes is None else {table.name: minutes}
    held = source_of(table).model_copy(update={"usual_minutes": usual} | source)
    (asset,) = table_assets(snapshot_of(held), spec_of=asset_spec)
    return asset.spec.freshness_policy


@pytest.mark.parametrize(
    ("settings", "minutes", "cron", "allowed"),
    [
        pytest.param({}, None, "41 7 * * *", 30, id="unknown_duration"),
        pytest.param({}, 15, "41 7 * * *", 30, id="short"),
        pytest.param({}, 20, "51 7 * * *", 40, id="twice_the_usual"),
        pytest.param({}, 24 * 60, "11 19 * * *", 12 * 60, id="at_most_half_of_the_interval"),
        pytest.param({"sync_time_of_day": time(23, 45)}, 60, "45 1 * * *", 120, id="past_midnight"),
        pytest.param({"sync_time_of_day": time(0)}, None, "30 0 * * *", 30, id="midnight_is_a_time"),
        pytest.param({"sync_frequency": SyncFrequency.SEVEN_DAYS}, None, "41 7 * * 4", 30, id="weekly_on_thursdays"),
        pytest.param(
            {"sync_frequency": SyncFrequency.SEVEN_DAYS, "sync_time_of_day": time(23, 45)},
            60,
            "45 1 * * 5",
            120,
            id="weekly_past_midnight",
        ),
    ],
)
def test_rows_are_due_some_time_after_their_tick(settings, minutes, cron, allowed) -> None:
    """The tick of a daily or weekly table with a time of day must have brought rows when twice the usual has passed."""
    expected = dg.FreshnessPolicy.cron(cron, lower_bound_delta=timedelta(minutes=allowed), timezone="UTC")
    assert expected == policy(schema(**settings), minutes=minutes)


@pytest.mark.parametrize(
    ("settings", "source", "interval"),
    [
        pytest.param({"sync_time_of_day": None}, {}, DAY, id="time_drawn_by_posthog"),
        pytest.param({"sync_frequency": SyncFrequency.SIX_HOURS}, {}, DAY / 4, id="several_times_a_day"),
        pytest.param({"sync_frequency": SyncFrequency.THIRTY_DAYS}, {}, 30 * DAY, id="no_cron_says_it"),
        pytest.param({"sync_type": SyncType.WEBHOOK}, {}, DAY, id="rows_come_by_webhook"),
        pytest.param({}, {"access_method": AccessMethod.DIRECT}, DAY, id="queried_in_place"),
    ],
)
def test_other_rows_are_late_at_twice_the_interval(settings, source, interval) -> None:
    """Where nobody has named a time, or no tick brings the rows, only their age tells."""
    assert dg.FreshnessPolicy.time_window(fail_window=2 * interval) == policy(schema(**settings), **source)


@given(st.sampled_from([DAY, WEEK]), st.integers(0, 3000).map(lambda steps: steps * STEP))
def test_allowance_is_in_whole_steps_and_within_its_limits(every, usual) -> None:
    """Definitions change by five minutes or not at all, and one tick's rows are due well before the next tick."""
    allowed = allowance(Cadence(every), usual=usual)
    assert timedelta() == allowed % STEP
    assert LEAST_ALLOWANCE <= allowed <= every / 2


class Loading(LoadingContext):
    """What Dagster's evaluator reads through."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders: dict = {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict:
        return self._loaders


def state_at(moment: datetime, table: Schema, *, synced: Sequence[datetime]) -> str:
    """What Dagster's own evaluator says at a moment of a table that was synced at others."""
    (asset,) = table_assets(snapshot_of(source_of(table)), spec_of=asset_spec)
    node = dg.Definitions(assets=[asset.spec]).resolve_asset_graph().get(asset.key)
    evaluator = FRESHNESS_EVALUATORS_BY_POLICY_TYPE[type(asset.spec.freshness_policy)]()
    with dg.DagsterInstance.ephemeral() as instance:
        for each in synced:
            with freeze_time(each):
                instance.report_runless_asset_event(dg.AssetMaterialization(asset.key, metadata={JOB_ID: "job"}))
        with freeze_time(moment):
            return asyncio.run(evaluator.evaluate_freshness(Loading(instance), node)).value


@pytest.mark.parametrize(
    ("hour", "minute", "synced_at", "state"),
    [
        pytest.param(7, 40, -16, "PASS", id="before_the_deadline_yesterdays_rows_will_do"),
        pytest.param(7, 42, -16, "FAIL", id="after_it_they_are_late"),
        pytest.param(7, 42, 7.25, "PASS", id="rows_of_the_tick"),
        pytest.param(7, 42, 7.0, "FAIL", id="rows_from_before_the_tick"),
        pytest.param(12, 0, 11.5, "PASS", id="rows_that_came_late"),
        pytest.param(23, 59, 7.25, "PASS", id="until_the_next_deadline"),
    ],
)
def test_dagster_finds_each_days_rows_late_from_the_deadline_on(hour, minute, synced_at, state) -> None:
    """The last tick counts once its deadline has passed, and rows that come late end the lateness."""
    moment = MONDAY + timedelta(hours=hour, minutes=minute)
    assert state == state_at(moment, schema(), synced=[MONDAY + timedelta(hours=synced_at)])


@pytest.mark.parametrize(
    ("moment", "synced", "state"),
    [
        pytest.param(MONDAY + timedelta(days=3, hours=7.5), MONDAY - timedelta(days=3), "PASS", id="thursday_early"),
        pytest.param(MONDAY + timedelta(days=3, hours=7.75), MONDAY - timedelta(days=3), "FAIL", id="thursday_late"),
        pytest.param(MONDAY + timedelta(days=9), MONDAY + timedelta(days=3, hours=7.3), "PASS", id="wednesday_after"),
    ],
)
def test_weekly_rows_are_due_on_thursdays(moment, synced, state) -> None:
    """PostHog counts weeks from a Thursday, whenever the table was set up."""
    weekly = schema(sync_frequency=SyncFrequency.SEVEN_DAYS)
    assert state == state_at(moment, weekly, synced=[synced])


def test_first_day_is_no_lateness() -> None:
    """A table without any sync is unknown; the sync that PostHog runs when it is switched on counts for that day."""
    noon = MONDAY + DAY / 2
    assert "UNKNOWN" == state_at(noon, schema(), synced=[])
    assert "PASS" == state_at(noon, schema(sync_time_of_day=time(23)), synced=[noon - timedelta(minutes=5)])


# --- what a refresh asks ---


class Jobs:
    """The jobs of sources, newest first, and who was asked for them; a source may refuse."""

    def __init__(self, *jobs: Job, errors: dict[str, PostHogError] | None = None) -> None:
        self.jobs = jobs
        self.errors = errors or {}
        self.asked: list[str] = []
        self.names: list[str] = []
        self.given = 0

    def list_jobs(self, source_id: str, *, schemas: Collection[str] = ()) -> Iterator[Job]:
        self.asked.append(source_id)
        self.names += schemas
        if source_id in self.errors:
            raise self.errors[source_id]
        for job in self.jobs:
            if job.table.name in schemas:
                self.given += 1
                yield job


def job(name: str, minutes: float | None, *, status: str = "Completed", number: int = 0) -> Job:
    """A sync of a table that took so long, or goes on."""
    begun = MONDAY - number * DAY
    finished = None if minutes is None else begun + timedelta(minutes=minutes)
    table = {"id": f"id-of-{name}", "name": name}
    found = {"id": f"{name}-{number}", "created_at": begun, "finished_at": finished, "status": status, "schema": table}
    return Job.model_validate(found)


def source(number: int, *tables: Schema, minutes: dict[str, int] | None = None) -> SourceSnapshot:
    """A source with a number."""
    return source_of(*tables, source_id=f"source{number}").model_copy(update={"usual_minutes": minutes or {}})


def minutes_of(snapshot: WarehouseSnapshot) -> dict[str, dict[str, int]]:
    """What a snapshot says of durations, by source."""
    return {each.id: dict(each.usual_minutes) for each in snapshot.sources if each.usual_minutes}


def problem(status: int) -> Problem:
    """An answer that is none."""
    return Problem(status=status, method="GET", path="/jobs/", host="model")


def test_usual_duration_is_the_median_in_whole_steps() -> None:
    """One sync of all rows among the usual ones does not count, nor does one that failed or goes on."""
    minutes = (12, 600, 11, 13, 12)
    jobs = [job("orders", each, number=number) for number, each in enumerate(minutes)]
    others = [job("orders", 1, status="Failed", number=7), job("orders", None, status="Running", number=8)]
    found = with_usual_durations(snapshot_of(source(1, schema())), Jobs(*others, *jobs))
    assert {"source1": {"orders": 15}} == minutes_of(found)


def test_projects_without_times_of_day_cost_no_request() -> None:
    """Only tables that are due at a time are asked about: the others' limit needs no duration."""
    others = (
        schema("six_hourly", sync_frequency=SyncFrequency.SIX_HOURS),
        schema("drawn", sync_time_of_day=None),
        schema("off", should_sync=False),
        schema("pushed", sync_type=SyncType.WEBHOOK),
    )
    api = Jobs()
    before = snapshot_of(source(1, *others))
    assert before == with_usual_durations(before, api)
    assert [] == api.asked


def test_one_page_is_read_of_each_source_that_has_such_a_table() -> None:
    """A refresh asks for the named tables alone, fifty jobs of each source, and of a limited number of sources."""
    tables = [schema(f"t{number}") for number in range(NAMES_PER_REQUEST + 5)]
    jobs = [job("t0", 30, number=number) for number in range(80)]
    api = Jobs(*jobs)
    sources = [source(number, *tables) for number in range(SOURCES_ASKED + 3)]
    found = with_usual_durations(snapshot_of(*sources), api)
    assert (SOURCES_ASKED, {1}) == (len(api.asked), set(Counter(api.asked).values()))
    assert (NAMES_PER_REQUEST * SOURCES_ASKED, 50 * SOURCES_ASKED) == (len(api.names), api.given)
    assert SOURCES_ASKED == len(minutes_of(found))


@pytest.mark.parametrize(
    ("error", "asked", "second"),
    [
        pytest.param(NotFoundError(problem(404)), 2, 30, id="this_source_alone"),
        pytest.param(ServerError(problem(500)), 1, 55, id="all_of_them"),
    ],
)
def test_jobs_that_cannot_be_read_leave_what_was_known(error, asked, second) -> None:
    """A refresh does not fail for them, does not ask on in vain, and takes no duration away."""
    known = snapshot_of(
        source(1, schema(), minutes={"orders": 45, "gone": 5}), source(2, schema(), minutes={"orders": 55})
    )
    now = snapshot_of(source(1, schema()), source(2, schema()))
    api = Jobs(job("orders", 30), errors={"source1": error})
    found = with_usual_durations(now, api, known=known)
    assert {"source1": {"orders": 45}, "source2": {"orders": second}} == minutes_of(found)
    assert asked == len(api.asked)


def test_refresh_keeps_the_durations_in_the_state_file(embedded_warehouse: EmbeddedWarehouse, tmp_path: Path) -> None:
    """They stand by the tables' names where they are known, and nothing stands elsewhere; a file without is read."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}], "Invoice": [{"id": 1}]})
    path = tmp_path / "state.json"
    refresh_state(embedded_warehouse.resource, path)
    assert "usual_minutes" not in path.read_text()
    for name in ("Customer", "Invoice"):
        embedded_warehouse.sync(name)
    timed = SchemaUpdate(sync_frequency=SyncFrequency.ONE_DAY, sync_time_of_day=AT)
    embedded_warehouse.client.update_schema(embedded_warehouse.schema("Customer").id, timed)
    refresh_state(embedded_warehouse.resource, path)
    (written,) = json.loads(path.read_text())["sources"]
    assert {"Customer": 5} == written["usual_minutes"]
    before = WarehouseSnapshot.read(path)
    refresh_state(embedded_warehouse.resource, path)
    assert before == WarehouseSnapshot.read(path).model_copy(update={"taken_at": before.taken_at})
