"""What a user may set of the tables' assets in `defs.yaml`, and how templates make it for each table."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema

from dw_orchestration.component.templates import checked, filled_in, plain, rendered, where
from dw_orchestration.tables.names import table_path
from dw_orchestration.tables.table import Table

_TEXT: dict[str, Any] = {"type": "string"}
_OBJECT = WithJsonSchema({"type": "string", "pattern": r"\{[{%]"})
_MERGED = ("tags", "metadata")


def _as_key(value: object) -> object:
    if isinstance(value, dg.AssetDep):
        return value.asset_key
    return dg.AssetKey.from_user_string(str(value)) if isinstance(value, str | int | float) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int | float) else value


_Key = Annotated[dg.AssetKey, BeforeValidator(_as_key), WithJsonSchema(_TEXT)]
_Prefix = Annotated[
    Sequence[str],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
]


class TableAttributes(BaseModel):
    """What can be set of a table's asset, as values or templates; the rest stays as it is."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, arbitrary_types_allowed=True)

    key: _Key | None = Field(default=None, description="The whole asset key, with slashes: `raw/{{ path }}`.")
    key_prefix: _Prefix | None = Field(default=None, description="The prefix of the asset key.")
    group_name: str | None = Field(default=None, description="The group in the UI.")
    description: str | None = Field(default=None, description="The description in the UI.")
    owners: Sequence[str] | None = Field(
        default=None, description="E-mail addresses or teams (`team:data`), to whom alerts can be sent."
    )
    tags: Mapping[str, str | int | float | bool] | None = Field(
        default=None, description="Tags in addition to the table's own ones."
    )
    metadata: Mapping[str, Any] | None = Field(default=None, description="Metadata in addition to the table's own.")
    kinds: Sequence[str] | None = Field(default=None, description="The kinds in the UI, in place of PostHog's.")
    deps: Sequence[_Key] | None = Field(
        default=None,
        description="The keys of the assets upstream, in place of the table that the rows come from"
        " (`spec.deps`). Of a single one, the lineage of columns leads there.",
    )
    automation_condition: Annotated[dg.AutomationCondition[Any], _OBJECT] | None = Field(
        default=None,
        description="When Dagster's automation syncs it: `{{ dg.AutomationCondition.on_cron('@daily') }}`. The"
        " condition ignores the table that the rows come from.",
    )
    partitions_def: Annotated[dg.PartitionsDefinition, _OBJECT] | None = Field(
        default=None,
        description="Its partitions, from a template variable: `{{ days }}`. One sync serves all that a run selects.",
    )
    freshness_policy: Annotated[dg.FreshnessPolicy, _OBJECT] | None = Field(
        default=None, description="What Dagster takes for fresh, in place of what follows from how often it is synced."
    )

    def apply(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """The spec with what was set: tags and metadata are added, the rest is replaced."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        key, prefix = given.pop("key", None) or spec.key, given.pop("key_prefix", None)
        merged: dict[str, Any] = {name: given.pop(name) or {} for name in _MERGED if name in given}
        if "tags" in merged:
            merged["tags"] = {name: str(value) for name, value in merged["tags"].items()}
        replaced = given | {"key": key.with_prefix(prefix) if prefix else key}
        return spec.replace_attributes(**replaced).merge_attributes(**merged)


_ATTRIBUTES = TypeAdapter(TableAttributes)


def resolve_translation(context: dg.ResolutionContext, given: Any) -> TranslationFn[Table] | None:
    """What changes the spec of a table, from templates.

    Raises:
        ResolutionException: It has a setting that there is not. What is wrong in a template is raised for a table.
    """
    given = plain(given)
    if given is None:
        return None
    if isinstance(given, Mapping) and (unknown := sorted(given.keys() - TableAttributes.model_fields.keys())):
        known = ", ".join(TableAttributes.model_fields)
        raise ResolutionException(f"{where(context.at_path(unknown[0]))}: there is no such setting. There are {known}.")

    def translated(spec: dg.AssetSpec, table: Table) -> dg.AssetSpec:
        variables = {**_variables(table), "spec": spec}
        found = (
            rendered(context, given, **variables) if isinstance(given, str) else filled_in(context, given, **variables)
        )
        return found if isinstance(found, dg.AssetSpec) else checked(context, _ATTRIBUTES, found).apply(spec)

    return translated


def _variables(table: Table) -> Mapping[str, Any]:
    return {
        "table": table,
        "name": table.schema.name,
        "path": "/".join(table_path(table.schema.name)),
        "source_type": table.source.source_type,
        "prefix": table.source.prefix or "",
    }
