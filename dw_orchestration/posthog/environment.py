"""The proxies and certificates that the environment names, as curl and OpenSSL understand these variables.

    HTTPS_PROXY, HTTP_PROXY     the proxy for a host with this scheme
    ALL_PROXY                   the proxy for all other hosts
    NO_PROXY                    hosts without a proxy: names with all below them, addresses, networks, `host:port`, `*`
    SSL_CERT_FILE, SSL_CERT_DIR the certificates to trust, in place of the usual ones

Each proxy variable can also be in lower case, which then decides.
"""

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

from dw_orchestration.posthog.errors import SetupError

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
DEFAULT_PORTS = {"http": 80, "https": 443}
SOCKS_PORT = 1080


@dataclass(frozen=True, kw_only=True)
class ProxyServer:
    """A proxy.

    Attributes:
        url: Its address, without a user and a password.
        auth: The user and the password, if the environment has them.
        variable: The environment variable that names it.
        shown: The variable's value, without the password.
    """

    url: str
    auth: tuple[bytes, bytes] | None = field(repr=False)
    variable: str
    shown: str

    @property
    def scheme(self) -> str:
        """How to connect to it: one of `PROXY_SCHEMES`."""
        return self.url.partition("://")[0]

    @property
    def is_socks(self) -> bool:
        """Whether it is no HTTP proxy."""
        return self.scheme.startswith("socks")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    address = _address(host)
    return address.is_loopback if address else host.lower().rstrip(".") == "localhost"


def proxy_for(origin: str) -> ProxyServer | None:
    """The proxy on the way to a host; None for a direct connection. No proxy can reach this machine's loopback.

    Raises:
        SetupError: The environment names a proxy that cannot be used.
    """
    url = urlsplit(origin)
    host, port = url.hostname or "", url.port or DEFAULT_PORTS[url.scheme]
    proxies = getproxies()
    if is_loopback(host) or _is_exempt(host, port, no_proxy=proxies.get("no", "")):
        return None
    for name in (url.scheme, "all"):
        if proxies.get(name):
            return _proxy(proxies[name], variable=_variable(f"{name}_proxy", os.environ))
    return None


def certificates() -> ssl.SSLContext | None:
    """What to trust according to `SSL_CERT_FILE` and `SSL_CERT_DIR`; None if neither is set.

    Raises:
        SetupError: The file or the folder cannot be used.
    """
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folders:
        return None
    if folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        raise unusable(
            "SSL_CERT_DIR", folders, "there is no such folder", "Name a folder that `openssl rehash` prepared"
        )
    try:
        return ssl.create_default_context(cafile=file or None, capath=folders or None)
    except ssl.SSLError:
        reason = "it contains no certificate"
    except OSError as error:
        reason = error.strerror or str(error)
    raise unusable("SSL_CERT_FILE", file or "", reason, "Name a file with certificates in PEM format")


def unusable(variable: str, value: str, reason: str, cure: str) -> SetupError:
    """The error for a value, without a password, that cannot be used."""
    return SetupError(f"Cannot use the environment variable {variable}={value}: {reason}. {cure}, or unset it.")


# --- proxies ---


def _proxy(value: str, *, variable: str) -> ProxyServer:
    # curl and others take an address without a scheme
    address = value.strip() if "://" in value else f"http://{value.strip()}"
    shown = _without_login(address)
    cure = f"Use an address such as http://proxy.example:3128 ({', '.join(PROXY_SCHEMES)})"
    url, host, port = _parts(address)
    if url.scheme not in PROXY_SCHEMES:
        raise unusable(variable, shown, f"a proxy of the kind {url.scheme!r} is not supported", cure)
    if not host or not port:
        raise unusable(variable, shown, "it is not the address of a proxy", cure)
    named = f"[{host}]" if ":" in host else host
    return ProxyServer(url=f"{url.scheme}://{named}:{port}", auth=_login(url), variable=variable, shown=shown)


def _parts(address: str) -> tuple[SplitResult, str | None, int | None]:
    """An address with its host and port; without a host if it cannot be parsed."""
    url = urlsplit("")
    with suppress(ValueError):
        url = urlsplit(address)
        port = DEFAULT_PORTS.get(url.scheme, SOCKS_PORT) if url.port is None else url.port
        if url.hostname and re.fullmatch(r"[^\s\\]+", url.hostname):
            return url, url.hostname, port
    return url, None, None


def _login(url: SplitResult) -> tuple[bytes, bytes] | None:
    if not url.username and not url.password:
        return None
    return unquote(url.username or "").encode(), unquote(url.password or "").encode()


def _without_login(address: str) -> str:
    """Without everything before the last `@`, which is right also for an address that cannot be parsed."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _variable(name: str, environment: Mapping[str, str]) -> str:
    """The spelling that counts: lower case decides, as in Python and curl."""
    spellings = [key for key in environment if key.lower() == name and environment[key]]
    return name if name in spellings else next(iter(spellings), name.upper())


def _is_exempt(host: str, port: int, *, no_proxy: str) -> bool:
    return any(_names(entry, host.lower(), port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _names(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `NO_PROXY` names the host."""
    if entry == "*":
        return True
    name = entry.rpartition("://")[2].lower()
    if with_port := re.fullmatch(r"(\[[^]]*\]|[^:]*):(\d+)", name):
        name, only_port = with_port.group(1), int(with_port.group(2))
        if only_port != port:
            return False
    name = name.removeprefix("[").removesuffix("]")
    if (address := _address(host)) is not None:
        with suppress(ValueError):
            return address in ip_network(name, strict=False)
        return False
    name = name.lstrip("*").strip(".")
    return bool(name) and (host.rstrip(".") == name or host.rstrip(".").endswith(f".{name}"))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
