"""Queries: what is sent, how an answer is read, and how a query fails."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.arrow import arrow_table, arrow_type
from dw_orchestration.posthog.limits import ROWS_PER_QUERY
from dw_orchestration.posthog.queries import QueryResult
from dw_orchestration.posthog.query_text import filled, limited, quoted
from dw_orchestration.posthog.query_types import value_type
from dw_orchestration.posthog.rate_limit import RateLimits

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import MakeClient, ScriptedServer

PAGE = Path(__file__).parents[2] / "docs" / "read.md"
ONE: dict[str, Any] = {"results": [[1]], "columns": ["a"], "types": [["a", "Int64"]], "hasMore": False}


def answer_of(*rows: list[Any], more: bool = False, types: str = "Int64") -> dict[str, Any]:
    return {"results": list(rows), "columns": ["id"], "types": [["id", types]], "hasMore": more}


def status_of(**fields: Any) -> dict[str, Any]:
    return {"query_status": {"id": "q1", "complete": False, "error": False, **fields}}


def test_values_are_sent_next_to_the_text(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A value with a quote in it never becomes a part of the query; the result is calculated now."""
    server.answer(ONE)
    result = client.queries.run(
        "select 1 from {table} where name = {name}",
        tables={"table": "stripe.acme.customer"},
        values={"name": "O'Brien"},
    )
    body = server.last.body
    assert [[1]] == result.rows
    assert ("/api/projects/1/query/", "force_blocking") == (server.last.path, body["refresh"])
    assert {
        "kind": "HogQLQuery",
        "query": f'select 1 from "stripe"."acme"."customer" where name = {{name}}\nlimit {ROWS_PER_QUERY + 1}',
        "values": {"name": "O'Brien"},
    } == body["query"]


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        ("stripe_acme_customer", '"stripe_acme_customer"'),
        ("postgres.shop.order", '"postgres"."shop"."order"'),
        ("postgres.my-shop.order items", '"postgres"."my-shop"."order items"'),
        ('postgres_shop."order.items"', '"postgres_shop"."order.items"'),
    ],
)
def test_table_names_are_quoted(name: str, spelt: str) -> None:
    """Reserved words and other characters work; what the embedded warehouse has quoted stays as it is."""
    assert spelt == quoted(name)


@pytest.mark.parametrize(
    ("text", "sent", "own"),
    [
        ("select 1;", "select 1\nlimit 9", None),
        ("select 1 -- limit 3", "select 1 -- limit 3\nlimit 9", None),
        ("select 'limit 3', (select 1 limit 3)", "select 'limit 3', (select 1 limit 3)\nlimit 9", None),
        ("select * from a limit 3 by b", "select * from a limit 3 by b\nlimit 9", None),
        ("select 1 union all select 2", "select * from (\nselect 1 union all select 2\n) limit 9", None),
        ("select * from a LIMIT 3", "select * from a LIMIT 3", 3),
        ("select * from a limit 10, 3", "select * from a limit 10, 3", 3),
        ("select * from a limit {n}", "select * from a limit {n}", 9),
    ],
)
def test_a_query_without_a_limit_gets_one(text: str, sent: str, own: int | None) -> None:
    """PostHog answers 100 rows without a LIMIT, so each query has one, at its very end."""
    assert (sent, own) == limited(text, 9)


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [
        ("select id from a", True),
        ("select id from a limit 60000", True),
        ("select id from a limit 50000", False),
        ("select id from a limit 3", False),
    ],
)
def test_a_cut_that_was_not_asked_for_is_an_error(
    client: PostHogWarehouseClient, server: ScriptedServer, text: str, is_cut: object
) -> None:
    """PostHog cuts at 50,000 rows without an error; only a LIMIT up to that asks for a part."""
    server.answer(answer_of([1], [2], more=True))
    if is_cut:
        with pytest.raises(errors.TooManyRowsError, match=r"more than 50,000 rows.*in_batches"):
            client.queries.run(text)
    else:
        assert [[1], [2]] == client.queries.run(text).rows


def test_batches_read_on_by_key(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Each batch starts with the last key of the one before, whose rows may have been cut there."""
    server.answer(answer_of([1], [2], [2])).answer(answer_of([2], [2], [None]))
    server.answer(answer_of([None]))
    with pytest.raises(errors.UsageError, match="1 rows or more have no 'id'"):
        list(client.queries.in_batches("select id from a", key="id", rows=3))
    first, second = (received.body["query"] for received in server.received)
    assert "where" not in first["query"]
    assert 'where ("id" >= {last_key} or "id" is null)\norder by "id" limit 3' in second["query"]
    assert {"last_key": 2} == second["values"]


def test_a_key_that_does_not_lead_on_is_an_error(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """More rows with one key than fit into an answer cannot be read on, and are not left out."""
    server.answer(answer_of([7], [7]))
    with pytest.raises(errors.UsageError, match=r"have the same 'id', 7: choose a key that is unique"):
        list(client.queries.in_batches("select id from a", key="id", rows=2))


def test_missing_scope_is_named(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A key for syncs alone cannot read rows, and the error says which scope to add."""
    detail = "API key missing required scope 'query:read'"
    body = {"type": "authentication_error", "code": "permission_denied", "detail": detail, "attr": None}
    server.answer(body, status=403)
    with pytest.raises(errors.MissingScopeError, match="Add the scope query:read to the key"):
        client.queries.run("select 1")


@pytest.mark.parametrize(
    ("status", "detail", "cure"),
    [
        (400, "Unable to resolve field: nope", "Correct the query"),
        (400, "Memory limit (for query) exceeded", "read on by key"),
        (500, "ClickHouse error while executing query.", "read on by key"),
    ],
)
def test_errors_of_the_query_are_one_sentence(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int, detail: str, cure: str
) -> None:
    """The text of the parser or database is in the error, once and without another try."""
    server.answer({"type": "validation_error", "code": "query_error", "detail": detail, "attr": None}, status=status)
    with pytest.raises(errors.QueryError, match=re.escape(detail.rstrip("."))) as caught:
        client.queries.run("select nope from a")
    assert cure in str(caught.value)
    assert 1 == len(server.received)


@pytest.mark.parametrize("more", [{}, {"query_status": None}])
def test_a_query_in_the_background_is_polled(
    client: PostHogWarehouseClient, server: ScriptedServer, slept: list[float], more: dict[str, Any]
) -> None:
    """It is begun, polled at growing intervals, and its rows are those of an answer."""
    server.answer({"results": None, **status_of()}, status=202).answer(status_of(), status=202)
    server.answer(status_of(complete=True, results=ONE | more))
    result = client.queries.run("select 1 as a", in_background=True)
    assert [[1]] == result.rows
    assert "force_async" == server.received[0].body["refresh"]
    assert ["/api/projects/1/query/q1/"] * 2 == [received.path for received in server.received[1:]]
    assert [0.5, 1.0] == slept


@pytest.mark.parametrize("status", [200, 400])
def test_an_error_in_the_background_is_the_same(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int
) -> None:
    """Servers report it with success or as a bad request, in the status of the query."""
    server.answer(status_of(), status=202)
    server.answer(status_of(complete=True, error=True, error_message="Unknown table `a`."), status=status)
    with pytest.raises(errors.QueryError, match="Unknown table `a`"):
        client.queries.run("select 1 from a", in_background=True)


def test_a_query_that_takes_too_long_is_cancelled(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """It would use up the project's capacity without a reader."""
    server.answer(status_of(), status=202)
    with pytest.raises(errors.AnswerTimeoutError, match="more than 0 s and was cancelled"):
        client.queries.run("select 1", in_background=True, timeout_s=0)
    assert ("DELETE", "/api/projects/1/query/q1/") == (server.last.method, server.last.path)


def test_queries_have_their_own_budget(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """Queries do not use up what syncs need: both are counted, apart from each other."""
    client = make_client(rate_limits=RateLimits(folder=tmp_path))
    server.answer(ONE).answer({"results": []})
    client.queries.run("select 1 as a")
    list(client.list_sources())
    budgets = sorted(path.stem for path in tmp_path.glob("*.sqlite"))
    assert 2 == len(budgets)
    assert budgets[1] == f"{budgets[0]}_queries"


def test_a_query_is_allowed_where_changes_are_refused(make_client: MakeClient, server: ScriptedServer) -> None:
    """It is a POST, and changes nothing."""
    server.answer(ONE)
    assert [[1]] == make_client(read_only=True).queries.run("select 1 as a").rows


@pytest.mark.parametrize(("status", "requests"), [(502, 2), (503, 2), (504, 1), (429, 2)])
def test_queries_are_repeated_where_it_helps(
    client: PostHogWarehouseClient, server: ScriptedServer, status: int, requests: int
) -> None:
    """A gateway that failed, or a full queue: again. A query that took too long would take as long again."""
    server.answer("", status=status).answer(ONE)
    if requests == 1:
        with pytest.raises(errors.ServerError):
            client.queries.run("select 1 as a")
    else:
        assert [[1]] == client.queries.run("select 1 as a").rows
    assert requests == len(server.received)


def test_a_late_answer_is_not_requested_again(make_client: MakeClient) -> None:
    """The database would calculate the same again for as long."""
    requests: list[httpx.Request] = []

    def too_late(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.ReadTimeout("too late")

    client = make_client(http_transport=httpx.MockTransport(too_late))
    with pytest.raises(errors.AnswerTimeoutError, match=r"Try again\.$"):
        client.queries.run("select 1")
    assert 1 == len(requests)


@pytest.mark.parametrize(
    ("text", "values", "complaint"),
    [
        ("select {a}", {}, "Nothing fills {a}"),
        ("select 1", {"a": 1}, "does not use {a}"),
        ("select '{a}' -- {a}", {"a": 1}, "does not use {a}"),
        ("select {a}", {"a": float("nan")}, "finite"),
        ("select {a}", {"a": 2**64}, "64 bits"),
        ("select {a}", {"a": "\ud800"}, "Unicode"),
        ("select {a}", {"a": dt.date(1969, 12, 31)}, "not between"),
        ("select {a}", {"a": dt.datetime(2300, 1, 1, tzinfo=dt.UTC)}, "not between"),
        ("select {a}", {"a": Decimal("1234567890.123456789")}, "18 digits"),
        ("select {a}", {"a": {"b": 1}}, "is a dict"),
        ("select {a}", {"a": [[dt.date(2026, 1, 1)], {}]}, "is a dict"),
    ],
)
def test_values_that_cannot_be_sent(text: str, values: dict[str, Any], complaint: str) -> None:
    """PostHog would lose or change them silently: they are an error before anything is sent."""
    with pytest.raises(errors.UsageError, match=re.escape(complaint)):
        filled(text, tables={}, values=values)


def test_types_are_those_of_the_page() -> None:
    """Each type that the page lists becomes the Arrow type next to it."""
    rows = re.findall(r"^\| (`[A-Z].*?`) \| `([a-z].*?)` \|", PAGE.read_text(), flags=re.MULTILINE)
    shown = [(name, arrow) for names, arrow in rows for name in re.findall(r"`([^`]+)`", names)]
    assert len(shown) > 20
    for name, arrow in shown:
        assert arrow == str(arrow_type(value_type(name))), name


@pytest.mark.parametrize(
    ("kind", "sent", "read"),
    [
        ("Nullable(Int64)", [2**60 + 1, None], [2**60 + 1, None]),
        ("UInt64", [2**64 - 1], [2**64 - 1]),
        ("Decimal(20, 2)", ["123456789012345678.90", 1.5], [Decimal("123456789012345678.90"), Decimal("1.50")]),
        ("Nullable(Decimal(76, 2))", ["1.5", None], [Decimal("1.50"), None]),
        (
            "DateTime64(6, 'Europe/Berlin')",
            ["2026-01-01T00:00:00.000001+01:00", "2026-01-01 00:00:00", "2026-01-01T00:00:00Z"],
            [
                dt.datetime(2025, 12, 31, 23, 0, 0, 1, tzinfo=dt.UTC),
                dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            ],
        ),
        ("Date", ["2026-01-01"], [dt.date(2026, 1, 1)]),
        ("Array(Nullable(Date))", [["2026-01-01", None]], [[dt.date(2026, 1, 1), None]]),
        ("Tuple(a Int64, b Decimal(9, 1))", [[1, "2.5"], {"a": 1, "b": "2.5"}], [{"a": 1, "b": Decimal("2.5")}] * 2),
        ("Map(Int64, DateTime)", [{"1": "2026-01-01T00:00:00Z"}], [[(1, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))]]),
        ("JSON", ["{}", {"a": [1]}], ["{}", '{"a": [1]}']),
        ("Int256", [2**100, "x"], [str(2**100), "x"]),
        ("Variant(String, Int64)", ["a", 1], ["a", "1"]),
    ],
)
def test_values_keep_what_posthog_sends(kind: str, sent: list[Any], read: list[Any]) -> None:
    """Numbers keep their digits, times their moment, and what Arrow has no type for is text."""
    result = QueryResult(columns=("a",), types=(value_type(kind),), rows=[[value] for value in sent])
    assert read == arrow_table(result)["a"].to_pylist()


def test_without_types_arrow_decides() -> None:
    """Old servers do not name the types."""
    assert pa.int64() == arrow_table(QueryResult(columns=("a",), types=(), rows=[[1]])).schema.field("a").type
