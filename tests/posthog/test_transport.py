"""Hosts, keys, headers, redirects, clocks and the read-only switch."""

from __future__ import annotations

import pickle
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.transport import Timeouts, Transport, normalised_host
from dw_orchestration.version import __version__

if TYPE_CHECKING:
    from dw_orchestration.posthog.client import PostHogWarehouseClient
    from tests.posthog.conftest import MakeClient, ScriptedServer

SCHEMA = {"id": "s1", "name": "orders"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://us.posthog.com", "https://us.posthog.com"),
        ("https://us.posthog.com/", "https://us.posthog.com"),
        (" HTTPS://EU.PostHog.com ", "https://eu.posthog.com"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://posthog.example:443", "https://posthog.example"),
    ],
)
def test_a_host_has_one_spelling(given: str, expected: Any) -> None:
    """Blanks, case, the default port and a trailing slash make no difference."""
    assert expected == normalised_host(given)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("https://us.i.posthog.com", "only ingests events: use https://us.posthog.com"),
        ("https://eu.i.posthog.com/", "use https://eu.posthog.com"),
        ("us.posthog.com", "not an http"),
        ("ftp://us.posthog.com", "not an http"),
        ("https://", "not an http"),
        ("", "not an http"),
        ("https://us.posthog.com/project/1", "more than a host: use https://us"),
        ("https://us.posthog.com?a=1", "more than a host: use https://us"),
        ("https://me:hunter2@us.posthog.com", "use only the address"),
        ("http://[::1", "Invalid port"),
    ],
)
def test_a_host_that_cannot_be_right_is_refused(host: str, message: str) -> None:
    """A host that can't be PostHog's API is refused with the cure, and without a password it may hold."""
    with pytest.raises(errors.SetupError, match=message) as raised:
        normalised_host(host)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "  ", "phx_a b", "phx_a\nb", "phx_ä", "phc_project"])
def test_a_key_that_cannot_be_right_is_refused(key: str) -> None:
    """A key that no header can carry, or a project's key, is refused without being shown."""
    with pytest.raises(errors.SetupError, match="API key") as raised:
        Transport("https://us.posthog.com", key)
    assert not key.strip() or key not in str(raised.value)


def test_blanks_around_a_key_are_dropped(make_client: MakeClient, server: ScriptedServer, key: str) -> None:
    """A line break from a secrets file does not belong to the key."""
    server.answer(SCHEMA)
    make_client(api_key=f"{key}\n").get_schema("s1")
    assert f"Bearer {key}" == server.last.headers["authorization"]


def test_the_key_travels_in_the_header_alone(client: PostHogWarehouseClient, server: ScriptedServer, key: str) -> None:
    """The Authorization header carries the key; the address and the body do not."""
    server.answer(SCHEMA)
    client.get_schema("s1")
    assert f"Bearer {key}" == server.last.headers["authorization"]
    assert f"dw-orchestration/{__version__}" == server.last.headers["user-agent"]
    assert key not in f"{server.last.path}{server.last.query}{server.last.body}"


def test_proxies_are_not_used_for_loopback(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, server: ScriptedServer
) -> None:
    """A proxy of the environment can't reach this machine's loopback, so it is not received."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answer(SCHEMA)
    assert "orders" == make_client().get_schema("s1").name
    server.answer(SCHEMA)
    assert "orders" == make_client(host=server.url.replace("127.0.0.1", "localhost")).get_schema("s1").name


def test_proxies_are_used_for_other_hosts(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, server: ScriptedServer
) -> None:
    """A proxy of the environment is used for every other host."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.answer(SCHEMA)
    make_client(host="http://posthog.invalid").get_schema("s1")
    assert "posthog.invalid" == server.last.headers["host"]


def test_a_redirect_on_the_same_host_is_followed_for_reading(
    client: PostHogWarehouseClient, server: ScriptedServer, key: str
) -> None:
    """A GET follows a redirect that stays on the host; the key goes along, and the answer counts."""
    server.answer(status=307, headers={"Location": "/moved/?a=1"}).answer(SCHEMA)
    assert "orders" == client.get_schema("s1").name
    assert ("/moved/", {"a": ["1"]}) == (server.last.path, server.last.query)
    assert f"Bearer {key}" == server.last.headers["authorization"]


def test_a_redirect_to_nowhere_says_nothing_about_the_table(
    client: PostHogWarehouseClient, server: ScriptedServer
) -> None:
    """PostHog's own 404 at the end of a redirect is about the address in it: the table may well exist."""
    own = {"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": None}
    server.answer(status=302, headers={"Location": "/moved/?a=1"}).answer(own, status=404)
    with pytest.raises(errors.UnexpectedAnswerError, match=r"redirected to http://127.0.0.1:.*/moved/, which does not"):
        client.get_schema("s1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_change_is_refused(client: PostHogWarehouseClient, server: ScriptedServer, status: int) -> None:
    """A redirected POST loses its body or its meaning: it goes nowhere."""
    server.answer(status=status, headers={"Location": "/elsewhere/"})
    with pytest.raises(errors.RedirectRefusedError, match="/elsewhere/"):
        client.reload_schema("s1")
    assert 1 == len(server.received)


@pytest.mark.parametrize("target", ["https://127.0.0.1/", "http://127.0.0.1:1/", "http://other.example/"])
def test_a_redirect_elsewhere_is_refused(client: PostHogWarehouseClient, server: ScriptedServer, target: str) -> None:
    """Another scheme, port or host is another place: the key is not sent there."""
    server.answer(status=302, headers={"Location": target})
    with pytest.raises(errors.RedirectRefusedError, match="configure it as the host"):
        client.get_schema("s1")
    assert 1 == client.requests


def test_redirects_that_do_not_end_are_given_up(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """A host that redirects in a circle is left after three."""
    for _ in range(9):
        server.answer(status=302, headers={"Location": "/again/"})
    with pytest.raises(errors.RedirectRefusedError):
        client.get_schema("s1")
    assert 4 == client.requests


def test_the_servers_clock_is_read(make_client: MakeClient) -> None:
    """The clock is that of the latest answer with a date, as aware UTC."""
    dates = iter(["Thu, 01 Jan 2026 10:00:00 GMT", "Thu, 01 Jan 2026 12:00:00 +0100", "nonsense", None])

    def answer(_: httpx.Request) -> httpx.Response:
        date = next(dates)
        return httpx.Response(200, headers={"Date": date} if date else {})

    client = make_client(http_transport=httpx.MockTransport(answer))
    assert client.server_time is None
    first, second, third, fourth = (client.reload_schema("s1") for _ in range(4))
    eleven = datetime(2026, 1, 1, 11, tzinfo=UTC)
    assert [datetime(2026, 1, 1, 10, tzinfo=UTC), eleven, None, None] == [first, second, third, fourth]
    assert eleven == client.server_time


def test_calls_that_ask_the_source_may_take_longer(make_client: MakeClient) -> None:
    """The read time-out is the long one where PostHog asks the customer's source, else the short one."""
    seen: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json={"added": 0, "id": "s1", "name": "orders"})

    timeouts = Timeouts(connect_s=1.0, read_s=2.0, slow_read_s=3.0)
    client = make_client(http_transport=httpx.MockTransport(answer), timeouts=timeouts)
    client.get_schema("s1")
    client.refresh_schemas("s1")
    assert [(1.0, 2.0), (1.0, 3.0)] == [(each["connect"], each["read"]) for each in seen]


@pytest.mark.parametrize("call", ["reload_schema", "delete_schema", "delete_source", "refresh_schemas"])
def test_a_read_only_client_changes_nothing(make_client: MakeClient, server: ScriptedServer, call: Any) -> None:
    """Every request but a GET is refused before it is sent; the text is about the setting, and not about a request."""
    client = make_client(read_only=True)
    with pytest.raises(errors.ReadOnlyError, match="Set `read_only: false`") as refused:
        getattr(client, call)("s1")
    assert "/api/" not in str(refused.value)
    assert [] == server.received


def test_a_read_only_client_reads(make_client: MakeClient, server: ScriptedServer) -> None:
    """Reading is what a read-only client is for."""
    server.answer(SCHEMA)
    assert "orders" == make_client(read_only=True).get_schema("s1").name


def test_clients_are_not_pickled(client: PostHogWarehouseClient) -> None:
    """A pickle of a client or its transport would contain the key: both refuse."""
    with pytest.raises(TypeError, match="in each process"):
        pickle.dumps(client)
    with pytest.raises(TypeError, match="in each process"):
        pickle.dumps(client.transport)


def test_a_client_closes_its_connections(make_client: MakeClient) -> None:
    """After the block, the pool is closed."""
    with make_client() as client:
        pass
    with pytest.raises(errors.UsageError, match="the client is closed"):
        client.transport.request("GET", "/")


def test_requests_of_many_threads_are_all_counted(client: PostHogWarehouseClient, server: ScriptedServer) -> None:
    """One client serves many threads, and counts each request."""
    server.compute = lambda _: SCHEMA
    threads = [threading.Thread(target=lambda: [client.get_schema("s1") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (80, 80) == (client.requests, len(server.received))
