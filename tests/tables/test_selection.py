"""Which tables become assets, and that everything that is built of them agrees on it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from component_snapshots import GIVEN_UP, NEVER_SET_UP, OFF, project, source, table
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dw_orchestration.posthog.enums import AccessMethod, SyncType
from dw_orchestration.tables.drift import ChangeKind, drift_between
from dw_orchestration.tables.selection import TableSelector
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    from dw_orchestration import Table

STRIPE = source("Stripe", [table("Customer"), table("Invoice", sync_type=SyncType.INCREMENTAL)])
SHOP = source("Postgres", [table("public.orders"), table("public.audit", sync_type=SyncType.CDC)], prefix="shop")
QUERIED = source("Postgres", [table("live.stock", **OFF)], prefix="live", access_method=AccessMethod.DIRECT)
MIXED = source("Hubspot", [table("on"), table("off", **OFF), table("new", **NEVER_SET_UP), table("broken", **GIVEN_UP)])
WHOLE = project(STRIPE, SHOP, QUERIED, MIXED)
ON = {"Customer", "Invoice", "public.orders", "public.audit", "live.stock", "on", "broken"}


def names(**selection: Any) -> set[str]:
    """The tables of the whole project that a selection takes."""
    return {table.schema.name for table in Tables(WHOLE, **selection)}


def test_what_is_off_is_left_out_unless_asked_for() -> None:
    """By default there are the enabled tables, and those that PostHog disabled: somebody has to see them."""
    assert ON == names()
    assert ON | {"off", "new"} == names(include_disabled=True)


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
    assert taken == names(select=[chosen])
    assert ON - taken == names(exclude=[chosen])


def test_selectors_add_up_and_exclude_wins() -> None:
    """A table is taken if one selector of `select` takes it and none of `exclude` does."""
    assert {"Invoice", "on", "off", "new", "broken"} == names(
        select=["stripe.*", "hubspot.*"], exclude=["*.customer"], include_disabled=True
    )


@pytest.mark.parametrize("wrong", [{}, {"tabel": "orders"}, {"sync_type": "increment"}])
def test_a_selector_that_says_nothing_is_refused(wrong: dict[str, str]) -> None:
    """A selector without a condition, or with one that there is not, is an error and not one that takes everything."""
    with pytest.raises(ValidationError):
        TableSelector.model_validate(wrong)


def test_selectors_that_name_nothing_are_told() -> None:
    """A selector that takes no table, in either list, is reported as the user wrote it."""
    tables = Tables(WHOLE, select=["stripe.*", "strip.*"], exclude=[TableSelector(source="gone", sync_type="cdc")])
    assert ["No table matches 'strip.*'.", "No table matches 'source: gone, sync_type: cdc'."] == [
        problem.partition(" There are")[0] for problem in tables.problems
    ]


def often(table: Table) -> bool:
    """Whether PostHog syncs it more than once a day."""
    return table.cadence is not None and table.cadence.every < timedelta(days=1)


def test_a_function_is_asked_for_each_table() -> None:
    """A function gets the table, as a translation does; lists may mix functions and patterns."""
    assert ON - {"live.stock", "broken"} == names(select=[often])
    assert {"live.stock", "broken"} == names(exclude=[often])
    with_a = ["stripe.*", lambda table: "a" in table.key_path[-1]]
    assert {"Customer", "public.audit"} == names(select=with_a, exclude=["*.invoice"])


def test_a_function_that_takes_no_table_is_told_by_its_name() -> None:
    """A selector of any kind that takes no table is reported."""

    class Nothing:
        def __call__(self, _: Table) -> bool:
            return False

        def __repr__(self) -> str:
            return "Nothing()"

    def nothing(table: Table) -> bool:
        return not table.schema.name

    tables = Tables(WHOLE, select=[often, nothing], exclude=[lambda _: False, Nothing()])
    assert ["'nothing'", "'<lambda>'", "'Nothing()'"] == [problem.split()[3].rstrip(".") for problem in tables.problems]


PATTERNS = st.lists(st.sampled_from(["stripe.*", "*.o*", "postgres_shop.*", "nothing.*", "*"]), max_size=3)


@given(PATTERNS, PATTERNS, st.booleans())
def test_nothing_is_lost(select: list[str], exclude: list[str], include_disabled: bool) -> None:  # noqa: FBT001  an example's value
    """Each table is either selected or known as left out, and selecting twice is selecting once."""
    tables = Tables(WHOLE, select=select, exclude=exclude, include_disabled=include_disabled)
    taken = {table.id for table in tables}
    assert not taken & tables.left_out_ids
    assert {schema.id for schema in WHOLE.schemas} == taken | tables.left_out_ids
    assert list(tables) == list(tables.of(WHOLE))


def drift(before: dict[str, object], after: dict[str, object] | None, *, selection: dict[str, Any]) -> list[ChangeKind]:
    """What the drift check reports of a Stripe table that was so before and is so now."""
    old = project(source("Stripe", [table("kept"), table("Customer", **before)]))
    new = project(source("Stripe", [table("kept"), *([table("Customer", **after)] if after is not None else [])]))
    state = Tables(old, **selection)
    return [change.kind for change in drift_between(state, state.of(new)).changes]


DEFAULT: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("before", "after", "selection", "kinds"),
    [
        ({}, OFF, DEFAULT, [ChangeKind.DISABLED_BY_USER]),
        ({}, GIVEN_UP, DEFAULT, [ChangeKind.DISABLED_BY_POSTHOG]),
        (OFF, {}, DEFAULT, [ChangeKind.ENABLED]),
        (OFF, None, DEFAULT, []),
        ({}, None, DEFAULT, [ChangeKind.REMOVED]),
        (OFF, {**OFF, "sync_type": SyncType.APPEND}, DEFAULT, []),
        ({}, OFF, {"exclude": ["stripe.customer"]}, []),
        ({}, None, {"exclude": ["stripe.customer"]}, []),
        ({}, OFF, {"include_disabled": True}, [ChangeKind.DISABLED_BY_USER]),
    ],
)
def test_drift_tells_of_selected_tables_alone(
    before: dict[str, object], after: dict[str, object] | None, selection: dict[str, Any], kinds: list[ChangeKind]
) -> None:
    """A table that is left out before and after is ignored; a table that was disabled is reported as disabled."""
    assert kinds == drift(before, after, selection=selection)


def test_a_new_table_that_is_off_is_no_drift() -> None:
    """PostHog finds new tables by itself and leaves them off: that changes no asset."""
    before = project(source("Stripe", [table("kept")]))
    after = project(source("Stripe", [table("kept"), table("found", **NEVER_SET_UP)]))
    assert drift_between(Tables(before), Tables(after)).is_empty
    assert not drift_between(Tables(before), Tables(after, include_disabled=True)).is_empty
