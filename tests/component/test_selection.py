"""Which tables become assets, and that everything that is built of them agrees on it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from component_snapshots import GIVEN_UP, NEVER_SET_UP, OFF, project, source, table
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dw_orchestration.assets.selection import TableSelection, TableSelector
from dw_orchestration.posthog.enums import AccessMethod, SyncType
from dw_orchestration.tables.drift import ChangeKind, drift_between

if TYPE_CHECKING:
    from component_projects import DgProject

    from dw_orchestration import Table

STRIPE = source("Stripe", [table("Customer"), table("Invoice", sync_type=SyncType.INCREMENTAL)])
SHOP = source("Postgres", [table("public.orders"), table("public.audit", sync_type=SyncType.CDC)], prefix="shop")
QUERIED = source("Postgres", [table("live.stock", **OFF)], prefix="live", access_method=AccessMethod.DIRECT)
MIXED = source("Hubspot", [table("on"), table("off", **OFF), table("new", **NEVER_SET_UP), table("broken", **GIVEN_UP)])
WHOLE = project(STRIPE, SHOP, QUERIED, MIXED)
ON = {"Customer", "Invoice", "public.orders", "public.audit", "live.stock", "on", "broken"}


def names(selection: TableSelection) -> set[str]:
    """The tables of the whole project that a selection leaves."""
    return {schema.name for schema in selection.of(WHOLE).schemas}


def test_what_is_off_is_left_out_unless_asked_for() -> None:
    """By default there are the tables that are on, and those that PostHog itself gave up: these have to be seen."""
    assert ON == names(TableSelection())
    assert ON | {"off", "new"} == names(TableSelection(include_off=True))


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        ("stripe.*", {"Customer", "Invoice"}),
        ("STRIPE.customer", {"Customer"}),
        ("postgres_shop.public.*", {"public.orders", "public.audit"}),
        ("*.public.orders", {"public.orders"}),
        ({"source": "id-of-Stripe-None"}, {"Customer", "Invoice"}),
        ({"source_type": "stripe"}, {"Customer", "Invoice"}),
        ({"prefix": "shop"}, {"public.orders", "public.audit"}),
        ({"prefix": ""}, {"Customer", "Invoice", "on", "broken"}),
        ({"table": "*s*"}, {"Customer", "public.orders", "live.stock"}),
        ({"sync_type": "cdc"}, {"public.audit"}),
        ({"enabled": False}, {"broken", "live.stock"}),
        ({"source_type": "Postgres", "table": "*.orders"}, {"public.orders"}),
    ],
)
def test_a_selector_takes_what_it_says(selector: str | dict[str, object], taken: set[str]) -> None:
    """A pattern names source and table; the conditions of a mapping all have to hold; case does not matter."""
    chosen = selector if isinstance(selector, str) else TableSelector.model_validate(selector)
    assert taken == names(TableSelection(select=[chosen]))
    assert ON - taken == names(TableSelection(exclude=[chosen]))


def test_selectors_add_up_and_exclude_wins() -> None:
    """A table is taken if one selector of `select` takes it and none of `exclude` does."""
    chosen = TableSelection(select=["stripe.*", "hubspot.*"], exclude=["*.customer"], include_off=True)
    assert {"Invoice", "on", "off", "new", "broken"} == names(chosen)


@pytest.mark.parametrize("wrong", [{}, {"tabel": "orders"}, {"sync_type": "increment"}])
def test_a_selector_that_says_nothing_is_refused(wrong: dict[str, str]) -> None:
    """A selector without a condition, or with one that there is not, is an error and not one that takes everything."""
    with pytest.raises(ValidationError):
        TableSelector.model_validate(wrong)


def test_selectors_that_name_nothing_are_told() -> None:
    """A selector that names no table, in either list, is told as the user wrote it."""
    chosen = TableSelection(select=["stripe.*", "strip.*"], exclude=[TableSelector(source="gone", sync_type="cdc")])
    assert ["strip.*", "source: gone, sync_type: cdc"] == chosen.unused(WHOLE)


def often(table: Table) -> bool:
    """Whether PostHog syncs it more than once a day."""
    return table.cadence is not None and table.cadence.every < timedelta(days=1)


def test_a_function_is_asked_for_each_table() -> None:
    """A function is given the table as a translation is, and stands beside patterns, in either list."""
    assert ON - {"live.stock", "broken"} == names(TableSelection(select=[often]))
    assert {"live.stock", "broken"} == names(TableSelection(exclude=[often]))
    with_a = TableSelection(select=["stripe.*", lambda table: "a" in table.key.path[-1]], exclude=["*.invoice"])
    assert {"Customer", "public.audit"} == names(with_a)


def test_a_function_that_takes_no_table_is_told_by_its_name() -> None:
    """A selector that names nothing is told, whatever it is."""

    class Nothing:
        def __call__(self, _: Table) -> bool:
            return False

        def __repr__(self) -> str:
            return "Nothing()"

    def nothing(table: Table) -> bool:
        return not table.schema.name

    chosen = TableSelection(select=[often, nothing], exclude=[lambda _: False, Nothing()])
    assert ["nothing", "<lambda>", "Nothing()"] == chosen.unused(WHOLE)


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


PATTERNS = st.lists(st.sampled_from(["stripe.*", "*.o*", "postgres_shop.*", "nothing.*", "*"]), max_size=3)


@given(PATTERNS, PATTERNS, st.booleans())
def test_nothing_is_lost(select: list[str], exclude: list[str], include_off: bool) -> None:  # noqa: FBT001  an example's value
    """Each table is either selected or known as left out, and selecting twice is selecting once."""
    chosen = TableSelection(select=select, exclude=exclude, include_off=include_off)
    selected = chosen.of(WHOLE)
    taken = {schema.id for schema in selected.schemas}
    assert not taken & selected.left_out_ids
    assert {schema.id for schema in WHOLE.schemas} == taken | selected.left_out_ids
    assert selected == chosen.of(selected)


def test_a_file_holds_the_whole_project(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a selection leaves is no part of the state, so that another selection needs no refresh."""
    path = tmp_path_factory.mktemp("state") / "state.json"
    TableSelection(select=["stripe.*"]).of(WHOLE).named("eu").write(path)
    text = path.read_text()
    assert "Customer" in text
    assert "left_out" not in text
    assert "namespace" not in text


def told(before: dict[str, object], after: dict[str, object] | None, *, selection: TableSelection) -> list[str]:
    """What the drift check tells of a Stripe table that was so before and is so now."""
    old = project(source("Stripe", [table("kept"), table("Customer", **before)]))
    new = project(source("Stripe", [table("kept"), *([table("Customer", **after)] if after is not None else [])]))
    return [change.kind.value for change in drift_between(selection.of(old), selection.of(new)).changes]


DEFAULT = TableSelection()


@pytest.mark.parametrize(
    ("before", "after", "selection", "kinds"),
    [
        ({}, OFF, DEFAULT, [ChangeKind.OFF_BY_USER]),
        ({}, GIVEN_UP, DEFAULT, [ChangeKind.OFF_BY_POSTHOG]),
        (OFF, {}, DEFAULT, [ChangeKind.ON]),
        (OFF, None, DEFAULT, []),
        ({}, None, DEFAULT, [ChangeKind.REMOVED]),
        (OFF, {**OFF, "sync_type": SyncType.APPEND}, DEFAULT, []),
        ({}, OFF, TableSelection(exclude=["stripe.customer"]), []),
        ({}, None, TableSelection(exclude=["stripe.customer"]), []),
        ({}, OFF, TableSelection(include_off=True), [ChangeKind.OFF_BY_USER]),
    ],
)
def test_drift_tells_of_selected_tables_alone(
    before: dict[str, object], after: dict[str, object] | None, selection: TableSelection, kinds: list[ChangeKind]
) -> None:
    """A table that is left out before and after is none of our business; one that is switched is told as that."""
    assert kinds == told(before, after, selection=selection)


def test_a_new_table_that_is_off_is_no_drift() -> None:
    """PostHog finds new tables by itself and leaves them off: that changes no asset."""
    before = project(source("Stripe", [table("kept")]))
    after = project(source("Stripe", [table("kept"), table("found", **NEVER_SET_UP)]))
    assert drift_between(DEFAULT.of(before), DEFAULT.of(after)).is_empty
    assert not drift_between(before, after).is_empty
