"""What the maintenance jobs do: each is an operation with what a user may set for it."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import dagster as dg

from dw_orchestration.operations import job_configs as configs
from dw_orchestration.operations.cancelling import cancel_syncs
from dw_orchestration.operations.catalogue import Project
from dw_orchestration.operations.deletion import confirmed_tables, delete_data
from dw_orchestration.operations.fields import show_fields
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.resync import AssetEvent, Tables, resync_tables
from dw_orchestration.operations.secrets import Secrets
from dw_orchestration.operations.settings import change_settings
from dw_orchestration.operations.settings_input import TypedSettings, settings_update
from dw_orchestration.operations.sources import create_source, delete_source, refresh_source, update_source
from dw_orchestration.operations.webhooks import create_webhook, delete_webhook, show_webhook
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import UsageError

C = TypeVar("C", bound=dg.Config)


# What a job may tell the assets' event log, before its report.
Work = Generator[AssetEvent, None, Report]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What one run has to do it with.

    Attributes:
        project: The project.
        secrets: Those that it has looked up.
        context: The step's.
        warehouse: The project, as the tables' own steps have it.
        tables: The tables' assets.
    """

    project: Project
    secrets: Secrets
    context: dg.OpExecutionContext
    warehouse: WarehouseResource
    tables: Tables

    def values(self, named: Mapping[str, object] | None) -> dict[str, object] | None:
        """The values that stand behind what the configuration names; None for none."""
        if named is None:
            return None
        return self.secrets.values(named, lookup=lambda name: dg.EnvVar(name).get_value())


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[C]):
    """One of the jobs.

    Attributes:
        name: What follows the resource's key in the job's name.
        config: What a user may set.
        do: Does it.
        description: For the job's page.
        deletes: Whether a person has to launch it.
    """

    name: str
    config: type[C]
    do: Callable[[Launch, C], Report | Work]
    description: str
    deletes: bool = False


def _refresh(launch: Launch, config: configs.SourceConfig) -> Report:
    return refresh_source(launch.project, config.source)


def _cancel(launch: Launch, config: configs.TablesConfig) -> Report:
    return cancel_syncs(launch.project, config.tables)


def _resync(launch: Launch, config: configs.ResyncConfig) -> Work:
    chosen = confirmed_tables(launch.project, config.tables, confirm=config.confirm)
    return resync_tables(launch.context, chosen, wait=config.wait, warehouse=launch.warehouse, known=launch.tables)


def _delete_data(launch: Launch, config: configs.DeleteDataConfig) -> Report:
    return delete_data(launch.project, config.tables, confirm=config.confirm)


def _switch(launch: Launch, config: configs.SwitchConfig) -> Report:
    update = SchemaUpdate(should_sync=config.should_sync)
    return change_settings(launch.project, config.tables, update, dry_run=False)


def _change(launch: Launch, config: configs.SettingsConfig) -> Report:
    typed = TypedSettings(
        sync_frequency=_chosen(config.sync_frequency),
        sync_time_of_day=config.sync_time_of_day,
        sync_type=_chosen(config.sync_type),
        incremental_field=config.incremental_field,
        incremental_field_type=_chosen(config.incremental_field_type),
        incremental_field_lookback_seconds=config.incremental_field_lookback_seconds,
        primary_key_columns=config.primary_key_columns,
    )
    return change_settings(launch.project, config.tables, settings_update(typed), dry_run=not config.apply)


def _chosen(setting: str) -> str | None:
    return None if setting == configs.UNCHANGED else setting


def _show_fields(launch: Launch, config: configs.TableConfig) -> Report:
    return show_fields(launch.project, config.table)


def _create_source(launch: Launch, config: configs.CreateSourceConfig) -> Report:
    return create_source(
        launch.project,
        config.source_type,
        launch.values(config.payload) or {},
        prefix=config.prefix,
        description=config.description,
        access_method=config.access_method,
    )


def _update_source(launch: Launch, config: configs.UpdateSourceConfig) -> Report:
    inputs = launch.values(config.job_inputs)
    return update_source(launch.project, config.source, description=config.description, job_inputs=inputs)


def _delete_source(launch: Launch, config: configs.DeleteSourceConfig) -> Report:
    return delete_source(launch.project, config.source, confirm=config.confirm)


def _webhook(launch: Launch, config: configs.WebhookConfig) -> Report:
    inputs = launch.values(config.inputs)
    if inputs and config.action != "create":
        raise UsageError(f"`inputs` are for `action: create` alone, and the action is {config.action}.")
    match config.action:
        case "show":
            return show_webhook(launch.project, config.source)
        case "create":
            return create_webhook(launch.project, config.source, inputs=inputs)
        case "delete":
            return delete_webhook(launch.project, config.source)


KINDS: tuple[Kind[Any], ...] = (
    Kind(
        name="refresh_schemas",
        config=configs.SourceConfig,
        do=_refresh,
        description="Looks for new and vanished tables of a source now, as PostHog does by itself every six hours. New"
        " tables are switched off at first. Refresh the state of the definitions afterwards to see them as assets.",
    ),
    Kind(
        name="switch_tables",
        config=configs.SwitchConfig,
        do=_switch,
        description="Switches tables on or off in PostHog. A table that is switched on for the first time is synced at"
        " once; a running sync of one that is switched off is stopped. Rows stay.",
    ),
    Kind(
        name="change_settings",
        config=configs.SettingsConfig,
        do=_change,
        description="Changes how and when PostHog syncs tables: frequency, time of day, sync type, incremental field,"
        " primary key. Without `apply: true` it changes nothing and shows what would change.",
    ),
    Kind(
        name="show_fields",
        config=configs.TableConfig,
        do=_show_fields,
        description="Shows the columns of a table, and which an incremental sync can follow. Asks the table's source,"
        " which can take a minute; changes nothing.",
    ),
    Kind(
        name="cancel_syncs",
        config=configs.TablesConfig,
        do=_cancel,
        description="Cancels the running syncs of tables, whoever started them, and waits for their end. PostHog shows"
        " a cancelled sync as Failed; the rows from before stay.",
    ),
    Kind(
        name="resync_tables",
        config=configs.ResyncConfig,
        do=_resync,
        deletes=True,
        description="Drops tables in PostHog and imports all of their rows again, which PostHog bills. Running syncs of"
        " them are cancelled for it. `confirm` has to repeat the names of the tables.",
    ),
    Kind(
        name="delete_data",
        config=configs.DeleteDataConfig,
        do=_delete_data,
        deletes=True,
        description="Deletes the rows of tables in PostHog. The tables stay switched on: their next sync imports, and"
        " PostHog bills, all rows again. `confirm` has to repeat the names of the tables.",
    ),
    Kind(
        name="create_source",
        config=configs.CreateSourceConfig,
        do=_create_source,
        description="Creates a source in PostHog. PostHog tests the connection first, then syncs the tables that are"
        " switched on. Secrets are named by environment variables of the code location, never written out.",
    ),
    Kind(
        name="update_source",
        config=configs.UpdateSourceConfig,
        do=_update_source,
        description="Changes the description or the connection of a source. PostHog tests the connection first. Secrets"
        " are named by environment variables of the code location, never written out.",
    ),
    Kind(
        name="delete_source",
        config=configs.DeleteSourceConfig,
        do=_delete_source,
        deletes=True,
        description="Deletes a source in PostHog for good, with its tables, their rows and its webhook. `confirm` has"
        " to repeat the source's name.",
    ),
    Kind(
        name="webhook",
        config=configs.WebhookConfig,
        do=_webhook,
        description="Shows, creates or deletes the webhook by which a source's provider tells PostHog of changes. It is"
        " not created twice.",
    ),
)
