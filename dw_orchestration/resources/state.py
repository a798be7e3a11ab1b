"""Refreshing the state: the last good one stays until there is a better one."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from dw_orchestration.posthog.errors import MissingScopeError, PostHogError
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError, SnapshotError, StateNotRefreshedError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

# A project that has lost more of its tables than it kept is more likely the wrong one, or half an answer
KEPT_SHARE = 0.5


def refresh_state(warehouse: WarehouseResource, path: Path, *, allow_shrinking: bool = False) -> None:
    """Write what the warehouse holds now to the state file, whole or not at all.

    Args:
        warehouse: What to ask.
        path: The state file. If this fails, its tables stay, with the reason why they may be out of date. If
            they are another project's, or cannot be read, the file stays as it is.
        allow_shrinking: Accept a state with less than half of the tables of the last one, or with none at all.

    Raises:
        StateNotRefreshedError: The warehouse is unreachable, its answer was refused, or the file cannot be written.
    """
    ready, previous = warehouse, None
    try:
        ready = warehouse.with_environment()
        previous = last_good_state(ready, path)
        snapshot = ready.take_snapshot(previous=previous)
        if not allow_shrinking:
            _check_size(snapshot, previous)
        snapshot.write(path)
    except (PostHogError, SetupError, SnapshotError) as error:
        if previous is not None or _holds_nothing(path):
            # where it cannot be written, the error that is raised says more than this one
            with suppress(SnapshotError):
                _with_problem(warehouse, previous, problem=str(error)).write(path)
        serves = f" The state of {previous.taken_at:%Y-%m-%d %H:%M} UTC serves." if previous else ""
        raise StateNotRefreshedError(f"{error}{serves}") from None
    _warn_about_scope(ready)


def last_good_state(warehouse: WarehouseResource, path: Path) -> WarehouseSnapshot | None:
    """The state to fall back on. One that can't be read, or is another project's, is none: replacing it is the cure."""
    state = _tables_in(path)
    return state if state is not None and warehouse.is_origin_of(state) else None


def _holds_nothing(path: Path) -> bool:
    """Whether nothing is lost with the file: one that cannot be read may be of a newer version of this package."""
    try:
        return WarehouseSnapshot.read(path).has_no_tables
    except FileNotFoundError:
        return True
    except SnapshotError:
        return False


def _tables_in(path: Path) -> WarehouseSnapshot | None:
    try:
        state = WarehouseSnapshot.read(path)
    except (FileNotFoundError, SnapshotError):
        return None
    return None if state.has_no_tables else state


def _check_size(snapshot: WarehouseSnapshot, previous: WarehouseSnapshot | None) -> None:
    """Refuse what would take most of the assets away, together with the on/off choices of their schedules.

    Raises:
        SnapshotError: There is no table, or less than half of those that there were.
    """
    now, before = len(snapshot.schemas), len(previous.schemas) if previous else 0
    accept = "If that is right, set `allow_shrinking: true`."
    if not now:
        raise SnapshotError(
            f"The project {snapshot.project_id} at {snapshot.host} has no tables in its data warehouse. Is it the"
            f" right project? {accept}"
        )
    if now < KEPT_SHARE * before:
        raise SnapshotError(
            f"PostHog shows {now} tables where there were {before}, so the state was not replaced. {accept}"
        )


def _with_problem(
    warehouse: WarehouseResource, previous: WarehouseSnapshot | None, *, problem: str
) -> WarehouseSnapshot:
    if previous is not None:
        return previous.model_copy(update={"problem": problem})
    return WarehouseSnapshot(
        taken_at=datetime.now(tz=UTC), host=warehouse.name, project_id="unknown", sources=(), problem=problem
    )


def _warn_about_scope(warehouse: WarehouseResource) -> None:
    """Reading works without the scope that starting syncs needs, so a missing scope is reported before it matters."""
    try:
        with warehouse.client() as client:
            client.check_access(write=True)
    except MissingScopeError as error:
        dg.get_dagster_logger("dw_orchestration").warning(f"Tables can be watched but not synced: {error}")
    except PostHogError:
        # the state has just been read, so this is a passing trouble of a courtesy
        return
