"""Do several machines with one key stay within one request budget?

Starts processes with separate homes and temporary folders, as on separate machines, and one key. Each sends requests to
the stand-in for some time, as fast as its budget allows. Prints how many requests arrived, how many at most in any
minute, and how many the stand-in refused (429): with a file for each machine, and through one PostgreSQL. Redis is
measured too if `redis-server` is installed. Example: `python bench/request_budget.py --machines 8 --seconds 90`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import print_table, stand_in

from dw_orchestration.local.shop.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator


# What one machine does. A request that PostHog refuses is repeated after the pause that it asks for.
MACHINE = """
import sys, time
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.errors import BudgetSpentError, RateLimitedError
from dw_orchestration.posthog.rate_limit import RateLimits

host, server, seconds = sys.argv[1], sys.argv[2] or None, float(sys.argv[3])
with PostHogWarehouseClient(host, 1, "phx_bench", rate_limits=RateLimits(server=server)) as client:
    print("ready", flush=True)
    sys.stdin.readline()
    client.finish_within(seconds)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            next(client.list_sources())
        except BudgetSpentError:
            break
        except RateLimitedError as error:
            time.sleep(min(error.retry_after_s or 1.0, max(end - time.monotonic(), 0.0)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=90.0)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows.append(("a file for each machine", *measure("", options.machines, options.seconds)))
        with postgres(Path(folder) / "postgres") as address:
            rows.append(("one PostgreSQL", *measure(address, options.machines, options.seconds)))
        if shutil.which("redis-server"):
            with redis(Path(folder)) as address:
                rows.append(("one Redis", *measure(address, options.machines, options.seconds)))
    print_table(["budget", "sent", "most in 60 s", "answers 429"], rows)


def measure(server: str, machines: int, seconds: float) -> tuple[int, int, int]:
    """Let the machines send: requests, the most that arrived within a minute, and answers 429."""
    with ExitStack() as stack, stand_in(sources=1, tables=1) as posthog:
        processes = []
        for _ in range(machines):
            home = stack.enter_context(tempfile.TemporaryDirectory())
            environment = os.environ | {"HOME": home, "TMPDIR": home}
            command = [sys.executable, "-c", MACHINE, posthog.host, server, str(seconds)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            processes.append(stack.enter_context(subprocess.Popen(command, env=environment, **pipes)))
        for process in processes:
            process.stdout.readline()
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate()
        counts = posthog.stats().counts
    return counts["other"], counts["most_in_60_s"], counts["throttled"]


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL for this measurement."""
    server = EmbeddedPostgres(folder)
    try:
        yield server.start().dsn
    finally:
        server.stop()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis for this measurement."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(1)
        yield f"redis://127.0.0.1:{port}"
        process.terminate()


if __name__ == "__main__":
    main()
