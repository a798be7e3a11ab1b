"""Generates the tables of the reference from the code, before the site is built."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

import typer
from pydantic import BaseModel

from dw_orchestration import (
    LocalWarehouse,
    PostHogSyncConfig,
    PostHogWarehouseComponent,
    PostHogWarehouseResource,
    SyncMetadata,
    TableMetadata,
    errors,
)
from dw_orchestration.cli.app import app
from dw_orchestration.cli.output import MEANINGS
from dw_orchestration.component.attributes import OpArgs, RetryArgs
from dw_orchestration.component.translations import TableAttributes
from dw_orchestration.component.warehouses import EmbeddedArgs, ProjectArgs
from dw_orchestration.errors import ApiError, PostHogError, SyncError
from dw_orchestration.operations.jobs import RESYNC
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.errors import Problem
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.tables.classify import SchemaClass
from dw_orchestration.tables.selection import TableSelector

# mappings in the component's attributes
PARTS: dict[str, type[BaseModel]] = {
    "project": ProjectArgs,
    "embedded": EmbeddedArgs,
    "overrides": ScheduleOverride,
    "retry_policy": RetryArgs,
    "op": OpArgs,
    "translation": TableAttributes,
}
JOBS = [each for each in (*OPERATIONS, RESYNC) if each.has_job]
EXAMPLE = Problem(status=403, method="GET", path="/", host="", detail="missing scope 'external_data_source:write'")
# Dagster's schema has this if the default is not a plain value
UNSET = "__DAGSTER_UNSET_DEFAULT__"
_OWN_DEFAULTS = {each.name: each.default for each in fields(PostHogWarehouseComponent) if each.default is not MISSING}
FOLDER = Path(__file__).parent / "snippets" / "generated"


class Attribute(NamedTuple):
    """One row of a table of attributes."""

    name: str
    kind: str
    default: str
    description: str


def main() -> None:
    """Write every table."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in tables().items():
        (FOLDER / f"{name}.md").write_text(text + "\n")


def tables() -> dict[str, str]:
    """The tables, by file name."""
    component = PostHogWarehouseComponent.model().model_json_schema()
    parts = {name: part.model_json_schema() for name, part in PARTS.items()}
    found = {name: _attributes(part, part.get("$defs", {})) for name, part in parts.items()}
    found["component"] = _attributes(component, component["$defs"])
    found["selectors"] = _attributes(TableSelector.model_json_schema(), {})
    found["resource"] = _attributes(PostHogWarehouseResource.model_json_schema(), {})
    found["local_warehouse"] = _attributes(LocalWarehouse.model_json_schema(), {})
    found["run_config"] = _attributes(PostHogSyncConfig.model_json_schema(), {})
    found["table_metadata"] = _metadata(TableMetadata)
    found["sync_metadata"] = _metadata(SyncMetadata)
    found["api_errors"] = _errors(ApiError, columns=("Error", "What happened", "What to do"))
    found["transport_errors"] = _errors(PostHogError, columns=("Error", "What happened"), without=ApiError)
    found["sync_errors"] = _errors(SyncError, columns=("Error", "What happened", "What to do", "Retry"))
    found["classes"] = _table(["class", "materializing it"], ((f"`{each}`", _effect(each)) for each in SchemaClass))
    found["jobs"] = _table(
        ["job", "what it does"],
        ((f"`…_{each.name}`", each.description) for each in JOBS),
    )
    found["commands"] = _table(["command", "what it does"], commands(typer.main.get_command(app), path=("dw",)))
    found["exits"] = _table(["status", "meaning"], ((str(code.value), text) for code, text in MEANINGS.items()))
    return found


def attributes(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Attribute]:
    """The attributes of a JSON schema."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else _default(name, field.get("default"))
        yield Attribute(name, _kind(field, definitions), default, " ".join(field.get("description", "").split()))


def _attributes(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    rows = ((f"`{each.name}`", *each[1:]) for each in attributes(schema, definitions))
    return _table(["attribute", "type", "default", "what it does"], rows)


def _metadata(model: type[TableMetadata | SyncMetadata]) -> str:
    rows = ((f"`{name}`", f"`{field.alias}`", field.description or "") for name, field in model.model_fields.items())
    return _table(["attribute", "key", "what it is"], rows)


def _default(name: str, value: object) -> str:
    if value == UNSET:
        value = _OWN_DEFAULTS.get(name)
    if value is None or value in ([], {}, ()):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The type in a few words. Every value can be a template, so that is not repeated."""
    kinds = list(dict.fromkeys(_kinds(field, definitions)))
    return " or ".join(kind for kind in kinds if kind != "string" or len(kinds) == 1) or "anything"


def _kinds(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    for option in _options(field):
        yield from _kinds(option, definitions)
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield from _kinds(definitions[name], definitions) if "enum" in definitions.get(name, {}) else ["mapping"]
    elif "enum" in field:
        yield ", ".join(f"`{value}`" for value in field["enum"])
    elif field.get("type") == "array":
        yield "list"
    elif isinstance(field.get("type"), list):
        yield from () if "allOf" in field else ("string",)
    elif field.get("type") not in (None, "null"):
        yield {"object": "mapping", "boolean": "true or false"}.get(field["type"], field["type"])


def _options(field: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas of which one holds; the component's own schema leads to them by what is given."""
    yield from field.get("anyOf", ())
    for condition in (field, *field.get("allOf", ())):
        yield from (condition[branch] for branch in ("then", "else") if branch in condition)


def commands(command: Any, *, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each command below a group, with the first line of its help."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from commands(child, path=(*path, name))
        else:
            yield f"`{' '.join([*path, name])}`", child.get_short_help_str(limit=200)


def _effect(of: SchemaClass) -> str:
    return (of.reason[:1].upper() + of.reason[1:]) or "It is synced."


def _errors(base: type[Exception], *, columns: tuple[str, ...], without: type[Exception] | None = None) -> str:
    found = [
        error
        for name in dir(errors)
        if inspect.isclass(error := getattr(errors, name)) and issubclass(error, base) and error is not base
    ]
    wanted = (error for error in found if without is None or not issubclass(error, without))
    return _table(columns, (_error(error)[: len(columns)] for error in wanted))


def _error(error: type[Exception]) -> tuple[str, ...]:
    what = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")
    return f"`{error.__name__}`", what, _cure(error), _retry(error)


def _cure(error: type[Exception]) -> str:
    # some errors take a part of their cure from PostHog's answer
    example = error(EXAMPLE) if issubclass(error, ApiError) else error
    return str(getattr(example, "cure", "")) or "See the message."


def _retry(error: type[Exception]) -> str:
    return "helps" if getattr(error, "retry_helps", False) else "no"


def _cell(text: str) -> str:
    """The text for a cell of a Markdown table: escaped, except for code in backticks."""
    plain_and_code = text.replace("|", "\\|").split("`")
    return "`".join(part if n % 2 else part.replace("<", "&lt;") for n, part in enumerate(plain_and_code))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
