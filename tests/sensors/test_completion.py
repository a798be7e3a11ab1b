"""Syncs for which no run has waited (`wait: false`): each is reported by another run, or else by the sensor."""

from datetime import timedelta

import dagster as dg
import pytest
from warehouse_model import WarehouseModel

from dw_orchestration.assets.build import build_posthog_assets, steps_of
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.sensors.completion import REPORTED_WITHIN
from dw_orchestration.sensors.cursor import SensorCursor

TABLES = ("s0t0", "s0t1")


class Story:
    """A source of two tables, assets downstream of them, and a run that has started their syncs and has ended."""

    def __init__(self, reports_on) -> None:
        self.model = WarehouseModel()
        self.reports = reports_on(self.model)
        self.keys = {name: asset_key(table) for name, table in self.reports.by_table.items()}
        self.cursor, _ = self.reports.tick(SensorCursor())
        tables = self.reports.assets
        self.step = steps_of(tables)[0].name
        first, second = (self.keys[name] for name in TABLES)
        after_first = dg.AssetsDefinition.from_op(_op("after_first"), keys_by_input_name={"first": first})
        after_both = dg.AssetsDefinition.from_op(
            _op("after_both", "second"), keys_by_input_name={"first": first, "second": second}
        )
        resource = dg.ResourceDefinition.none_resource()
        self.repository = dg.Definitions(
            assets=[*build_posthog_assets(tables), after_first, after_both, dg.AssetSpec("seen_only", deps=[first])],
            resources={tables.resource_key: resource},
        ).get_repository_def()

    def release(self, *names: str, planned=("after_first", "after_both"), **more) -> tuple:
        """A run that starts syncs of tables and ends; the jobs, which are running, and the run's id."""
        run_id = self.reports.new_run(**more)
        self.reports.plan(run_id, *(self.keys[name] for name in names), *map(dg.AssetKey, planned))
        jobs = [self.model.start("source0", name) for name in names]
        for job in jobs:
            self.reports.adopt(job, run_id, released=True)
        self.reports.end_run(run_id, success=True)
        return *jobs, run_id

    def delete(self, run_id: str) -> None:
        """A user deletes a run, as user code cannot."""
        instance = self.reports.instance
        type(instance.run_storage).delete_run(instance.run_storage, run_id)
        instance.event_log_storage.delete_events(run_id)

    def tick(self, *, after_s: float = 30, **settings) -> list[dg.RunRequest]:
        """The runs that the next tick requests."""
        self.model.advance(after_s)
        self.cursor, work = self.reports.tick(self.cursor, **{"repository": self.repository} | settings)
        return work.run_requests()


def _op(name: str, *more: str) -> dg.OpDefinition:
    ins = {each: dg.In(dg.Nothing) for each in ("first", *more)}
    return dg.OpDefinition(lambda _context: None, name=name, ins=ins, outs={"result": dg.Out(dg.Nothing)})


@pytest.fixture
def story(reports_on) -> Story:
    """A story that has just begun."""
    return Story(reports_on)


def test_a_run_is_requested_for_an_ended_sync_and_for_what_was_selected_after_it(story) -> None:
    """The run has the table, what the first run had selected downstream, its config and its own tags; nothing else."""
    config = {"ops": {story.step: {"config": {"wait": False}}, "another": {"config": {}}}, "resources": {"x": {}}}
    tags = {"team": "a", "dagster/max_retries": "2", "dagster/schedule_name": "s", ".dagster/repository": "r"}
    job, run_id = story.release("s0t0", planned=["after_first"], run_config=config, tags=tags)

    assert [] == story.tick()
    story.model.finish(job)
    (request,) = story.tick()

    assert {story.keys["s0t0"], dg.AssetKey("after_first")} == set(request.asset_selection)
    assert {"ops": {story.step: {"config": {"wait": False}}}} == request.run_config
    assert {"team": "a", "dagster/max_retries": "2", "posthog/completes": run_id} == request.tags
    assert {} == story.reports.reported()


def test_a_request_is_repeated_with_its_key_until_the_run_has_adopted_the_sync(story) -> None:
    """Dagster launches one run for a key, so a request that was lost is made up for, and no sync has two runs."""
    first, second, run_id = story.release(*TABLES)
    story.model.finish(first)
    (request,) = story.tick()
    story.model.finish(second)

    repeated = story.tick()
    assert [request.run_key] == [each.run_key for each in repeated]
    later = story.reports.new_run(tags={"posthog/completes": run_id})
    story.reports.adopt(first, later)
    assert [] == story.tick()
    story.reports.materialize(first, later)
    story.reports.end_run(later, success=True)

    (other,) = story.tick()
    assert [story.keys["s0t1"]] == [key for key in other.asset_selection if key in story.keys.values()]
    assert request.run_key != other.run_key
    assert {first.id: 1} == story.reports.reported()


def test_syncs_of_one_run_that_end_together_have_one_run(story) -> None:
    """One run for them where they came from the same run, and one for each of several runs."""
    first, second, _ = story.release(*TABLES)
    story.model.finish(first)
    story.model.finish(second, "Failed")
    (request,) = story.tick()
    assert {*story.keys.values(), dg.AssetKey("after_first"), dg.AssetKey("after_both")} == set(request.asset_selection)


def test_syncs_of_several_runs_have_a_run_each(story) -> None:
    """The runs may differ in their config, tags and selection."""
    first, first_id = story.release("s0t0", planned=[])
    second, second_id = story.release("s0t1", planned=[])
    story.model.finish(first)
    story.model.finish(second)
    assert {first_id, second_id} == {each.tags["posthog/completes"] for each in story.tick()}


@pytest.mark.parametrize("ends_well", [True, False])
def test_an_asset_after_two_tables_runs_with_the_last_of_them(story, *, ends_well) -> None:
    """It runs once, with the rows of both; and not at all if one of them has failed, as in a run that waits.

    So the last one waits until it is known how the other one ended.
    """
    first, second, run_id = story.release(*TABLES)
    story.model.finish(first, "Completed" if ends_well else "Failed")
    (request,) = story.tick()
    later = story.reports.new_run(tags=request.tags)
    story.model.finish(second)
    assert [request.run_key] == [each.run_key for each in story.tick()]
    story.reports.adopt(first, later)
    assert [] == story.tick()
    (story.reports.materialize if ends_well else story.reports.fail)(first, later)
    story.reports.end_run(later, success=ends_well)
    (last,) = story.tick()

    asset = dg.AssetKey("after_both")
    assert (False, ends_well) == (asset in request.asset_selection, asset in last.asset_selection)
    assert {run_id} == {each.tags["posthog/completes"] for each in (request, last)}


def test_what_a_lost_run_was_to_report_the_sensor_reports_after_a_while(story) -> None:
    """A run that was terminated, that failed before it began, or that waits in a queue leaves no sync unreported."""
    job, _ = story.release("s0t0")
    story.model.finish(job)
    story.tick()
    assert {} == story.reports.reported()

    assert [] == story.tick(after_s=REPORTED_WITHIN.total_seconds() + 1)
    assert [] == story.tick()
    assert {job.id: 1} == story.reports.reported()


def test_a_sensor_that_was_off_requests_the_run_when_it_is_back(story) -> None:
    """The while begins with the request: a sync that ended long ago has its run first."""
    job, _ = story.release("s0t0")
    story.model.finish(job)
    assert 1 == len(story.tick(after_s=timedelta(days=1).total_seconds()))
    assert {} == story.reports.reported()


def test_a_run_that_adopted_the_sync_and_died_leaves_it_to_the_sensor(story) -> None:
    """Its sync is reported once, and no further run is requested."""
    job, _ = story.release("s0t0")
    story.model.finish(job)
    (request,) = story.tick()
    later = story.reports.new_run(tags=request.tags)
    story.reports.adopt(job, later)
    story.reports.end_run(later, success=False)
    assert [] == story.tick()
    assert {job.id: 1} == story.reports.reported()


@pytest.mark.parametrize("case", ["terminated", "deleted", "another location"])
def test_without_a_run_to_complete_the_sensor_reports(story, case) -> None:
    """A terminated run has nothing left to do, a deleted one is unknown, and another location's cannot be requested."""
    job, run_id = story.release("s0t0")
    if case == "terminated":
        story.reports.instance.report_run_canceled(story.reports.instance.get_run_by_id(run_id))
    if case == "deleted":
        story.delete(run_id)
    story.model.finish(job)
    settings = {"repository": dg.Definitions().get_repository_def()} if case == "another location" else {}
    assert [] == story.tick(**settings)
    assert {job.id: 1} == story.reports.reported()


def test_a_tick_that_dies_after_its_events_requests_the_same_run(story) -> None:
    """The request is written down before Dagster has launched the run."""
    job, _ = story.release("s0t0")
    story.model.finish(job)
    story.model.advance(30)
    _, dead = story.reports.tick(story.cursor, repository=story.repository)
    (again,) = story.tick()
    assert [each.run_key for each in dead.run_requests()] == [again.run_key]


def test_the_retry_of_a_completion_takes_along_what_the_first_run_had_selected(story) -> None:
    """The retry starts another sync and waits as little; what follows its end is still the first run's."""
    job, run_id = story.release("s0t0", planned=["after_first"])
    story.model.finish(job, "Failed")
    (request,) = story.tick()
    later = story.reports.new_run(tags=request.tags)
    story.reports.adopt(job, later)
    story.reports.fail(job, later)
    story.reports.end_run(later, success=False)
    again, retry_id = story.release("s0t0", planned=[], tags=request.tags)
    story.model.finish(again)
    (last,) = story.tick()
    assert retry_id == last.tags["posthog/completes"] != run_id
    assert {story.keys["s0t0"], dg.AssetKey("after_first")} == set(last.asset_selection)
