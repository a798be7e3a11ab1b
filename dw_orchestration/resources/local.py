"""The resource that starts the embedded warehouse and reaches it like any PostHog project."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TypedDict

from pydantic import Field

from dw_orchestration.errors import LocalWarehouseError
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.resources.warehouse import WarehouseResource

# One shared lock per home, held until this process ends: resources come and go with each step and tick.
_LEASES: dict[Path, IO[bytes]] = {}
# Python warns of a process that is forgotten while it runs, and these are meant to outlive their starter.
_STARTED: list[subprocess.Popen[bytes]] = []


class Endpoint(TypedDict):
    """What the embedded warehouse writes down once it listens."""

    host: str
    project_id: str
    api_key: str
    pid: int
    database: str


class LocalWarehouse(WarehouseResource):
    """The embedded warehouse: PostHog's API on this machine, syncing for real into a DuckDB file.

    It runs as one process per `home`, started when it is first needed and gone soon after the last user of this
    resource has ended. Needs the extra `local`.

    Example:
        ```python
        LocalWarehouse(home=".dw_orchestration")
        ```
    """

    home: str = Field(
        default=".dw_orchestration",
        description="The one folder that holds everything: the DuckDB file `warehouse.duckdb`, state, logs, the shop.",
    )
    shop: bool = Field(
        default=True,
        description="Whether it also runs a Postgres with a small shop that keeps selling, as the first source.",
    )
    fixtures: str | None = Field(
        default=None,
        description="A folder with files that stand in for vendors: <source type>/<table>.parquet, .csv or .jsonl.",
    )
    start_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds to wait for it to listen. The first start creates a database, which takes some ten.",
    )

    @property
    def name(self) -> str:
        """The same whatever port it listens on."""
        return "embedded warehouse"

    @property
    def database(self) -> Path:
        """The DuckDB file that the tables are synced into; it exists after the first sync."""
        return self._home / "warehouse.duckdb"

    @property
    def _home(self) -> Path:
        return Path(self.home).expanduser().absolute()

    def client(self) -> PostHogWarehouseClient:
        """A client of the embedded warehouse, which is started if it is not running.

        Raises:
            LocalWarehouseError: It could not be started; the text ends with the last lines of its output.
        """
        endpoint = self.ensure_running()
        return PostHogWarehouseClient(endpoint["host"], endpoint["project_id"], endpoint["api_key"], rate_limits=None)

    def ensure_running(self) -> Endpoint:
        """Start the embedded warehouse unless it runs, and keep it for as long as this process lives.

        Raises:
            LocalWarehouseError: It could not be started.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        _take_lease(self._home)
        return self._running() or self._start()

    def stop(self) -> None:
        """Stop the embedded warehouse if it runs, whoever uses it; running syncs fail, and what it keeps stays.

        Raises:
            LocalWarehouseError: It is still there after `start_timeout_s`.
        """
        if not self._home.exists():
            return
        if (endpoint := self._running()) is not None:
            os.kill(endpoint["pid"], signal.SIGTERM)
        deadline = time.monotonic() + self.start_timeout_s
        while _is_locked(self._home / "server.lock"):
            if time.monotonic() >= deadline:
                raise LocalWarehouseError(f"The embedded warehouse in {self._home} does not stop.")
            time.sleep(0.05)
        if (lease := _LEASES.pop(self._home, None)) is not None:
            lease.close()
        for process in [one for one in _STARTED if endpoint is not None and one.pid == endpoint["pid"]]:
            process.wait()
            _STARTED.remove(process)

    def _running(self) -> Endpoint | None:
        """Where it listens, if it does.

        A server holds the lock of its home from its start to its end. The endpoint of the one before stays until the
        new one listens, so it counts only while its process lives.
        """
        if not _is_locked(self._home / "server.lock"):
            return None
        try:
            endpoint: Endpoint = json.loads((self._home / "endpoint.json").read_text())
        except FileNotFoundError:
            return None
        return endpoint if _is_alive(endpoint["pid"]) else None

    def _start(self) -> Endpoint:
        output = self._home / "start.log"
        with output.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  our own module, with our own settings
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _STARTED.append(process)
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if (endpoint := self._running()) is not None:
                return endpoint
            # exit code 0 before it listens: another process has just started it
            if process.poll() not in (None, 0):
                break
            time.sleep(0.05)
        raise LocalWarehouseError(
            f"The embedded warehouse in {self._home} did not start: {_last_lines(output)}"
            " Is the extra installed (`pip install 'dw-orchestration[local]'`)?"
        )

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "dw_orchestration.local", "--home", str(self._home)]
        if self.shop:
            command.append("--shop")
        if self.fixtures:
            command += ["--fixtures", str(Path(self.fixtures).absolute())]
        return command


def _take_lease(home: Path) -> None:
    """Say that this process uses the warehouse: it leaves when nobody does, however its users ended."""
    if home not in _LEASES:
        lease = (home / "lease.lock").open("ab")
        fcntl.flock(lease, fcntl.LOCK_SH)
        _LEASES[home] = lease


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_locked(path: Path) -> bool:
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _last_lines(path: Path, *, count: int = 5) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()[-count:]
    return " / ".join(line.strip() for line in lines) or "it wrote nothing."
