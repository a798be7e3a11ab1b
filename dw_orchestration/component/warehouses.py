"""The warehouse of a component, as `defs.yaml` names it."""

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from dw_orchestration.component.schema import either, schema_of, written_as
from dw_orchestration.component.templates import Unset, Variable, checked, filled_in, plain, rendered, where
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource

_PATHS = ("home", "fixtures")
# the texts of a project; where one is nothing but a variable, Dagster reads it in each process that needs it
_TEXTS = ("project_id", "api_key", "host", "request_budget")


def _args_of(resource: type[WarehouseResource], name: str) -> type[BaseModel]:
    """The settings of a resource in `defs.yaml`: the resource's own fields, whose text stands once."""
    fields: dict[str, Any] = {
        field_name: (field.rebuild_annotation(), copy(field)) for field_name, field in resource.model_fields.items()
    }
    # YAML makes a number of an id, and a setting without a value of a variable that is not set
    config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    return create_model(name, __config__=config, __doc__=resource.__doc__, **fields)


ProjectArgs = _args_of(PostHogWarehouseResource, "ProjectArgs")
EmbeddedArgs = _args_of(LocalWarehouse, "EmbeddedArgs")
# without its folder, nothing would distinguish it from a project whose id was forgotten
EmbeddedArgs = create_model(
    "EmbeddedArgs",
    __base__=EmbeddedArgs,
    home=(str, Field(description=LocalWarehouse.model_fields["home"].description)),
)


def project_path(context: dg.ResolutionContext, path: str) -> Path:
    """A path as a user gives it: relative to the project's folder, wherever the process was started."""
    # without a component's context (in a test, say) there is no project, and the current folder is used instead
    root = dg.ComponentLoadContext.from_resolution_context(context).project_root if context.stash else Path()
    return (root / Path(path).expanduser()).absolute()


def _resolve_warehouse(context: dg.ResolutionContext, given: Any) -> WarehouseResource:
    """The resource. No text of an error has a value in it, which may be a key that is written out.

    Raises:
        ResolutionException: It is no warehouse; the text has a line for each problem.
    """
    given = rendered(context, given) if isinstance(given, str) else plain(given)
    if isinstance(given, WarehouseResource):
        return given
    if not isinstance(given, Mapping):
        raise ResolutionException(
            f"{where(context)}: give the settings of a PostHog project (`project_id`, `api_key`), or the folder of an"
            " embedded warehouse (`home`)."
        )
    if "home" in given:
        values = _settings(context, EmbeddedArgs, given)
        return LocalWarehouse(
            **values | {name: str(project_path(context, values[name])) for name in _PATHS & values.keys()}
        )
    return PostHogWarehouseResource(**_settings(context, ProjectArgs, given))


def _settings(context: dg.ResolutionContext, args: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The checked settings that were given; what was left out, or has no value, is left to the resource."""
    values = {name: _value(context.at_path(name), name, each) for name, each in given.items()}
    values = {name: each for name, each in values.items() if each is not None}
    found = checked(context, TypeAdapter(args), values, shows_values=False).model_dump(exclude_unset=True)
    # not what pydantic made of them, which is a copy as plain text
    return found | {name: each for name, each in values.items() if isinstance(each, dg.EnvVar)}


def _value(context: dg.ResolutionContext, name: str, given: Any) -> Any:
    if name not in _TEXTS or not isinstance(given, str):
        return filled_in(context, given)
    value = rendered(context, given)
    if isinstance(value, Variable):
        return dg.EnvVar(value.name)
    return dg.EnvVar(value.variable) if isinstance(value, Unset) else value


_SCHEMA = either("home", schema_of(EmbeddedArgs), schema_of(ProjectArgs))

Warehouse = Annotated[
    WarehouseResource,
    dg.Resolver(
        _resolve_warehouse,
        model_field_type=written_as(_SCHEMA),
        inject_before_resolve=False,
        description="The PostHog project to connect to, or the embedded warehouse in a folder (`home`).",
    ),
]
