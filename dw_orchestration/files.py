"""Files that nobody but this user may read."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

PRIVATE_UMASK = 0o077


class _Umask:
    """The process has one umask for all threads: the first that needs it sets it, the last restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Create private files only: 0600, in folders of 0700."""
        with self._lock:
            if not self._users:
                self._before = os.umask(PRIVATE_UMASK)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    os.umask(self._before)


#: Files that are created within are private, also those that a library creates, such as a database's log.
private_files = _Umask()


def as_private_as(folder: Path) -> AbstractContextManager[None]:
    """Create private files in a private folder. Elsewhere the user's umask counts: an image may be built by another."""
    return nullcontext() if folder.stat().st_mode & PRIVATE_UMASK else private_files()


def make_private_folder(folder: Path) -> None:
    """Create a folder that only this user may enter, or close one that is empty; what others use stays open."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid() and not any(folder.iterdir()):
        folder.chmod(0o700)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; its folder is made if it is not there.

    Raises:
        OSError: The file cannot be written; the last one is as it was.
    """
    # named after the process, because two may write the same file
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with as_private_as(path.parent):
            unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise
