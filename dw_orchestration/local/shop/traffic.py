"""The shop's present: one thread that keeps selling."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import psycopg

from dw_orchestration.local.shop.database import ADD_CUSTOMERS, VIEW_PAGES

if TYPE_CHECKING:
    import random

    from dw_orchestration.local.shop.postgres import DatabaseLogin

__all__ = ["Traffic"]

_logger = logging.getLogger(__name__)

# About two orders, six steps of orders and ten page views a second.
_EVERY_S = 0.5
_ORDERS = (0, 1, 1, 2)
_NEW_CUSTOMER = 0.05
_NEW_PRICE = 0.02

# One statement, so that a total is always the sum of its lines, at the prices of that moment.
_PLACE_ORDER = b"""
with line as (
    select id as product_id, 1 + floor(3 * random() ^ 5)::integer as quantity, price
    from products
    order by random()
    limit (select 1 + floor(5 * random() ^ 1.7))
), placed as (
    insert into orders (customer_id, status, currency, total, placed_at, updated_at)
    select any_customer(), 'placed', 'EUR', sum(quantity * price), moment, moment
    from line, clock_timestamp() as moment
    group by moment
    returning id
)
insert into order_lines (order_id, product_id, quantity, unit_price)
select placed.id, product_id, quantity, price from placed, line
"""

_MOVE_ORDERS = b"""
update orders set updated_at = clock_timestamp(), status = case
    when status = 'placed' and random() < 0.04 then 'cancelled'
    when status = 'placed' then 'paid'
    when status = 'paid' then 'shipped'
    else 'delivered'
end
where id in (
    select id from orders where status in ('placed', 'paid', 'shipped') order by updated_at limit 3
)
"""

_VIEW_PAGES = VIEW_PAGES.format(
    views="select any_customer() as customer_id, clock_timestamp() as occurred_at from generate_series(1, 5)"
).encode()

_ADD_CUSTOMER = ADD_CUSTOMERS.format(
    joining="select max(id) + 1 as number, clock_timestamp() as joined from customers"
).encode()

_CHANGE_PRICE = b"""
update products set price = round(price * (0.9 + 0.2 * random())::numeric, 1), updated_at = clock_timestamp()
where id = (select id from products where active order by random() limit 1)
"""


class Traffic:
    """Customers at work in a shop, from :meth:`start` to :meth:`stop`.

    One connection writes, one transaction after the other, and each row takes its time from the clock as it
    is written. So rows become visible in the order of their times, and a reader that continues from the newest
    time it has seen misses none.
    """

    def __init__(self, shop: DatabaseLogin, *, rng: random.Random) -> None:
        self._shop = shop
        self._rng = rng
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop-traffic", daemon=True)

    def start(self) -> None:
        """Start selling."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the transaction that has begun, and stop."""
        self._closing.set()
        self._thread.join()

    def sell(self, connection: psycopg.Connection) -> None:
        """Do what happens in half a second, in the caller's transaction."""
        for _ in range(self._rng.choice(_ORDERS)):
            connection.execute(_PLACE_ORDER)
        connection.execute(_MOVE_ORDERS)
        connection.execute(_VIEW_PAGES)
        if self._rng.random() < _NEW_CUSTOMER:
            connection.execute(_ADD_CUSTOMER)
        if self._rng.random() < _NEW_PRICE:
            connection.execute(_CHANGE_PRICE)

    def _run(self) -> None:
        try:
            with psycopg.connect(self._shop.dsn, autocommit=True) as connection:
                while not self._closing.wait(_EVERY_S):
                    with connection.transaction():
                        self.sell(connection)
        except psycopg.OperationalError:
            _logger.exception("The shop's database is unreachable: no more orders until the shop is started again.")
