"""The first step of a run starts the syncs of all steps; each step follows its own."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import AssetObservationData
from dagster._core.execution.api import create_execution_plan, execute_plan
from dagster._core.execution.plan.objects import StepFailureData
from deployment import counted
from hypothesis import given
from hypothesis import strategies as st
from warehouse import events, failure_of

from dw_orchestration.assets import asset_spec, build_posthog_assets, sync_tables
from dw_orchestration.assets.ahead import Claims, started_by
from dw_orchestration.assets.build import steps_of
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.metadata import adoption_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.sensors import build_job_status_sensor
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables
from dw_orchestration.testing import billing_limit, fails, runs_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dw_orchestration.resources.warehouse import WarehouseResource
    from dw_orchestration.sync.events import SyncEvent
    from dw_orchestration.tables.table import Table
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

KIND = dg.DagsterEventType
# in the order of the plan: steps that wait for no other come in the order of their names
SOURCES = {"Github": "issues", "Hubspot": "contacts", "Stripe": "customers"}
FIRST, SECOND, THIRD = SOURCES.values()
ROWS = [{"id": 1}, {"id": 2}]


class Project:
    """Three sources of one table each, and runs that materialize all of them in one process."""

    def __init__(self, warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance) -> None:
        self.warehouse = warehouse
        self.instance = instance
        for source_type, table in SOURCES.items():
            warehouse.add_source(source_type, prefix="acme", tables={table: ROWS})
        self.tables = Tables(warehouse.snapshot())

    def table(self, name: str) -> Table:
        """A table by its name in PostHog."""
        return next(table for table in self.tables if table.schema.name == name)

    def key(self, name: str) -> dg.AssetKey:
        """The asset key of a table."""
        return asset_key(self.table(name))

    def step(self, name: str) -> str:
        """The step of a table."""
        return f"sync_{self.table(name).group}"

    def run(
        self,
        *,
        others: tuple[dg.AssetsDefinition, ...] = (),
        config: Mapping[str, Any] | None = None,
        warehouse: WarehouseResource | None = None,
        **settings: Any,
    ) -> dg.ExecuteInProcessResult:
        """Materialize everything; a failure is in the result."""
        job = self.job(*others, warehouse=warehouse, **settings)
        run_config = {"ops": {**self.config, **(config or {})}}
        return job.execute_in_process(instance=self.instance, run_config=run_config, raise_on_error=False)

    def create(self, *names: str, parent_id: str | None = None) -> dg.DagsterRun:
        """A run of the steps of some tables, of which none is executed yet."""
        job, config, steps = self.job(), {"ops": self.config}, [self.step(name) for name in names]
        plan = create_execution_plan(job, run_config=config, step_keys_to_execute=steps)
        return self.instance.create_run_for_job(
            job, execution_plan=plan, run_config=config, parent_run_id=parent_id, root_run_id=parent_id
        )

    def execute(self, run: dg.DagsterRun, name: str, **settings: Any) -> list[dg.DagsterEvent]:
        """Execute one step of a run, in this process."""
        job, config = self.job(**settings), {"ops": self.config}
        plan = create_execution_plan(job, run_config=config, step_keys_to_execute=[self.step(name)])
        return list(execute_plan(plan, InMemoryJob(job), self.instance, run, run_config=config))

    def claim(self, run: dg.DagsterRun, by: str, *names: str) -> None:
        """Let the step of a table claim the steps of some tables."""
        text = "Starts the syncs of the steps " + ", ".join(map(self.step, names))
        self.instance.report_engine_event(text, run, step_key=self.step(by))

    def adopted(self, run: dg.DagsterRun) -> list[str]:
        """The tables whose job is in the run's log, once for each time."""
        found = self.instance.all_logs(run.run_id, of_type=KIND.ASSET_OBSERVATION)
        return [name_of(entry.dagster_event) for entry in found if entry.dagster_event]

    def job(
        self, *others: dg.AssetsDefinition, warehouse: WarehouseResource | None = None, **settings: Any
    ) -> dg.JobDefinition:
        """The job of all assets."""
        defs = dg.Definitions(
            assets=[*build_posthog_assets(self.tables, **settings), *others],
            resources={DEFAULT_RESOURCE_KEY: warehouse or self.warehouse.resource},
            executor=dg.in_process_executor,
        )
        return defs.resolve_implicit_global_asset_job_def()

    @property
    def config(self) -> dict[str, Any]:
        """Each step polls often."""
        return {self.step(name): {"config": {"poll_min_s": 0.1, "poll_max_s": 0.1}} for name in SOURCES.values()}

    def syncs(self) -> dict[str, int]:
        """How many syncs each table has had."""
        return {name: len(self.warehouse.jobs(name)) for name in SOURCES.values()}


@pytest.fixture
def project(embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance) -> Project:
    """Three sources that have never been synced."""
    return Project(embedded_warehouse, instance)


def name_of(event: dg.DagsterEvent) -> str:
    """The table of an event."""
    assert event.asset_key is not None
    return event.asset_key.path[-1]


def materialized(found: Iterable[dg.DagsterEvent]) -> set[str]:
    """The assets that were materialized."""
    return {name_of(event) for event in found if event.event_type is KIND.ASSET_MATERIALIZATION}


def started_before_the_first_end(events_of_run: Iterable[dg.DagsterEvent]) -> set[str]:
    """The tables whose job was written down before the first step had ended."""
    ends = (KIND.STEP_SUCCESS, KIND.STEP_FAILURE)
    first = itertools.takewhile(lambda event: event.event_type not in ends, events_of_run)
    return {name_of(event) for event in first if event.event_type is KIND.ASSET_OBSERVATION}


def test_all_syncs_of_a_run_start_at_once(project: Project) -> None:
    """The first step starts and writes down each; the others take these up, ended or not: one sync, one event each."""
    project.warehouse.behave(THIRD, runs_for(3))

    result = project.run()

    assert result.success
    assert set(SOURCES.values()) == started_before_the_first_end(result.all_events)
    assert dict.fromkeys(SOURCES.values(), 1) == project.syncs()
    for kind in (KIND.ASSET_OBSERVATION, KIND.ASSET_MATERIALIZATION):
        found = [event.asset_key for event in events(result, kind)]
        assert {project.key(name): 1 for name in SOURCES.values()} == Counter(found)
    materializations = events(result, KIND.ASSET_MATERIALIZATION)
    by = {event.materialization.metadata["posthog/triggered_by"].value for event in materializations}
    assert {"dagster"} == by


def test_later_steps_share_one_list_of_the_tables(
    embedded_warehouse: EmbeddedWarehouse, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that comes after its sync has ended asks for its job alone; its result has the columns."""
    project = Project(embedded_warehouse, instance)
    # when the first step lists the tables, the syncs of the others have ended
    embedded_warehouse.behave(FIRST, runs_for(3))
    endpoint = embedded_warehouse.resource.ensure_running()
    monkeypatch.setenv("POSTHOG_TEST_KEY", endpoint["api_key"])
    with counted(endpoint["host"]) as (host, seen):
        key = dg.EnvVar("POSTHOG_TEST_KEY")
        warehouse = PostHogWarehouseResource(host=host, project_id=endpoint["project_id"], api_key=key)
        result = project.run(warehouse=warehouse)

    assert result.success
    asked = Counter(request.partition("?")[0] for request in seen)
    sources = "/api/projects/1/external_data_sources"
    # the first step reads each before it starts its sync
    assert [1, 1] == [asked[f"GET {sources}/{project.table(name).source.id}/"] for name in (SECOND, THIRD)]
    assert 1 <= asked["GET /api/projects/1/external_data_schemas/"] <= 2
    for event in events(result, KIND.ASSET_MATERIALIZATION):
        (schema,) = [
            v.schema for v in event.materialization.metadata.values() if isinstance(v, dg.TableSchemaMetadataValue)
        ]
        assert "id" in [column.name for column in schema.columns]


def test_a_table_that_fails_costs_its_own_source_alone(project: Project) -> None:
    """What is downstream of the other sources is materialized; the failed sync is the result of its step."""
    downstream = []
    for name in SOURCES.values():

        @dg.asset(name=f"after_{name}", deps=[project.key(name)])
        def after() -> None: ...

        downstream.append(after)
    project.warehouse.behave(SECOND, fails("no such permission"))

    result = project.run(others=tuple(downstream))

    assert {FIRST, THIRD, f"after_{FIRST}", f"after_{THIRD}"} == materialized(result.all_events)
    assert "no such permission" in failure_of(result)
    assert dict.fromkeys(SOURCES.values(), 1) == project.syncs()


def test_the_billing_limit_of_another_source_is_not_the_first_steps_error(project: Project) -> None:
    """The step of the table that met the limit fails, and the others sync."""
    project.warehouse.behave(SECOND, billing_limit())

    result = project.run()

    (failure,) = events(result, KIND.STEP_FAILURE)
    assert project.step(SECOND) == failure.step_key
    assert {FIRST, THIRD} == materialized(result.all_events)


def wrapped(*args: Any, **named: Any) -> Iterator[Any]:
    """A step that does something before its syncs."""
    yield from sync_tables(*args, **named)


LIMITS = [
    pytest.param({"op": {"pool": "sources"}}, id="pool"),
    pytest.param({"op": {"tags": {"dagster/concurrency_key": "sources"}}}, id="key"),
    pytest.param({"execute": wrapped}, id="wrapped"),
]


@pytest.mark.parametrize("settings", LIMITS)
def test_a_limit_that_spares_a_source_keeps_each_step_to_its_turn(project: Project, settings: dict[str, Any]) -> None:
    """With a pool or a concurrency key, or something to be done before the syncs, each step starts its own."""
    result = project.run(**settings)

    assert result.success
    assert {FIRST} == started_before_the_first_end(result.all_events)


def test_steps_with_other_settings_start_their_own(project: Project) -> None:
    """A run's config is for one step: only those that have the same are started together."""
    config = {project.step(SECOND): {"config": {"poll_min_s": 0.1, "if_running": "fail"}}}

    assert {FIRST, THIRD} == started_before_the_first_end(project.run(config=config).all_events)


def test_a_step_that_waits_for_another_asset_starts_its_own(project: Project) -> None:
    """What a table depends on is materialized first, and its sync begins after that."""

    @dg.asset
    def before() -> None: ...

    def spec(table: Table) -> dg.AssetSpec:
        found = asset_spec(table)
        return found.replace_attributes(deps=[*found.deps, "before"]) if table.schema.name == SECOND else found

    project.tables = Tables(project.warehouse.snapshot(), spec_of=spec)
    result = project.run(others=(before,))

    assert result.success
    assert SECOND not in started_before_the_first_end(result.all_events)


def test_a_resync_is_started_by_its_own_step(project: Project) -> None:
    """A resync is confirmed for the tables of a step, and no other step drops them."""
    project.run()
    names = SOURCES.values()
    config = {
        project.step(name): {"config": {"poll_min_s": 0.1, "sync_mode": "resync", "confirm_resync": [name]}}
        for name in names
    }

    result = project.run(config=config)

    assert result.success
    assert {FIRST} == started_before_the_first_end(result.all_events)


def test_a_step_that_comes_before_the_first_one_starts_its_own(project: Project) -> None:
    """The first step of the plan leaves it alone, and starts the others."""
    run = project.create(FIRST, SECOND, THIRD)

    assert {SECOND} == materialized(project.execute(run, SECOND))
    assert [SECOND] == project.adopted(run)
    assert {FIRST} == materialized(project.execute(run, FIRST))
    assert {FIRST, SECOND, THIRD} == set(project.adopted(run))
    assert {THIRD} == materialized(project.execute(run, THIRD))

    assert dict.fromkeys(SOURCES.values(), 1) == project.syncs()
    assert 3 == len(project.adopted(run))


def test_a_claim_that_comes_second_waits_for_the_first(project: Project) -> None:
    """Two steps claim one step at the same moment: by the run's log, the first has it, and the other starts nothing."""
    run, job = project.create(FIRST, SECOND, THIRD), project.warehouse.sync(SECOND)
    project.claim(run, FIRST, FIRST, SECOND, THIRD)
    project.claim(run, SECOND, SECOND)
    adoption = dg.AssetObservation(project.key(SECOND), metadata=adoption_metadata(job, triggered_by="dagster"))
    data = AssetObservationData(adoption)
    adopted = dg.DagsterEvent(KIND.ASSET_OBSERVATION.value, run.job_name, event_specific_data=data)
    project.instance.report_dagster_event(adopted, run.run_id)

    assert {SECOND} == materialized(project.execute(run, SECOND))
    assert {FIRST: 0, SECOND: 1, THIRD: 0} == project.syncs()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("claim"), st.sampled_from("abc"), st.sets(st.sampled_from("abc"), min_size=1)),
            st.tuples(st.just("hand_back"), st.sampled_from("abc"), st.sets(st.sampled_from("abc"), min_size=1)),
            st.tuples(st.just("end"), st.sampled_from("abc"), st.just(set())),
        )
    )
)
def test_a_claim_is_taken_over_only_from_a_step_that_has_ended_or_handed_it_back(story: list[Any]) -> None:
    """However claims are interleaved: who starts a step changes hands only by what the one that has it does itself."""
    claims = Claims()
    for at, (what, by, steps) in enumerate(story):
        before = dict(claims.starter)
        if what == "claim":
            claims.claim(sorted(steps), by=by, at=float(at))
        elif what == "hand_back":
            claims.hand_back(sorted(steps), by=by)
        else:
            claims.end(by)
        for step, starter in before.items():
            assert claims.starter.get(step) == starter or (starter == by and what != "claim")
            assert starter != step or claims.starter[step] == step


def test_a_first_step_that_dies_between_claim_and_adoption_costs_no_second_sync(project: Project) -> None:
    """It has started a sync and not written it down: the step finds the job by the time of the claim."""
    run = project.create(FIRST, SECOND)
    project.claim(run, FIRST, FIRST, SECOND)
    job = project.warehouse.sync(SECOND)
    data = StepFailureData(error=None, user_failure_data=None)
    died = dg.DagsterEvent(
        KIND.STEP_FAILURE.value, run.job_name, step_key=project.step(FIRST), event_specific_data=data
    )
    project.instance.report_dagster_event(died, run.run_id)

    (end,) = [event for event in project.execute(run, SECOND) if event.event_type is KIND.ASSET_MATERIALIZATION]

    assert job.id == end.materialization.metadata["posthog/job_id"].value
    assert {FIRST: 0, SECOND: 1, THIRD: 0} == project.syncs()


def test_a_step_whose_run_has_ended_does_not_wait_for_a_lost_one(project: Project) -> None:
    """Celery leaves steps of a failed run in their slots: one that waits for a lost step gives its slot back."""
    run = project.create(FIRST, SECOND)
    project.claim(run, FIRST, FIRST, SECOND)
    project.instance.report_run_failed(run)

    (failed,) = [event for event in project.execute(run, SECOND) if event.event_type is KIND.STEP_FAILURE]

    assert "The run has ended" in failed.step_failure_data.user_failure_data.description
    assert dict.fromkeys(SOURCES.values(), 0) == project.syncs()


def test_termination_cancels_what_was_started_for_steps_that_never_ran(
    project: Project, wait_until: Callable[..., Any]
) -> None:
    """The first step has ended: the step that is terminated cancels its own sync, and those that no step follows."""
    for name in (SECOND, THIRD):
        project.warehouse.behave(name, runs_for(60))
    run = project.create(FIRST, SECOND, THIRD)
    project.execute(run, FIRST)
    project.instance.report_run_canceling(run)

    def interrupt(event: SyncEvent) -> None:
        raise dg.DagsterExecutionInterruptedError

    steps = {step.name: step.tables for step in steps_of(project.tables)}
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        project.execute(run, SECOND, execute=partial(sync_tables, steps=steps, on_event=interrupt))

    for name in (SECOND, THIRD):
        wait_until(lambda name=name: is_over(project.warehouse.jobs(name)[0]))
        assert "cancelled" in (project.warehouse.jobs(name)[0].latest_error or "").lower()


def test_what_is_started_for_a_step_that_never_runs_is_reported(
    project: Project, wait_until: Callable[..., Any]
) -> None:
    """The run dies after its first step: the sensor reports the other syncs, once, when the run is over."""
    sensor = build_job_status_sensor(project.tables, run_grace=timedelta())

    def tick(cursor: str | None) -> str | None:
        resources = {DEFAULT_RESOURCE_KEY: project.warehouse.resource}
        with dg.build_sensor_context(instance=project.instance, resources=resources, cursor=cursor) as context:
            result = sensor.evaluate_tick(context)
        for event in result.asset_events:
            project.instance.report_runless_asset_event(event)
        return result.cursor

    cursor = tick(None)
    run = project.create(FIRST, SECOND, THIRD)
    project.execute(run, FIRST)
    left = started_by(run.run_id, project.tables, log=EventLog(project.instance), now=datetime.now(UTC))
    assert {SECOND, THIRD} == {job.name for job in left}
    wait_until(lambda: all(is_over(project.warehouse.jobs(name)[0]) for name in (SECOND, THIRD)))
    cursor = tick(cursor)
    assert [] == project.instance.fetch_materializations(project.key(SECOND), limit=5).records
    project.instance.report_run_failed(run)
    for _ in range(2):
        cursor = tick(cursor)
    for name in (SECOND, THIRD):
        (record,) = project.instance.fetch_materializations(project.key(name), limit=5).records
        assert record.asset_materialization is not None
        assert project.warehouse.jobs(name)[0].id == record.asset_materialization.metadata["posthog/job_id"].value


def test_re_execution_takes_up_what_was_started_for_steps_that_never_ran(project: Project) -> None:
    """Its first step leads: it triggers nothing that the dead run had started, and the later ones give these syncs."""
    dead = project.create(FIRST, SECOND, THIRD)
    project.execute(dead, FIRST)

    again = project.create(SECOND, THIRD, parent_id=dead.run_id)
    ends = [materialized(project.execute(again, name)) for name in (SECOND, THIRD)]

    assert [{SECOND}, {THIRD}] == ends
    assert dict.fromkeys(SOURCES.values(), 1) == project.syncs()


def test_re_execution_from_failure_starts_its_steps_together(project: Project) -> None:
    """What failed is started again by the first of the steps that are executed."""
    for name in (SECOND, THIRD):
        project.warehouse.behave(name, fails("no such permission", times=1))
    failed = project.run()

    again = project.create(SECOND, THIRD, parent_id=failed.run_id)
    assert {SECOND} == materialized(project.execute(again, SECOND))

    assert {SECOND, THIRD} == set(project.adopted(again))
    assert {THIRD} == materialized(project.execute(again, THIRD))
    assert {FIRST: 1, SECOND: 2, THIRD: 2} == project.syncs()
