"""The proxies and certificates of the environment."""

from __future__ import annotations

import ssl
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dw_orchestration.posthog import errors
from dw_orchestration.posthog.environment import proxy_for
from dw_orchestration.posthog.retries import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.posthog.conftest import MakeClient, ScriptedServer

HERE = Path(__file__).parent
CERTIFICATE, KEY = HERE / "certificate.pem", HERE / "key_of_certificate.pem"
SCHEMA = {"id": "s1", "name": "orders"}
VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUEST_METHOD"]
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test set what it needs."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# --- proxies ---

HTTP, HTTPS = "http://posthog.test", "https://posthog.test"


@pytest.mark.parametrize(
    ("variables", "host", "expected"),
    [
        ({}, HTTPS, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, HTTPS, "http://lower:1"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": ""}, HTTPS, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, HTTP, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, HTTP, "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128"}, HTTPS, None),
        ({"ALL_PROXY": "http://proxy:3128"}, HTTP, "http://proxy:3128"),
        ({"all_proxy": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"ALL_PROXY": "nonsense://", "HTTPS_PROXY": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"HTTPS_PROXY": " proxy:3128 "}, HTTPS, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy"}, HTTPS, "http://proxy:80"),
        ({"HTTPS_PROXY": "https://proxy"}, HTTPS, "https://proxy:443"),
        ({"HTTPS_PROXY": "HTTP://Proxy:1/"}, HTTPS, "http://proxy:1"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:8080"}, HTTPS, "http://[2001:db8::1]:8080"),
        ({"ALL_PROXY": "socks5://proxy"}, HTTPS, "socks5://proxy:1080"),
        ({"ALL_PROXY": "socks5h://proxy:9050"}, HTTPS, "socks5h://proxy:9050"),
        ({"HTTP_PROXY": "http://proxy:1"}, "http://127.0.0.1:8000", None),
        ({"ALL_PROXY": "http://proxy:1"}, "http://localhost", None),
        ({"ALL_PROXY": "http://proxy:1"}, "https://[::1]:8000", None),
        # as a web server's process gets it from a header of a request
        ({"HTTP_PROXY": "http://proxy:1", "REQUEST_METHOD": "GET"}, HTTP, None),
    ],
)
def test_the_proxy_is_the_one_that_other_tools_take(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], host: str, expected: str | None
) -> None:
    """The scheme's variable, else `ALL_PROXY`; lower case decides; none for loopback."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(host)
    assert expected == (proxy and proxy.url)


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("posthog.test", "posthog.test", True),
        ("POSTHOG.Test", "posthog.test", True),
        ("posthog.test", "eu.posthog.test", True),
        (".posthog.test", "eu.posthog.test", True),
        (".posthog.test", "posthog.test", True),
        ("*.posthog.test", "eu.posthog.test", True),
        ("posthog.test", "myposthog.test", False),
        ("posthog.test", "posthog.test.example", False),
        ("posthog.test:443", "posthog.test", True),
        ("posthog.test:8443", "posthog.test", False),
        ("posthog.test:8443", "posthog.test:8443", True),
        ("https://posthog.test", "posthog.test", True),
        ("other, ,posthog.test,", "posthog.test", True),
        ("other posthog.test", "posthog.test", True),
        ("*", "posthog.test", True),
        ("host,*", "posthog.test", True),
        ("", "posthog.test", False),
        (",", "posthog.test", False),
        (".", "posthog.test", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("192.168.0.0/16", "10.1.2.3", False),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.1.2.3:80", "10.1.2.3", False),
        ("2.3", "10.1.2.3", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("2001:DB8:0::1", "[2001:db8::1]", True),
        ("[2001:db8::1]:443", "[2001:db8::1]", True),
        ("[2001:db8::1]:80", "[2001:db8::1]", False),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("10.0.0.0/8", "[2001:db8::1]", False),
        ("host,[::1]", "posthog.test", False),
        ("[::1", "posthog.test", False),
        ("[", "posthog.test", False),
        ("://", "posthog.test", False),
        ("posthog.test:99999999999", "posthog.test", False),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_hosts_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str, host: str, *, is_exempt: bool
) -> None:
    """Names with all below them, addresses and networks of both versions, ports and `*`; nothing else is an error."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv(name, no_proxy)
    assert is_exempt is (proxy_for(f"https://{host}") is None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ftp://proxy", "ftp://proxy"),
        ("socks4://proxy:1080", "socks4://proxy:1080"),
        ("http://proxy:port", "http://proxy:port"),
        ("http://proxy:99999", "http://proxy:99999"),
        ("http://proxy:0", "http://proxy:0"),
        ("http://", "http://"),
        ("http://[::1", "http://[::1"),
        ("http://pro xy:1", "http://pro xy:1"),
        ("http://me:hunter2@proxy:port", "http://proxy:port"),
        ("me:hunter2@:1", "http://:1"),
        ("http://me:hunter2/@x@:port", "http://:port"),
        ("http://me:hunter2@[::1", "http://[::1"),
        ("socks5://me:hunter2@proxy", "socks5://proxy"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, name: str, value: str, shown: str
) -> None:
    """The error names the variable as it is spelt and its value, without a user and a password."""
    monkeypatch.setenv(name, value)
    with pytest.raises(errors.SetupError) as raised:
        make_client(host=HTTPS)
    assert f"{name}={shown}: " in str(raised.value)
    assert "hunter2" not in f"{raised.value}{raised.value.__cause__}{raised.value.__context__}"


def test_a_login_of_a_proxy_is_sent_to_it_alone(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, server: ScriptedServer
) -> None:
    """User and password, with what an address quotes, are for the proxy; no error and no text shows them."""
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("://", "://me:h%40nter2@"))
    server.answer(SCHEMA)
    make_client(host=HTTP).get_schema("s1")
    assert "Basic bWU6aEBudGVyMg==" == server.last.headers["proxy-authorization"]
    assert "posthog.test" == server.last.headers["host"]
    assert "h@nter2" not in repr(proxy_for(HTTP))


def test_a_broken_proxy_does_not_touch_loopback(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, server: ScriptedServer
) -> None:
    """What a loopback host does not need cannot keep it from working."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.setenv(name, "nonsense://[::1")
    monkeypatch.setenv("SSL_CERT_FILE", "/is/gone.pem")
    server.answer(SCHEMA)
    assert "orders" == make_client().get_schema("s1").name


def test_a_proxy_that_refuses_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, server: ScriptedServer
) -> None:
    """A proxy that opens no tunnel has sent nothing on."""
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(errors.UnreachableError, match="nothing was sent"):
        make_client(host=HTTPS, retry=ONCE).reload_schema("s1")


# --- certificates ---


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"id": "s1", "name": "orders"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def encrypted() -> Iterator[str]:
    """A server on loopback with a certificate that no public authority has signed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.01), daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_certificate_of_no_authority_is_refused(make_client: MakeClient, encrypted: str) -> None:
    """Without a variable, the usual authorities are trusted."""
    with pytest.raises(errors.UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        make_client(host=encrypted, retry=ONCE).get_schema("s1")


@pytest.mark.parametrize("has_both", [False, True])
def test_a_file_of_certificates_is_trusted(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, encrypted: str, tmp_path: Path, *, has_both: bool
) -> None:
    """`SSL_CERT_FILE` is trusted, also on loopback, and also next to a folder."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    if has_both:
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert "orders" == make_client(host=encrypted).get_schema("s1").name


@pytest.mark.parametrize("folders", ["{}", "/is/gone:{}", "{}:/is/gone"])
def test_a_folder_of_certificates_is_trusted(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, encrypted: str, tmp_path: Path, folders: str
) -> None:
    """`SSL_CERT_DIR` is one folder or several, with files that are named by a hash of their subject."""
    (tmp_path / "61cab148.0").write_bytes(CERTIFICATE.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", folders.format(tmp_path))
    assert "orders" == make_client(host=encrypted).get_schema("s1").name


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, encrypted: str) -> None:
    """An empty variable counts as unset."""
    monkeypatch.setenv("SSL_CERT_DIR", "")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert "orders" == make_client(host=encrypted).get_schema("s1").name


@pytest.mark.parametrize("host", [HTTPS, "https://localhost:8443"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("kind", ["gone", "empty", "garbage"])
def test_certificates_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, tmp_path: Path, *, host: str, variable: str, kind: str
) -> None:
    """A file or folder that is gone, or is none, is named with its variable, also for loopback."""
    path = tmp_path / "certificates"
    if kind != "gone":
        path.write_text("" if kind == "empty" else "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(errors.SetupError, match=f"{variable}={path}: .*or unset it"):
        make_client(host=host)


def test_a_folder_is_no_file_of_certificates(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, tmp_path: Path
) -> None:
    """A folder in `SSL_CERT_FILE` is named."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))
    with pytest.raises(errors.SetupError, match=f"SSL_CERT_FILE={tmp_path}: "):
        make_client(host=HTTPS)


def test_an_encrypted_way_to_a_proxy_uses_the_certificates(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, encrypted: str
) -> None:
    """A proxy that is reached by https is checked against the same certificates."""
    monkeypatch.setenv("HTTP_PROXY", encrypted)
    with pytest.raises(errors.UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        make_client(host=HTTP, retry=ONCE).get_schema("s1")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert "orders" == make_client(host=HTTP).get_schema("s1").name
