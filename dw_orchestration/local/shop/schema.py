"""The shop's database: its tables, and how they are first filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from dw_orchestration.local.shop.history import History

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from datetime import datetime

    from dw_orchestration.local.shop.postgres import DatabaseLogin

__all__ = ["DATABASE", "create_database", "fill"]

DATABASE = "shop"

_TABLES = """
create table customers (
    id bigserial primary key,
    email text not null,
    name text not null,
    country char(2) not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create table products (
    id bigserial primary key,
    sku text not null,
    name text not null,
    category text not null,
    price numeric(10, 2) not null,
    active boolean not null,
    updated_at timestamptz not null
);
create table orders (
    id bigserial primary key,
    customer_id bigint not null,
    status text not null,
    currency char(3) not null,
    total numeric(12, 2) not null,
    placed_at timestamptz not null,
    updated_at timestamptz not null
);
create table order_lines (
    id bigserial primary key,
    order_id bigint not null,
    product_id bigint not null,
    quantity integer not null check (quantity > 0),
    unit_price numeric(10, 2) not null
);
create table page_events (
    id bigserial primary key,
    customer_id bigint,
    url text not null,
    referrer text,
    properties jsonb not null,
    occurred_at timestamptz not null
);
"""

# Added to full tables: building an index and checking a key once is much faster than row by row.
_INDEXES = """
alter table customers add unique (email);
alter table products add unique (sku);
alter table orders add foreign key (customer_id) references customers (id);
alter table order_lines add foreign key (order_id) references orders (id);
alter table order_lines add foreign key (product_id) references products (id);
alter table page_events add foreign key (customer_id) references customers (id);
create index on customers (updated_at);
create index on products (updated_at);
create index on orders (updated_at);
create index on orders (customer_id);
create index on orders (updated_at) where status in ('placed', 'paid', 'shipped');
create index on order_lines (order_id);
create index on page_events (occurred_at);
"""


def create_database(server: DatabaseLogin) -> None:
    """Create the shop's database unless the server has it."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute("create database shop")


def fill(shop: DatabaseLogin, *, now: Callable[[], datetime], rng: random.Random) -> None:
    """Create the tables with their history, all or nothing, unless they are there."""
    with psycopg.connect(shop.dsn) as connection:
        if connection.execute("select to_regclass('customers')").fetchone() != (None,):
            return
        history = History(now=now(), rng=rng)
        connection.execute(_TABLES)
        with connection.cursor() as cursor:
            _copy_all(cursor, history)
        connection.execute(_INDEXES)
        connection.commit()
        connection.autocommit = True
        connection.execute("vacuum analyze")


def _copy_all(cursor: psycopg.Cursor, history: History) -> None:
    contents = {
        "customers (email, name, country, created_at, updated_at)": history.customers(),
        "products (sku, name, category, price, active, updated_at)": history.products(),
        "orders (customer_id, status, currency, total, placed_at, updated_at)": history.orders(),
        "order_lines (order_id, product_id, quantity, unit_price)": history.order_lines(),
        "page_events (customer_id, url, referrer, properties, occurred_at)": history.page_events(),
    }
    for table, rows in contents.items():
        with cursor.copy(f"copy {table} from stdin") as copy:
            for row in rows:
                copy.write_row(row)
