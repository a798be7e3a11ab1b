"""The shop's database: its tables, and ninety days of invented trade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from datetime import datetime

    from dw_orchestration.local.shop.postgres import DatabaseLogin

__all__ = ["ADD_CUSTOMERS", "DATABASE", "VIEW_PAGES", "create_database", "fill"]

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

# Chance, for the history and for the traffic. A text that repeats a choice makes it more likely.
_FUNCTIONS = """
create function pick(choices text) returns text volatile language sql
    return (string_to_array(choices, ','))[1 + floor(random() * cardinality(string_to_array(choices, ',')))];
create function any_customer() returns bigint volatile language sql
    return (
        -- not any number up to the newest: after a crash PostgreSQL leaves gaps in a sequence
        select id from customers
        where id >= (select 1 + floor(random() * max(id)) from customers) order by id limit 1
    );
-- more on Sundays than on Saturdays, and most in the evening
create function moments(until timestamptz, number integer) returns setof timestamptz volatile language sql as $$
    select moment from (
        select moment from (
            select day + interval '1 day' * sqrt(random()) as moment
            from generate_series(date_trunc('day', until - interval '90 days'), until, interval '1 day') as day,
                generate_series(1, number / 750 * (array[13, 10, 10, 9, 9, 8, 6])[1 + extract(dow from day)::integer])
        ) as candidates
        where moment between until - interval '90 days' and until
        order by random()
        limit number
    ) as chosen
    order by moment
$$;
"""

ADD_CUSTOMERS = """
insert into customers (email, name, country, created_at, updated_at)
select
    lower(replace(name, ' ', '.')) || '.' || number || '@example.com',
    name,
    pick('DE,DE,DE,DE,GB,GB,GB,FR,FR,NL,NL,SE,US,DK,IT,PT,JP'),
    joined,
    joined
from (
    select
        number,
        joined,
        pick('Ada,Amara,Anouk,Bruno,Cleo,Elif,Felix,Hana,Ivo,Juno,Kofi,Lena,Mateo,Noor,Priya,Tomas') || ' '
        || pick('Abara,Andersen,Bianchi,Dahl,Fontaine,Grieg,Keller,Moreau,Novak,Okafor,Rao,Sato,Silva,Zeman') as name
    from ({joining}) as joining
) as named
order by number
"""

VIEW_PAGES = """
insert into page_events (customer_id, url, referrer, properties, occurred_at)
select
    case when random() < 0.4 then customer_id end,
    'https://nightferry.example'
    || case when random() < 0.5 then '/product/' || (1 + floor(504 * random())) else pick('/,/category,/cart') end,
    case when random() < 0.5 then pick('https://search.example/,https://forum.example/tea') end,
    jsonb_build_object('device', pick('phone,phone,laptop,tablet'), 'load_ms', (100 + 900 * random() ^ 2)::integer),
    occurred_at
from ({views}) as views
order by occurred_at
"""

# Customers join evenly, so that the number of a customer says whether they had joined at a moment.
_CUSTOMERS = ADD_CUSTOMERS.format(
    joining="""
        select number, now - interval '540 days' * (1 - (number - 1) / 20000.0) as joined
        from clock, generate_series(1, 20000) as number"""
)

_PRODUCTS = """
insert into products (sku, name, category, price, active, updated_at)
select
    code || '-' || lpad(thing_number::text, 2, '0') || chr(64 + make_number::integer),
    thing || ', ' || make,
    category,
    round(cheapest * (1 + thing_number * 0.2) * (0.6 + make_number * 0.2), 1),
    random() > 0.03,
    now - interval '200 days' * random()
from clock, (values
    ('TEA', 'Tea and cocoa', 5, 'Harbour Fog,First Ferry,Low Tide,Seven Bells,Ember Cocoa,White Night'),
    ('LMP', 'Lamps and lanterns', 24, 'Pier Lantern,Owl Lamp,Night Light,Pocket Beacon,Star Projector,Signal Torch'),
    ('INK', 'Paper and ink', 9, 'Logbook,Midnight Ink,Letter Set,Star Chart,Pencil Fleet,Wax Seal'),
    ('WOL', 'Wool and warmth', 15, 'Deckhand Jumper,Watch Cap,Night Socks,Long Scarf,Mittens,Dozing Blanket'),
    ('GAL', 'Galley and hearth', 12, 'Enamel Mug,Kettle,Snack Board,Toasting Fork,Soup Flask,Egg Timer'),
    ('OUT', 'Maps and outings', 13, 'Island Map,Compass,Rain Cape,Field Guide,Telescope,Tide Table')
) as shelf (code, category, cheapest, things),
    string_to_table(things, ',') with ordinality as thing (thing, thing_number),
    string_to_table(
        'plain,blue,green,rust,striped,slate,cream,travel size,twin pack,gift box,copper,brass,waxed,anniversary', ','
    ) with ordinality as make (make, make_number);
"""

_ORDERS = """
create function a_customer_of(moment timestamptz, now timestamptz) returns bigint volatile language sql
    return 1 + floor(20000 * (1 - extract(epoch from now - moment) / 46656000) * random() ^ 1.5);

create temporary table trade on commit drop as
select
    row_number() over (order by moment) as id,
    moment as placed_at,
    a_customer_of(moment, now) as customer_id,
    1 + floor(5 * random() ^ 1.7)::integer as lines,
    random() as pace,
    random() < 0.04 as is_cancelled
from clock, moments(now, 30000) as moment;

insert into order_lines (order_id, product_id, quantity, unit_price)
select order_id, product_id, 1 + floor(3 * random() ^ 5), price
from (
    select distinct trade.id as order_id, 1 + floor(504 * random())::bigint as product_id
    from trade, generate_series(1, lines)
) as line
join products on products.id = product_id
order by order_id, product_id;

insert into orders (customer_id, status, currency, total, placed_at, updated_at)
select customer_id, status, 'EUR', total, placed_at, moved_at
from trade
join (select order_id, sum(quantity * unit_price) as total from order_lines group by order_id) as line on order_id = id
cross join lateral (
    select status, moved_at
    from
        clock,
        (values
            ('placed', 0),
            ('paid', pace / 2),
            (case when is_cancelled then 'cancelled' else 'shipped' end, 1 + 47 * pace),
            ('delivered', 24 + 140 * pace)
        ) as step (status, hours),
        lateral (select placed_at + hours * interval '1 hour' as moved_at) as moved
    where moved_at <= now and not (is_cancelled and status = 'delivered')
    order by moved_at desc
    limit 1
) as step
order by id;
"""

_PAGE_EVENTS = VIEW_PAGES.format(
    views="""
        select a_customer_of(moment, now) as customer_id, moment as occurred_at
        from clock, moments(now, 80000) as moment"""
)

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
        connection.execute("set local timezone to 'UTC'")
        connection.execute("select setseed(%s)", [rng.random()])
        connection.execute("create temporary table clock on commit drop as select %s::timestamptz as now", [now()])
        for statements in (_TABLES, _FUNCTIONS, _CUSTOMERS, _PRODUCTS, _ORDERS, _PAGE_EVENTS, _INDEXES):
            connection.execute(statements.encode())
        connection.commit()
        connection.autocommit = True
        connection.execute("vacuum analyze")
