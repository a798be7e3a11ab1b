"""What every measurement needs: the stand-in as a process, the memory of processes, a plain table."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
SAMPLES_EVERY_S = 0.25
MB = 2**20


@dataclass(frozen=True)
class Stats:
    """What the stand-in has counted up to now; `job_starts` and `job_ends` are Unix times by job id."""

    counts: Counter[str]
    job_starts: dict[str, float]
    job_ends: dict[str, float]
    cancelled: frozenset[str] = frozenset()

    def since(self, before: Stats) -> Stats:
        """What came after an earlier look."""
        return Stats(
            Counter(self.counts) - before.counts,
            {job: at for job, at in self.job_starts.items() if job not in before.job_starts},
            {job: at for job, at in self.job_ends.items() if job not in before.job_starts},
            self.cancelled - before.cancelled,
        )

    @property
    def most_at_once(self) -> int:
        """The most syncs that were running at the same time."""
        marks = [(at, 1) for at in self.job_starts.values()] + [(at, -1) for at in self.job_ends.values()]
        running = most = 0
        for _, change in sorted(marks):
            running += change
            most = max(most, running)
        return most


@dataclass(frozen=True)
class StandIn:
    """A running stand-in."""

    host: str

    def stats(self) -> Stats:
        """What it has counted since it started."""
        said = httpx.get(f"{self.host}/_stats", timeout=60).raise_for_status().json()
        return Stats(Counter(said["counts"]), said["job_starts"], said["job_ends"], frozenset(said["cancelled"]))


@contextmanager
def stand_in(**options: float) -> Iterator[StandIn]:
    """The stand-in as a separate process; the options are those of its command line."""
    command = [sys.executable, str(HERE / "stand_in.py")]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield StandIn(json.loads(process.stdout.readline())["host"])
    finally:
        process.stdin.close()
        process.wait(30)


@dataclass
class Memory:
    """Samples a process and all below it in a thread: each one's most RSS, and all together.

    Attributes:
        rss_mb: The most of each process, by pid.
        pss_mb: The most of all together beyond what they held at the start, shared pages counted once.
        processes: The most processes beyond those at the start.
    """

    root: psutil.Process
    rss_mb: dict[int, float] = field(default_factory=dict)
    pss_mb: float = 0.0
    processes: int = 0

    @contextmanager
    def sampled(self) -> Iterator[Memory]:
        """Sample for the time of a `with` statement."""
        over = threading.Event()
        before_mb, before = self._together()
        thread = threading.Thread(target=self._sample, args=[over, before_mb, before], daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    def _sample(self, over: threading.Event, before_mb: float, before: int) -> None:
        samples = 0
        while not over.wait(SAMPLES_EVERY_S):
            for process in self._family():
                self.rss_mb[process.pid] = max(self.rss_mb.get(process.pid, 0.0), _mb(process, "memory_info", "rss"))
            # adding up shared pages is dear, so it is done less often
            if samples % 8 == 0:
                total_mb, count = self._together()
                self.pss_mb = max(self.pss_mb, total_mb - before_mb)
                self.processes = max(self.processes, count - before)
            samples += 1

    def _together(self) -> tuple[float, int]:
        family = self._family()
        return sum(_mb(process, "memory_full_info", "pss") for process in family), len(family)

    def _family(self) -> list[psutil.Process]:
        try:
            return [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _mb(process: psutil.Process, method: str, name: str) -> float:
    try:
        return getattr(getattr(process, method)(), name) / MB
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their heads, the first column to the left and the others to the right."""
    cells = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        print("  ".join(c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))))
    print(flush=True)
