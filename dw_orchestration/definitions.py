"""The default code location: your PostHog project, or the embedded warehouse if no project is set.

It reads these environment variables:

    POSTHOG_PROJECT_ID, POSTHOG_PERSONAL_API_KEY   the project and its key; set both or neither
    POSTHOG_HOST                                   PostHog's server, by default https://us.posthog.com
    DW_ORCHESTRATION_HOME                          the folder for the state and the embedded warehouse
    DW_ORCHESTRATION_REQUEST_BUDGET                where all machines count their requests, if there are several

The command `dw` reads the same ones.
"""

import os
from collections.abc import Mapping

import dagster as dg
from dagster_duckdb import DuckDBResource

from dw_orchestration.component import PostHogWarehouseComponent
from dw_orchestration.posthog.client import checked_project_id
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.state import home_of, is_reconstruction
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.shop_report import revenue_by_day
from dw_orchestration.tables.errors import SetupError, StateNotRefreshedError

_KEY = "POSTHOG_PERSONAL_API_KEY"
_BUDGET = "DW_ORCHESTRATION_REQUEST_BUDGET"
# set by `dagster dev` and `dg` for all of their processes
_IN_DEVELOPMENT = "DAGSTER_IS_DEV_CLI"


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that the environment asks for."""
    return definitions_for(os.environ)


def definitions_for(environment: Mapping[str, str]) -> dg.Definitions:
    """The definitions of the project that the environment names, or of the embedded warehouse.

    If only one of project and key is set, there is one asset whose description names the other, as for any setup error.
    """
    try:
        component = component_for(environment)
    except SetupError as error:
        dg.get_dagster_logger("dw_orchestration").error(str(error))
        return _project_component(environment).not_connected(str(error))
    tables = _loaded(component, environment)
    if isinstance(component.warehouse, LocalWarehouse):
        return dg.Definitions.merge(tables, _shop_report(component.warehouse))
    return tables


def component_for(environment: Mapping[str, str]) -> PostHogWarehouseComponent:
    """The component of the project that the environment names, or of the embedded warehouse.

    Raises:
        SetupError: The project is named without a key, the key without a project, or the project's id is not possible.
    """
    project_id = environment.get("POSTHOG_PROJECT_ID")
    api_key = environment.get(_KEY)
    if bool(project_id) != bool(api_key):
        missing = _KEY if project_id else "POSTHOG_PROJECT_ID"
        raise SetupError(f"{missing} is not set. Set the project and its key, or neither for the embedded warehouse.")
    if project_id:
        checked_project_id(project_id)
        return _project_component(environment)
    home = home_of(environment)
    # nothing is billed here, so the schedules run from the start
    return PostHogWarehouseComponent(
        warehouse=LocalWarehouse(home=str(home)),
        schedules_running=True,
        state_file=home / "state_embedded.json",
        history_database=home / "sync_history.duckdb",
    )


def _project_component(environment: Mapping[str, str]) -> PostHogWarehouseComponent:
    """The component of a PostHog project, even if some of its settings are missing."""
    home, project_id = home_of(environment), environment.get("POSTHOG_PROJECT_ID", "")
    return PostHogWarehouseComponent(
        warehouse=PostHogWarehouseResource(
            host=environment.get("POSTHOG_HOST") or "https://us.posthog.com",
            project_id=project_id,
            # the variable, and not the key: Dagster shows and stores what a resource is given
            api_key=dg.EnvVar(_KEY),
            request_budget=dg.EnvVar(_BUDGET) if environment.get(_BUDGET) else None,
        ),
        state_file=home / f"state_{project_id}.json",
        history_database=home / "sync_history.duckdb",
    )


def _shop_report(warehouse: LocalWarehouse) -> dg.Definitions:
    """The report on the embedded shop, which shows what a downstream asset looks like."""
    return dg.Definitions(
        assets=[revenue_by_day],
        resources={
            "reports": DuckDBResource(database=str(warehouse.database.with_name("reports.duckdb"))),
        },
    )


def _loaded(component: PostHogWarehouseComponent, environment: Mapping[str, str]) -> dg.Definitions:
    """The component's definitions; in development a code server refreshes their state as it starts."""
    state_file = component.state_file
    if state_file is not None and environment.get(_IN_DEVELOPMENT) and not is_reconstruction():
        problem = None
        try:
            component.write_state_to_path(state_file)
        except StateNotRefreshedError as error:
            problem = str(error)
            dg.get_dagster_logger("dw_orchestration").warning(problem)
        return component.build_defs_from_file(state_file, if_missing=problem)
    return dg.build_defs_for_component(component)
