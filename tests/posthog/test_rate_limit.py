"""The rate budget: how much it lets through, in one process and in several."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.posthog.errors import SetupError
from dw_orchestration.posthog.rate_limit import DEFAULT_RATE_LIMITS, RateBudget, RateLimits, default_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.posthog.conftest import MakeClient, ScriptedServer

# What one of several processes does: take from the shared budget until it would have to wait.
TAKE_WITHOUT_WAITING = """
import sys, time
from pathlib import Path
from dw_orchestration.posthog.rate_limit import RateBudget, RateLimits

class Spent(Exception): pass
def stop(_): raise Spent

folder = Path(sys.argv[1])
budget = RateBudget("shared", limits=RateLimits(per_minute=400, per_hour=900, folder=folder),
                    now=lambda: 1_000_000.0, sleep=stop)
print("ready", flush=True)
sys.stdin.readline()
taken = 0
try:
    while True:
        budget.take()
        taken += 1
        time.sleep(0.001)  # stands for the request, in which the others have their turn
except Spent:
    print(taken)
"""


class Clock:
    """A clock that sleeping advances."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        """The time in seconds."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Advance, and remember by how much."""
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_budget(clock: Clock, tmp_path: Path) -> Iterator[Callable[..., RateBudget]]:
    made = []

    def make(name: str = "key", **limits: Any) -> RateBudget:
        limits = {"per_minute": 3, "per_hour": 5, "folder": tmp_path, **limits}
        made.append(RateBudget(name, limits=RateLimits(**limits), now=clock.now, sleep=clock.sleep))
        return made[-1]

    yield make
    for budget in made:
        budget.close()


def test_the_budget_of_a_minute_and_of_an_hour(make_budget: Callable[..., RateBudget], clock: Clock) -> None:
    """Each window holds its number of requests, with time for late ones; the next waits until the oldest leaves it."""
    budget = make_budget()
    begun = clock.now_s
    at_s = []
    for _ in range(7):
        budget.take()
        at_s.append(round(clock.now_s - begun))
    assert [0, 0, 0, 62, 62, 3602, 3602] == at_s
    assert sum(clock.slept) == budget.waited_s


def test_no_window_ever_holds_more(make_budget: Callable[..., RateBudget], clock: Clock) -> None:
    """Over a longer time, with pauses between the requests, no minute and no hour exceeds its limit."""
    budget = make_budget(per_minute=4, per_hour=30)
    taken = []
    for n in range(100):
        budget.take()
        taken.append(clock.now_s)
        clock.now_s += (n * 7) % 23
    for window_s, limit in ((60, 4), (3600, 30)):
        assert limit == max(sum(1 for t in taken if end - window_s < t <= end) for end in taken)


def test_a_wait_is_logged_once(make_budget: Callable[..., RateBudget], caplog: pytest.LogCaptureFixture) -> None:
    """Each wait is logged with one line, which explains why a run makes no progress."""
    budget = make_budget(per_minute=1, per_hour=10)
    with caplog.at_level(logging.INFO, logger="dw_orchestration.posthog.rate_limit"):
        budget.take()
        assert [] == caplog.messages
        budget.take()
    assert ["Rate limit for PostHog used up: waiting 62.0 s before the next request."] == caplog.messages


def test_budgets_of_one_key_are_one(make_budget: Callable[..., RateBudget], clock: Clock) -> None:
    """Two budgets of the same name and folder count together; another name counts for itself."""
    first, second, other = make_budget(), make_budget(), make_budget("other")
    for budget in (first, second, first, other):
        budget.take()
    assert [] == clock.slept
    second.take()
    assert [62] == [round(each) for each in clock.slept]


def test_a_closed_budget_opens_again(make_budget: Callable[..., RateBudget], clock: Clock) -> None:
    """What was counted before closing still counts."""
    budget = make_budget()
    for _ in range(3):
        budget.take()
        budget.close()
    budget.take()
    assert [62] == [round(each) for each in clock.slept]


def test_an_unused_budget_leaves_nothing(make_budget: Callable[..., RateBudget], tmp_path: Path) -> None:
    """Making and closing a budget that nothing was taken from touches no file."""
    make_budget().close()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("per_minute", "per_hour"), [(0, 10), (10, 10), (10, 601), (10, -1)])
def test_limits_that_do_not_go_together_are_refused(per_minute: int, per_hour: int) -> None:
    """Of two limits, each must be able to be the one that holds."""
    with pytest.raises(SetupError, match="Invalid rate limits"):
        RateLimits(per_minute=per_minute, per_hour=per_hour)


def test_processes_share_a_budget(tmp_path: Path) -> None:
    """Four processes together take exactly the budget, however they interleave."""
    command = [sys.executable, "-c", TAKE_WITHOUT_WAITING, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as running:
        processes = [running.enter_context(subprocess.Popen(command, **pipes)) for _ in range(4)]
        assert ["ready\n"] * 4 == [process.stdout.readline() for process in processes]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        taken = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert 400 == sum(taken)


def test_threads_share_a_budget(make_budget: Callable[..., RateBudget], clock: Clock) -> None:
    """Many threads of one process together take exactly the budget."""
    budget = make_budget(per_minute=40, per_hour=2000)
    begun, lock, first_minute = clock.now_s, threading.Lock(), count()

    def take_ten() -> None:
        for _ in range(10):
            budget.take()
            with lock:
                if clock.now_s == begun:
                    next(first_minute)

    threads = [threading.Thread(target=take_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (40, []) == (next(first_minute), clock.slept)
    budget.take()
    assert begun + 60 <= clock.now_s


def test_old_calls_are_forgotten(make_budget: Callable[..., RateBudget], clock: Clock, tmp_path: Path) -> None:
    """The file stays small: calls that no window counts any more are deleted."""
    budget = make_budget(per_minute=1000, per_hour=2000)
    for _ in range(300):
        budget.take()
    clock.now_s += 7200
    for _ in range(101):
        budget.take()
    with sqlite3.connect(tmp_path / "key.sqlite") as database:
        (rows,) = database.execute("select count(*) from calls").fetchone()
    database.close()
    assert 101 == rows


def test_the_file_does_not_hold_the_key(tmp_path: Path, key: str) -> None:
    """Nothing that is written contains the key; different keys and hosts have different files."""
    limits = RateLimits(folder=tmp_path)
    for api_key, host in ((key, "https://a"), (f"{key}\n", "https://a"), (key, "https://b"), ("phx_2", "https://a")):
        budget = RateBudget.for_key(api_key, host=host, limits=limits)
        budget.take()
        budget.close()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert 3 == len([path for path in files if path.suffix == ".sqlite"])
    assert not [path for path in files if key in path.name or key.encode() in path.read_bytes()]


def test_the_default_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a folder, the count is in one below the system's temporary folder that only its user reads."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    budget = RateBudget("key", limits=RateLimits())
    budget.take()
    budget.close()
    assert (default_folder() / "key.sqlite").exists()
    assert 0o700 == default_folder().stat().st_mode & 0o777


def test_without_a_usable_file_the_process_counts_alone(
    make_budget: Callable[..., RateBudget], clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that can't be made fails no request: the budget holds within the process, with a warning."""
    (tmp_path / "taken").write_text("a file, not a folder")
    budget = make_budget(folder=tmp_path / "taken")
    for _ in range(4):
        budget.take()
    assert [62] == [round(each) for each in clock.slept]
    assert 1 == len([each for each in caplog.messages if "to a writable folder" in each])


def test_a_file_that_breaks_later_fails_no_request(
    make_budget: Callable[..., RateBudget], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is no database is not the request's fault either."""
    (tmp_path / "key.sqlite").write_bytes(b"no database" * 100)
    make_budget().take()
    assert "counts only its own requests" in caplog.text


def test_a_client_keeps_its_budget(
    make_client: MakeClient, server: ScriptedServer, slept: list[float], tmp_path: Path
) -> None:
    """A client counts each request it sends, and knows how long it waited."""
    server.compute = lambda _: {"id": "s1", "name": "orders"}
    client = make_client(rate_limits=RateLimits(per_minute=2, per_hour=100, folder=tmp_path))
    for _ in range(2):
        client.get_schema("s1")
    assert ([], 0.0) == (slept, client.waited_s)
    assert 1 == len(list(tmp_path.glob("*.sqlite")))


def test_a_client_without_limits_waits_for_nothing(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget can be disabled. Nothing is written then."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = make_client(rate_limits=None)
    client.reload_schema("s1")
    assert (0.0, []) == (client.waited_s, list(tmp_path.iterdir()))


def test_the_default_is_half_of_what_posthog_allows() -> None:
    """Everything else that uses the key keeps the other half of 480 a minute and 4,800 an hour."""
    assert (480 // 2, 4800 // 2) == (DEFAULT_RATE_LIMITS.per_minute, DEFAULT_RATE_LIMITS.per_hour)
