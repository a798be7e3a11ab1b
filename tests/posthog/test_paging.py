"""Lists that come in pages: sources by offset, jobs backwards in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.posthog.errors import UsageError
from dw_orchestration.posthog.models import Job
from dw_orchestration.posthog.paging import newest_first
from dw_orchestration.posthog.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import Received, ScriptedServer

    Row = dict[str, Any]
    Compute = Callable[[Received], Any]

START = datetime(2026, 1, 1, tzinfo=UTC)
CAP = 50


def schema_rows(count: int) -> list[Row]:
    return [{"id": f"s{n}", "name": f"table_{n}"} for n in range(count)]


def source_rows(count: int) -> list[Row]:
    return [{"id": f"s{n}", "source_type": "Stripe", "schemas": []} for n in range(count)]


def offset_server(rows: list[Row], *, cap: int = 10**9, next_host: str = "http://proxy.invalid") -> Compute:
    """Pages as PostHog makes them, with a `next` that cannot be reached."""

    def answer(received: Received) -> Any:
        limit, offset = min(int(received.query["limit"][0]), cap), int(received.query["offset"][0])
        more = f"{next_host}/?offset={offset + limit}" if offset + limit < len(rows) else None
        return {"count": len(rows), "next": more, "previous": None, "results": rows[offset : offset + limit]}

    return answer


@pytest.mark.parametrize(("method", "rows"), [("list_sources", source_rows), ("list_schemas", schema_rows)])
@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_all_pages_are_fetched(
    *, client: PostHogWarehouseClient, server: ScriptedServer, method: str, rows: Any, count: int, pages: int
) -> None:
    """A list has every row once, in the server's order, and costs one request per page."""
    server.compute = offset_server(rows(count))
    assert [f"s{n}" for n in range(count)] == [row.id for row in getattr(client, method)()]
    assert pages == len(server.received)


def test_next_is_not_followed(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Behind a proxy `next` can name an unreachable host; pages are requested by offset."""
    server.compute = offset_server(source_rows(3), next_host="http://unreachable.invalid")
    assert 3 == len(list(client.list_sources(page_size=2)))
    assert [["0"], ["2"]] == [received.query["offset"] for received in server.received]


def test_a_server_with_a_smaller_page(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """If a server returns fewer rows than requested, the next page starts where they ended."""
    server.compute = offset_server(source_rows(7), cap=3)
    assert 7 == len(list(client.list_sources()))


def test_a_row_that_comes_again_is_given_once(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A source that is created meanwhile shifts the others to the next page; none is given twice."""
    server.answer({"results": source_rows(2), "next": "more"}).answer({"results": source_rows(3)[1:], "next": None})
    assert ["s0", "s1", "s2"] == [source.id for source in client.list_sources(page_size=2)]


def test_a_page_without_rows_is_the_last(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A server that promises more and gives nothing gets no further request."""
    server.answer({"results": [], "next": "more"})
    assert [] == list(client.list_sources())
    assert 1 == len(server.received)


@pytest.mark.parametrize("method", ["list_sources", "list_schemas"])
def test_a_search_goes_to_the_server(client: PostHogWarehouseClient, server: ScriptedServer, method: str) -> None:
    """The text to search is a parameter of each page, and absent if there is none."""
    server.compute = offset_server([])
    list(getattr(client, method)(search="a b", page_size=7))
    list(getattr(client, method)())
    assert {"search": ["a b"], "limit": ["7"], "offset": ["0"]} == server.received[0].query
    assert {"limit": ["100"], "offset": ["0"]} == server.received[1].query


def test_lists_are_lazy(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Reading only the first row costs one request."""
    server.compute = offset_server(source_rows(500))
    assert "s0" == next(client.list_sources()).id
    assert 1 == len(server.received)


def job_row(n: int, created_at: datetime, *, name: str = "orders") -> Row:
    return {
        "id": f"j{n}",
        "created_at": created_at.isoformat().replace("+00:00", "Z"),
        "created_by": None,
        "finished_at": None,
        "status": "Running",
        "schema": {"id": f"schema-{name}", "name": name},
        "rows_synced": n,
    }


def jobs_server(rows: list[Row], *, knows: Sequence[str] = ("after", "before", "schemas")) -> Compute:
    """The jobs endpoint: at most 50, newest first, both times compared strictly."""

    def moment(received: Received, name: str) -> datetime | None:
        return datetime.fromisoformat(received.query[name][0]) if name in knows and name in received.query else None

    def answer(received: Received) -> Any:
        after, before = moment(received, "after"), moment(received, "before")
        names = received.query.get("schemas") if "schemas" in knows else None
        fitting = [
            row
            for row in rows
            if (after is None or datetime.fromisoformat(row["created_at"]) > after)
            and (before is None or datetime.fromisoformat(row["created_at"]) < before)
            and (not names or row["schema"]["name"] in names)
        ]
        return sorted(fitting, key=lambda row: row["created_at"], reverse=True)[:CAP]

    return answer


def minutely(count: int, **more: Any) -> list[Row]:
    return [job_row(n, START + timedelta(minutes=n), **more) for n in range(count)]


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (49, 1), (50, 2), (51, 2), (130, 3)])
def test_jobs_are_walked_backwards(
    client: PostHogWarehouseClient, server: ScriptedServer, count: int, requests: int
) -> None:
    """All jobs come, newest first, each once, beyond the 50 of one answer."""
    server.compute = jobs_server(minutely(count))
    assert [f"j{n}" for n in reversed(range(count))] == [job.id for job in client.list_jobs("src1")]
    assert requests == len(server.received)


def test_who_stops_early_asks_no_more(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Fifty jobs cost one request."""
    server.compute = jobs_server(minutely(200))
    assert 50 == len(list(islice(client.list_jobs("src1"), 50)))
    assert 1 == len(server.received)


def test_nothing_is_asked_before_the_first_job_is_wanted(
    client: PostHogWarehouseClient, server: ScriptedServer
) -> None:
    """The request happens when the iteration begins."""
    client.list_jobs("src1")
    assert [] == server.received


@given(
    moments=st.lists(st.integers(0, 20), min_size=0, max_size=160),
    step_us=st.sampled_from([1, 700, 10**6]),
)
def test_equal_times_across_a_border_lose_no_job(moments: list[int], step_us: int) -> None:
    """All jobs that share a moment are returned, as long as no 51 share one microsecond."""
    kept = [each for n, each in enumerate(moments) if moments[:n].count(each) < CAP]
    rows = [job_row(n, START + timedelta(microseconds=step_us * each)) for n, each in enumerate(kept)]
    jobs = sorted((Job.model_validate(row) for row in rows), key=lambda job: job.created_at, reverse=True)

    def fetch(before: datetime | None) -> Rows[Job]:
        return Rows([job for job in jobs if before is None or job.created_at < before][:CAP])

    got = list(newest_first(fetch, before=None))
    assert sorted(f"j{n}" for n in range(len(kept))) == sorted(job.id for job in got)
    assert sorted((job.created_at for job in got), reverse=True) == [job.created_at for job in got]


def test_more_jobs_of_one_moment_than_an_answer_holds(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Of 60 jobs of one microsecond the API gives 50; the walk continues after them, and ends."""
    same = [job_row(n, START) for n in range(60)]
    earlier = [job_row(100 + n, START - timedelta(minutes=1)) for n in range(3)]
    server.compute = jobs_server(same + earlier)
    got = [job.id for job in client.list_jobs("src1")]
    assert (53, 53) == (len(got), len(set(got)))
    assert {"j100", "j101", "j102"} <= set(got)


def test_a_server_that_does_not_know_before(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A server that always gives the same page gets no further request."""
    server.compute = jobs_server(minutely(80), knows=())
    assert [f"j{n}" for n in reversed(range(30, 80))] == [job.id for job in client.list_jobs("src1")]


@pytest.mark.parametrize("knows", [("after", "before", "schemas"), ("before",), ()])
def test_the_filters_hold_on_every_server(
    client: PostHogWarehouseClient, server: ScriptedServer, knows: Sequence[str]
) -> None:
    """Both times exclude themselves, and names are exact, also where the server ignores the filters."""
    rows = minutely(10) + [job_row(50 + n, START + timedelta(minutes=n), name="items") for n in range(10)]
    server.compute = jobs_server(rows, knows=knows)
    got = client.list_jobs(
        "src1", after=START + timedelta(minutes=3), before=START + timedelta(minutes=7), schemas=["items"]
    )
    assert ["j56", "j55", "j54"] == [job.id for job in got]


def test_a_walk_ends_at_after_on_a_server_that_ignores_it(
    client: PostHogWarehouseClient, server: ScriptedServer
) -> None:
    """The walk backwards does not read the whole history for a server that ignores `after`."""
    server.compute = jobs_server(minutely(500), knows=("before",))
    got = list(client.list_jobs("src1", after=START + timedelta(minutes=450)))
    assert (49, 1) == (len(got), len(server.received))


def test_the_query_of_jobs(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """Times are sent in UTC with a Z, names repeated, and no parameter that was not set."""
    server.compute = jobs_server([])
    cest = timezone(timedelta(hours=2))
    list(client.list_jobs("src1", after=datetime(2026, 7, 1, 2, tzinfo=cest), schemas=("b & c", "a")))
    list(client.list_jobs("src1"))
    assert {"after": ["2026-07-01T00:00:00.000000Z"], "schemas": ["b & c", "a"]} == server.received[0].query
    assert {} == server.received[1].query


@pytest.mark.parametrize("name", ["{}" + 90 * "n", "{}" + 30 * "ä"])
def test_the_address_of_a_request_stays_short(
    client: PostHogWarehouseClient, server: ScriptedServer, name: str
) -> None:
    """Names of 300 tables are spread over several requests, whose jobs come in the order of one; each table once."""
    names = [name.format(n) for n in range(300)]
    rows = [job_row(n, START + timedelta(minutes=n), name=each) for n, each in enumerate(names)]
    server.compute = jobs_server(rows)
    got = client.list_jobs("src1", after=START, before=START + timedelta(minutes=250), schemas=names)
    assert [f"j{n}" for n in range(249, 0, -1)] == [job.id for job in got]
    lines = [f"{received.path}?{urlencode(received.query, doseq=True)}" for received in server.received]
    assert max(map(len, lines)) < 8 * 1024


@pytest.mark.parametrize("limit", ["after", "before"])
def test_a_time_without_a_zone_is_refused(client: PostHogWarehouseClient, server: ScriptedServer, limit: str) -> None:
    """It is unclear which moment a naive time means."""
    with pytest.raises(UsageError, match="no time zone"):
        list(client.list_jobs("src1", **{limit: datetime(2026, 1, 1)}))  # noqa: DTZ001  # the rule
    assert [] == server.received
