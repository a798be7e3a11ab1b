"""The state: code servers fetch it, runs and steps read it; the last good one stays until there is a better one."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

# not public, and there is no other way to learn whether Dagster loads definitions for a run
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster.components import DefsStateConfigArgs

from dw_orchestration.posthog.errors import MissingScopeError, PostHogError
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError, SnapshotError, StateNotRefreshedError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

# A project that has lost more of its tables than it kept is more likely the wrong one, or half an answer
KEPT_SHARE = 0.5

_IN_STORAGE = DefsStateConfigArgs.versioned_state_storage().management_type
_IN_DEVELOPMENT = dg.EnvVar("DAGSTER_IS_DEV_CLI")
_DEFAULT_HOME = ".dw_orchestration"
# whether definitions were loaded in this process as a run loads them, once for each way
_LOADS: set[bool] = set()
# what has been made of the state in one load of definitions
_MADE: WeakKeyDictionary[DefinitionsLoadContext, dict[Any, Any]] = WeakKeyDictionary()


def is_reconstruction() -> bool:
    """Whether definitions are loaded from what an earlier load has found, as every run and step does.

    A code server does so too, right after it has loaded them for the first time: what it serves is the second load.
    """
    return DefinitionsLoadContext.get().load_type is DefinitionsLoadType.RECONSTRUCTION


def note_load() -> None:
    """Note in which way definitions are loaded: `serves_runs_alone` is about all loads of this process."""
    _LOADS.add(is_reconstruction())


def serves_runs_alone() -> bool:
    """Whether this process runs jobs and steps, and has no use for schedules and sensors.

    Dagster reconstructs definitions there. A code server and a command do so too, but load them in another way first.
    """
    return {True} == _LOADS


def made_in_this_load() -> dict[Any, Any]:
    """What has been made of the state in this load of definitions, all of which has to be of one state.

    It is empty in processes in which Dagster loads no code location, such as tests.
    """
    return _MADE.setdefault(DefinitionsLoadContext.get(), {}) if DefinitionsLoadContext.is_set() else {}


def note_tables(name: str) -> None:
    """Let the runs of this code server know that it has loaded the tables of a component."""
    context = DefinitionsLoadContext.get()
    # what a second load notes replaces all that the first one has, that of other components too
    known = context.reconstruction_metadata if is_reconstruction() else {}
    for key, value in {**known, _tables_of(name): "loaded"}.items():
        context.add_to_pending_reconstruction_metadata(key, value)


def code_server_has_tables(name: str) -> bool:
    """Whether this is a process of a run whose code server has loaded the tables of a component."""
    return is_reconstruction() and _tables_of(name) in DefinitionsLoadContext.get().reconstruction_metadata


def _tables_of(name: str) -> str:
    return f"dw_orchestration/tables/{name}"


def how_to_get(place: str) -> str:
    """What to do about a state that is missing.

    Args:
        place: Where it was expected.
    """
    if not is_reconstruction():
        return f"There is no state {place} yet. Fetch it with `dg utils refresh-defs-state`."
    return (
        f"There is no state {place}. Runs and steps read the state of their code server, and never fetch it from"
        " PostHog. Write it into the image (`dg utils refresh-defs-state` during the build), keep it in a `state_file`"
        " on a volume that all processes mount, or in a bucket with `defs_state: {management_type:"
        " VERSIONED_STATE_STORAGE}`."
    )


def load_state(
    warehouse: WarehouseResource,
    state: str | Path | WarehouseSnapshot | None,
    *,
    name: str,
    allow_shrinking: bool = False,
) -> WarehouseSnapshot:
    """The state for definitions in Python: a code server fetches it as it loads, runs and steps only read it.

    Args:
        warehouse: What to fetch it from.
        state: A file that is used as it stands and fetched if it is absent, or a snapshot that is at hand. By default,
            each load fetches it, and it is kept in the folder of the embedded warehouse or in `DW_ORCHESTRATION_HOME`.
        name: The name of the project's definitions, by which several projects keep their states apart.
        allow_shrinking: As for `refresh_state`.

    Raises:
        SnapshotError: The file cannot be read, is another project's, or a process of a run does not find it.
        StateNotRefreshedError: The warehouse is unreachable or its answer was refused, and no last good state serves.
    """
    if isinstance(state, WarehouseSnapshot):
        return _with_tables(state)
    made, path = made_in_this_load(), Path(state) if state else _default_file(warehouse, name)
    if path not in made:
        if not is_reconstruction() and (state is None or is_to_be_fetched(path)):
            _refresh_or_serve_last(warehouse, path, allow_shrinking=allow_shrinking)
        made[path] = _readable(path)
    snapshot: WarehouseSnapshot = made[path]
    # a file of the user's own is used as it stands
    if state is None and not warehouse.is_origin_of(snapshot):
        raise SnapshotError(
            f"The state {path} is of project {snapshot.project_id} at {snapshot.host}, and not of this one. Reload the"
            " code location to fetch it again."
        )
    return _with_tables(snapshot)


def _default_file(warehouse: WarehouseResource, name: str) -> Path:
    """Where the state is kept: with the embedded warehouse, or where all processes of this project's folder find it."""
    home = warehouse.database.parent if isinstance(warehouse, LocalWarehouse) else home_of(os.environ)
    return home / f"state_{name}.json"


def home_of(environment: Mapping[str, str]) -> Path:
    """The folder for the state and the embedded warehouse, where all processes of a project's folder find it."""
    return Path(environment.get("DW_ORCHESTRATION_HOME", _DEFAULT_HOME)).absolute()


def _refresh_or_serve_last(warehouse: WarehouseResource, path: Path, *, allow_shrinking: bool) -> None:
    """Fetch the state; if that fails, the last good one serves.

    Raises:
        StateNotRefreshedError: There is none.
    """
    try:
        refresh_state(warehouse, path, allow_shrinking=allow_shrinking)
    except StateNotRefreshedError as error:
        if last_good_state(warehouse, path) is None:
            raise
        dg.get_dagster_logger("dw_orchestration").warning(str(error))


def is_to_be_fetched(state_file: Path) -> bool:
    """Whether a load fetches the state: there is none, or it is damaged and this is a developer's machine."""
    try:
        # what kept the last process from asking may have been set right since
        return WarehouseSnapshot.read(state_file).has_no_tables
    except FileNotFoundError:
        return True
    except SnapshotError:
        return bool(_IN_DEVELOPMENT.get_value())


def _readable(path: Path) -> WarehouseSnapshot:
    """The state in a file.

    Raises:
        SnapshotError: There is none.
    """
    try:
        return WarehouseSnapshot.read(path)
    except FileNotFoundError:
        raise SnapshotError(how_to_get(f"at {path.absolute()}")) from None


def _with_tables(snapshot: WarehouseSnapshot) -> WarehouseSnapshot:
    """The state, if it is one.

    Raises:
        SnapshotError: It holds nothing but the reason why.
    """
    if snapshot.problem is not None and snapshot.has_no_tables:
        raise SnapshotError(snapshot.problem)
    return snapshot


def fetch_stored(key: str, path: Path) -> None:
    """Put the last state of Dagster's state storage where the next one will be written: Dagster gives an empty path.

    A state that cannot be read is none, with a warning, because the next one replaces it.

    Args:
        key: Under which the state is stored.
        path: Where to put it.
    """
    storage = _state_storage()
    info = storage.get_latest_defs_state_info() if storage else None
    version = info.info_mapping.get(key) if info else None
    if storage is None or version is None or version.management_type is not _IN_STORAGE:
        return
    try:
        storage.download_state_to_path(key, version.version, path)
    except Exception as error:  # noqa: BLE001  the storage may be any class, with any errors
        path.unlink(missing_ok=True)
        dg.get_dagster_logger("dw_orchestration").warning(
            f"The last state, {key} in version {version.version}, cannot be read from Dagster's state storage"
            f" ({error}). The new state is not compared with it."
        )


def store(key: str, path: Path) -> None:
    """Keep a copy of a state in Dagster's state storage, if there is one, for the next code server to compare with."""
    if storage := _state_storage():
        storage.upload_state_from_path(key, version="last", path=path)


def _state_storage() -> dg.UPathDefsStateStorage | None:
    """The state storage of this process. It may be of another class: `get` is a method of their common base."""
    return dg.UPathDefsStateStorage.get()  # type: ignore[return-value]


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


def has_tables(path: Path) -> bool:
    """Whether a state file can be read and holds tables, of now or of the last good state."""
    return _tables_in(path) is not None


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
