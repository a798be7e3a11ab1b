"""Writes into the pages what files and the code say: examples, tables, signatures and docstrings.

`make docs` runs it through cog (https://cog.readthedocs.io), which replaces what is between `<!--cog ... cog-->` and
`<!--end-->` on each page by what the functions here print. So pages can be read where they are, without a build.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple, cast

import cog
import griffe
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
from dw_orchestration.errors import ApiError, PostHogError, SyncError, UnreachableError
from dw_orchestration.operations.jobs import RESYNC
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.errors import Problem
from dw_orchestration.posthog.models import Job
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.sync import errors as sync_errors
from dw_orchestration.sync.jobs import JobHistory
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
REFUSED = Problem(status=400, method="POST", path="/...", host="eu.posthog.com", detail="<PostHog's reason>")
# Dagster's schema has this if the default is not a plain value
UNSET = "__DAGSTER_UNSET_DEFAULT__"
_OWN_DEFAULTS = {each.name: each.default for each in fields(PostHogWarehouseComponent) if each.default is not MISSING}
ROOT = Path(__file__).parents[1]
LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".sql": "sql",
    ".json": "json",
    "": "dockerfile",
}
# a longer signature has a line for each parameter
LONGEST_SIGNATURE = 88


class Attribute(NamedTuple):
    """One row of a table of attributes."""

    name: str
    kind: str
    default: str
    description: str


def show(path: str, region: str = "") -> None:
    """Print a file as a block of code, or the lines of it between `# region NAME` and `# endregion`."""
    lines = (ROOT / path).read_text().splitlines()
    if region:
        start = next(n for n, line in enumerate(lines) if line.strip() == f"# region {region}")
        end = next(n for n, line in enumerate(lines) if n > start and line.strip() == "# endregion")
        lines = lines[start + 1 : end]
    code = dedent("\n".join(line for line in lines if not line.strip().startswith(("# region", "# endregion"))))
    _print(f"```{LANGUAGES[Path(path).suffix]}", code.strip("\n"), "```")


def table(name: str) -> None:
    """Print a table of the reference."""
    _print(tables()[name])


def api(path: str, *members: str, level: int = 3) -> None:
    """Print what the code says about a class, a function or a module, and about some of its members."""
    found, package = _package()[path], path.rpartition(".")[0]
    if found.is_module:
        lines = [*_of_module(found, level=level, path=path)]
    else:
        lines = [*_describe(found, level=level, module=package)]
    for member in members:
        lines += _describe(found.all_members[member], level=level + 1)
    _print(*lines)


def _print(*lines: str) -> None:
    cog.out("\n" + "\n".join(lines).strip("\n") + "\n\n")


@cache
def _package() -> griffe.Module:
    loaded = griffe.load("dw_orchestration", search_paths=[ROOT], docstring_parser="google", resolve_aliases=True)
    return cast("griffe.Module", loaded)


def _of_module(found: griffe.Object | griffe.Alias, *, level: int, path: str) -> Iterator[str]:
    """The lines about the classes and functions of a module, which a package may have as its own names."""
    package = path.rpartition(".")[0]
    public = _package()[package].members if package else {}
    for member in found.members.values():
        if member.is_public and not member.is_alias and (member.is_class or member.is_function):
            yield from _describe(member, level=level, module=package if member.name in public else path)
            yield from _fields(member)


def _describe(found: griffe.Object | griffe.Alias, *, level: int, module: str | None = None) -> Iterator[str]:
    """The lines about an object: heading, where to import it from, signature, docstring."""
    of_class = found.parent is not None and found.parent.is_class
    yield f"\n{'#' * level} `{found.parent.name}.{found.name}`" if of_class else f"\n{'#' * level} `{found.name}`"
    # pytest finds fixtures by their names
    is_fixture = any(str(each.value).startswith("pytest.fixture") for each in getattr(found, "decorators", ()))
    if module is not None and not (of_class or is_fixture):
        yield f"\n`from {'.'.join(filter(None, ['dw_orchestration', module]))} import {found.name}`"
    if signature := _signature(found):
        yield f"\n```python\n{signature}\n```"
    for section in found.docstring.parsed if found.docstring else ():
        yield f"\n{_section(section)}"
    if found.is_class:
        yield from _attributes_of(found)


def _fields(record: griffe.Object | griffe.Alias) -> Iterator[str]:
    """The fields of a record, with their types and defaults."""
    fields = [each for each in record.members.values() if each.is_attribute and each.is_public and each.annotation]
    if fields and not _signature(record):
        lines = (f"{each.name}: {each.annotation}" + (f" = {each.value}" if each.value else "") for each in fields)
        yield "\n```python\n" + "\n".join(lines).replace("'", '"') + "\n```"


def _signature(found: griffe.Object | griffe.Alias) -> str:
    """How a function is called; how an object of a class with its own `__init__` is made."""
    if found.is_attribute:
        return f"{found.name}: {found.annotation}"
    if not (found.is_function or "__init__" in found.members):
        return ""
    parameters = [each for each in _parameters(found) if each not in ("self", "cls")]
    result = f" -> {found.returns}" if found.is_function and found.returns else ""
    line = f"{found.name}({', '.join(parameters)}){result}"
    if len(line) <= LONGEST_SIGNATURE:
        return line
    return f"{found.name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){result}"


def _parameters(found: griffe.Object | griffe.Alias) -> Iterator[str]:
    by_name_alone = False
    for parameter in found.parameters:
        if parameter.kind is griffe.ParameterKind.keyword_only and not by_name_alone:
            by_name_alone = True
            yield "*"
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(
            parameter.kind, ""
        )
        kind = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None and not stars else ""
        yield f"{stars}{parameter.name}{kind}{default}"


def _section(section: griffe.DocstringSection) -> str:
    match section.kind:
        case griffe.DocstringSectionKind.text:
            return str(section.value)
        case griffe.DocstringSectionKind.admonition:
            code = section.value.description.strip("`").strip()
            # a fence that names its language has it on its first line
            language = "yaml" if code.startswith("yaml\n") else "python"
            return f"{section.title}:\n\n```{language}\n{code.removeprefix(language).strip()}\n```"
        case griffe.DocstringSectionKind.examples:
            return "\n\n".join(f"```python\n{text}\n```" for _, text in section.value)
        case griffe.DocstringSectionKind.raises:
            return _list("Raises", ((str(each.annotation), each.description) for each in section.value))
        case griffe.DocstringSectionKind.returns | griffe.DocstringSectionKind.yields:
            return _list(str(section.kind.value).capitalize(), (("", each.description) for each in section.value))
        case _:
            return _list(
                str(section.kind.value).capitalize(), ((each.name, each.description) for each in section.value)
            )


def _list(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A list with a title; the names in code."""
    lines = (f"- `{name}`: {' '.join(text.split())}" if name else f"- {' '.join(text.split())}" for name, text in rows)
    return "\n".join([f"{title}:\n", *lines])


def _attributes_of(found: griffe.Object | griffe.Alias) -> Iterator[str]:
    """The attributes of a class that have their own docstring."""
    documented = [
        (name, each.docstring.value)
        for name, each in found.members.items()
        if each.is_attribute and each.is_public and each.docstring and "property" not in each.labels
    ]
    if documented:
        yield "\n" + _list("Attributes", documented)


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
    found["sync_texts"] = _table(
        ["The text", "What to do", "Retry"],
        ((str(error.args[0]), error.cure or "As the text says.", _retry(type(error))) for error in _examples()),
    )
    found["classes"] = _table(["class", "materializing it"], ((f"`{each}`", _effect(each)) for each in SchemaClass))
    found["jobs"] = _table(
        ["job", "what it does"],
        ((f"`…_{each.name}`", each.description.split("\n\n")[0]) for each in JOBS),
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
    said = {name: each.docstring for name, each in _package()[model.__name__].all_members.items() if each.docstring}
    rows = ((f"`{name}`", f"`{field.alias}`", said[name].value) for name, field in model.model_fields.items())
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


def _examples() -> Iterator[SyncError]:
    """The errors of a sync as a run shows them, with an example's name for the table."""
    table: dict[str, Any] = {"schema_id": "...", "label": "stripe.Charge"}
    label, history, at = "stripe.Charge", JobHistory(), datetime(2026, 12, 1, tzinfo=UTC)

    def job(status: str, *, error: str | None = None, enabled: bool = True) -> Job:
        schema = {"id": "...", "name": "Charge", "should_sync": enabled}
        of_job = {"id": "0199-...", "created_at": at, "status": status, "schema": schema, "latest_error": error}
        return Job.model_validate(of_job)

    ended = [job("Failed", error="<PostHog's error>"), job("Failed", error="<PostHog's error>", enabled=False)]
    ended += [job("Cancelled", error="<PostHog's reason>"), job("BillingLimitReached")]
    ended += [job("BillingLimitTooLow", error="<PostHog's reason>"), job("<status>")]
    yield from (error for each in ended if (error := sync_errors.error_for(each, label=label, history=history)))
    yield sync_errors.not_triggered(**table)
    yield sync_errors.never_started(**table, status=None, newest=None, after_s=300, lost=False)
    yield sync_errors.already_running(job("Running"), label=label)
    yield sync_errors.stalled(job("Running"), label=label, after_s=21600)
    yield sync_errors.too_long(job("Running"), label=label, after_s=86400)
    history.add(ended[0].model_copy(update={"id": str(n)}) for n in range(6))
    yield sync_errors.in_streak(**table, history=history, wait_s=900)
    yield sync_errors.deleted(**table)
    yield from (sync_errors.not_syncable(**table, found=each) for each in SchemaClass if each.reason)
    yield sync_errors.refused(**table, exc=ApiError(REFUSED))
    yield sync_errors.unreachable(**table, exc=UnreachableError("<the failed connection>"))


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
