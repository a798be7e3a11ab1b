"""Dagster's view on a table: its key, its spec with metadata and freshness, and the table upstream of it."""

from datetime import timedelta
from functools import cache
from typing import cast

import dagster as dg

from dw_orchestration.assets.automation import decided_without_origin
from dw_orchestration.assets.metadata import TableMetadata
from dw_orchestration.tables.classify import SchemaClass, why_not_synced
from dw_orchestration.tables.names import KeyPath, identifier, snake
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, HasKey, Tables
from dw_orchestration.text import code, in_markdown

CLASS_TAG = "posthog/class"


class PostHogTranslator:
    """Decides how tables are shown as assets: their keys, groups, owners, and what is upstream of them.

    Example:
        ```python
        class OurTranslator(PostHogTranslator):
            def get_asset_spec(self, table: Table) -> dg.AssetSpec:
                return super().get_asset_spec(table).replace_attributes(owners=["team:data"])
        ```
    """

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        """The spec of a table's asset: key, lineage, group, kinds, tags, metadata and freshness policy."""
        return asset_spec(table)

    def get_upstream_spec(self, table: Table) -> dg.AssetSpec | None:
        """The spec of the table that the rows come from, upstream of the table's asset; None leaves it out."""
        return upstream_spec(table)


def asset_key(table: Table) -> dg.AssetKey:
    """The key of a table's asset."""
    return key_of(table.key_path)


@cache
def key_of(path: KeyPath) -> dg.AssetKey:
    """The key with these parts: one object, however often thousands of tables name theirs."""
    return dg.AssetKey(list(path))


def sync_history_key(resource_key: str = DEFAULT_RESOURCE_KEY) -> dg.AssetKey:
    """The key of a project's sync history."""
    return dg.AssetKey([resource_key, "sync_history"])


def asset_spec(table: Table) -> dg.AssetSpec:
    """The spec of a table's asset: key, lineage, group, kinds, tags, metadata and freshness policy."""
    return dg.AssetSpec(
        key=asset_key(table),
        deps=[key_of(table.upstream_path)] if table.upstream_path else [],
        description=_description(table),
        group_name=table.group,
        kinds={"posthog", snake(table.source.source_type)},
        tags={CLASS_TAG: table.schema_class.value},
        metadata=table_metadata(table).to_metadata(),
        freshness_policy=freshness_policy(table),
        # a table that is not syncable, or that the user did not select, gives no output
        skippable=True,
    )


def table_spec(tables: Tables, table: Table) -> dg.AssetSpec:
    """The spec that a table's asset has: translated, or the default one.

    A translation may give a table the key of its origin, so a dependency of the asset on itself is dropped.
    """
    spec = cast("dg.AssetSpec | None", tables.spec_of(table)) or asset_spec(table)
    # Dagster validates each copy of a spec again, which is dear for thousands of them: none is made without need
    if any(dep.asset_key == spec.key for dep in spec.deps):
        spec = spec.replace_attributes(deps=[dep for dep in spec.deps if dep.asset_key != spec.key])
    if not spec.skippable:
        spec = spec.replace_attributes(skippable=True)
    return decided_without_origin(spec, table)


def freshness_policy(table: Table) -> dg.FreshnessPolicy | None:
    """Rows are late when they have missed two syncs, of PostHog's own or of Dagster's schedule.

    That is when PostHog calls a table stale. A table that neither syncs by itself promises nothing.
    """
    return _late_after(table.rhythm.stale_after) if table.rhythm else None


def upstream_specs(tables: Tables) -> list[dg.AssetSpec]:
    """The tables that the rows come from, as external assets: lineage begins where the data does.

    One that no table depends on is left out, because a translation has given the tables other assets upstream, or none.
    """
    taken = {identifier(table.key_path) for table in tables}
    specs: dict[KeyPath, dg.AssetSpec] = {}
    for table in tables:
        path = table.upstream_path
        if path and path not in specs and identifier(path) not in taken and _is_upstream(path, tables.spec_of(table)):
            specs[path] = cast("dg.AssetSpec | None", tables.upstream_of(table)) or upstream_spec(table)
    return list(specs.values())


def _is_upstream(path: KeyPath, spec: HasKey | None) -> bool:
    """Whether a table's spec, if it was translated, still depends on the table that the rows come from."""
    return spec is None or any(dep.asset_key == key_of(path) for dep in cast("dg.AssetSpec", spec).deps)


def table_metadata(table: Table) -> TableMetadata:
    """The ids, settings and address of a table."""
    schema = table.schema
    return TableMetadata(
        schema_id=schema.id,
        source_id=table.source.id,
        source_table=schema.name,
        sync_type=schema.sync_type and str(schema.sync_type),
        cadence=_times(table),
        incremental_field=schema.incremental_field,
        primary_keys=", ".join(schema.primary_key_columns or ()) or None,
        full_refresh_interval_days=schema.full_refresh_interval_days,
        next_full_refresh_at=schema.next_full_refresh_at,
        link=table.url,
        table_name=schema.table.name if schema.table else None,
    )


def _times(table: Table) -> str:
    if table.rhythm is None:
        return "not synced by PostHog itself"
    return f"{table.rhythm.describe()}{'' if table.is_driven_by_posthog else ', by Dagster'}"


@cache
def _late_after(window: timedelta) -> dg.FreshnessPolicy:
    """Cached, because thousands of tables share a handful of intervals."""
    return dg.FreshnessPolicy.time_window(fail_window=window)


def _description(table: Table) -> str:
    schema, source = table.schema, table.source
    label, prefix = (f" ({in_markdown(text)})" if text else "" for text in (schema.label, source.prefix))
    parts = [f"{code(schema.name)}{label} of {in_markdown(source.source_type)}{prefix}, synced by PostHog."]
    texts = (text for text in (schema.description, source.description) if text)
    parts += [in_markdown(line) for text in texts for line in text.splitlines() if line.strip()]
    if table.schema_class is not SchemaClass.SYNCABLE:
        parts.append(f"Dagster cannot sync this table: {why_not_synced(table.schema, table.schema_class)}")
    if table.schema_class is SchemaClass.DISABLED_BY_POSTHOG and schema.latest_error:
        # an asset's page shows no failure where its last materialization is older
        parts.append(f"The latest error: {in_markdown(schema.latest_error)}")
    return "\n\n".join(parts)


def upstream_spec(table: Table) -> dg.AssetSpec:
    """The spec of the table that the rows come from."""
    source = table.source
    system = f"{in_markdown(source.source_type)} ({in_markdown(source.upstream)})"
    return dg.AssetSpec(
        key=key_of(cast("KeyPath", table.upstream_path)),
        description=f"{code(table.schema.name)} in {system}, where the rows come from.",
        group_name=f"{table.group}_source",
        kinds={snake(source.source_type)},
    )
