"""The takeover as a job: a dry run unless it is asked for more."""

import dagster as dg
import pytest

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.takeover import take_over
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.tables import Tables


@pytest.fixture
def definitions(project) -> dg.Definitions:
    """A code location with the project's tables and the job."""
    snapshot, endpoint = project.snapshot(), project.endpoint
    resource = PostHogWarehouseResource(
        host=endpoint.host, project_id="1", api_key=endpoint.api_key, requests_per_minute=0
    )
    return dg.Definitions(
        assets=build_posthog_assets(Tables(snapshot, include_disabled=True)),
        jobs=build_maintenance_jobs(Tables(snapshot, include_disabled=True)),
        resources={"posthog_warehouse": resource},
    )


def run(definitions, **config) -> dg.ExecuteInProcessResult:
    job = definitions.get_job_def("posthog_warehouse_takeover")
    ops = {"posthog_warehouse_takeover_step": {"config": config}}
    return job.execute_in_process(run_config={"ops": ops}, raise_on_error=False)


def shown(result) -> str:
    """The table in the metadata of the run's step."""
    (event,) = [event for event in result.all_node_events if event.event_type_value == "STEP_OUTPUT"]
    return event.step_output_data.metadata["result"].value


def test_dry_run_shows_what_would_change(definitions, project) -> None:
    """The job changes nothing, and shows the tables with both cadences."""
    before = project.settings()

    table = shown(run(definitions, tables=["*"], dry_run=True))

    assert before == project.settings()
    assert "| table | now | then | next own sync | rows per day | why |" in table
    assert 4 == table.count("every 30 days at 00:00 UTC")
    assert 4 == table.count("| 40 |")


def test_apply_and_give_back(definitions, project) -> None:
    """The job does both ways, for the tables it is given, by their names or their asset keys."""
    before = project.settings()

    applied = shown(run(definitions, tables=["posthog/stripe/a/*", "*_b.Invoices"]))
    moved = [name for name, frequency in project.frequencies().items() if frequency == "30day"]
    shown(run(definitions, restore=True, tables=["stripe_a.*"]))
    still_moved = [name for name, frequency in project.frequencies().items() if frequency == "30day"]
    shown(run(definitions, restore=True, tables=["*"]))

    assert ["a.customers", "a.invoices", "b.invoices"] == moved
    assert ["b.invoices"] == still_moved
    assert (
        "| stripe_b.invoices | moved out of the way | PostHog's frequency is 30day now. PostHog said yes. |" in applied
    )
    assert before == project.settings()


def test_plan_after_a_takeover_says_so(definitions, project) -> None:
    """A table that is out of the way is shown with what it was before."""
    run(definitions, tables=["*"])

    table = shown(run(definitions, tables=["*"], dry_run=True))
    assert 4 == table.count("out of the way already; before, PostHog's frequency was 6hour.")


def test_mistyped_table_fails_the_run(definitions) -> None:
    """Nothing turns green by doing nothing."""
    assert not run(definitions, tables=["strype.*"]).success


def test_failed_table_fails_the_run_and_is_named(definitions, project) -> None:
    """A table that the server does not change, though it answers 200, is shown in the failure, and the run is red."""
    project.embedded.services.store._db.execute(
        "create trigger stubborn before update of sync_frequency on schemas"
        f" when old.id = '{project.tables()['a.invoices']}' begin select raise(ignore); end"
    )

    result = run(definitions, tables=["*"])

    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    error = failure.step_failure_data.user_failure_data
    assert "3 moved out of the way, 1 failed" in error.description
    assert "| stripe_a.invoices | failed | PostHog's frequency is 6hour. PostHog said yes. |" in (
        error.metadata["result"].value
    )


def test_carried_out_upon_what_posthog_holds_now(project) -> None:
    """The state that definitions are built from may be old: a table turned off since is not moved."""
    project.set("a.customers", should_sync=False)

    ours = Project(project.client, project.endpoint.host)
    report = take_over(ours, ["*"], now=project.clock)

    assert report.summary.startswith("3 tables: 3 moved out of the way.")


def test_giving_nothing_back_fails_the_run(definitions) -> None:
    """A run that gives nothing back is red, with the reason."""
    result = run(definitions, restore=True, tables=["*"])
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    assert "Nothing was given back" in failure.step_failure_data.user_failure_data.description
