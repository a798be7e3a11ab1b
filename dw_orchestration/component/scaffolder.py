"""What `dg scaffold defs dw_orchestration.PostHogWarehouseComponent <name>` writes."""

from typing import Any

import dagster as dg
from dagster.components import ScaffoldRequest, scaffold_component
from pydantic import BaseModel, Field


class ScaffoldParams(BaseModel):
    """The options of the command."""

    project_id: str | None = Field(
        default=None,
        description="The number in the address of the project's pages; without it, POSTHOG_PROJECT_ID is read.",
    )
    host: str | None = Field(default=None, description="Where the PostHog app runs, such as https://eu.posthog.com.")
    embedded: str | None = Field(
        default=None,
        description="Use the embedded warehouse in this folder instead of a project, to try it without an account.",
    )


class WarehouseScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a `defs.yaml` that works as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The options of the command."""
        return ScaffoldParams

    def scaffold(self, request: ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the file."""
        scaffold_component(request, {"warehouse": _warehouse(request.params)})


def _warehouse(params: ScaffoldParams) -> dict[str, Any]:
    if params.embedded is not None:
        return {"home": params.embedded}
    project = {
        "project_id": params.project_id or "{{ env.POSTHOG_PROJECT_ID }}",
        "api_key": "{{ env.POSTHOG_PERSONAL_API_KEY }}",
    }
    return project | ({"host": params.host} if params.host else {})
