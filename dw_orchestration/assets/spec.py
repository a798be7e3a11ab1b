"""What the Dagster UI knows of a table before it has ever been synced by a run."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from dw_orchestration.assets.freshness import freshness_policy
from dw_orchestration.assets.keys import colliding, identifier, source_slug, upstream_key
from dw_orchestration.assets.metadata import TableMetadata
from dw_orchestration.assets.tables import Table, tables_of
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.names import snake
from dw_orchestration.tables.snapshot import WarehouseSnapshot

CLASS_TAG = "posthog/class"
_LEGAL_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")

SpecOf = Callable[[Table], dg.AssetSpec]


@dataclass(frozen=True)
class TableAsset:
    """A table and the spec that it has in Dagster."""

    table: Table
    spec: dg.AssetSpec

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key, which a translation may have made another than the table's default one."""
        return self.spec.key


def table_assets(snapshot: WarehouseSnapshot, *, spec_of: SpecOf) -> list[TableAsset]:
    """The tables of a snapshot with their translated specs.

    Raises:
        SetupError: The translation gives two tables the same key, or one a key that Dagster does not take.
    """
    assets = [TableAsset(table=table, spec=_without_itself(spec_of(table))) for table in tables_of(snapshot)]
    for asset in assets:
        _check_key(asset)
    if clashes := colliding(asset.key for asset in assets):
        named = [f"{a.table.schema.name!r} of {a.table.source.id}" for a in assets if identifier(a.key) in clashes]
        raise SetupError(f"These tables are translated to the same asset key: {', '.join(named)}. Keep the keys apart.")
    return assets


def _check_key(asset: TableAsset) -> None:
    if not _LEGAL_IDENTIFIER.fullmatch(identifier(asset.key)):
        raise SetupError(
            f"{asset.table.schema.name!r} of {asset.table.source.id} is translated to the asset key"
            f" {asset.key.to_user_string()!r}, which Dagster does not take: letters, digits, `_`, `-` and `.` only."
            " `{{ path }}` is the table's name in a legal form."
        )


def _without_itself(spec: dg.AssetSpec) -> dg.AssetSpec:
    """The spec without a dependency on itself: a translation may give a table the key that its origin has."""
    return spec.replace_attributes(deps=[dep for dep in spec.deps if dep.asset_key != spec.key])


def asset_spec(table: Table) -> dg.AssetSpec:
    """The spec of a table's asset: key, lineage, group, kinds, tags and metadata."""
    return dg.AssetSpec(
        key=table.key,
        deps=[upstream_key(table.source, table.schema)],
        description=_description(table),
        group_name=source_slug(table.source),
        kinds={"posthog", snake(table.source.source_type)},
        tags={CLASS_TAG: table.schema_class.value},
        metadata=table_metadata(table).to_metadata(),
        freshness_policy=freshness_policy(table),
    )


def upstream_specs(assets: Sequence[TableAsset]) -> list[dg.AssetSpec]:
    """The tables that the rows come from, as external assets, so that lineage begins where the data does."""
    taken = {identifier(asset.key) for asset in assets}
    specs = {}
    for asset in assets:
        key = upstream_key(asset.table.source, asset.table.schema)
        if identifier(key) not in taken and key not in specs:
            specs[key] = _upstream_spec(asset.table, key)
    return list(specs.values())


def table_metadata(table: Table) -> TableMetadata:
    """Ids, settings and the way back to PostHog."""
    schema, cadence = table.schema, table.cadence
    return TableMetadata(
        schema_id=schema.id,
        source_id=table.source.id,
        source_table=schema.name,
        sync_type=schema.sync_type and str(schema.sync_type),
        cadence=cadence.describe() if cadence else "not synced by PostHog itself",
        incremental_field=schema.incremental_field,
        primary_keys=", ".join(schema.primary_key_columns or ()) or None,
        link=table.page,
        table_name=schema.table.name if schema.table else None,
    )


def _description(table: Table) -> str:
    schema, source = table.schema, table.source
    name = f"`{schema.name}`" if not schema.label else f"`{schema.name}` ({schema.label})"
    parts = [f"{name} of {source.source_type}{f' ({source.prefix})' if source.prefix else ''}, synced by PostHog."]
    parts += [text for text in (schema.description, source.description) if text]
    if table.schema_class is not SchemaClass.SYNCABLE:
        parts.append(f"Not syncable from here: {table.schema_class.reason}")
    return "\n\n".join(parts)


def _upstream_spec(table: Table, key: dg.AssetKey) -> dg.AssetSpec:
    source = table.source
    return dg.AssetSpec(
        key=key,
        description=f"`{table.schema.name}` in {source.source_type} ({source.upstream}), where the rows come from.",
        group_name=f"{source_slug(source)}_source",
        kinds={snake(source.source_type)},
    )
