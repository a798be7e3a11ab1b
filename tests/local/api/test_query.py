"""The query endpoint of the embedded warehouse: only reading, only synced tables, and PostHog's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.local.conftest import Server


@pytest.fixture(scope="module")
def asked(quiet_server: Server) -> Server:
    """A server whose table `stripe.invoices` has been synced."""
    (source,) = quiet_server.json("GET", "external_data_sources/")["results"]
    schema = quiet_server.schema(source["id"], "invoices")
    quiet_server.json("PATCH", f"external_data_schemas/{schema['id']}/", json={"sync_type": "full_refresh"})
    quiet_server.call("POST", f"external_data_schemas/{schema['id']}/reload/")
    quiet_server.wait_until(lambda: quiet_server.schema(source["id"], "invoices")["table"])
    return quiet_server


def ask(server: Server, query: str, *, values: Any = None, headers: Any = None, **more: Any) -> Any:
    body = {"query": {"kind": "HogQLQuery", "query": query, "values": values}, **more}
    return server.call("POST", "query/", json=body, headers=headers)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("insert into stripe.invoices values (9, 9)", "Only SELECT"),
        ("create table x as select 1", "Only SELECT"),
        ("copy stripe.invoices to '/tmp/x.csv'", "Only SELECT"),
        ("attach '/tmp/x.duckdb'", "Only SELECT"),
        ("set memory_limit = '8GB'", "Only SELECT"),
        ("pragma database_list", "Only SELECT"),
        ("describe stripe.invoices", "Only SELECT"),
        ("show tables", "Only SELECT"),
        ("select 1; select 2", "one statement"),
        ("select * from read_csv('/etc/passwd')", "Unknown table `read_csv(...)`"),
        ("select * from '/etc/passwd'", "Unknown table `/etc/passwd`"),
        ("select (select count(*) from glob('/*'))", "Unknown table `glob(...)`"),
        ("select * from duckdb_settings()", "Unknown table `duckdb_settings(...)`"),
        ("select * from duckdb_tables", "Unknown table `duckdb_tables`"),
        ("select * from information_schema.tables", "Unknown table `information_schema.tables`"),
        ("select * from _dw.cursors", "Unknown table `_dw.cursors`"),
        ("select * from stripe.invoices where id in (select 1 from _dw.published)", "Unknown table `_dw.published`"),
        ("select * from (with t as (select 1) select * from t), t", "Unknown table `t`"),
        ("select * from stripe.customers", "Unknown table `stripe.customers`"),
        ("select * from other.stripe.invoices", "Unknown table `other.stripe.invoices`"),
        ("select nope from stripe.invoices", "nope"),
        ("selec 1", "syntax error"),
        ("select {a}", "Unresolved placeholder: {a}"),
        ("select 170141183460469231731687303715884105727::hugeint", "64 bits"),
    ],
)
def test_only_synced_tables_are_read(asked: Server, query: str, text: str) -> None:
    """Everything else is a 400 in PostHog's shape, with the reason."""
    response = ask(asked, query)
    assert (400, "validation_error") == (response.status_code, response.json()["type"])
    assert text in response.json()["detail"]


def test_nothing_gets_past_the_parser(asked: Server) -> None:
    """DuckDB itself is locked down, too: it changes nothing and opens no file, whichever statement it gets."""
    with asked.services.warehouse.reading() as connection:
        for statement in (
            "insert into stripe.invoices values (9, 9)",
            "copy stripe.invoices to '/tmp/x.csv'",
            "select * from read_text('/etc/passwd')",
            "attach '/tmp/x.duckdb'",
            "install httpfs",
            "set enable_external_access = true",
            "select * from asked",
        ):
            with pytest.raises(Exception, match=r"read-only|disabled by configuration|locked|does not exist"):
                connection.execute(statement)


@pytest.mark.parametrize(
    ("query", "rows", "more"),
    [
        ("select * from range(1000)", 100, True),
        ("select * from range(100)", 100, False),
        ("select * from range(60000) limit 60000", 50_000, True),
        ("select * from range(1000) limit 150", 150, False),
    ],
)
def test_rows_are_cut_as_in_posthog(asked: Server, query: str, rows: int, more: object) -> None:
    """At 100 without a LIMIT, at 50,000 with one; `hasMore` is the only sign of it."""
    answer = ask(asked, query).json()
    assert (rows, more) == (len(answer["results"]), answer["hasMore"])


def test_columns_and_types(asked: Server) -> None:
    """The names of the columns, with the types of ClickHouse that PostHog would store them in."""
    query = """
        with t as (select sum(id) as total from stripe.invoices)
        select total, 1.50::decimal(9, 2) as d, timestamp '2026-01-01' as t, date '2026-01-01' as day, [1, null] as l,
            {'a': 1} as s, map {'k': 1.5} as m, 'nan'::double as f, null as n, timestamptz 'infinity' as i from t
    """
    answer = ask(asked, query).json()
    assert {
        "total": "Nullable(Int64)",
        "d": "Nullable(Decimal(9, 2))",
        "t": "Nullable(DateTime64(6, 'UTC'))",
        "day": "Nullable(Date32)",
        "l": "Array(Nullable(Int32))",
        "s": "Tuple(`a` Nullable(Int32))",
        "m": "Map(String, Nullable(Decimal(2, 1)))",
        "f": "Nullable(Float64)",
        "n": "Nullable(Nothing)",
        "i": "Nullable(DateTime64(6, 'UTC'))",
    } == dict(answer["types"])
    times = ["2026-01-01T00:00:00.000000Z", "2026-01-01"]
    assert [[6, "1.50", *times, [1, None], {"a": 1}, {"k": "1.5"}, None, None, None]] == answer["results"]


def test_values_fill_placeholders(asked: Server) -> None:
    """Not those in texts and comments."""
    answer = ask(asked, "select {a} as a, '{a}' as b -- {b}", values={"a": "it's"}).json()
    assert [["it's", "{a}"]] == answer["results"]


def test_scope(asked: Server) -> None:
    """Reading rows needs a scope that syncs do not have."""
    refused = ask(asked, "select 1", headers=asked.key("external_data_source:write"))
    assert (403, "API key missing required scope 'query:read'") == (refused.status_code, refused.json()["detail"])
    assert 200 == ask(asked, "select 1", headers=asked.key("query:read")).status_code


def test_in_the_background(asked: Server, wait_until: WaitUntil) -> None:
    """The answer to the request names the query; a poll has its rows, or its error; it can be cancelled."""
    begun = ask(asked, "select 1 as a", refresh="force_async")
    failed = ask(asked, "selec 1", refresh="force_async").json()["query_status"]["id"]
    name = begun.json()["query_status"]["id"]
    assert (202, None) == (begun.status_code, begun.json()["results"])
    done = wait_until(lambda: (poll := asked.call("GET", f"query/{name}/")).status_code == 200 and poll)
    assert [[1]] == done.json()["query_status"]["results"]["results"]
    error = wait_until(lambda: (poll := asked.call("GET", f"query/{failed}/")).status_code == 400 and poll)
    assert "syntax error" in error.json()["query_status"]["error_message"]
    assert 200 == asked.call("DELETE", f"query/{name}/").status_code
    assert 404 == asked.call("GET", "query/nothing/").status_code


def test_a_query_that_lasts_too_long_ends(asked: Server) -> None:
    """It would keep syncs from becoming visible."""
    endless = "select count(*) from range(10000000) a, range(10000000) b where a.range * b.range % 7 = 1"
    with pytest.raises(Exception, match="longer than 0 s"):
        asked.services.queries.run(endless, {}, tables=(), longest_s=0.05)
