"""A table has the same names in `select`, `exclude`, `overrides`, every command, takeover and every job's config."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from component_snapshots import project as project_of
from component_snapshots import source
from component_snapshots import table as table_of
from spellings import AMBIGUOUS, ID, SPELLINGS, UNKNOWN, UNKNOWN_TEXT
from typer.testing import CliRunner

from dw_orchestration.cli.app import app
from dw_orchestration.errors import SetupError
from dw_orchestration.operations.jobs import build_maintenance_jobs
from dw_orchestration.operations.operation import ConfirmedTablesParams, SomeTablesParams, TableParams, TablesParams
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.enums import SyncType
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.schedules import ScheduleOverride, build_posthog_schedules
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dagster as dg

    from dw_orchestration.operations.operation import Operation
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

STATE = project_of(
    source("Stripe", [table_of("Customer")], prefix="acme"),
    source("Hubspot", [table_of("Deal"), table_of("Invoice")]),
    source("Zendesk", [table_of("Invoice", id="id-of-another-invoice")]),
)
CUSTOMER_ID = "id-of-Customer"
WEEKDAYS = "30 7 * * mon-fri"
# what deletes or changes something needs more than a name: these only read, or show a plan
NAMES_TABLES = [
    each
    for each in OPERATIONS
    if issubclass(each.params, TablesParams | SomeTablesParams | TableParams | ConfirmedTablesParams)
]


def selected(**selection: Any) -> list[str]:
    """The names of the selected tables."""
    return [table.name for table in Tables(STATE, **selection)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_in_select_exclude_and_overrides(spelling: str) -> None:
    """The component's attributes accept every spelling."""
    typed = CUSTOMER_ID if spelling == ID else spelling
    everything = selected()
    assert ["stripe_acme.Customer"] == selected(select=[typed])
    assert [name for name in everything if name != "stripe_acme.Customer"] == selected(exclude=[typed])
    schedules = build_posthog_schedules(Tables(STATE, overrides=[ScheduleOverride(tables=[typed], cron=WEEKDAYS)]))
    assert ["stripe_acme_cron_30_7_any_any_montofri_utc"] == [each.name for each in schedules if "cron" in each.name]


def test_unknown_and_ambiguous_in_select_and_overrides() -> None:
    """One text for an unknown table, with the nearest one; a name of several tables is an error that lists them."""
    (problem,) = Tables(STATE, select=["hubspot.*"], exclude=[UNKNOWN]).problems
    assert problem.startswith(UNKNOWN_TEXT)
    overrides = [ScheduleOverride(tables=[UNKNOWN], cron=WEEKDAYS)]
    with pytest.raises(SetupError, match=UNKNOWN_TEXT):
        Tables(STATE, overrides=overrides)
    for place in ("select", "exclude"):
        with pytest.raises(SetupError, match=r"name of 2 tables: hubspot\.Invoice, zendesk\.Invoice"):
            Tables(STATE, **{place: [AMBIGUOUS]})
    with pytest.raises(SetupError, match=r"name of 2 tables: hubspot\.Invoice, zendesk\.Invoice"):
        Tables(STATE, overrides=[ScheduleOverride(tables=[AMBIGUOUS], cron=WEEKDAYS)])


@pytest.fixture
def warehouse(embedded_warehouse: EmbeddedWarehouse) -> EmbeddedWarehouse:
    """An embedded warehouse with the table, and with two tables of one name."""
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1}]})
    embedded_warehouse.add_source("Hubspot", tables={"Deal": [{"id": 1}], "Invoice": [{"id": 1}]})
    embedded_warehouse.add_source("Zendesk", tables={"Invoice": [{"id": 1}]})
    return embedded_warehouse


@pytest.fixture
def dw(warehouse: EmbeddedWarehouse) -> Callable[..., Any]:
    """Runs the command on the warehouse."""
    endpoint = warehouse.resource.ensure_running()
    environment = {
        "POSTHOG_HOST": endpoint["host"],
        "POSTHOG_PROJECT_ID": endpoint["project_id"],
        "POSTHOG_PERSONAL_API_KEY": endpoint["api_key"],
    }
    return lambda *arguments: CliRunner().invoke(app, list(arguments), env=environment)


EXTRA_OPTIONS = {
    "set": ["--sync-frequency", "1hour"],
    "delete-data": ["--confirm", "stripe_acme.Customer"],
    "delete-table": ["--confirm", "stripe_acme.Customer"],
}
EXTRA_CONFIG = {
    "change_settings": {"sync_frequency": "1hour"},
    "delete_data": {"confirm": ["stripe_acme.Customer"]},
    "delete_tables": {"confirm": ["stripe_acme.Customer"]},
}


def calls_of(operation: Operation, warehouse: EmbeddedWarehouse) -> list[list[str]]:
    """The spellings that a call gives: all at once, since an unknown one would fail it; one by one if it takes one."""
    typed = [warehouse.schema("Customer").id if spelling == ID else spelling for spelling in SPELLINGS]
    if issubclass(operation.params, TableParams):
        return [[each] for each in typed if not set(each) & set("*?")]
    return [typed]


def bring_back(operation: Operation, warehouse: EmbeddedWarehouse) -> None:
    """Let PostHog find the table again that an operation has deleted."""
    if operation.name == "delete_tables":
        (source,) = [each for each in warehouse.client.list_sources() if each.source_type == "Stripe"]
        warehouse.client.refresh_schemas(source.id)
        enabled = SchemaUpdate(should_sync=True, sync_type=SyncType.FULL_REFRESH)
        warehouse.client.update_schema(warehouse.schema("Customer").id, enabled)


@pytest.mark.parametrize("operation", NAMES_TABLES, ids=lambda operation: operation.command)
def test_in_every_command(operation: Operation, dw: Callable[..., Any], warehouse: EmbeddedWarehouse) -> None:
    """Each command that takes tables accepts every spelling, and reports an unknown and an ambiguous one."""
    options = [*EXTRA_OPTIONS.get(operation.command, []), "--json"]
    for typed in calls_of(operation, warehouse):
        result = dw(*operation.command.split(), *typed, *options)
        document = json.loads(result.stdout)
        assert 0 == result.exit_code, document
        assert {"stripe_acme.Customer"} >= {row["table"] for row in document["rows"] if "table" in row}, typed
        bring_back(operation, warehouse)
    assert UNKNOWN_TEXT in dw(*operation.command.split(), UNKNOWN, *options).stderr
    ambiguous = dw(*operation.command.split(), AMBIGUOUS, *options).stderr
    assert "name of 2 tables: hubspot.Invoice, zendesk.Invoice" in ambiguous


def test_in_dw_sync(dw: Callable[..., Any], warehouse: EmbeddedWarehouse) -> None:
    """`dw sync` accepts every spelling, and syncs the table once."""
    typed = [warehouse.schema("Customer").id if spelling == ID else spelling for spelling in SPELLINGS]
    result = dw("sync", *typed, "--poll-min-s", "0.1", "--json")
    assert (0, ["stripe_acme.Customer"]) == (
        result.exit_code,
        [row["table"] for row in json.loads(result.stdout)["rows"]],
    )


@pytest.mark.parametrize(
    "operation", [each for each in NAMES_TABLES if each.has_job], ids=lambda operation: operation.name
)
def test_in_every_job(operation: Operation, warehouse: EmbeddedWarehouse, tmp_path: Path) -> None:
    """The config of each job accepts every spelling, and its run fails with the same text for an unknown one."""
    built = build_maintenance_jobs(Tables(warehouse.snapshot()))
    name = f"posthog_warehouse_{operation.name}"
    (job,) = [job for job in built if job.name == name]

    def run(typed: list[str]) -> dg.ExecuteInProcessResult:
        one_table = issubclass(operation.params, TableParams)
        config: dict[str, Any] = {"table": typed[0]} if one_table else {"tables": typed}
        return job.execute_in_process(
            run_config={"ops": {f"{name}_step": {"config": config | EXTRA_CONFIG.get(operation.name, {})}}},
            resources={"posthog_warehouse": warehouse.resource},
            raise_on_error=False,
        )

    for typed in calls_of(operation, warehouse):
        assert run(typed).success, typed
        bring_back(operation, warehouse)
    (failed,) = [event for event in run([UNKNOWN]).all_node_events if event.is_step_failure]
    assert UNKNOWN_TEXT in failed.step_failure_data.user_failure_data.description
