"""Refreshing the state: the last good one serves until there is a better one."""

from datetime import UTC, datetime

import dagster as dg

from dw_orchestration.errors import SetupError
from dw_orchestration.posthog.errors import MissingScopeError, PostHogError
from dw_orchestration.resources.snapshot import WarehouseSnapshot
from dw_orchestration.resources.warehouse import WarehouseResource


def refreshed(warehouse: WarehouseResource, *, previous: WarehouseSnapshot | None) -> WarehouseSnapshot:
    """What the warehouse holds now; if it cannot be asked, the previous state with the reason.

    Never raises for a warehouse that is down or set up wrongly: the code location comes up, and says so in one line.
    """
    try:
        snapshot = warehouse.take_snapshot()
    except (PostHogError, SetupError) as error:
        return _previous_or_empty(warehouse, previous, problem=str(error))
    _warn_about_scope(warehouse)
    return snapshot


def _previous_or_empty(
    warehouse: WarehouseResource, previous: WarehouseSnapshot | None, *, problem: str
) -> WarehouseSnapshot:
    log = dg.get_dagster_logger("dw_orchestration")
    if previous is None:
        log.error(problem)
        return WarehouseSnapshot(
            taken_at=datetime.now(tz=UTC),
            host=warehouse.name,
            project_id="unknown",
            sources=(),
            problem=problem,
        )
    log.warning(f"{problem} The state of {previous.taken_at:%Y-%m-%d %H:%M} UTC serves.")
    return previous.model_copy(update={"problem": problem})


def _warn_about_scope(warehouse: WarehouseResource) -> None:
    """Reading works without the scope that starting syncs needs, so it is said before somebody tries."""
    try:
        with warehouse.client() as client:
            client.check_access(write=True)
    except MissingScopeError as error:
        dg.get_dagster_logger("dw_orchestration").warning(f"Tables can be watched but not synced: {error}")
    except PostHogError:
        # the state has just been read, so this is a passing trouble of a courtesy
        return
