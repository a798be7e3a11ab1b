"""The shop: its books agree, and it keeps selling, however its owner ends."""

from __future__ import annotations

import random
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from dw_orchestration.local.shop import DatabaseLogin, Shop, database
from dw_orchestration.local.shop.traffic import Traffic
from tests.local.shop.conftest import end, figure, own_in_another_process, processes, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOON = datetime(2025, 6, 18, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseLogin]:
    """A shop with its doors open."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    yield shop.start()
    shop.stop()


@pytest.fixture
def filled(postgres_database: DatabaseLogin) -> DatabaseLogin:
    """A shop's database with the history up to noon, in which nothing happens."""
    fill(postgres_database, seed=7)
    return postgres_database


def fill(shop: DatabaseLogin, *, seed: int) -> None:
    database.fill(shop, now=lambda: NOON, rng=random.Random(seed))  # noqa: S311 - invented orders, not secrets


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


def test_every_day_sells_and_sundays_sell_best(filled: DatabaseLogin) -> None:
    """Ninety days all have orders, and the week has a rhythm: Sunday is the best day, Saturday the worst."""
    placed = [moment for (moment,) in rows(filled, "select placed_at at time zone 'UTC' from orders")]
    weekdays = Counter(moment.weekday() for moment in placed)
    assert {(NOON - timedelta(days=back)).date() for back in range(91)} == {moment.date() for moment in placed}
    assert (6, 5) == (max(weekdays, key=weekdays.__getitem__), min(weekdays, key=weekdays.__getitem__))


def test_same_seed_same_past(postgres_server: DatabaseLogin, postgres_database: DatabaseLogin) -> None:
    """The same seed and moment give the same rows, another seed others."""

    def orders(seed: int) -> str:
        name = f"{postgres_database.database}_{seed}"
        with psycopg.connect(postgres_server.dsn, autocommit=True) as server:
            server.execute(f"drop database if exists {name}".encode())
            server.execute(f"create database {name}".encode())
        shop = replace(postgres_server, database=name)
        fill(shop, seed=seed)
        return str(figure(shop, "select md5(string_agg(orders::text, '' order by id)) from orders"))

    first, same, other = orders(7), orders(7), orders(8)
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


def test_now_and_then_someone_joins_and_a_price_changes(filled: DatabaseLogin) -> None:
    """A few minutes of trade add new customers and new prices, which move ``updated_at``."""
    traffic = Traffic(filled, rng=random.Random(7))  # noqa: S311 - invented orders, not secrets
    with psycopg.connect(filled.dsn, autocommit=True) as connection:
        for _ in range(200):
            traffic.sell(connection)
    assert 20_000 < figure(filled, "select count(*) from customers")
    assert NOON < figure(filled, "select max(updated_at) from customers")
    assert NOON < figure(filled, "select max(updated_at) from products")


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
    sold = "select md5(string_agg(customers::text, '' order by id)) from customers where id <= 20000"
    before = figure(connection, sold)
    shop.stop()
    again = shop.start()
    try:
        assert before == figure(again, sold)
        assert connection == again
    finally:
        shop.stop()


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


def test_shop_closes_though_its_database_died(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """When PostgreSQL is killed under an open shop, the shop can still be closed, and opened again."""
    shop = Shop(tmp_path)
    shop.start()
    for process in processes(tmp_path):
        # the others end by themselves once the first one is gone
        with suppress(psutil.NoSuchProcess):
            process.kill()
    shop.stop()
    wait_until(lambda: processes(tmp_path) == [])
    try:
        assert 30_000 <= figure(shop.start(), "select count(*) from orders")
    finally:
        shop.stop()
