"""The tables of one project: named, selected and translated once, for everything that is built from them."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Protocol, Self

from dw_orchestration.posthog.models import Source
from dw_orchestration.tables.classify import SchemaClass, is_disabled_by_user
from dw_orchestration.tables.errors import AmbiguousNameError, SetupError, UnknownNameError, UsageError
from dw_orchestration.tables.names import KeyPath, colliding, identifier, source_slug, with_id
from dw_orchestration.tables.scheduling import Override, SchedulingMode, overridden
from dw_orchestration.tables.selection import (
    NamedSource,
    NameIndex,
    Selector,
    named_by,
    selected_by,
    source_tiers,
    table_tiers,
)
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot
from dw_orchestration.tables.table import Table
from dw_orchestration.text import visible

DEFAULT_RESOURCE_KEY = "posthog_warehouse"
StepPer = Literal["source", "project", "table"]

_LEGAL_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")


class HasKey(Protocol):
    """A translation: `dagster.AssetSpec` is one. This layer reads nothing of it but keys."""

    @property
    def key(self) -> Any:
        """Has a `path`: the parts of the key."""

    @property
    def deps(self) -> Any:
        """What is upstream; each has an `asset_key`."""


class Tables(Sequence[Table]):
    """The selected tables of a project, each with its own name and asset key.

    Every builder takes the same `Tables`, so that assets, schedules, sensors and jobs cannot disagree about a key.

    Args:
        snapshot: What the warehouse holds.
        select: The tables to take: names, patterns, conditions or functions. Empty takes all.
        exclude: The tables to leave out of these.
        include_disabled: Also take tables that a user disabled in PostHog or never set up there. PostHog finds new
            tables and leaves them disabled, so there may be thousands. A table that PostHog disabled after a failure
            is always taken, because somebody has to see it.
        spec_of: Translates a table: returns the `dagster.AssetSpec` of its asset, whose key may be another.
        upstream_of: Translates the table that the rows come from: returns its `dagster.AssetSpec`, or None for none.
        own_steps: The ops in which users sync tables, by schema id: these tables are in no step of this package.
        resource_key: The key of the warehouse resource, and the start of the names of sensors and jobs.
        step_per: What one step syncs: the tables of a source, of the whole project, or each table on its own.
        namespace: Goes before all names in Dagster, so that several projects can be loaded next to each other.
        scheduling: How Dagster's schedules work together with PostHog's own.
        overrides: Other times for some tables than PostHog's, if Dagster has schedules. Freshness follows what syncs a
            table more often, PostHog itself or its schedule.
        run_tags: Tags of the runs that schedules and sensors request, and of the maintenance jobs.

    Raises:
        SetupError: A selected name fits several tables, the translation gives two tables the same key or a table a
            key that Dagster does not accept, or an override cannot be used.

    Example:
        ```python
        tables = Tables(WarehouseSnapshot.read(path), select=["stripe.*"], exclude=["stripe.Event"])
        defs = dg.Definitions(assets=build_posthog_assets(tables), schedules=build_posthog_schedules(tables))
        ```
    """

    def __init__(
        self,
        snapshot: WarehouseSnapshot,
        *,
        select: Sequence[Selector] = (),
        exclude: Sequence[Selector] = (),
        include_disabled: bool = False,
        spec_of: Callable[[Table], HasKey] | None = None,
        upstream_of: Callable[[Table], HasKey | None] | None = None,
        own_steps: Mapping[str, str] | None = None,
        resource_key: str = DEFAULT_RESOURCE_KEY,
        step_per: StepPer = "source",
        namespace: str | None = None,
        scheduling: SchedulingMode = SchedulingMode.ENSURE,
        overrides: Sequence[Override] = (),
        run_tags: Mapping[str, Any] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.scheduling = SchedulingMode(scheduling)
        self.resource_key = resource_key
        self.step_per = step_per
        self.own_steps = own_steps or {}
        self.run_tags = dict(run_tags or {})
        self.problems: list[str] = []
        """Selectors that take no table, each as a sentence. Tables come and go in PostHog, so this is not an error."""
        self._choices: dict[str, Any] = {
            "select": select,
            "exclude": exclude,
            "include_disabled": include_disabled,
            "resource_key": resource_key,
            "step_per": step_per,
            "namespace": namespace,
        }
        self._spec_of, self._upstream_of = spec_of, upstream_of
        self._specs: dict[str, HasKey] = {}
        self._upstream: dict[str, HasKey] = {}
        self.all = _named(snapshot, namespace=namespace)
        taken = self._taken(select, exclude, include_disabled=include_disabled)
        chosen = self._scheduled(_unique_keys([table for table in self.all if table.id in taken]))
        self._tables = [self._translate(table) for table in chosen]
        if spec_of is not None:
            _check_keys(self._tables)
        if self._tables and overrides and self.scheduling is not SchedulingMode.OBSERVE:
            # an override may name a table by its translated key, and its times have an effect on the translation
            timetables = overridden(self.matching, overrides)
            del self._index
            others = [replace(table, schedule=timetables[table.id]) for table in chosen if table.id in timetables]
            retimed = {table.id: self._translate(table) for table in filter(_is_syncable, others)}
            self._tables = [retimed.get(table.id, table) for table in self._tables]
            if spec_of is not None:
                _check_keys(self._tables)

    @classmethod
    def live(cls, sources: Iterable[Source], *, key_paths: Mapping[str, KeyPath] | None = None) -> Self:
        """All tables of sources as PostHog shows them now, with the records as they are, for operations on them.

        Args:
            sources: The sources with the records of their schemas.
            key_paths: The asset keys that the tables have in Dagster, by schema id, where those are known.
        """
        with warnings.catch_warnings():
            # the asset graph warns about equal keys; a command that lists tables need not
            warnings.simplefilter("ignore")
            tables = cls(WarehouseSnapshot.of_live(sources), include_disabled=True)
        keys = key_paths or {}
        tables._tables = [replace(table, key_path=keys.get(table.id, table.key_path)) for table in tables]
        return tables

    def of(self, snapshot: WarehouseSnapshot) -> "Tables":
        """The tables of another snapshot of the project, selected in the same way and not translated."""
        return Tables(snapshot, **self._choices)

    def __getitem__(self, index: Any) -> Any:
        return self._tables[index]

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[Table]:
        return iter(self._tables)

    @property
    def taken_at(self) -> datetime:
        """When the snapshot was taken."""
        return self.snapshot.taken_at

    @cached_property
    def by_id(self) -> Mapping[str, Table]:
        """The selected tables by the id of their schema."""
        return {table.id: table for table in self._tables}

    @cached_property
    def by_key(self) -> Mapping[KeyPath, Table]:
        """The selected tables by their asset key."""
        return {table.key_path: table for table in self._tables}

    @cached_property
    def left_out_ids(self) -> frozenset[str]:
        """The schema ids of the tables that the selection left out."""
        return frozenset(table.id for table in self.all if table.id not in self.by_id)

    @cached_property
    def sources(self) -> Sequence[NamedSource]:
        """All sources with their names."""
        names = _source_names(self.snapshot.sources)
        return [NamedSource(name=names[source.id], source=source) for source in self.snapshot.sources]

    def spec_of(self, table: Table) -> HasKey | None:
        """What the translation made of a table; None without a translation."""
        return self._specs.get(table.id)

    def upstream_of(self, table: Table) -> HasKey | None:
        """What the translation made of the table that the rows come from; None without one."""
        return self._upstream.get(table.id)

    def matching(self, wanted: Iterable[str]) -> list[Table]:
        """The selected tables that names and patterns name, in the order of the tables.

        Raises:
            UsageError: There is no name.
            UnknownNameError: A name or pattern names no table, or a name several.
        """
        ids = named_by(self._index, wanted)
        return [table for table in self._tables if table.id in ids]

    def table(self, name: str) -> Table:
        """The one selected table with this name.

        Raises:
            UnknownNameError: No table has the name, or several have it.
        """
        return self._index.one(name)

    def name_in_queries(self, name: str) -> str:
        """What a query calls the one table with this name; PostHog decides on it.

        Raises:
            UnknownNameError: No table has the name, or several have it.
            UsageError: It was never synced, so there is nothing to read.
        """
        table = self.table(name)
        if table.schema.table is None:
            raise UsageError(f"{table.name} has no rows yet: sync it first.")
        return table.schema.table.name

    def source(self, name: str) -> NamedSource:
        """The source with this name, prefix, type or id.

        Raises:
            UnknownNameError: No source has the name, or several have it.
        """
        return NameIndex("source", self.sources, source_tiers).one(name)

    def why_empty(self) -> str:
        """Why no table is selected, and what to do."""
        if not self._choices["include_disabled"] and (disabled := Tables(self.snapshot, **self._with_disabled())):
            return (
                f"All selected tables ({len(disabled)}) are disabled in PostHog. Enable the tables in PostHog, or show"
                " them as they are with `include_disabled: true`."
            )
        return f"The selection takes none of the {len(self.all)} tables. {self._all_index.known()}"

    @cached_property
    def _index(self) -> NameIndex[Table]:
        return NameIndex("table", self._tables, table_tiers)

    @cached_property
    def _all_index(self) -> NameIndex[Table]:
        return NameIndex("table", self.all, table_tiers)

    def _with_disabled(self) -> dict[str, Any]:
        return self._choices | {"include_disabled": True}

    def _taken(self, select: Sequence[Selector], exclude: Sequence[Selector], *, include_disabled: bool) -> set[str]:
        taken = self._selected(select) if select else {table.id for table in self.all}
        taken -= self._selected(exclude)
        if include_disabled:
            return taken
        return taken - {table.id for table in self.all if is_disabled_by_user(table.source.access_method, table.schema)}

    def _selected(self, selectors: Sequence[Selector]) -> set[str]:
        taken: set[str] = set()
        for selector in selectors:
            try:
                taken |= selected_by(selector, self.all, index=self._all_index)
            except AmbiguousNameError:
                raise
            except UnknownNameError as error:
                self.problems.append(str(error))
        return taken

    def _scheduled(self, tables: list[Table]) -> list[Table]:
        """The tables with what Dagster's schedules tick by, before any overrides: PostHog's cadence."""
        if self.scheduling is SchedulingMode.OBSERVE:
            return tables
        return [replace(table, schedule=table.cadence) if _is_syncable(table) else table for table in tables]

    def _translate(self, table: Table) -> Table:
        if self._upstream_of is not None:
            upstream = self._upstream_of(table)
            # before the table itself, whose spec depends on it
            path = tuple(upstream.key.path) if upstream else None
            table = _with_paths(table, upstream_path=path, origin_path=path)
            self._upstream |= {table.id: upstream} if upstream else {}
        if self._spec_of is not None:
            spec = self._specs[table.id] = self._spec_of(table)
            table = _with_paths(table, key_path=tuple(spec.key.path), origin_path=_origin_path(table, spec))
        return table


def _source_names(sources: Sequence[SourceSnapshot]) -> dict[str, str]:
    slugs = {source.id: source_slug(source.source_type, source.prefix) for source in sources}
    counts = Counter(slugs.values())
    return {source_id: slug if counts[slug] == 1 else source_id for source_id, slug in slugs.items()}


def _origin_path(table: Table, spec: HasKey) -> KeyPath | None:
    """Whose columns the table's own are: of several assets that a translation has put upstream, it is unknown."""
    paths = [tuple(dep.asset_key.path) for dep in spec.deps]
    if table.upstream_path in paths:
        return table.upstream_path
    return paths[0] if len(paths) == 1 else None


def _with_paths(table: Table, **paths: KeyPath | None) -> Table:
    """The table with other keys; the same one if they are equal, as copies of thousands of tables take time."""
    changed: dict[str, Any] = {name: path for name, path in paths.items() if path != getattr(table, name)}
    return replace(table, **changed) if changed else table


def _is_syncable(table: Table) -> bool:
    return table.schema_class is SchemaClass.SYNCABLE


def _named(snapshot: WarehouseSnapshot, *, namespace: str | None) -> list[Table]:
    """All tables of a snapshot."""
    names = _source_names(snapshot.sources)
    return [
        Table.of(
            source,
            schema,
            project=snapshot.project,
            source_name=names[source.id],
            namespace=namespace,
            project_url=snapshot.project_url,
        )
        for source in snapshot.sources
        for schema in source.schemas
    ]


def _unique_keys(tables: list[Table]) -> list[Table]:
    """The tables with unique keys: equal keys get the end of their schema's id, with a warning."""
    # a second round is needed only if a table is named like another one with its id
    for _ in tables:
        clashes = colliding(table.key_path for table in tables)
        if not clashes:
            break
        tables = [_with_own_key(table, tables) if identifier(table.key_path) in clashes else table for table in tables]
    return tables


def _with_own_key(table: Table, tables: Sequence[Table]) -> Table:
    *path, last = table.key_path
    key_path = (*path, with_id(last, table.id))
    others = [
        f"{other.schema.name!r} ({other.id})"
        for other in tables
        if other is not table and identifier(other.key_path) == identifier(table.key_path)
    ]
    warnings.warn(
        f"The table {table.schema.name!r} ({table.id}) would have the same asset key as {', '.join(others)}. Its key is"
        f" {'/'.join(key_path)!r} instead. Give the sources different prefixes, or translate the keys.",
        stacklevel=2,
    )
    return replace(table, key_path=key_path, default_key_path=key_path)


def _check_keys(tables: Sequence[Table]) -> None:
    """Refuse translated keys that Dagster would refuse with an error that names no table.

    Raises:
        SetupError: A key is illegal, or two tables have the same one.
    """
    if illegal := [table for table in tables if not _LEGAL_IDENTIFIER.fullmatch(identifier(table.key_path))]:
        table = illegal[0]
        raise SetupError(
            f"Invalid asset key {table.key!r} for the table {visible(table.name)}: use letters, digits, `_`, `-` and"
            " `.`. `{{ path }}` is the table's name in a legal form."
        )
    if clashes := colliding(table.key_path for table in tables):
        names = [f"{visible(table.name)} ({table.id})" for table in tables if identifier(table.key_path) in clashes]
        raise SetupError(
            f"The translation gives several tables the same asset key: {', '.join(names)}. Give each its own key."
        )
