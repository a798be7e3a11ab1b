"""Which tables of a project become assets: chosen by patterns, settings and functions, once, for all that is built."""

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

import dagster as dg
from pydantic import ConfigDict, Field, model_validator

from dw_orchestration.assets.keys import table_name
from dw_orchestration.assets.tables import Table, table_of
from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.drift import ChangeKind, switch
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

SelectableSyncType = Literal["full_refresh", "incremental", "append", "webhook", "cdc", "xmin"]
# what a person reads of the tables that there are; the rest is counted
_NAMES_SHOWN = 5


class TableSelector(dg.Model):
    """Some tables, by conditions that all hold; upper and lower case are alike in types, prefixes and patterns.

    Example:
        ```yaml
        select:
          - source_type: Postgres
            prefix: shop
            table: "public.*"
        ```
    """

    model_config = ConfigDict(frozen=True)

    source: str | None = Field(default=None, description="The id of a source.")
    source_type: str | None = Field(default=None, description="The type of the source: `Stripe`, `Postgres`.")
    prefix: str | None = Field(
        default=None, description='The prefix of the source, as set in PostHog; `""` for a source without one.'
    )
    table: str | None = Field(
        default=None, description="A pattern with `*` and `?` over the table's name in PostHog: `public.*`."
    )
    sync_type: SelectableSyncType | None = Field(default=None, description="How the table is synced.")
    enabled: bool | None = Field(
        default=None,
        description="Whether the table is switched on in PostHog (`should_sync` in its API). Those that are not are"
        " assets only with `include_off`.",
    )

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.conditions:
            raise ValueError("A selector without a condition: give one of source, source_type, prefix, table, …")
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """The conditions that were given."""
        return self.model_dump(exclude_none=True)

    def takes(self, table: Table) -> bool:
        """Whether all conditions hold for a table."""
        source, schema = table.source, table.schema
        return (
            self.source in (None, source.id)
            and _is_alike(self.source_type, source.source_type)
            and _is_alike(self.prefix, source.prefix or "")
            and (self.table is None or _fits(schema.name, self.table))
            and self.sync_type in (None, schema.sync_type)
            and self.enabled in (None, schema.should_sync)
        )

    def describe(self) -> str:
        """As a user wrote it, in one line."""
        return ", ".join(f"{name}: {value}" for name, value in self.conditions.items())


Pattern = Annotated[
    str,
    Field(
        description="A pattern with `*` and `?` over `<source type>[_<prefix>].<table in PostHog>`:"
        " `stripe.*`, `postgres_shop.public.orders`."
    ),
]
Selector = Pattern | TableSelector | Callable[[Table], bool]
"""A pattern, conditions, or a function that is asked for each table. The key that a function sees is the table's
default one: names of components and translations come later."""


class TableSelection(dg.Model):
    """The tables that become assets: those that `select` takes and `exclude` does not.

    Tables that are switched off in PostHog, or were never set up there, are left out: PostHog finds new tables by
    itself and leaves them off, so there may be thousands of them. One that PostHog switched off after a failure stays,
    because it has to be seen.

    Example:
        ```python
        snapshot = TableSelection(
            select=["stripe.*", lambda table: table.cadence is not None and table.cadence.every < timedelta(hours=1)]
        ).of(WarehouseSnapshot.read(path))
        ```
    """

    model_config = ConfigDict(frozen=True)

    select: Sequence[Selector] = ()
    exclude: Sequence[Selector] = ()
    include_off: bool = False

    def takes(self, table: Table) -> bool:
        """Whether a table becomes an asset."""
        return (
            (not self.select or any(_takes(selector, table) for selector in self.select))
            and not any(_takes(selector, table) for selector in self.exclude)
            and (self.include_off or not is_off(table.source, table.schema))
        )

    def of(self, snapshot: WarehouseSnapshot) -> WarehouseSnapshot:
        """The snapshot with the selected tables alone; it still knows the others, as left out."""
        taken = {table.schema.id for table in _tables(snapshot) if self.takes(table)}
        others = {schema.id for schema in snapshot.schemas} - taken
        return snapshot.model_copy(
            update={
                "sources": _only(snapshot.sources, taken),
                "left_out": snapshot.left_out + _only(snapshot.sources, others),
            }
        )

    def unused(self, snapshot: WarehouseSnapshot) -> list[str]:
        """The selectors that name no table of a whole snapshot, as a user wrote them; functions by their names."""
        tables = _tables(snapshot)
        return [
            describe(selector)
            for selector in (*self.select, *self.exclude)
            if not any(_takes(selector, table) for table in tables)
        ]

    def why_empty(self, snapshot: WarehouseSnapshot) -> str:
        """Why no table of a whole snapshot is selected, and what to do."""
        if off := self.model_copy(update={"include_off": True}).of(snapshot).schemas:
            return (
                f"All {len(off)} of them are switched off in PostHog. Switch on there what should be synced, or show"
                " them as they are with `include_off: true`."
            )
        return f"None of the {len(snapshot.schemas)} tables is selected. {names_in(snapshot)}"


def is_off(source: SourceSnapshot, schema: Schema) -> bool:
    """Whether a user switched a table off, or never set it up. What PostHog queries in place has no such switch."""
    if source.access_method is AccessMethod.DIRECT:
        return False
    was_set_up = schema.sync_type is not None
    return not was_set_up or switch(schema) is ChangeKind.OFF_BY_USER


def names_in(snapshot: WarehouseSnapshot) -> str:
    """What tables there are, in a sentence for somebody who named one that is not there."""
    names = sorted(table_name(source, schema) for source in snapshot.sources for schema in source.schemas)
    shown, more = names[:_NAMES_SHOWN], len(names) - _NAMES_SHOWN
    return f"There are {', '.join(shown) or 'none'}{f' and {more} more' if more > 0 else ''}."


def describe(selector: Selector) -> str:
    """A selector in one line, as a user wrote it; a function by its name."""
    if isinstance(selector, TableSelector):
        return selector.describe()
    return selector if isinstance(selector, str) else getattr(selector, "__name__", repr(selector))


def _takes(selector: Selector, table: Table) -> bool:
    if isinstance(selector, str):
        return _fits(table_name(table.source, table.schema), selector)
    return selector.takes(table) if isinstance(selector, TableSelector) else bool(selector(table))


def _tables(snapshot: WarehouseSnapshot) -> list[Table]:
    """All tables; their keys may clash, because nobody has chosen among them yet."""
    return [table_of(snapshot, source, schema) for source in snapshot.sources for schema in source.schemas]


def _only(sources: Iterable[SourceSnapshot], schema_ids: Collection[str]) -> tuple[SourceSnapshot, ...]:
    """The sources with these of their schemas alone; a source with none of them is gone."""
    kept = [
        source.model_copy(update={"schemas": tuple(each for each in source.schemas if each.id in schema_ids)})
        for source in sources
    ]
    return tuple(source for source in kept if source.schemas)


def _is_alike(wanted: str | None, actual: str) -> bool:
    return wanted is None or wanted.lower() == actual.lower()


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.lower())
