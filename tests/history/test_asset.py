"""The sync history as an asset: its report, its failures and its schedule."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from dw_orchestration.assets.spec import sync_history_key
from dw_orchestration.history.asset import build_sync_history, build_sync_history_schedule
from dw_orchestration.local.rows import Status
from dw_orchestration.tables.tables import Tables

HOUR = timedelta(hours=1)
RESOURCE = "posthog_warehouse"
HISTORY = "posthog_sync_history"


@pytest.fixture
def materialize(project, tmp_path, now) -> Callable[..., tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]]:
    """Materializes the history of the project, on this network if one is given."""

    def run(
        *, transport=None, days: int = 30, resource=None, retries: int = 1
    ) -> tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]:
        warehouse = resource or project.resource(transport=transport)
        asset = build_sync_history(Tables(project.resource().take_snapshot(), include_disabled=True), now=lambda: now)
        defs = dg.Definitions(
            assets=[asset],
            jobs=[dg.define_asset_job("read", op_retry_policy=dg.RetryPolicy(retries) if retries else None)],
            resources={
                RESOURCE: warehouse,
                HISTORY: DuckDBResource(database=str(tmp_path / "history.duckdb")),
            },
        )
        result = defs.resolve_job_def("read").execute_in_process(
            instance=instance,
            run_config={"ops": {asset.op.name: {"config": {"days": days}}}},
            raise_on_error=False,
        )
        return result, instance

    with dg.DagsterInstance.ephemeral() as instance:
        yield run


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    """The values in the metadata of the materialization."""
    (event,) = result.asset_materializations_for_node(f"{RESOURCE}__sync_history")
    return {name: value.value for name, value in event.metadata.items()}


def failure_of(result: dg.ExecuteInProcessResult) -> tuple[str, int]:
    """What the failed step says in the end, and how often it was tried again."""
    (event,) = [each for each in result.all_events if each.event_type is dg.DagsterEventType.STEP_FAILURE]
    retries = [each for each in result.all_events if each.event_type is dg.DagsterEventType.STEP_RESTARTED]
    return event.step_failure_data.user_failure_data.description, len(retries)


def stack_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """The frames that the run shows for the failed step."""
    (event,) = [each for each in result.all_events if each.event_type is dg.DagsterEventType.STEP_FAILURE]
    return event.step_failure_data.error.stack


def test_report_stands_in_the_metadata(project, materialize) -> None:
    """What was read is counted at once, in numbers that Dagster plots."""
    project.jobs("invoices", 60, newest=HOUR, every=HOUR)
    project.job("contacts", ago=HOUR, rows=2, status=Status.FAILED, error="Bad key")

    result, _ = materialize()

    shown = metadata_of(result)
    table = shown.pop("tables_30_days")
    assert {
        "jobs_stored": 61,
        "dagster/row_count": 61,
        "jobs_read": 61,
        "sources_failed": 0,
        "syncs_30_days": 61,
        "rows_30_days": 302,
        "failures_30_days": 1,
        "duration_median_s": 10.0,
        "duration_p95_s": 10.0,
    } == shown
    assert 2 == len(table)


def test_second_materialization_goes_on(project, materialize) -> None:
    """What is stored stays, and what came since is added."""
    project.jobs("invoices", 60, newest=HOUR, every=HOUR)
    materialize()
    project.job("invoices", ago=timedelta(0))

    result, _ = materialize()

    # the newest stored one is read again
    assert (61, 2) == tuple(metadata_of(result)[name] for name in ("jobs_stored", "jobs_read"))


def test_days_limit_the_first_reading(project, materialize) -> None:
    """The config says how far back the first reading goes."""
    project.jobs("invoices", 10, newest=HOUR, every=12 * HOUR)

    result, _ = materialize(days=2)

    assert 4 == metadata_of(result)["jobs_stored"]


def test_source_that_fails_does_not_stop_the_others(project, materialize, gone) -> None:
    """The others are stored; the failed one is named in the metadata and in one warning."""
    project.job("invoices", ago=HOUR)
    project.job("contacts", ago=HOUR)

    result, instance = materialize(transport=gone(project.source_of("contacts")))

    assert result.success
    shown = metadata_of(result)
    assert (1, 1) == (shown["jobs_stored"], shown["sources_failed"])
    assert shown["problems"].startswith("- Hubspot (main): PostHog does not know this id")
    warnings = [log.user_message for log in instance.all_logs(result.run_id) if log.level == 30]
    assert [f"1 of 2 sources were not read:\n{shown['problems']}"] == warnings


def test_all_sources_failing_is_a_failure(project, materialize, gone) -> None:
    """A run that could read nothing does not end green; a retry may find the sources again.

    Without a retry policy, the run shows no frames.
    """
    result, _ = materialize(transport=gone(*project.sources.values()))

    description, retries = failure_of(result)
    assert description.startswith("None of the 2 sources could be read.\n- ")
    assert 1 == retries
    once, _ = materialize(transport=gone(*project.sources.values()), retries=0)
    assert [] == stack_of(once)
    assert failure_of(once) == (description, 0)


def test_wrong_key_fails_with_the_reason(project, materialize) -> None:
    """A setup error is reported in one sentence, and not tried again."""
    result, _ = materialize(resource=project.resource(api_key="phx_wrong"))

    description, retries = failure_of(result)
    assert description.startswith("PostHog does not accept the API key")
    assert 0 == retries


def test_asset_is_found_where_the_project_is(project) -> None:
    """Its key and group are those of the project's resource, so that two projects have two."""
    asset = build_sync_history(
        Tables(project.resource().take_snapshot(), include_disabled=True, resource_key="eu_project")
    )

    (spec,) = asset.specs
    assert (dg.AssetKey(["eu_project", "sync_history"]), "eu_project") == (spec.key, spec.group_name)
    assert {"posthog", "duckdb"} == spec.kinds
    assert sync_history_key("eu_project") == spec.key


@pytest.mark.parametrize(
    ("host", "links"),
    [("https://eu.posthog.com", ["https://eu.posthog.com/project/1/data-warehouse"]), ("embedded warehouse", [])],
)
def test_asset_links_to_where_there_are_pages(project, host, links) -> None:
    """The link to PostHog's own pages is in the metadata; the embedded warehouse has none."""
    snapshot = project.resource().take_snapshot().model_copy(update={"host": host})

    (spec,) = build_sync_history(Tables(snapshot, include_disabled=True)).specs

    assert links == [value.value for name, value in spec.metadata.items() if name == "posthog/link"]


def test_schedule_runs_the_asset_once_it_is_switched_on(project) -> None:
    """Every day at 00:15 UTC, and by default only when somebody wants it."""
    schedule = build_sync_history_schedule()
    defs = dg.Definitions(
        assets=[build_sync_history(Tables(project.resource().take_snapshot(), include_disabled=True))],
        schedules=[schedule],
        resources={RESOURCE: project.resource(), HISTORY: DuckDBResource(database="unused.duckdb")},
    )

    resolved = defs.resolve_schedule_def(schedule.name)
    assert ("15 0 * * *", "UTC") == (resolved.cron_schedule, resolved.execution_timezone)
    assert dg.DefaultScheduleStatus.STOPPED is resolved.default_status
    job = defs.resolve_job_def(resolved.job_name)
    assert {sync_history_key()} == job.asset_layer.executable_asset_keys


@pytest.mark.parametrize("damage", ["garbage", "emptied", "cut off", "cut in half", "another version", "a directory"])
def test_a_damaged_history_is_named(project, materialize, tmp_path, damage) -> None:
    """A history that is no DuckDB file is one line with the file and the cure, which works."""
    project.jobs("invoices", 3, newest=HOUR, every=HOUR)
    path = tmp_path / "history.duckdb"
    duckdb.connect(path).close()
    good = path.read_bytes()
    match damage:
        case "garbage":
            path.write_bytes(b"garbage" * 1000)
        case "cut off":
            path.write_bytes(good[:6000])
        case "cut in half":
            materialize()
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "emptied":
            path.write_bytes(b"")
        case "another version":
            path.write_bytes(good[:12] + (9999).to_bytes(8, "little") + good[20:])
        case _:
            path.unlink()
            path.mkdir()
    told, retries = failure_of(materialize()[0])
    assert f"The sync history {path} cannot be used" in told
    assert 1 == len(told.splitlines())
    assert 0 == retries
    path.rename(tmp_path / "moved_away")
    assert 3 == metadata_of(materialize()[0])["jobs_read"]
