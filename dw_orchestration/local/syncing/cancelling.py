"""Stopping calls that block in a database."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WATCH_INTERVAL_S = 0.1


@contextmanager
def interrupting(cancelled: threading.Event, interrupt: Callable[[], object]) -> Iterator[None]:
    """Call `interrupt` from another thread when `cancelled` is set while the block runs.

    It is called again and again until the block ends: an interrupt that comes between two
    statements stops neither of them.
    """
    left = threading.Event()

    def watch() -> None:
        while not left.wait(_WATCH_INTERVAL_S):
            if cancelled.is_set():
                interrupt()

    watcher = threading.Thread(target=watch, name="sync-cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()
