"""The shop's present: one thread that keeps selling."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

import psycopg

from dw_orchestration.local.shop.catalogue import customer_name, draw, email, page_view
from dw_orchestration.local.shop.history import COUNTRIES, CURRENCY, KNOWN_VISITOR, basket

if TYPE_CHECKING:
    import random

    from dw_orchestration.local.shop.postgres import DatabaseLogin

__all__ = ["Traffic"]

_logger = logging.getLogger(__name__)

# About two orders, six steps of orders and ten page views a second.
_BEAT_S = 0.5
_ORDERS_A_BEAT = (0, 1, 1, 2)
_STEPS_A_BEAT = 3
_VIEWS_A_BEAT = 5
_NEW_CUSTOMER = 0.05
_NEW_PRICE = 0.02

# One statement, so that a total is always the sum of its lines, at the prices of that moment.
_PLACE_ORDER = """
with line as (
    select id as product_id, quantity, price
    from unnest(%(products)s::bigint[], %(quantities)s::integer[]) as wanted (id, quantity)
    join products using (id)
), placed as (
    insert into orders (customer_id, status, currency, total, placed_at, updated_at)
    select %(customer)s, 'placed', %(currency)s, sum(quantity * price), moment, moment
    from line, clock_timestamp() as moment
    group by moment
    returning id
)
insert into order_lines (order_id, product_id, quantity, unit_price)
select placed.id, product_id, quantity, price from placed, line
"""

_MOVE_ORDERS = """
update orders set updated_at = clock_timestamp(), status = case
    when status = 'placed' and random() < 0.04 then 'cancelled'
    when status = 'placed' then 'paid'
    when status = 'paid' then 'shipped'
    else 'delivered'
end
where id in (
    select id from orders where status in ('placed', 'paid', 'shipped') order by updated_at limit %s
)
"""

_VIEW_PAGE = """
insert into page_events (customer_id, url, referrer, properties, occurred_at)
values (%s, %s, %s, %s, clock_timestamp())
"""

_PICK_CUSTOMER = """
select id from customers
where id >= %s * (select max(id) from customers) order by id limit 1
"""

_NEXT_CUSTOMER = "select max(id) + 1 from customers"

_ADD_CUSTOMER = """
insert into customers (email, name, country, created_at, updated_at)
select %s, %s, %s, moment, moment from clock_timestamp() as moment
"""

_CHANGE_PRICE = """
update products set price = round(price * %s::numeric, 1), updated_at = clock_timestamp()
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
        """Open the doors."""
        self._thread.start()

    def stop(self) -> None:
        """Close the doors, and wait until what was begun is done."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with psycopg.connect(self._shop.dsn, autocommit=True) as connection:
                while not self._closing.wait(_BEAT_S):
                    with connection.transaction():
                        self._beat(connection)
        except psycopg.OperationalError:
            _logger.exception("The shop's database went away: no more orders until the shop is started again.")

    def _beat(self, connection: psycopg.Connection) -> None:
        for _ in range(self._rng.choice(_ORDERS_A_BEAT)):
            self._place_order(connection)
        connection.execute(_MOVE_ORDERS, [_STEPS_A_BEAT])
        for _ in range(_VIEWS_A_BEAT):
            self._view_page(connection)
        if self._rng.random() < _NEW_CUSTOMER:
            self._add_customer(connection)
        if self._rng.random() < _NEW_PRICE:
            connection.execute(_CHANGE_PRICE, [self._rng.choice(["0.9", "0.95", "1.05", "1.1"])])

    def _someone(self, connection: psycopg.Connection) -> int:
        # not any number up to the newest: after a crash PostgreSQL leaves gaps in a sequence
        return _number(connection.execute(_PICK_CUSTOMER, [self._rng.random()]))

    def _place_order(self, connection: psycopg.Connection) -> None:
        positions, quantities = zip(*basket(rng=self._rng), strict=True)
        order = {
            "customer": self._someone(connection),
            "currency": CURRENCY,
            "products": [position + 1 for position in positions],
            "quantities": list(quantities),
        }
        connection.execute(_PLACE_ORDER, order)

    def _view_page(self, connection: psycopg.Connection) -> None:
        url, referrer, properties = page_view(rng=self._rng)
        customer = self._someone(connection) if self._rng.random() < KNOWN_VISITOR else None
        connection.execute(_VIEW_PAGE, [customer, url, referrer, json.dumps(properties)])

    def _add_customer(self, connection: psycopg.Connection) -> None:
        name = customer_name(rng=self._rng)
        address = email(name, number=_number(connection.execute(_NEXT_CUSTOMER)), rng=self._rng)
        connection.execute(_ADD_CUSTOMER, [address, name, draw(COUNTRIES, rng=self._rng)])


def _number(answer: psycopg.Cursor) -> int:
    return next(int(row[0]) for row in answer)
