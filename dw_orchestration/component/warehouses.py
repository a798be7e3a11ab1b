"""The warehouse of a component, as `defs.yaml` names it."""

from copy import copy
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import Field, create_model

from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource

_PATHS = ("home", "fixtures")
_TEXTS = ("project_id", "api_key", "host")


def _args_of(resource: type[WarehouseResource], name: str) -> type[dg.Model]:
    """The settings of a resource in `defs.yaml`: the resource's own fields, whose text stands once."""
    fields: dict[str, Any] = {
        field_name: (field.rebuild_annotation(), copy(field)) for field_name, field in resource.model_fields.items()
    }
    return create_model(name, __base__=dg.Model, __doc__=resource.__doc__, **fields)


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
    return (root / Path(str(context.resolve_value(path))).expanduser()).absolute()


def _resolve_warehouse(context: dg.ResolutionContext, args: dg.Model) -> WarehouseResource:
    # what the user left out is left to the resource
    given = dict(context.resolve_value(args.model_dump(exclude_unset=True, exclude_none=True)))
    if isinstance(args, EmbeddedArgs):
        paths = {name: str(project_path(context, given[name])) for name in _PATHS if name in given}
        return LocalWarehouse(**given | paths)
    # a template that holds digits alone resolves to a number, one of an unset variable to nothing; these are text
    texts = {name: "" if given[name] is None else str(given[name]) for name in _TEXTS if name in given}
    return PostHogWarehouseResource(**given | texts)


Warehouse = Annotated[
    WarehouseResource,
    dg.Resolver(
        _resolve_warehouse,
        model_field_type=ProjectArgs | EmbeddedArgs,
        description="The PostHog project to connect to, or the embedded warehouse in a folder (`home`).",
    ),
]
