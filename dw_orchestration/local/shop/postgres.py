"""A private PostgreSQL: taken from a wheel, kept in one folder, ended with its owner."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from dw_orchestration.local.shop.programs import HERE, USER, PostgresError, initdb, placement, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["DatabaseLogin", "EmbeddedPostgres", "PostgresError"]

_HOST = "127.0.0.1"

# Ends the server once the owner's end of the pipe is closed, which the kernel sees to however the owner dies.
# A parent-death signal would be shorter, but it follows the thread that started the server, is forgotten when
# the account changes, and exists on Linux only.
_WATCHDOG = 'read -r _; read -r pid < postmaster.pid && kill -INT "$pid"'

_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "cluster_name": "dw_orchestration",
    "max_connections": "20",
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    # A commit reaches the kernel before it is confirmed, so killed processes lose nothing. Only a power cut
    # can, and these rows are invented: a disk kept busy would be the greater harm.
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class DatabaseLogin:
    """Where a database is and who may enter."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)

    @property
    def dsn(self) -> str:
        """The same as a URI, for libpq and everything built on it."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(self.database, safe='')}"


class EmbeddedPostgres:
    """One PostgreSQL server with its data, password and log in ``folder``.

    Example:
        >>> server = EmbeddedPostgres(Path("shop"))
        >>> connection = server.start()
        >>> server.stop()
    """

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._now = now
        self._sleep = sleep
        self._running: ExitStack | None = None

    def start(self) -> DatabaseLogin:
        """Start the server, created if the folder has none, and wait until it accepts connections.

        A server that a killed owner left behind is ended first.

        Raises:
            PostgresError: The server runs already, or it cannot be started.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            undo.callback(os.close, self._claim_folder())
            server_lock = self._claim_data()
            try:
                password = self._create_cluster()
                port = self._port()
                undo.callback(_end_watchdog, self._start_watchdog())
                server = self._start_server(port, lock=server_lock)
            finally:
                os.close(server_lock)  # from here on, the server's own copy holds the lock
            undo.callback(_end_server, server)
            self._wait_until_ready(server)
            self._running = undo.pop_all()
        return DatabaseLogin(host=_HOST, port=port, database="postgres", user=USER, password=password)

    def stop(self) -> None:
        """Shut the server down at once but cleanly: open transactions are rolled back. Twice does no harm."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _claim_folder(self) -> int:
        lock = _try_lock(self._folder / "owner.lock")
        if lock is None:
            raise PostgresError(f"The PostgreSQL in {self._folder} is in use: stop the process that started it.")
        return lock

    def _claim_data(self) -> int:
        """Take the lock that every process of a running server holds, ending a server without an owner."""
        deadline = self._now() + _STOP_TIMEOUT_S
        while (lock := _try_lock(self._folder / "server.lock")) is None:
            if self._now() > deadline:
                raise PostgresError(
                    f"A PostgreSQL left behind in {self._folder} does not end: end it by hand. "
                    f"Its process id is the first line of {self._data / 'postmaster.pid'}."
                )
            self._interrupt_orphan()
            self._sleep(_POLL_S)
        # Nothing holds the lock, so a pid file is a leftover, and its number may be another process's by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        return lock

    def _interrupt_orphan(self) -> None:
        status = self._status()
        if status:
            with suppress(ProcessLookupError):
                os.kill(int(status[0]), signal.SIGINT)

    def _create_cluster(self) -> str:
        """Make the data folder unless it is there, and return its password.

        The data folder gets its name last, so a half-made one is never taken for whole.
        """
        password = self._folder / "password"
        if not self._data.exists():
            password.unlink(missing_ok=True)
            password.touch(mode=0o600)
            password.write_text(secrets.token_urlsafe(24))
            fresh = self._folder / "data.new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            initdb(fresh, password=password.read_text())
            fresh.rename(self._data)
        return password.read_text()

    def _port(self) -> int:
        """The port of the last start if it is still free, so that known addresses stay valid; else another one."""
        memory = self._folder / "port"
        try:
            remembered = int(memory.read_bytes())
        except (FileNotFoundError, ValueError):
            remembered = 0
        port = _free_port(remembered)
        memory.write_text(str(port))
        return port

    def _start_watchdog(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - the script is ours
            ["/bin/sh", "-c", _WATCHDOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **placement(self._data),
        )

    def _start_server(self, port: int, *, lock: int) -> subprocess.Popen[bytes]:
        settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": str(port)}.items()]
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the program and its arguments are ours
                [program("postgres"), "-D", HERE, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                # a Ctrl-C in the owner's terminal is for the owner, who then stops the server
                start_new_session=True,
                **placement(self._data),
            )

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = self._now() + _START_TIMEOUT_S
        while self._status()[7:] != ["ready"]:
            if server.poll() is not None or self._now() > deadline:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
                raise PostgresError(
                    f"PostgreSQL does not start in {self._folder}; {self._log} ends with:\n{tail}\n{cure(self._folder)}"
                )
            self._sleep(_POLL_S)

    def _status(self) -> list[str]:
        """The lines of the pid file: the process id first, and last, once complete, the server's state."""
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @property
    def _log(self) -> Path:
        return self._folder / "postgres.log"


def cure(folder: Path) -> str:
    """What helps against damaged files: nothing in the shop is worth a repair."""
    return f"If its files are damaged, delete {folder} to begin a new shop, and resync its tables."


def _try_lock(path: Path) -> int | None:
    """The descriptor that holds the lock on ``path``, or None while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _free_port(wanted: int) -> int:
    """The port ``wanted`` if nothing listens there, else (and for 0) any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError:
            probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _end_server(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _end_watchdog(watchdog: subprocess.Popen[bytes]) -> None:
    with watchdog:  # closes the pipe, waits
        watchdog.kill()
