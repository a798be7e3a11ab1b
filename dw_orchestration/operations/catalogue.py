"""The sources and tables of a project, found by the names that people use for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from dw_orchestration.tables.errors import UnknownNameError, UsageError
from dw_orchestration.tables.names import source_path, source_slug, table_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from dw_orchestration.posthog.models import Schema, Source

SHOWN = 5
SIMILAR = 0.5
TIERS = 3
MARKS_OF_A_PATTERN = "*?["


@dataclass(frozen=True, kw_only=True)
class NamedSource:
    """A source and its name: `<source type>[_<prefix>]`, or its id where two would have the same one."""

    name: str
    source: Source

    @property
    def id(self) -> str:
        """PostHog's id of it."""
        return self.source.id

    def tiers(self) -> list[list[str]]:
        """What it may be called; what comes first counts first."""
        return [[self.id, self.name], [self.source.prefix or ""], [self.source.source_type]]


@dataclass(frozen=True, kw_only=True)
class NamedTable:
    """A table and its name, `<source>.<table in PostHog>`; its record is as full as the catalogue was asked for."""

    source: NamedSource
    schema: Schema
    asset_key: str

    @property
    def name(self) -> str:
        """What a user types for it, in patterns too."""
        return f"{self.source.name}.{self.schema.name}"

    @property
    def path(self) -> str:
        """The same with a slash."""
        return f"{self.source.name}/{self.schema.name}"

    @property
    def id(self) -> str:
        """PostHog's id of its schema."""
        return self.schema.id

    def tiers(self) -> list[list[str]]:
        """What it may be called; what comes first counts first."""
        source, own = self.source.source, self.schema.name
        owners = [owner for owner in (source.prefix, source.source_type, source.id) if owner]
        synced = [self.schema.table.name] if self.schema.table else []
        return [
            [self.id, self.name, self.path, self.asset_key],
            [f"{owner}{mark}{own}" for owner in owners for mark in "./"],
            [own, *synced],
        ]


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    def tiers(self) -> list[list[str]]: ...


T = TypeVar("T", bound=_Named)
# How a name is spelled in a part of the index, and who has it so.
_Index = list[tuple[Callable[[str], str], dict[str, list[T]]]]


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything of one project that has a name."""

    sources: Sequence[NamedSource]
    tables: Sequence[NamedTable]

    @classmethod
    def of(cls, sources: Sequence[Source], *, asset_keys: Mapping[str, str] | None = None) -> Self:
        """Name the sources and their tables, sorted by these names.

        Args:
            sources: With the records of their schemas.
            asset_keys: The tables' keys in Dagster by schema id, where they are not the default ones.
        """
        slugs = Counter(source_slug(source.source_type, source.prefix) for source in sources)
        named = sorted((_named(source, slugs) for source in sources), key=lambda each: each.name)
        keys = asset_keys or {}
        tables = [
            NamedTable(source=owner, schema=schema, asset_key=keys.get(schema.id) or _default_key(owner.source, schema))
            for owner in named
            for schema in sorted(owner.source.schemas, key=lambda schema: schema.name)
        ]
        return cls(sources=named, tables=tables)

    def source(self, name: str) -> NamedSource:
        """The source of this name, prefix, type or id.

        Raises:
            UnknownNameError: There is none, or there are several.
        """
        return _one(self._sources_by_name, self.sources, name, kind="source")

    def table(self, name: str) -> NamedTable:
        """The table of this name, asset key or id; its own name is enough where only one table has it.

        Raises:
            UnknownNameError: There is none, or there are several.
        """
        return _one(self._tables_by_name, self.tables, name, kind="table")

    def select(self, wanted: Sequence[str]) -> list[NamedTable]:
        """The tables that the names and patterns name, in the catalogue's order.

        A pattern with a slash is compared with asset keys and `<source>/<table>`, one without with `<source>.<table>`;
        only if it names none so, with `<prefix>.<table>`. So it is never wider here than in a schedule's override.

        Raises:
            UsageError: Nothing is wanted.
            UnknownNameError: A pattern names none, or a name none or several.
        """
        if not wanted:
            raise UsageError("No table is named: name at least one, or '*' for all.")
        ids = {table.id for name in wanted for table in self._matches(name)}
        return [table for table in self.tables if table.id in ids]

    @cached_property
    def _sources_by_name(self) -> _Index[NamedSource]:
        return _index(self.sources)

    @cached_property
    def _tables_by_name(self) -> _Index[NamedTable]:
        return _index(self.tables)

    def _matches(self, name: str) -> Sequence[NamedTable]:
        if not any(mark in name for mark in MARKS_OF_A_PATTERN) or _found(self._tables_by_name, name):
            return [self.table(name)]
        for kind in (_whole_names, _prefixed_names):
            if found := [table for table in self.tables if _is_like(kind(table, slash="/" in name), name)]:
                return found
        raise UnknownNameError(f"No table is like {name!r}. {_known(self.tables, kind='table')}")


@dataclass(frozen=True)
class Project:
    """A project that something is to be done to.

    Attributes:
        client: Of the project.
        asset_keys: The tables' keys in Dagster by schema id, where they are not the default ones.
    """

    client: PostHogWarehouseClient
    asset_keys: Mapping[str, str] = field(default_factory=dict)

    def catalogue(self, *, settings: bool = False) -> Catalogue:
        """What there is now: one request per hundred sources.

        Args:
            settings: Whether the tables' settings are needed: newer servers leave them out of the list of sources, and
                to list them takes long in big projects.
        """
        sources = list(self.client.list_sources())
        if settings:
            full = {schema.id: schema for schema in self.client.list_schemas()}
            sources = [
                source.model_copy(update={"schemas": tuple(full.get(each.id, each) for each in source.schemas)})
                for source in sources
            ]
        return Catalogue.of(sources, asset_keys=self.asset_keys)


def _named(source: Source, slugs: Mapping[str, int]) -> NamedSource:
    slug = source_slug(source.source_type, source.prefix)
    return NamedSource(name=slug if slugs[slug] == 1 else source.id, source=source)


def _default_key(source: Source, schema: Schema) -> str:
    return "/".join([*source_path(source.source_type, source.prefix), *table_path(schema.name)])


def _whole_names(table: NamedTable, *, slash: bool) -> Sequence[str]:
    return (table.asset_key, table.path) if slash else (table.name,)


def _prefixed_names(table: NamedTable, *, slash: bool) -> Sequence[str]:
    prefix = table.source.source.prefix
    return (f"{prefix}{'/' if slash else '.'}{table.schema.name}",) if prefix else ()


def _is_like(names: Sequence[str], pattern: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in names)


def _index(named: Sequence[T]) -> _Index[T]:
    """Who has which name: tier by tier as they are written, then in lower case."""
    index: _Index[T] = []
    spellings: tuple[Callable[[str], str], ...] = (str, str.lower)
    for spelled in spellings:
        for tier in range(TIERS):
            by_name: dict[str, list[T]] = {}
            for each in named:
                for alias in {spelled(alias) for alias in each.tiers()[tier] if alias}:
                    by_name.setdefault(alias, []).append(each)
            index.append((spelled, by_name))
    return index


def _found(index: _Index[T], name: str) -> list[T]:
    """Those of the first tier in which somebody has the name."""
    hits = (by_name.get(spelled(name)) for spelled, by_name in index)
    return next((found for found in hits if found), [])


def _one(index: _Index[T], named: Sequence[T], name: str, *, kind: str) -> T:
    found = _found(index, name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(each.name for each in found)
        raise UnknownNameError(f"{name!r} is the name of {len(found)} {kind}s: {names}. Give one of these names.")
    raise UnknownNameError(f"No {kind} is named {name!r}. {_nearest(named, name) or _known(named, kind=kind)}")


def _nearest(named: Sequence[T], name: str) -> str:
    by_alias: dict[str, list[str]] = {}
    for each in named:
        for alias in {alias.lower() for tier in each.tiers() for alias in tier if alias}:
            by_alias.setdefault(alias, []).append(each.name)
    close = get_close_matches(name.lower(), by_alias, n=SHOWN, cutoff=SIMILAR)
    names = list(dict.fromkeys(own for alias in close for own in by_alias[alias]))[:3]
    return f"Did you mean {' or '.join(names)}?" if names else ""


def _known(named: Sequence[T], *, kind: str) -> str:
    names = [each.name for each in named]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"There are {', '.join(names[:SHOWN])}{more}." if names else f"The project has no {kind}."
