"""What a component says when there is nothing to load, or when it must not be loaded."""

import logging
from collections.abc import Sequence

import dagster as dg

from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY


def not_connected(problem: str, *, name: str = DEFAULT_RESOURCE_KEY) -> dg.Definitions:
    """One asset in place of the tables, with the problem as its description: an empty page would explain nothing."""
    spec = dg.AssetSpec(
        key=[name, "not_connected"], group_name=name, kinds={"posthog"}, description=f"No tables: {problem}"
    )
    return dg.Definitions(assets=[spec])


def refuse_namesakes(name: str, everyone: Sequence[str]) -> None:
    """Report two components with the same name: Dagster would only report a duplicate resource.

    Raises:
        SetupError: More than one component of the project has the name.
    """
    if (count := everyone.count(name)) > 1:
        raise SetupError(
            f"{count} components have the name {name!r}. Give each PostHog project its own, with `name: ...` among its"
            " attributes: it keeps their assets, schedules and states apart."
        )


def log() -> logging.Logger:
    """The component's logger."""
    return dg.get_dagster_logger("dw_orchestration")
