"""One request budget for all machines, in PostgreSQL and in Redis."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
import redis
from pyrate_limiter import Rate, RateItem

from dw_orchestration.posthog.budget_server import BudgetServer
from dw_orchestration.posthog.errors import BudgetSpentError, SetupError
from dw_orchestration.posthog.rate_limit import RateBudget, RateLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Database
    from tests.posthog.conftest import MakeClient, ScriptedServer

PASSWORD = "s3cr%40t"  # in an address; as a password it is `s3cr@t`


@contextmanager
def running_redis(port: int, folder: Path) -> Iterator[None]:
    """A Redis of the test's own, which is ready."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            for _ in range(200):
                with suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("There is no Redis here: apt-get install redis-server.")
    port = free_port()
    with running_redis(port, tmp_path_factory.mktemp("redis")):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(params=["postgres", "redis"])
def address(request: pytest.FixtureRequest) -> str:
    """A server, once of each kind."""
    if request.param == "redis":
        found: str = request.getfixturevalue("redis_address")
        return found
    database: Database = request.getfixturevalue("postgres_database")
    return database.dsn


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., RateBudget]]:
    """Make budgets of machines that share nothing but the server."""
    made: list[RateBudget] = []

    def make(server: str, **settings: Any) -> RateBudget:
        limits = {"per_minute": 5, "per_hour": 20, "folder": tmp_path / f"machine-{len(made)}"}
        settings = {"limits": RateLimits(**limits, server=server), **settings}
        # a name of the test's own, because all tests share the Redis
        made.append(RateBudget(request.node.name, **settings))
        return made[-1]

    yield make
    for budget in made:
        budget.close()


def spent(budget: RateBudget) -> int:
    """Take until the next request would have to wait; how many there were."""
    taken = 0
    with suppress(BudgetSpentError):
        while True:
            budget.take(longest_s=2.0)
            taken += 1
    return taken


def test_machines_share_a_budget(address: str, machine: Callable[..., RateBudget], tmp_path: Path) -> None:
    """Machines with different folders and clocks together take exactly the budget, however they interleave."""
    clocks = [time.time, lambda: time.time() - 3000, lambda: time.time() + 3000]
    budgets = [machine(address, now=now) for now in clocks]
    taken: list[int] = []

    threads = [threading.Thread(target=lambda budget=each: taken.append(spent(budget))) for each in budgets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (3, 5) == (len(taken), sum(taken))
    assert [] == list(tmp_path.iterdir())


def test_a_request_that_another_machine_has_just_counted_counts(address: str) -> None:
    """Of two that read the clock at almost the same time, the one that is counted second sees the first."""
    server = BudgetServer(address)
    with server.errors():
        buckets = [server.open("interleaved", [Rate(1, 60_000)]) for _ in range(2)]
        now_ms = buckets[0].now()
        answers = [buckets[0].put(RateItem("call", now_ms + 1)), buckets[1].put(RateItem("call", now_ms))]
        for bucket in buckets:
            bucket.close()
    assert [True, False] == answers


def test_processes_of_several_machines_share_a_budget(postgres_database: Database, tmp_path: Path) -> None:
    """Processes with separate homes and temporary folders, as on four machines, take exactly the budget."""
    script = """
import sys
from dw_orchestration.posthog.errors import BudgetSpentError
from dw_orchestration.posthog.rate_limit import RateBudget, RateLimits
budget = RateBudget.for_key("phx_1", host="https://h", limits=RateLimits(server=sys.argv[1]))
taken = 0
try:
    while True:
        budget.take(longest_s=3)
        taken += 1
except BudgetSpentError:
    print(taken)
"""
    processes = []
    for number in range(4):
        (home := tmp_path / str(number)).mkdir()
        environment = {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", script, postgres_database.dsn]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
    assert 240 == sum(int(process.communicate(timeout=120)[0]) for process in processes)


def test_a_bucket_that_is_locked_is_waited_for(postgres_database: Database, machine: Callable[..., RateBudget]) -> None:
    """A lock of somebody else's, such as a vacuum's, is a short wait and no error."""
    budget = machine(postgres_database.dsn)
    budget.take()
    (table,) = next(iter(postgres_database.execute("select tablename from pg_tables where schemaname = 'public'")))
    with psycopg.connect(postgres_database.dsn) as connection:
        connection.execute(f'lock table "{table}" in exclusive mode')
        unlock = threading.Timer(0.1, connection.rollback)
        unlock.start()
        budget.take()
        unlock.join()
    assert 0 < budget.waited_s < 30


def test_a_pooler_may_change_the_connection_between_transactions(
    postgres_database: Database, machine: Callable[..., RateBudget]
) -> None:
    """Nothing is left on a connection that the next transaction relies on, or that another client would find."""
    budget = machine(
        postgres_database.dsn, limits=RateLimits(per_minute=50, per_hour=500, server=postgres_database.dsn)
    )
    for _ in range(8):
        budget.take()
    connection = cast("Any", budget._shared_bucket).pool.connected()
    left = connection.execute(
        "select (select count(*) from pg_prepared_statements), current_setting('lock_timeout'),"
        " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
    )
    assert (0, "0", 0) == left.fetchone()


@pytest.mark.parametrize("ends", ["terminated", "flushed"])
def test_a_connection_that_broke_is_opened_again(
    ends: str, postgres_database: Database, redis_address: str, machine: Callable[..., RateBudget]
) -> None:
    """An idle connection that was closed, or a Redis that was restarted, costs nothing."""
    said: list[str] = []
    budget = machine(postgres_database.dsn if ends == "terminated" else redis_address, notify=said.append)
    budget.take()
    if ends == "terminated":
        postgres_database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dw_orchestration'"
        )
    else:
        with redis.Redis.from_url(redis_address) as client:
            client.script_flush()
    budget.take()
    assert (4 - 1, []) == (spent(budget), said)


def test_a_server_that_is_down_fails_no_request(machine: Callable[..., RateBudget], tmp_path: Path) -> None:
    """Each machine counts for itself, people learn why, and after a minute the server is tried again."""
    said: list[str] = []
    at_s = [0.0]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"postgresql://me:{PASSWORD}@127.0.0.1:{unused.getsockname()[1]}/db"
        budget = machine(nowhere, notify=said.append, monotonic=lambda: at_s[0])
        assert 5 == spent(budget)
        at_s[0] = 61.0
        assert 0 == spent(budget)
    assert 2 == len(said)
    assert "The request budget in PostgreSQL cannot be used: OperationalError" in said[0]
    assert "This machine counts its own requests meanwhile" in said[0]
    assert (tmp_path / "machine-0").exists()


def test_a_server_that_comes_back_is_used_again(
    free_port: Callable[[], int], machine: Callable[..., RateBudget], tmp_path: Path
) -> None:
    """What is sent after an outage counts for all machines again."""
    if shutil.which("redis-server") is None:
        pytest.skip("There is no Redis here: apt-get install redis-server.")
    at_s, port = [0.0], free_port()
    address = f"redis://127.0.0.1:{port}"
    budget = machine(address, notify=lambda _: None, monotonic=lambda: at_s[0])
    budget.take()
    with running_redis(port, tmp_path):
        at_s[0] = 61.0
        budget.take()
        assert 4 == spent(machine(address))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (f"mysql://me:{PASSWORD}@host", "use postgresql://"),
        (f"postgresql+psycopg2://me:{PASSWORD}@host/db", "without a driver's name"),
        (f"me:{PASSWORD}@host", "use postgresql://"),
        (f"postgresql://me:{PASSWORD}%zz@host/db", "not a valid address of PostgreSQL"),
        (f"redis://me:{PASSWORD}@host:{PASSWORD}/0", "not a valid address of Redis"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused(address: str, problem: str) -> None:
    """The error states what is expected, and neither it nor its traceback has the address."""
    with pytest.raises(SetupError, match=problem) as found:
        RateBudget("key", limits=RateLimits(server=address))
    text = "".join(traceback.format_exception(found.value))
    assert "s3cr" not in text.replace(PASSWORD, "", text.count(address))
    assert (None, None) == (found.value.__cause__, found.value.__context__)


@pytest.mark.parametrize(("scheme", "driver", "extra"), [("postgresql", "psycopg", "postgres"), ("redis",) * 3])
def test_a_driver_that_is_missing_is_named(
    scheme: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra that installs it."""
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(SetupError, match=rf"pip install 'dw-orchestration\[{extra}\]'"):
        RateBudget("key", limits=RateLimits(server=f"{scheme}://host"))


def test_the_password_is_never_shown(
    postgres_database: Database, redis_address: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Neither a `repr` nor a log of any library has it, also if the server refuses it."""
    caplog.set_level(logging.DEBUG)
    host = postgres_database.dsn.rpartition("@")[2]
    for server in (f"postgresql://me:{PASSWORD}@{host}", redis_address.replace("//", f"//me:{PASSWORD}@")):
        limits = RateLimits(server=server, folder=tmp_path)
        budget = RateBudget("key", limits=limits)
        budget.take()
        budget.close()
        assert "s3cr" not in f"{limits!r}{BudgetServer(server)!r}{vars(budget)}"
    assert 2 == caplog.text.count("cannot be used")
    assert "s3cr" not in caplog.text


def test_a_caller_with_a_deadline_does_not_wait_for_the_budget(
    make_client: MakeClient, server: ScriptedServer, slept: list[float], tmp_path: Path
) -> None:
    """A request that is not allowed before the deadline is an error that says when, and nothing is sent."""
    server.compute = lambda _: {"id": "s1", "name": "orders"}
    client = make_client(rate_limits=RateLimits(per_minute=2, per_hour=100, folder=tmp_path))
    client.finish_within(15)
    for _ in range(2):
        client.get_schema("s1")
    with pytest.raises(BudgetSpentError, match="the next request is allowed in 62 s"):
        client.get_schema("s1")
    assert (2, []) == (len(server.received), slept)


def test_a_caller_with_a_deadline_does_not_wait_to_repeat_a_request(
    make_client: MakeClient, server: ScriptedServer, slept: list[float]
) -> None:
    """A pause that PostHog asks for, and that ends after the deadline, is an error at once."""
    client = make_client()
    client.finish_within(15)
    for _ in range(2):
        server.answer({}, status=429, headers={"Retry-After": "20"})
    with pytest.raises(Exception, match="in 20 s"):
        client.get_schema("s1")
    assert (1, []) == (len(server.received), slept)


def test_long_waits_are_reported(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """Each long wait, for PostHog or for the budget, is one sentence that states why and for how long."""
    said: list[str] = []
    for status in (429, 200):
        server.answer({"id": "s1", "name": "orders"}, status=status, headers={"Retry-After": "40"})
    limits = RateLimits(per_minute=2, per_hour=100, folder=tmp_path)

    def sleep(_: float) -> None:
        if len(said) > 1:
            raise InterruptedError

    client = make_client(rate_limits=limits, notify=said.append, sleep=sleep)
    client.get_schema("s1")
    with pytest.raises(InterruptedError):
        client.get_schema("s1")
    assert "Waiting 40 s before the request is repeated: PostHog's rate limit is reached" in said[0]
    assert re.match(r"Rate limit for PostHog used up: waiting (62\.0|61\.\d) s before the next request", said[1])
