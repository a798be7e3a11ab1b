"""Each finished sync is reported once, with every failure of ticks, runs and sources."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

import dagster as dg
import pytest
from dagster_plus import refuse_as_dagster_plus
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from storages import instance_in
from warehouse_model import WarehouseModel

from dw_orchestration.sensors.cursor import SensorCursor
from dw_orchestration.sensors.job_status import RUN_GRACE
from tests.sensors.conftest import Reports

ENDS = st.sampled_from(["Completed", "Failed", "Billing limits"])


class ExactlyOnce(RuleBasedStateMachine):
    """Syncs begin, end and are adopted in any order; ticks run, die, and find sources down."""

    new_instance: ClassVar[Callable[[], AbstractContextManager[dg.DagsterInstance]]] = dg.DagsterInstance.ephemeral

    @initialize()
    def set_up(self) -> None:
        self.model = WarehouseModel(sources=2, tables=2, page=3)
        self.storage = type(self).new_instance()
        self.instance = refuse_as_dagster_plus(self.storage.__enter__())
        self.reports = Reports(self.model, self.instance)
        self.cursor = SensorCursor()
        # the first tick begins from each table's newest sync, so that history is not replayed; it has no time for all
        self.history = [self.model.start(source, f"s{source[-1]}t0") for source in self.model.sources]
        for job in self.history:
            self.model.finish(job)
        self.cursor, _ = self.reports.tick(self.cursor, max_events=1)
        self.runs: dict[str, list] = {}
        self.finished: list = []

    @rule(
        source=st.sampled_from(["source0", "source1"]), table=st.integers(0, 1), late_s=st.sampled_from([0, 0, 1, 90])
    )
    def begin(self, source, table, late_s) -> None:
        self.model.start(source, self.model.sources[source].tables[table], late_s=late_s)

    @precondition(lambda self: self.model.running())
    @rule(index=st.integers(0, 3), status=ENDS)
    def end(self, index, status) -> None:
        running = self.model.running()
        job = running[index % len(running)]
        self.model.finish(job, status)
        self.finished.append(job)

    @rule(seconds=st.sampled_from([0, 0.5, 30, 119, 300, 4000]))
    def let_time_pass(self, seconds) -> None:
        self.model.advance(seconds)

    @precondition(lambda self: self.model.running())
    @rule(index=st.integers(0, 3))
    def a_run_adopts(self, index) -> None:
        running = self.model.running()
        job = running[index % len(running)]
        run_id = self.reports.new_run()
        self.runs[run_id] = [job]
        self.reports.adopt(job, run_id)

    @precondition(lambda self: self.finished)
    @rule()
    def a_run_adopts_the_sync_that_ended_last(self) -> None:
        """As a run does that waited in a queue, or that re-executes another one."""
        run_id, job = self.reports.new_run(), self.finished[-1]
        self.runs[run_id] = [job]
        self.reports.adopt(job, run_id)

    @precondition(lambda self: self.runs)
    @rule(dies=st.booleans())
    def a_run_ends(self, dies) -> None:
        """It gives its result if its job has completed, also after another report, unless it dies."""
        run_id, jobs = self.runs.popitem()
        for job in jobs:
            if job.status == "Completed" and not dies and not self.reports.is_overtaken(job):
                self.reports.materialize(job, run_id)
        self.reports.end_run(run_id, success=not dies)

    @rule(name=st.sampled_from(["source0", "source1"]), is_down=st.booleans())
    def a_source_goes_down_or_comes_back(self, name, is_down) -> None:
        self.model.sources[name].is_down = is_down

    @rule(
        max_events=st.sampled_from([1, 2, 200]),
        jobs_at_once=st.sampled_from([2, 250]),
        most_open_jobs=st.sampled_from([1, 500]),
    )
    def a_tick(self, max_events, jobs_at_once, most_open_jobs) -> None:
        limits = {"max_events": max_events, "jobs_at_once": jobs_at_once, "most_open_jobs": most_open_jobs}
        self.cursor, _ = self.reports.tick(self.cursor, run_grace=RUN_GRACE, fully_checked=1, **limits)

    @rule(stored=st.integers(0, 2))
    def a_tick_that_dies_before_its_cursor_is_kept(self, stored) -> None:
        self.reports.tick(self.cursor, stored=stored, run_grace=RUN_GRACE)

    @rule()
    def the_cursor_is_written_and_read(self) -> None:
        self.cursor = SensorCursor.parse(self.cursor.dump())

    def teardown(self) -> None:
        """Once all is quiet, every sync that ended has been reported exactly once."""
        if not hasattr(self, "model"):
            return
        for job in self.model.running():
            self.model.finish(job)
            self.finished.append(job)
        for run_id in list(self.runs):
            self.reports.end_run(run_id, success=False)
        for source in self.model.sources.values():
            source.is_down = False
        for _ in range(6):
            self.model.advance(150)
            self.cursor, _ = self.reports.tick(self.cursor, run_grace=RUN_GRACE)
        try:
            reported, history = self.reports.reported(), {job.id for job in self.history}
            assert {1} >= {reported.pop(job_id) for job_id in history & reported.keys()}
            assert {job.id: 1 for job in self.finished} == reported
        finally:
            self.storage.__exit__(None, None, None)


class ExactlyOnceOnPostgres(ExactlyOnce):
    """The same on Postgres, where reading the event log is other SQL."""


@pytest.fixture
def _on_postgres(postgres_storages, tmp_path_factory) -> None:
    @contextmanager
    def new_instance() -> Iterator[dg.DagsterInstance]:
        with postgres_storages.new() as storage, instance_in(tmp_path_factory.mktemp("i"), storage=storage) as instance:
            yield instance

    ExactlyOnceOnPostgres.new_instance = staticmethod(new_instance)


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

TestExactlyOnceOnPostgres = pytest.mark.usefixtures("_on_postgres")(ExactlyOnceOnPostgres.TestCase)
TestExactlyOnceOnPostgres.settings = settings(max_examples=3, stateful_step_count=25, deadline=None, derandomize=True)
