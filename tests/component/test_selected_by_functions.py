"""In YAML, a template variable of the user's own module selects tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_snapshots import project, source, table

if TYPE_CHECKING:
    from component_projects import DgProject

FUNCTIONS = """
from collections.abc import Callable

import dagster as dg

from dw_orchestration import Table


@dg.template_var
def incremental() -> Callable[[Table], bool]:
    return lambda table: table.schema.incremental_field is not None


@dg.template_var
def named() -> Callable[[str], Callable[[Table], bool]]:
    return lambda end: lambda table: table.schema.name.endswith(end)
"""
SELECTED_BY_FUNCTIONS = """
type: dw_orchestration.PostHogWarehouseComponent
template_vars_module: .template_vars
attributes:
  warehouse: {project_id: "1", api_key: phx_of_nobody}
  state_file: state.json
  select: ["{{ incremental }}", "hubspot.*"]
  exclude: ["{{ named('Invoice') }}", {source_type: Postgres}]
"""


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_a_file_names_functions_by_template_variables(dg_project: DgProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """In YAML, a template variable of the user's own module is such a function, or makes one."""
    by = {"incremental_field": "updated_at"}
    stripe = source("Stripe", [table("Customer", **by), table("Invoice", **by), table("Charge")])
    project(stripe, source("Postgres", [table("orders", **by)]), source("Hubspot", [table("deals")])).write(
        dg_project.root / "state.json"
    )
    dg_project.write("posthog", SELECTED_BY_FUNCTIONS).with_name("template_vars.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(dg_project.root / "src"))
    defs = dg.load_from_defs_folder(path_within_project=dg_project.defs)
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert {"posthog/stripe/customer", "posthog/hubspot/deals"} == keys
