"""The warehouse of a component, as `defs.yaml` names it."""

from pathlib import Path
from typing import Annotated

import dagster as dg
from pydantic import Field

from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_MINUTE
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource

_PATHS = ("home", "fixtures")
_TEXTS = ("project_id", "api_key", "host")


class EmbeddedArgs(dg.Model):
    """The embedded warehouse, as `defs.yaml` names it."""

    home: str = Field(
        description="The folder that holds everything of it; a relative one is relative to the project's folder."
    )
    shop: bool = Field(default=True, description="Whether it runs a Postgres with a small shop as its first source.")
    fixtures: str | None = Field(default=None, description="A folder with files in place of vendors.")
    start_timeout_s: float = Field(default=120.0, gt=0, description="Seconds to wait for it to start.")


class ProjectArgs(dg.Model):
    """A PostHog project, as `defs.yaml` names it."""

    project_id: str = Field(description="The number in the address of the project's pages.")
    api_key: str = Field(description='A personal API key; best as `"{{ env.POSTHOG_PERSONAL_API_KEY }}"`.', repr=False)
    host: str = Field(default="https://us.posthog.com", description="Where the PostHog app runs.")
    read_only: bool | None = Field(
        default=None,
        description="Refuse everything that would change anything in PostHog. Without a value: in branch deployments"
        " of Dagster+.",
    )
    requests_per_minute: int = Field(
        default=DEFAULT_REQUESTS_PER_MINUTE,
        ge=0,
        description="How many requests a minute may be sent with this key; 0 for no limit.",
    )
    request_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds that PostHog may be silent before a request counts as failed."
    )
    max_attempts: int = Field(
        default=4, ge=1, description="How often a request is sent at most if it fails and may be repeated."
    )


def project_path(context: dg.ResolutionContext, path: str) -> Path:
    """A path as a user gives it: relative to the project's folder, wherever the process was started."""
    # without a component's context (in a test, say) there is no project, and the current folder is used instead
    root = dg.ComponentLoadContext.from_resolution_context(context).project_root if context.stash else Path()
    return (root / Path(str(context.resolve_value(path))).expanduser()).absolute()


def _resolve_warehouse(context: dg.ResolutionContext, args: ProjectArgs | EmbeddedArgs) -> WarehouseResource:
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
