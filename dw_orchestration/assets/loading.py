"""The tables of a project as definitions in Python name them: all functions read the same state."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from dw_orchestration.assets.spec import PostHogTranslator, asset_key, table_spec
from dw_orchestration.resources.state import load_state, made_in_this_load
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.selection import Selector
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables


def load_posthog_asset_specs(
    warehouse: WarehouseResource,
    *,
    select: Sequence[Selector] = (),
    exclude: Sequence[Selector] = (),
    include_disabled: bool = False,
    translator: PostHogTranslator | None = None,
    name: str = DEFAULT_RESOURCE_KEY,
    state: str | Path | WarehouseSnapshot | None = None,
) -> list[dg.AssetSpec]:
    """The specs of a project's tables alone, for assets that something else than this package updates.

    Args:
        warehouse: As for `build_posthog_definitions`.
        select: As for `build_posthog_definitions`.
        exclude: As for `build_posthog_definitions`.
        include_disabled: As for `build_posthog_definitions`.
        translator: As for `build_posthog_definitions`.
        name: As for `build_posthog_definitions`.
        state: As for `build_posthog_definitions`.

    Raises:
        SetupError: A selected name fits several tables, or the translator gives two tables the same key.
        SnapshotError: The state cannot be read, or a process of a run does not find it.
        StateNotRefreshedError: The warehouse is unreachable or its answer was refused, and no last good state serves.

    Example:
        ```python
        defs = dg.Definitions(assets=load_posthog_asset_specs(WAREHOUSE, select=["stripe.*"]))
        ```
    """
    tables = load_tables(
        warehouse,
        select=select,
        exclude=exclude,
        include_disabled=include_disabled,
        translator=translator,
        name=name,
        state=state,
    )
    return [table_spec(tables, table) for table in tables]


def asset_key_for(
    table: str,
    warehouse: WarehouseResource,
    *,
    translator: PostHogTranslator | None = None,
    name: str = DEFAULT_RESOURCE_KEY,
    state: str | Path | WarehouseSnapshot | None = None,
) -> dg.AssetKey:
    """The asset key of a table, by any of the names that users type for it.

    Args:
        table: `stripe_acme.Customer`, `acme.Customer`, `Customer`, or the id of its schema.
        warehouse: As for `build_posthog_definitions`.
        translator: As for `build_posthog_definitions`, if it changes keys; one object for all calls saves time.
        name: As for `build_posthog_definitions`.
        state: As for `build_posthog_definitions`.

    Raises:
        UnknownNameError: No table has the name, or several have it.
        SnapshotError: The state cannot be read, or a process of a run does not find it.
        StateNotRefreshedError: The warehouse is unreachable or its answer was refused, and no last good state serves.

    Example:
        ```python
        @dg.asset(deps=[asset_key_for("acme.Customer", WAREHOUSE)])
        def customers() -> None: ...
        ```
    """
    # a module may ask for many keys, and the names of thousands of tables take time to index
    made = {} if isinstance(state, WarehouseSnapshot) else made_in_this_load()
    asked = (name, translator, None if isinstance(state, WarehouseSnapshot) else state)
    if asked not in made:
        made[asked] = load_tables(warehouse, translator=translator, name=name, state=state)
    tables: Tables = made[asked]
    return asset_key(tables.table(table))


def load_tables(
    warehouse: WarehouseResource,
    *,
    select: Sequence[Selector] = (),
    exclude: Sequence[Selector] = (),
    include_disabled: bool = False,
    translator: PostHogTranslator | None = None,
    name: str,
    state: str | Path | WarehouseSnapshot | None,
) -> Tables:
    """The selected tables of the state, translated."""
    # without a translator, no spec is made before it is needed
    return Tables(
        load_state(warehouse, state, name=name),
        select=select,
        exclude=exclude,
        include_disabled=include_disabled,
        spec_of=translator.get_asset_spec if translator else None,
        upstream_of=translator.get_upstream_spec if translator else None,
        resource_key=name,
        namespace=None if name == DEFAULT_RESOURCE_KEY else name,
    )
