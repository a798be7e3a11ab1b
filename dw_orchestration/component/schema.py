"""The JSON schema of `defs.yaml`: what editors complete, and what `dg check yaml` refuses.

Every value may be a template, and YAML makes numbers of digits. Dagster's own schema therefore takes any text for any
value, so that a typo passes. And where one of several schemas has to fit, the message is a print of the whole mapping,
with its key. So here each value has conditions that lead to one schema, whose message is about that value alone.
"""

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, WithJsonSchema, create_model

from dw_orchestration.resources.warehouse import IS_SECRET

JsonSchema = dict[str, Any]

_TEMPLATE = r"\{[{%]"
# what a text may be where a value of another type is meant
_TEXTS = {
    "integer": r"^\s*-?\d+\s*$",
    "number": r"^\s*-?\d+(\.\d+)?\s*$",
    "boolean": "^([Tt]rue|[Ff]alse|TRUE|FALSE|[Yy]es|[Nn]o|[Oo]n|[Oo]ff|[01])$",
}
_ANNOTATIONS = ("description", "title", "default", "examples")


def schema_of(kind: Any) -> JsonSchema:
    """The schema of a type, in which everything may be a template and has the types that YAML makes."""
    schema = TypeAdapter(kind).json_schema()
    return _lenient(schema, schema.pop("$defs", {}))


def either(name: str, then: JsonSchema, otherwise: JsonSchema) -> JsonSchema:
    """One of two mappings, by whether it has a setting."""
    return _unless_template({"if": {"required": [name]}, "then": then, "else": otherwise})


def written_as(schema: JsonSchema) -> Any:
    """The type of an attribute in `defs.yaml`: anything, which is checked where templates have been filled in."""
    return Annotated[Any, WithJsonSchema(schema)]


def strict_model(derived: type[BaseModel], *, required: str) -> type[BaseModel]:
    """The model that Dagster derives from a component, with our schemas and without its errors.

    Args:
        derived: Dagster's model. To the schema of each attribute it adds any text.
        required: The attribute that has to be given.
    """
    fields: dict[str, Any] = {}
    for name, field in derived.model_fields.items():
        ours = [each for each in get_args(field.annotation) if get_origin(each) is Annotated]
        fields[name] = (ours[0], copy(field)) if ours else (field.annotation, copy(field))
    fields[required][1].default = None
    # it may hold a key
    fields[required][1].repr = False

    of_dagster: Any = derived.model_config.get("json_schema_extra") or {}

    def as_dagster_has_it(schema: JsonSchema) -> None:
        schema |= of_dagster | {"additionalProperties": False, "required": [required]}
        schema["properties"][required].pop("default", None)

    # what is missing, and what there is not, is reported where no value is printed
    config = ConfigDict(extra="allow", json_schema_extra=as_dagster_has_it)
    return create_model(derived.__name__, __config__=config, **fields)


def _lenient(node: JsonSchema, parts: Mapping[str, JsonSchema]) -> JsonSchema:
    node = _followed(node, parts)
    notes = {name: node[name] for name in _ANNOTATIONS if name in node}
    if node.get(IS_SECRET):
        # no type, as a message about a wrong one would print the value
        return notes
    bare = {name: value for name, value in node.items() if name not in _ANNOTATIONS}
    if "anyOf" in bare:
        return notes | _union([_followed(each, parts) for each in bare["anyOf"]], parts)
    for name in ("items", "additionalProperties"):
        if isinstance(bare.get(name), dict):
            bare[name] = _lenient(bare[name], parts)
    if "properties" in bare:
        bare["properties"] = {name: _lenient(each, parts) for name, each in bare["properties"].items()}
    kind = bare.get("type")
    if kind == "string" and not {"enum", "const"} & bare.keys():
        bare["type"] = ["string", "number"]
        return notes | (_unless_template(bare) if "pattern" in bare else bare)
    return notes | _unless_template(bare, or_text=_TEXTS.get(str(kind)))


def _followed(node: JsonSchema, parts: Mapping[str, JsonSchema]) -> JsonSchema:
    """A schema in place of the reference to it."""
    if "$ref" not in node:
        return node
    return parts[node["$ref"].rpartition("/")[2]] | {name: value for name, value in node.items() if name != "$ref"}


def _union(options: list[JsonSchema], parts: Mapping[str, JsonSchema]) -> JsonSchema:
    """One schema for each type, so that a message is about the option that was meant."""
    by_type = {str(each.get("type")): each for each in options}
    if "None" in by_type:
        return {}
    values = [kind for kind in by_type if kind != "null"]
    conditions = [{"if": {"type": _meant(kind, values)}, "then": _lenient(by_type[kind], parts)} for kind in values]
    types = {"string", *by_type, *(kind for each in conditions for kind in each["if"]["type"])}
    return {"type": sorted(types), "allOf": conditions}


def _meant(kind: str, kinds: list[str]) -> list[str]:
    """The types in YAML that mean an option: a text means any that is the only one, and a number may be a text."""
    if kind == "string":
        return ["string"] if {"integer", "number"} & set(kinds) else ["string", "number"]
    return [kind, "string"] if len(kinds) == 1 else [kind]


def _unless_template(node: JsonSchema, *, or_text: str | None = None) -> JsonSchema:
    pattern = f"{_TEMPLATE}|{or_text}" if or_text else _TEMPLATE
    return {"if": {"type": "string", "pattern": pattern}, "else": node}
