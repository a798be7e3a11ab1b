"""Users name sources and tables in one language: by name, asset key, id or pattern."""

from __future__ import annotations

import pytest

from dw_orchestration.posthog.models import Schema, Source
from dw_orchestration.tables.errors import UnknownNameError, UsageError
from dw_orchestration.tables.selection import TableSelector
from dw_orchestration.tables.tables import Tables


def source(number: int, source_type: str, prefix: str | None, *tables: str) -> Source:
    schemas = tuple(Schema(id=f"t{number}-{name}", name=name) for name in tables)
    return Source(id=f"s{number}", source_type=source_type, prefix=prefix, schemas=schemas)


LIVE = Tables.live(
    [
        source(1, "Stripe", None, "Customer", "Charge"),
        source(2, "Stripe", "acme", "Customer", "Refund"),
        source(3, "Postgres", "shop", "public.orders", "Orders", "orders"),
    ]
)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("stripe.Customer", "stripe.Customer"),
        ("stripe_acme.Customer", "stripe_acme.Customer"),
        ("acme.Customer", "stripe_acme.Customer"),
        ("acme/customer", "stripe_acme.Customer"),
        ("stripe_acme/Customer", "stripe_acme.Customer"),
        ("s2/Customer", "stripe_acme.Customer"),
        ("t2-Customer", "stripe_acme.Customer"),
        ("posthog/stripe/acme/customer", "stripe_acme.Customer"),
        ("Refund", "stripe_acme.Refund"),
        ("refund", "stripe_acme.Refund"),
        ("public.orders", "postgres_shop.public.orders"),
        ("shop.Orders", "postgres_shop.Orders"),
        ("shop.orders", "postgres_shop.orders"),
    ],
)
def test_table_has_all_its_names(typed, expected) -> None:
    """A table is found by its name, asset key or id, and by less of it where that is enough."""
    assert expected == LIVE.table(typed).name


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("Customer", "'Customer' is the name of 2 tables: stripe.Customer, stripe_acme.Customer. Use one of these"),
        ("stripe.Custmer", "No table is named 'stripe.Custmer'. Did you mean stripe.Customer or"),
        ("shop.ORDERS", "is the name of 2 tables: postgres_shop.Orders, postgres_shop.orders."),
        ("zzzz", "No table is named 'zzzz'. There are postgres_shop.Orders, postgres_shop.orders,"),
        ("", "No table is named ''."),
    ],
)
def test_unknown_or_ambiguous_table_is_an_error_with_the_nearest(typed, said) -> None:
    """What names no table, or two, names the likely ones."""
    with pytest.raises(UnknownNameError) as caught:
        LIVE.table(typed)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*"], 7),
        (["stripe.*"], 2),
        (["STRIPE_*"], 2),
        (["*.Customer", "stripe.Customer"], 2),
        (["posthog/stripe/acme/*"], 2),
        (["postgres_shop/*"], 3),
        (["acme.*"], 2),
        (["shop/*"], 3),
        (["Cust*"], 2),
        (["Orders"], 1),
    ],
)
def test_patterns_take_whole_names_before_short_ones(patterns, expected) -> None:
    """`stripe.*` is the source without a prefix; each table counts once."""
    assert expected == len(LIVE.matching(patterns))


def test_selection_of_nothing_is_refused() -> None:
    """No name does not mean all, and a pattern that names none is an error."""
    with pytest.raises(UsageError, match="Name at least one table, or '\\*' for all"):
        LIVE.matching([])
    with pytest.raises(UnknownNameError, match="No table matches 'strype"):
        LIVE.matching(["strype.*"])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("stripe", "s1"), ("acme", "s2"), ("stripe_acme", "s2"), ("Postgres", "s3"), ("s3", "s3"), ("SHOP", "s3")],
)
def test_source_has_all_its_names(typed, expected) -> None:
    """A source is found by its name, prefix, type or id; the name comes before the type."""
    assert expected == LIVE.source(typed).id


def test_source_with_the_name_of_another_goes_by_its_id() -> None:
    """Two sources are never mixed up, even if they would have the same name."""
    twins = Tables.live([source(1, "Stripe", None, "a"), source(2, "stripe", None, "a")])
    assert ["s1", "s2"] == [each.name for each in twins.sources]
    assert ["s1.a", "s2.a"] == [table.name for table in twins]


def test_a_project_without_sources_says_so() -> None:
    """A project without sources has no nearest match."""
    with pytest.raises(UnknownNameError, match="The project has no source"):
        Tables.live([]).source("stripe")


ODD = ["Orders [2024]", "Orders 2", "a*", "ab", "a.b", "what?", "whats", "(x|y)+", "x", "^$", "{a,b}", "a\\b", "!a"]


@pytest.mark.parametrize("name", ODD)
def test_an_exact_name_wins_over_every_pattern(name) -> None:
    """A name that looks like a pattern, or like another pattern language, names its own table alone."""
    live = Tables.live([source(1, "Stripe", None, *ODD)])
    for typed in (name, f"stripe.{name}", f"stripe/{name}"):
        assert [name] == [table.schema.name for table in live.matching([typed])]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("stripe.Orders [*", {"Orders [2024]"}),
        ("stripe.Orders*", {"Orders [2024]", "Orders 2"}),
        ("stripe.*[2024]", {"Orders [2024]"}),
        ("stripe.a?b", {"a.b", "a\\b"}),
        ("stripe.a.*", {"a.b"}),
        ("stripe.(x|?)+", {"(x|y)+"}),
        ("stripe.{a,*}", {"{a,b}"}),
        ("stripe.!*", {"!a"}),
    ],
)
def test_only_two_characters_are_patterns(pattern, expected) -> None:
    """`*` is any text and `?` any character. Brackets, braces, dots and all others are themselves."""
    live = Tables.live([source(1, "Stripe", None, *ODD)])
    assert expected == {table.schema.name for table in live.matching([pattern])}
    chosen = TableSelector(table=pattern.removeprefix("stripe."))
    assert expected == {table.schema.name for table in live if chosen.matches(table)}
