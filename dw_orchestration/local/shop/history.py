"""The shop's past: ninety days of trade, the same for the same seed and moment."""

from __future__ import annotations

import json
from bisect import bisect
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from dw_orchestration.local.shop.catalogue import PRODUCTS, customer_name, draw, email, page_view

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

__all__ = ["COUNTRIES", "CURRENCY", "KNOWN_VISITOR", "History", "basket"]

_Row = tuple[object, ...]
# (position in the catalogue, quantity) of each line
_Basket = list[tuple[int, int]]

COUNTRIES = {"DE": 24, "GB": 20, "FR": 13, "NL": 10, "SE": 8, "US": 8, "DK": 6, "IT": 6, "PT": 3, "JP": 2}
CURRENCY = "EUR"

_DAYS = 90
_CUSTOMER_DAYS = 540
_CUSTOMERS = 20_000
_ORDERS = 30_000
_PAGE_EVENTS = 80_000

# Monday to Sunday: people buy for the week on Sunday evenings, and are out on Saturdays.
_WEEKDAYS = (10, 10, 9, 9, 8, 6, 13)
# 0 to 23 o'clock: the shop's customers are up late.
_HOURS = (5, 3, 2, 1, 1, 1, 2, 3, 5, 6, 6, 6, 7, 7, 6, 6, 6, 7, 8, 10, 13, 14, 12, 8)
_LINES = {1: 30, 2: 30, 3: 22, 4: 12, 5: 6}
_QUANTITIES = {1: 78, 2: 16, 3: 6}
_CANCELLED = 0.04
_RETIRED = 0.03
KNOWN_VISITOR = 0.4


@dataclass(frozen=True)
class _Order:
    """One order as it stands now, with its lines."""

    customer_id: int
    status: str
    placed_at: datetime
    updated_at: datetime
    basket: _Basket

    @property
    def total(self) -> Decimal:
        """What its lines cost together."""
        return sum((PRODUCTS[position].price * quantity for position, quantity in self.basket), Decimal())


class History:
    """Rows for every table, without the ids: a row's place is its id, counted from 1.

    Args:
        now: The end of the history; nothing in it is later.
        rng: Where chance comes from.
    """

    def __init__(self, *, now: datetime, rng: random.Random) -> None:
        self._now = now
        self._rng = rng
        span_s = timedelta(days=_CUSTOMER_DAYS).total_seconds()
        self._joined = sorted(now - timedelta(seconds=rng.uniform(0, span_s)) for _ in range(_CUSTOMERS))
        self._orders = [self._order(moment) for moment in self._moments(_ORDERS)]

    def customers(self) -> Iterator[_Row]:
        """Rows of email, name, country, created_at, updated_at."""
        for number, joined in enumerate(self._joined, start=1):
            name = customer_name(rng=self._rng)
            address = email(name, number=number, rng=self._rng)
            yield address, name, draw(COUNTRIES, rng=self._rng), joined, joined

    def products(self) -> Iterator[_Row]:
        """Rows of sku, name, category, price, active, updated_at."""
        for product in PRODUCTS:
            changed = self._now - timedelta(days=self._rng.uniform(1, 200))
            yield (
                product.sku,
                product.name,
                product.category,
                product.price,
                self._rng.random() > _RETIRED,
                changed,
            )

    def orders(self) -> Iterator[_Row]:
        """Rows of customer_id, status, currency, total, placed_at, updated_at."""
        for order in self._orders:
            yield order.customer_id, order.status, CURRENCY, order.total, order.placed_at, order.updated_at

    def order_lines(self) -> Iterator[_Row]:
        """Rows of order_id, product_id, quantity, unit_price."""
        for number, order in enumerate(self._orders, start=1):
            for position, quantity in order.basket:
                yield number, position + 1, quantity, PRODUCTS[position].price

    def page_events(self) -> Iterator[_Row]:
        """Rows of customer_id, url, referrer, properties, occurred_at."""
        for moment in self._moments(_PAGE_EVENTS):
            url, referrer, properties = page_view(rng=self._rng)
            customer_id = self._customer(moment) if self._rng.random() < KNOWN_VISITOR else None
            yield customer_id, url, referrer, json.dumps(properties), moment

    def _moments(self, count: int) -> Sequence[datetime]:
        """Moments in order, spread by the shop's daily and weekly rhythm and its slow growth."""
        hours = [self._now - timedelta(hours=back) for back in range(_DAYS * 24, 0, -1)]
        weights = [
            _WEEKDAYS[hour.weekday()] * _HOURS[hour.hour] * (1 + 0.4 * index / len(hours))
            for index, hour in enumerate(hours)
        ]
        drawn = self._rng.choices(hours, weights=weights, k=count)
        return sorted(hour + timedelta(seconds=self._rng.uniform(0, 3599)) for hour in drawn)

    def _customer(self, moment: datetime) -> int:
        """The id of someone who had joined by then; the older customers come more often."""
        return 1 + int(bisect(self._joined, moment) * self._rng.random() ** 1.5)

    def _order(self, placed: datetime) -> _Order:
        status, moved = self._progress(placed)
        return _Order(self._customer(placed), status, placed, moved, basket(rng=self._rng))

    def _progress(self, placed: datetime) -> tuple[str, datetime]:
        """How far an order has come by now, and when it took that step."""
        hours = self._rng.uniform
        paid = placed + timedelta(hours=hours(0.02, 0.5))
        if self._rng.random() < _CANCELLED:
            steps = [("cancelled", paid + timedelta(hours=hours(0.5, 12)))]
        else:
            shipped = paid + timedelta(hours=hours(4, 48))
            steps = [("shipped", shipped), ("delivered", shipped + timedelta(hours=hours(20, 120)))]
        taken = [("placed", placed), ("paid", paid), *steps]
        return [step for step in taken if step[1] <= self._now][-1]


def basket(*, rng: random.Random) -> _Basket:
    """What one order holds: one to five different products, the first ones of the catalogue more often."""
    wanted = draw(_LINES, rng=rng)
    positions: set[int] = set()
    while len(positions) < wanted:
        positions.add(int(len(PRODUCTS) * rng.random() ** 1.3))
    return [(position, draw(_QUANTITIES, rng=rng)) for position in sorted(positions)]
