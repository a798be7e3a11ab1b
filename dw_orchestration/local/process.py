"""The embedded warehouse as a process: one per home, and gone when nobody uses it."""

from __future__ import annotations

import fcntl
import logging
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from typing import IO, TYPE_CHECKING

from dw_orchestration.files import make_private_folder
from dw_orchestration.local.server import WarehouseServer
from dw_orchestration.text import visible_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

POLL_EVERY_S = 1.0
LOG_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """How the process was asked to run."""

    home: Path
    shop: bool
    fixtures: Path | None
    port: int
    leave_after_s: float  # 0 for never
    rate_limit_per_minute: int | None


class VisibleFormatter(logging.Formatter):
    """Escapes what sources and clients write into the log, which people read on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        return visible_lines(super().format(record))


class Lease:
    """Checks whether there is a client: each holds a shared lock on `lease.lock` while it lives."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def take(self) -> bool:
        """Take the lock for this process alone; False while a client holds it."""
        return _try_lock(self._file)

    def release(self) -> None:
        """Let clients in again."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and with it the lock."""
        self._file.close()


class Idleness:
    """Measures how long there has been no client."""

    def __init__(self, lease: Lease, *, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._limit_s = limit_s
        self._clock = clock
        self._free_since: float | None = None

    def is_over(self) -> bool:
        """Whether it is time to leave; then the lease stays taken, so that a new client waits for the end."""
        if not self._limit_s:
            return False
        if not self._lease.take():
            self._free_since = None
            return False
        now = self._clock()
        if self._free_since is None:
            self._free_since = now
        if now - self._free_since >= self._limit_s:
            return True
        self._lease.release()
        return False


def serve(options: Options) -> int:
    """Run until nobody needs the warehouse any more, or until asked to stop; the exit status."""
    try:
        return _serve(options)
    except Exception as error:
        # The edge of the process: who started it shows the last line of its output.
        logger.exception("The embedded warehouse broke off")
        _say(_what_is_wrong(error, home=options.home))
        return 1


def _what_is_wrong(error: Exception, *, home: Path) -> str:
    """One line with the file and the cure."""
    text = " ".join(str(error).split())
    match error:
        case sqlite3.Error():
            return (
                f"The state database {home / 'state.sqlite'}, or state.sqlite-wal next to it, cannot be used ({text})."
                " Restore it from a backup, or delete it to begin without sources; what has been synced stays."
            )
        case OSError(filename=name, filename2=target, strerror=problem) if name:
            return f"{target or name} cannot be used ({problem}). Make it writable, or remove what is in its place."
        case ImportError():
            return f"{type(error).__name__}: {text}"
    return text


def _serve(options: Options) -> int:
    make_private_folder(options.home)
    stop_asked = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop_asked.set())
    lock_path, lease_path = options.home / "server.lock", options.home / "lease.lock"
    # The lease outlives the lock: a client that waits for it finds the way free for a new server.
    with closing(Lease(lease_path)) as lease, lock_path.open("a") as lock:
        if not _try_lock(lock):
            _say(f"An embedded warehouse is running already for {options.home}.")
            return 0
        _log_to(options.home / "server.log")
        with _running(options) as warehouse:
            idleness = Idleness(lease, limit_s=options.leave_after_s)
            _stay(idleness, stop_asked, each_time=warehouse.keep_endpoint)
    return 0


@contextmanager
def _running(options: Options) -> Iterator[WarehouseServer]:
    warehouse = WarehouseServer(
        options.home,
        fixtures=options.fixtures,
        port=options.port,
        shop=options.shop,
        rate_limit_per_minute=options.rate_limit_per_minute,
    )
    endpoint = warehouse.start()
    _say(f"The embedded warehouse answers at {endpoint.host}, its home is {options.home}.")
    try:
        yield warehouse
    finally:
        warehouse.stop()
        logger.info("Stopped")


def _stay(idleness: Idleness, stop_asked: threading.Event, *, each_time: Callable[[], None]) -> None:
    while not stop_asked.wait(POLL_EVERY_S):
        each_time()
        if idleness.is_over():
            logger.info("Leaving: nobody uses the warehouse")
            return


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2)
    handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(threadName)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("dw_orchestration.local").setLevel(logging.INFO)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
