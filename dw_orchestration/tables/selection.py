"""The one language in which users name tables: in `select`, `exclude`, `overrides`, every command and every job.

For a table `Customer` of the Stripe source with the prefix `acme`, all of these name it:

    stripe_acme.Customer  stripe_acme/Customer  posthog/stripe/acme/customer  <the schema's id>
    acme.Customer         acme/Customer         Stripe.Customer
    Customer              <its table name in queries>

The first line is checked first, and so on: a full name always wins over a short one. Case matters only if two
tables differ in nothing else. A short name that several tables have is an error that lists them.

`*` and `?` are patterns. A pattern with a slash is compared with asset keys and `<source>/<table>`, a pattern without
one with `<source>.<table>`. Only if no table matches is the pattern compared with the shorter names further down:
`stripe.*` never takes the tables of `stripe_acme` while there is a source `stripe`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dw_orchestration.tables.errors import AmbiguousNameError, UnknownNameError, UsageError
from dw_orchestration.tables.snapshot import SourceSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.text import visible

_NAMES_SHOWN = 5
_NEAREST_SHOWN = 3
_SIMILARITY = 0.5
_PATTERN_MARKS = re.compile(r"[*?]")

SelectableSyncType = Literal["full_refresh", "incremental", "append", "webhook", "cdc", "xmin"]


class TableSelector(BaseModel):
    """Tables that meet several conditions at once. Case is ignored in types, prefixes and patterns.

    Example:
        ```yaml
        select:
          - source_type: Postgres
            prefix: shop
            table: "public.*"
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    source: str | None = Field(default=None, description="The id of a source.")
    source_type: str | None = Field(default=None, description="The type of the source: `Stripe`, `Postgres`.")
    prefix: str | None = Field(
        default=None, description='The prefix of the source, as set in PostHog; `""` for a source without a prefix.'
    )
    table: str | None = Field(
        default=None, description="A pattern with `*` and `?` for the table's name in PostHog: `public.*`."
    )
    sync_type: SelectableSyncType | None = Field(default=None, description="How PostHog syncs the table.")
    enabled: bool | None = Field(
        default=None,
        description="Whether the table is enabled in PostHog (`should_sync` in its API). Disabled tables become assets"
        " only with `include_disabled`.",
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not self.conditions:
            raise ValueError("A selector needs a condition: source, source_type, prefix, table, sync_type or enabled.")
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """The conditions that were given."""
        return self.model_dump(exclude_none=True)

    def matches(self, table: Table) -> bool:
        """Whether a table meets all conditions."""
        source, schema = table.source, table.schema
        return (
            self.source in (None, source.id)
            and _is_alike(self.source_type, source.source_type)
            and _is_alike(self.prefix, source.prefix or "")
            and (self.table is None or _fits(self.table, schema.name))
            and self.sync_type in (None, schema.sync_type)
            and self.enabled in (None, schema.should_sync)
        )

    def __str__(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.conditions.items())


TableName = Annotated[
    str,
    Field(
        description="A table by its name, asset key or id (`stripe_acme.Customer`, `posthog/stripe/acme/customer`), or"
        " a pattern with `*` and `?` (`stripe.*`, `*.orders`)."
    ),
]
Selector = TableName | TableSelector | Callable[[Table], bool]
"""A name or pattern, conditions, or a function that is called with each table."""


class _Named(Protocol):
    """A source or a table, for the index of names."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


class Tier(NamedTuple):
    """Names of one thing that are equally exact.

    A pattern with a slash is meant for keys and paths, a pattern without one for dotted names. A table's own name may
    hold slashes and dots, so that their characters do not distinguish the two kinds.
    """

    dotted: Sequence[str] = ()
    slashed: Sequence[str] = ()
    ids: Sequence[str] = ()

    def names(self, spell: Callable[[str], str] = str) -> set[str]:
        """All names, in one spelling."""
        return {spell(name) for names in self for name in names if name}

    def fits(self, pattern: str) -> bool:
        """Whether a pattern fits one of the names."""
        return any(_fits(pattern, name) for name in (self.slashed if "/" in pattern else self.dotted) if name)


# The names of one thing, most exact first: a name of an earlier tier wins over the same name of a later one.
Tiers = Sequence[Tier]


class NamedSource(BaseModel):
    """A source and its name: `<source type>[_<prefix>]`, or its id where two sources would have the same name."""

    model_config = ConfigDict(frozen=True)

    name: str
    source: SourceSnapshot

    @property
    def id(self) -> str:
        """The id of the source in PostHog."""
        return self.source.id


def source_tiers(named: NamedSource) -> Tiers:
    """What a source may be called."""
    return [Tier([named.name], ids=[named.id]), Tier([named.source.prefix or ""]), Tier([named.source.source_type])]


def table_tiers(table: Table) -> Tiers:
    """What a table may be called."""
    source, own = table.source, table.schema.name
    owners = [owner for owner in (source.prefix, source.source_type, source.id) if owner]
    synced = [table.schema.table.name] if table.schema.table else []
    keys = {"/".join(path) for path in (table.key_path, table.default_key_path)}
    return [
        Tier([table.name], [f"{table.source_name}/{own}", *keys], ids=[table.id]),
        Tier([f"{owner}.{own}" for owner in owners], [f"{owner}/{own}" for owner in owners]),
        Tier([own, *synced]),
    ]


class NameIndex(Generic[N]):
    """Finds sources or tables by the names that users type.

    Args:
        kind: What it finds, for messages: `source` or `table`.
        things: The sources or tables.
        tiers: What each of them may be called.
    """

    def __init__(self, kind: str, things: Sequence[N], tiers: Callable[[N], Tiers]) -> None:
        self._kind = kind
        self._things = things
        self._tiers = [(thing, tiers(thing)) for thing in things]
        # exact spelling of every tier before any other spelling: `Orders` and `orders` may be two tables
        self._lookups = [
            (spell, self._by_name(tier, spell)) for spell in (str, str.lower) for tier in range(len(self._depth()))
        ]

    def one(self, name: str) -> N:
        """The one thing with this name.

        Raises:
            UnknownNameError: Nothing has the name.
            AmbiguousNameError: Several things have it.
        """
        found = self._exact(name)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(visible(each.name) for each in found)
            raise AmbiguousNameError(
                f"{name!r} is the name of {len(found)} {self._kind}s: {names}. Use one of these names."
            )
        raise UnknownNameError(f"No {self._kind} is named {name!r}. {self._nearest(name) or self.known()}")

    def matching(self, name: str) -> list[N]:
        """What a name or a pattern names.

        Raises:
            UnknownNameError: Nothing has the name or fits the pattern, or several things have the name.
        """
        if not _PATTERN_MARKS.search(name) or self._exact(name):
            return [self.one(name)]
        for tier in range(len(self._depth())):
            if found := [thing for thing, tiers in self._tiers if tiers[tier].fits(name)]:
                return found
        raise UnknownNameError(f"No {self._kind} matches {name!r}. {self.known()}")

    def known(self) -> str:
        """A sentence that lists what there is."""
        names = sorted(visible(each.name) for each in self._things)
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return f"There are {', '.join(names[:_NAMES_SHOWN])}{more}." if names else f"The project has no {self._kind}."

    def _depth(self) -> Tiers:
        return self._tiers[0][1] if self._tiers else []

    def _by_name(self, tier: int, spell: Callable[[str], str]) -> dict[str, list[N]]:
        found: dict[str, list[N]] = {}
        for thing, tiers in self._tiers:
            for alias in tiers[tier].names(spell):
                found.setdefault(alias, []).append(thing)
        return found

    def _exact(self, name: str) -> list[N]:
        return next((found for spell, names in self._lookups if (found := names.get(spell(name)))), [])

    def _nearest(self, name: str) -> str:
        by_alias: dict[str, list[str]] = {}
        for thing, tiers in self._tiers:
            for alias in {alias for tier in tiers for alias in tier.names(str.lower)}:
                by_alias.setdefault(alias, []).append(visible(thing.name))
        close = get_close_matches(name.lower(), by_alias, n=_NAMES_SHOWN, cutoff=_SIMILARITY)
        names = list(dict.fromkeys(own for alias in close for own in by_alias[alias]))[:_NEAREST_SHOWN]
        return f"Did you mean {' or '.join(names)}?" if names else ""


def named_by(index: NameIndex[Table], wanted: Iterable[str]) -> set[str]:
    """The schema ids of the tables that names and patterns name.

    Raises:
        UsageError: There is no name.
        UnknownNameError: A name or pattern names no table, or a name several.
    """
    names = list(wanted)
    if not names:
        raise UsageError("Name at least one table, or '*' for all.")
    return {table.id for name in names for table in index.matching(name)}


def selected_by(selector: Selector, tables: Sequence[Table], *, index: NameIndex[Table]) -> set[str]:
    """The schema ids of the tables that one selector takes.

    Raises:
        UnknownNameError: A name or pattern names no table, or a name several; a selector of another kind takes none.
    """
    if isinstance(selector, str):
        return {table.id for table in index.matching(selector)}
    matches = selector.matches if isinstance(selector, TableSelector) else selector
    if found := {table.id for table in tables if matches(table)}:
        return found
    described = str(selector) if isinstance(selector, TableSelector) else getattr(selector, "__name__", repr(selector))
    raise UnknownNameError(f"No table matches {described!r}. {index.known()}")


def _is_alike(wanted: str | None, actual: str) -> bool:
    return wanted is None or wanted.lower() == actual.lower()


def _fits(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern in which only `*` and `?` are special; case is ignored."""
    parts = (".*" if mark == "*" else "." if mark == "?" else re.escape(mark) for mark in pattern)
    return re.fullmatch("".join(parts), name, re.IGNORECASE | re.DOTALL) is not None
