"""The operations as jobs of the Dagster UI."""

from __future__ import annotations

import json
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.spec import asset_spec
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing import never_ends
from tests.operations.conftest import failure, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "a_database_that_nobody_may_know"
NAMES = [
    "posthog_warehouse_cancel_syncs",
    "posthog_warehouse_change_settings",
    "posthog_warehouse_create_source",
    "posthog_warehouse_create_webhook",
    "posthog_warehouse_delete_data",
    "posthog_warehouse_delete_source",
    "posthog_warehouse_delete_tables",
    "posthog_warehouse_delete_webhook",
    "posthog_warehouse_disable_tables",
    "posthog_warehouse_enable_tables",
    "posthog_warehouse_refresh_schemas",
    "posthog_warehouse_resync_tables",
    "posthog_warehouse_show_fields",
    "posthog_warehouse_show_webhook",
    "posthog_warehouse_takeover",
    "posthog_warehouse_update_source",
]


@pytest.fixture
def launch(stripe) -> Callable[..., dg.ExecuteInProcessResult]:
    """Runs a job of the code location with a configuration."""
    snapshot = stripe.snapshot()
    definitions = dg.Definitions(
        assets=build_posthog_assets(Tables(snapshot, include_disabled=True)),
        jobs=build_maintenance_jobs(Tables(snapshot, include_disabled=True)),
        resources={"posthog_warehouse": stripe.resource},
    )
    dg.Definitions.validate_loadable(definitions)

    def run(name, *, tags=None, instance=None, execution=None, **config) -> dg.ExecuteInProcessResult:
        job = definitions.get_job_def(f"posthog_warehouse_{name}")
        ops = {f"posthog_warehouse_{name}_step": {"config": config}}
        settings = {"execution": execution} if execution else {}
        return job.execute_in_process(
            run_config={"ops": ops, **settings}, tags=tags, instance=instance, raise_on_error=False
        )

    return run


def test_jobs_and_all_their_fields_are_described(stripe) -> None:
    """A user who finds a job in the UI can use it: names begin with the resource's, and nothing is undescribed."""
    jobs = build_maintenance_jobs(Tables(stripe.snapshot(), include_disabled=True))

    assert NAMES == sorted(job.name for job in jobs)
    assert [] == [job.name for job in jobs if not job.description]
    for job in jobs:
        (op,) = job.all_node_defs
        fields = op.config_schema.as_field().config_type.fields
        assert [] == [name for name, each in fields.items() if not each.description]


def test_untouched_form_has_every_field_and_changes_nothing(launch, stripe, everything) -> None:
    """The launchpad opens with each field and its default, and who launches it so learns what to fill in, and how."""
    before = everything()
    for job in build_maintenance_jobs(Tables(stripe.snapshot(), include_disabled=True)):
        snapshot, name = job.get_job_snapshot(), job.name.removeprefix("posthog_warehouse_")
        types = snapshot.config_schema_snapshot
        root = types.get_config_snap(snapshot.mode_def_snaps[0].root_config_key or "")
        form = yaml.safe_load(default_values_yaml_from_type_snap(types, root))["ops"][f"{job.name}_step"]["config"]
        (op,) = job.all_node_defs
        assert set(form) == set(op.config_schema.as_field().config_type.fields)
        example = yaml.safe_load((job.description or "").partition("```yaml\n")[2].partition("```")[0])
        assert dg.validate_run_config(job, example)
        asked = failure(launch(name, **form)).description
        assert re.fullmatch(r"Nothing was done: fill in [a-z_ ]+ in the launchpad, for example .+", asked)
    assert before == everything()


def test_choices_and_settings_that_stay_are_shown(stripe) -> None:
    """Choices are choices, and the word for what stays is one of them; a number or a list can be typed in its place."""
    jobs = {job.name: job for job in build_maintenance_jobs(Tables(stripe.snapshot(), include_disabled=True))}
    job = jobs["posthog_warehouse_change_settings"]
    (op,) = job.all_node_defs
    fields = op.config_schema.as_field().config_type.fields

    assert ["unchanged", "1min", "5min"] == [
        each.config_value for each in fields["sync_frequency"].config_type.enum_values
    ][:3]
    for name in ("sync_type", "sync_time_of_day", "enabled_columns", "full_refresh_interval_days"):
        assert "unchanged" == fields[name].default_value
    config = {"tables": ["Charge"], "primary_key_columns": ["id"], "full_refresh_interval_days": 30}
    assert dg.validate_run_config(job, {"ops": {op.name: {"config": config}}})


def test_value_of_a_wrong_type_fails_with_one_sentence(launch) -> None:
    """The setting is named, and the value is not repeated."""
    problem = failure(launch("change_settings", tables=["Charge"], full_refresh_interval_days="weekly"))
    assert (
        "Nothing was done. Invalid full_refresh_interval_days: Input should be a valid integer" in problem.description
    )


def test_two_projects_have_jobs_beside_each_other(stripe) -> None:
    """Another resource key gives other names, for jobs and their ops alike."""
    snapshot = stripe.snapshot()
    jobs = [
        *build_maintenance_jobs(Tables(snapshot, include_disabled=True)),
        *build_maintenance_jobs(Tables(snapshot, include_disabled=True, resource_key="other")),
    ]
    resources = dict.fromkeys(["posthog_warehouse", "other"], stripe.resource)
    dg.Definitions.validate_loadable(dg.Definitions(jobs=jobs, resources=resources))


def test_settings_are_shown_before_they_are_changed(launch, stripe, everything) -> None:
    """With `dry_run`, the run changes nothing and shows the difference."""
    before = everything()
    planned = shown(launch("change_settings", tables=["stripe_acme.*"], sync_frequency="1hour", dry_run=True))
    unchanged = everything()
    applied = shown(launch("change_settings", tables=["stripe_acme.*"], sync_frequency="1hour"))

    assert before == unchanged
    assert "| stripe_acme.Charge | sync_frequency | 6hour | 1hour | would change |  |" in planned
    assert "| stripe_acme.Customer | sync_frequency | 6hour | 1hour | changed |  |" in applied
    assert "1hour" == stripe.schema("Charge").sync_frequency


def test_refused_change_fails_the_run_with_its_table(launch, stripe) -> None:
    """Nothing turns green by doing nothing: PostHog's own words are next to each table."""
    result = launch("change_settings", tables=["Charge"], sync_type="cdc")
    assert not result.success
    assert "| failed | PostHog rejected the values: CDC is not enabled for this team" in shown(result)
    assert "full_refresh" == stripe.schema("Charge").sync_type


def test_tables_are_switched_by_their_asset_keys(launch, stripe) -> None:
    """A key as the asset graph shows it names a table."""
    launch("disable_tables", tables=["posthog/stripe/acme/charge"])
    assert [False, True] == [stripe.schema(name).should_sync for name in ("Charge", "Customer")]


def test_translated_keys_name_their_tables(stripe) -> None:
    """A code location with its own keys finds its tables by these."""
    jobs = build_maintenance_jobs(
        Tables(
            stripe.snapshot(),
            include_disabled=True,
            spec_of=lambda table: asset_spec(table).replace_attributes(key=["ours", table.schema.name.lower()]),
        )
    )
    (job,) = [job for job in jobs if job.name.endswith("disable_tables")]
    config = {"tables": ["ours/charge"]}
    result = job.execute_in_process(
        run_config={"ops": {"posthog_warehouse_disable_tables_step": {"config": config}}},
        resources={"posthog_warehouse": stripe.resource},
    )
    assert result.success
    assert not stripe.schema("Charge").should_sync


def test_mistyped_table_fails_with_one_sentence(launch) -> None:
    """The failure is the sentence, without the frames that led to it."""
    result = launch("disable_tables", tables=["acme.Chrge"])
    problem = failure(result)
    (event,) = [event for event in result.all_node_events if event.is_step_failure]
    assert [] == event.step_failure_data.error.stack
    assert event.step_failure_data.error.cause is None
    assert "No table is named 'acme.Chrge'. Did you mean stripe_acme.Charge?" == problem.description


def test_wrong_set_up_fails_with_one_sentence(stripe) -> None:
    """The resource's own sentence, as when tables are synced."""
    wrong = PostHogWarehouseResource(host="https://us.i.posthog.com", project_id="1", api_key="phx_k")
    (job,) = [
        job
        for job in build_maintenance_jobs(Tables(stripe.snapshot(), include_disabled=True))
        if job.name.endswith("cancel_syncs")
    ]
    result = job.execute_in_process(
        run_config={"ops": {f"{job.name}_step": {"config": {"tables": ["*"]}}}},
        resources={"posthog_warehouse": wrong},
        raise_on_error=False,
    )
    assert "us.i.posthog.com, which only ingests events" in failure(result).description


def test_running_sync_is_cancelled(launch, stripe) -> None:
    """The table in the run's metadata has the result."""
    stripe.behave("Customer", never_ends())
    stripe.start("Customer")
    assert "| stripe_acme.Customer | cancelled |" in shown(launch("cancel_syncs", tables=["Customer"]))


def test_data_is_deleted_by_hand_and_with_the_names_alone(launch, synced) -> None:
    """Without the names, from a schedule, or as a repetition, nothing is deleted."""
    config = {"tables": ["Customer"], "confirm": ["stripe_acme.Customer"]}
    refused = [
        failure(launch("delete_data", tables=["Customer"])).description,
        failure(launch("delete_data", tags={"dagster/schedule_name": "nightly"}, **config)).description,
        failure(launch("delete_source", tags={"dagster/sensor_name": "s"}, source="acme", confirm="stripe_acme")),
    ]
    rows = synced.rows("Customer")
    deleted = shown(launch("delete_data", **config))

    assert "repeat the names to confirm it; missing: stripe_acme.Customer." in refused[0]
    assert "Refusing to delete data: this run is tagged dagster/schedule_name. Launch the job manually." == refused[1]
    assert "dagster/sensor_name" in refused[2].description
    assert 2 == len(rows)
    assert "| deleted |" in deleted
    assert [] == synced.rows("Customer")


def test_repeated_run_deletes_nothing(launch, synced) -> None:
    """A re-execution has the confirmation of the run that it repeats, which is not enough: rows may have come since."""
    config = {"tables": ["Customer"], "confirm": ["Customer"]}
    with dg.DagsterInstance.ephemeral() as instance:
        first = launch("delete_data", instance=instance, **config)
        synced.sync("Customer")
        parent = {"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id}
        again = launch("delete_data", instance=instance, tags=parent, **config)

    assert (True, False) == (first.success, again.success)
    assert 2 == len(synced.rows("Customer"))


def test_source_is_refreshed_described_and_shown(launch, stripe) -> None:
    """The smaller jobs do what their names say."""
    assert launch("refresh_schemas", source="acme").success
    assert launch("update_source", source="stripe_acme", description="Payments").success
    assert "| updated |" in shown(launch("show_fields", table="stripe_acme.Customer"))
    assert "| stripe_acme | no |" in shown(launch("show_webhook", source="acme"))
    refused = failure(launch("create_webhook", source="acme")).description
    assert "This source type does not support webhooks" in refused
    assert ["Payments"] == [source.description for source in stripe.client.list_sources()]


def test_source_is_deleted_with_its_full_name(launch, stripe) -> None:
    """Its tables are named in the run."""
    folder = Path(stripe.resource.fixtures) / "Intercom"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Ticket.jsonl").write_text(json.dumps({"id": 1}) + "\n")

    created = launch("create_source", source_type="Intercom", payload={"schemas": [{"name": "Ticket"}]}, prefix="help")
    refused = launch("delete_source", source="help", confirm="help")
    deleted = launch("delete_source", source="help", confirm="intercom_help")

    assert (True, False, True) == (created.success, refused.success, deleted.success)
    assert "| intercom_help.Ticket | no |" in shown(deleted)


@pytest.fixture
def remembering(tmp_path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that keeps everything in files."""
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_secrets_are_nowhere(launch, remembering, postgres_server, monkeypatch) -> None:
    """A database that refuses quotes what it was given; no event, log, file or output has it, nor the password."""
    monkeypatch.setenv("SHOP_DATABASE", SECRET)
    monkeypatch.setenv("SHOP_PASSWORD", postgres_server.password)
    connection = {
        "host": postgres_server.host,
        "port": postgres_server.port,
        "user": postgres_server.user,
        "database": {"env": "SHOP_DATABASE"},
        "password": {"env": "SHOP_PASSWORD"},
    }
    secrets = {SECRET, postgres_server.password}

    refused = launch("create_source", instance=remembering, source_type="Postgres", payload=connection)
    changed = launch(
        "update_source", instance=remembering, source="acme", job_inputs={"stripe_key": {"env": "SHOP_PASSWORD"}}
    )

    assert "has no database '[SHOP_DATABASE]'" in failure(refused).description
    assert "| stripe_acme | stripe_key | changed |" in shown(changed)
    logs = [str(record) for run in (refused, changed) for record in remembering.all_logs(run.run_id)]
    files = [path.read_bytes() for path in Path(remembering.root_directory).rglob("*") if path.is_file()]
    assert any(b"STEP_FAILURE" in text for text in files)
    for secret in secrets:
        assert [] == [text for text in logs if secret in text]
        assert not any(secret.encode() in text for text in files)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("update_source", {"source": "acme", "job_inputs": {"stripe_secret_key": SECRET}}),
        ("create_source", {"source_type": "Postgres", "payload": {"auth": {"password": SECRET}}}),
        ("create_webhook", {"source": "acme", "inputs": {"headers": {"Authorization": SECRET}}}),
    ],
)
def test_secret_that_is_written_out_is_refused_and_not_stored(launch, remembering, everything, name, config) -> None:
    """Dagster stores a run with its config before it starts: there is no run, and the value is in no text or file."""
    before = everything()

    with pytest.raises(dg.DagsterError, match="is written out, and Dagster stores") as caught:
        launch(name, instance=remembering, **config)

    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert [] == list(remembering.get_runs())
    assert before == everything()


def test_jobs_for_sources_take_settings_of_the_run(launch) -> None:
    """The check of the config leaves the rest of it as it is: how a run is executed can still be chosen."""
    config = {"source": "acme", "description": "Payments"}
    assert launch("update_source", execution={"config": {"in_process": {}}}, **config).success
