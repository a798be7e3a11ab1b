"""What the tests of the shop and of its PostgreSQL share: queries, processes, and an owner that is ended."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg

if TYPE_CHECKING:
    from pathlib import Path

    from dw_orchestration.local.shop import DatabaseLogin

OWNER = """
import signal, sys
from pathlib import Path
from dw_orchestration.local.shop import {kind}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
owned = {kind}(Path(sys.argv[1]))
print(owned.start().port, flush=True)
signal.pause()
"""


def rows(shop: DatabaseLogin, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(shop.dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def figure(shop: DatabaseLogin, query: str) -> Any:
    return rows(shop, query)[0][0]


def processes(folder: Path) -> list[psutil.Process]:
    """Every process that works in the data folder: PostgreSQL's own and the watchdog."""
    found = psutil.process_iter(["cwd"])
    return [process for process in found if process.info["cwd"] == str(folder / "data")]


def own_in_another_process(folder: Path, *, kind: str) -> subprocess.Popen[bytes]:
    """A process that has started a server in ``folder`` and waits to be ended."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER.format(kind=kind), folder], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline(), "the server did not start"
    return owner


def end(owner: subprocess.Popen[bytes], *, by: int) -> None:
    with owner:
        owner.send_signal(by)
        owner.wait(120)
