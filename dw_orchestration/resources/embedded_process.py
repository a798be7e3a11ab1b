"""The embedded warehouse's process: started when it is first needed, shared by all who need it, stopped on request."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypedDict, Unpack, cast

from dw_orchestration.files import make_private_folder, private_files
from dw_orchestration.posthog.answers import Answer
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.errors import UnreachableError
from dw_orchestration.posthog.transport import RequestOptions, Transport
from dw_orchestration.tables.errors import LocalWarehouseError

# One shared lock per home, held until this process ends: those who use it come and go.
_LEASES: dict[Path, IO[bytes]] = {}
# Python warns of a process that is forgotten while it runs, and these are meant to outlive their starter.
_STARTED: list[subprocess.Popen[bytes]] = []
START_WITHIN_S = 120.0
# of one request: what is starting, after it was killed, can be killed again
RESTARTS = 3


class HiddenKey(str):
    """A key that is not shown with what contains it: an endpoint is printed to see where the warehouse is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'phx_...'"


class Endpoint(TypedDict):
    """What the embedded warehouse writes down once it listens."""

    host: str
    project_id: str
    api_key: str
    pid: int
    database: str


class EmbeddedProcess:
    """The one process of a home, no matter who started it.

    Args:
        home: The folder that holds everything of it.
        shop: Whether it runs the small shop as its first source.
        fixtures: A folder with files in place of vendors.
        start_timeout_s: Seconds to wait for it to listen, or to end.
    """

    def __init__(
        self,
        home: Path,
        *,
        shop: bool = True,
        fixtures: Path | None = None,
        start_timeout_s: float = START_WITHIN_S,
    ) -> None:
        self.home = home.expanduser().absolute()
        self._shop = shop
        self._fixtures = fixtures
        self._start_timeout_s = start_timeout_s

    def client(self) -> PostHogWarehouseClient:
        """A client of it; it is started if it is not running.

        Raises:
            LocalWarehouseError: It could not be started; the text ends with the last lines of its output.
        """
        return EmbeddedClient(self.ensure_running)

    def ensure_running(self) -> Endpoint:
        """Start the embedded warehouse unless it runs, and keep it for as long as this process lives.

        Raises:
            LocalWarehouseError: It could not be started, or its folder cannot be used.
        """
        with self._folder_is_named():
            make_private_folder(self.home)
            _take_lease(self.home)
            return self._running() or self._start()

    def stop(self) -> None:
        """Stop the embedded warehouse if it runs, even if it is in use; running syncs fail, and what it keeps stays.

        Raises:
            LocalWarehouseError: It is still there after the time that a start may take.
        """
        if not self.home.exists():
            return
        with self._folder_is_named():
            endpoint = self._end()
        if (lease := _LEASES.pop(self.home, None)) is not None:
            lease.close()
        for process in [one for one in _STARTED if endpoint is not None and one.pid == endpoint["pid"]]:
            process.wait()
        _STARTED[:] = [one for one in _STARTED if one.poll() is None]

    @contextmanager
    def _folder_is_named(self) -> Iterator[None]:
        """Turn what fails in the folder into an error that names it."""
        try:
            yield
        except OSError as error:
            raise LocalWarehouseError(
                f"The embedded warehouse cannot use {error.filename or self.home} ({error.strerror}). Make the folder"
                f" {self.home} writable, or name another one: with `home`, or with DW_ORCHESTRATION_HOME for the"
                " default code location."
            ) from None

    def _end(self) -> Endpoint | None:
        """End the process, and wait for its end; what it was."""
        endpoint = None
        deadline = time.monotonic() + self._start_timeout_s
        while _is_locked(self.home / "server.lock"):
            # a damaged file is restored by the process within a moment
            if endpoint is None and (endpoint := self._running()) is not None:
                os.kill(endpoint["pid"], signal.SIGTERM)
            if time.monotonic() >= deadline:
                raise LocalWarehouseError(f"The embedded warehouse in {self.home} does not stop.")
            time.sleep(0.05)
        return endpoint

    def _running(self) -> Endpoint | None:
        """Where it listens, if it does.

        A server holds the lock of its home from its start to its end. The endpoint of the one before stays until the
        new one listens, so it counts only while its process lives.
        """
        if not _is_locked(self.home / "server.lock"):
            return None
        endpoint = _endpoint_in(self.home / "endpoint.json")
        return endpoint if endpoint is not None and _is_alive(endpoint["pid"]) else None

    def _start(self) -> Endpoint:
        output = self.home / "start.log"
        with private_files():
            log = output.open("wb")
        with log:
            process = subprocess.Popen(  # noqa: S603  our own module, with our own settings
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        # those that were killed are waited for by this
        _STARTED[:] = [process, *(other for other in _STARTED if other.poll() is None)]
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if (endpoint := self._running()) is not None:
                return endpoint
            # exit code 0 before it listens: another process has just started it
            if process.poll() not in (None, 0):
                break
            time.sleep(0.05)
        raise LocalWarehouseError(f"The embedded warehouse in {self.home} did not start: {self._why(output)}")

    def _why(self, output: Path) -> str:
        if _is_locked(self.home / "server.lock"):
            # its process writes the file again when it is damaged, unless it cannot
            return f"one is running, but {self.home / 'endpoint.json'} does not show where. Remove what is there."
        lines = _last_lines(output)
        extra = " Is the extra installed (`pip install 'dw-orchestration[local]'`)?"
        return lines + (extra if "No module named" in lines else "")

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "dw_orchestration.local", "--home", str(self.home)]
        if self._shop:
            command.append("--shop")
        if self._fixtures:
            command += ["--fixtures", str(self._fixtures.absolute())]
        return command


class EmbeddedClient(PostHogWarehouseClient):
    """A client of the embedded warehouse, which starts it again if its process was killed.

    Args:
        ensure_running: Starts the embedded warehouse unless it runs.

    Raises:
        LocalWarehouseError: It could not be started.
    """

    def __init__(self, ensure_running: Callable[[], Endpoint]) -> None:
        self._left: list[Transport] = []
        self._ensure_running = ensure_running
        self._endpoint = ensure_running()
        super().__init__(
            self._endpoint["host"], self._endpoint["project_id"], self._endpoint["api_key"], rate_limits=None
        )

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for transport in self._left:
            transport.close()

    def _call(self, method: str, *path: str, **options: Unpack[RequestOptions]) -> Answer:
        for _ in range(RESTARTS):
            try:
                return super()._call(method, *path, **options)
            except UnreachableError:
                # nothing was sent, so that it can be sent again
                self._follow(self._ensure_running())
        return super()._call(method, *path, **options)

    def _follow(self, endpoint: Endpoint) -> None:
        """Connect to the new process: it has the port and the key of the last one if it can."""
        known = self._endpoint
        if (endpoint["host"], endpoint["api_key"]) != (known["host"], known["api_key"]):
            self._endpoint = endpoint
            # other threads may still be using it
            self._left.append(self.transport)
            self.transport = Transport(endpoint["host"], endpoint["api_key"])


def _endpoint_in(path: Path) -> Endpoint | None:
    """What the file says; None if it does not exist or is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("pid"), int)
        or not Endpoint.__annotations__.keys() <= found.keys()
    ):
        return None
    return cast("Endpoint", found | {"api_key": HiddenKey(found["api_key"])})


def _take_lease(home: Path) -> None:
    """Say that this process uses the warehouse: it leaves when nobody does, however its users ended."""
    if home not in _LEASES:
        with private_files():
            lease = (home / "lease.lock").open("ab")
        fcntl.flock(lease, fcntl.LOCK_SH)
        _LEASES[home] = lease


def _is_alive(pid: int) -> bool:
    for process in _STARTED:
        # a killed child that was not waited for still has its id
        process.poll()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_locked(path: Path) -> bool:
    with private_files():
        lock = path.open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _last_lines(path: Path, *, count: int = 5) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()[-count:]
    return " / ".join(line.strip() for line in lines) or "it wrote nothing."
