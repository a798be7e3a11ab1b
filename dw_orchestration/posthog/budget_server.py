"""The request budget of all machines that use a key, in PostgreSQL or Redis, through pyrate-limiter's own buckets.

The address contains a password, so no error, log or `repr` has it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from pyrate_limiter import AbstractBucket, PostgresBucket, Rate, RedisBucket
from pyrate_limiter.buckets.redis_bucket import LuaScript

from dw_orchestration.posthog.errors import SetupError

# A server that is silent for so long is taken to be down.
TIMEOUT_S = 5

# All settings end with the transaction: a pooler may give the connection to another client then. The bucket keeps local
# times, so each client has to use the same zone. Its own lock does not wait, so that many clients would spin.
_BEGIN = """
select set_config('timezone', 'UTC', true), set_config('lock_timeout', %(timeout)s, true),
  set_config('idle_in_transaction_session_timeout', %(timeout)s, true),
  pg_advisory_xact_lock(hashtextextended(%(name)s, 0))
"""
_CLOCK = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"


class BudgetServerError(Exception):
    """The server cannot be used at the moment. The text is without the address."""


class BudgetServer:
    """The server that counts the requests of all machines.

    Args:
        address: `postgresql://…`, `redis://…` or `rediss://…`.

    Raises:
        SetupError: The address is invalid, or its driver is not installed. The text is without the address.
    """

    def __init__(self, address: str) -> None:
        kind = _KINDS.get(address.partition("://")[0].strip().lower())
        if kind is None:
            raise SetupError(
                "The address of the request budget is invalid: use postgresql://…, redis://… or rediss://…, without a"
                " driver's name."
            )
        self._kind = kind
        self._address = address.strip()
        try:
            import_module(kind.driver)
        except ImportError:
            raise SetupError(
                f"A request budget in {kind.name} needs the extra `{kind.extra}`:"
                f" pip install 'dw-orchestration[{kind.extra}]'"
            ) from None
        try:
            kind.check(self._address)
        except Exception:  # noqa: BLE001  the library's error may quote the password
            problem = f"The address of the request budget is not a valid address of {kind.name}: check its parts."
        else:
            return
        raise SetupError(f"{problem} Special characters in the password must be percent-encoded.")

    def __repr__(self) -> str:
        return f"BudgetServer({self._kind.name})"

    @property
    def name(self) -> str:
        """What kind of server it is."""
        return self._kind.name

    def open(self, name: str, rates: list[Rate]) -> AbstractBucket:
        """The bucket of this name. Use it within `errors()`, as this call."""
        return self._kind.bucket(self._address, name, rates)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the driver's errors into one without the password.

        Raises:
            BudgetServerError: The block failed.
        """
        try:
            yield
        # The boundary to the drivers, whose errors are of many kinds.
        except Exception as exc:  # noqa: BLE001
            text = " ".join(f"{type(exc).__name__}: {exc}".split())
        else:
            return
        # Raised outside the handler: the driver's error, and its traceback, may contain the address.
        raise BudgetServerError(self._without_secrets(text))

    def _without_secrets(self, text: str) -> str:
        url = urlsplit(self._address)
        secrets = {url.password or "", *(value for name, value in parse_qsl(url.query) if "password" in name)}
        for secret in sorted({self._address, *secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        return text


# --- PostgreSQL ---


class _Connection:
    """One connection, in place of the pool that the bucket expects: opened when needed, and again if it broke."""

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        self.closed = False
        self._settings = settings
        self._values = {"name": name, "timeout": f"{TIMEOUT_S}s"}
        self._open: Any = None

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A transaction that no other client's overlaps."""
        with self.connected().transaction():
            self._open.execute(_BEGIN, self._values)
            yield self._open

    def connected(self) -> Any:
        """The connection, outside of a transaction."""
        import psycopg

        if self._open is None or self._open.closed:
            # poolers cannot keep prepared statements
            self._open = psycopg.connect(**self._settings, autocommit=True, prepare_threshold=None)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


class _PostgresBucket(PostgresBucket):
    def now(self) -> int:
        # The library's own clock is this machine's where the server's cannot be read.
        (now_ms,) = cast("_Connection", self.pool).connected().execute(_CLOCK).fetchone()
        return int(now_ms)


def _postgres_settings(address: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    timeouts = {
        "connect_timeout": TIMEOUT_S,
        "tcp_user_timeout": 1000 * TIMEOUT_S,
        "application_name": "dw_orchestration",
    }
    return {**timeouts, **conninfo_to_dict(address)}


def _postgres_bucket(address: str, name: str, rates: list[Rate]) -> AbstractBucket:
    # a pool of one
    pool = cast("Any", _Connection(_postgres_settings(address), name))
    return _PostgresBucket(pool, f"dw_{name}", rates)


# --- Redis ---

# Another client may have counted a request at a later millisecond than this one's, and counts too.
_PUT = re.sub(r"('ZCOUNT', bucket, [^)]*), now\)", r"\1, '+inf')", LuaScript.PUT_ITEM)


class _RedisBucket(RedisBucket):
    def now(self) -> int:
        # The library's own clock is this machine's.
        seconds, microseconds = cast("tuple[int, int]", self.redis.time())
        return 1000 * seconds + microseconds // 1000

    def close(self) -> None:
        self.redis.close()


def _redis(address: str) -> Any:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        address, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )


def _redis_bucket(address: str, name: str, rates: list[Rate]) -> AbstractBucket:
    redis = _redis(address)
    return _RedisBucket(rates, redis, f"dw_orchestration:{name}", redis.script_load(_PUT))


class _Kind(NamedTuple):
    name: str
    driver: str
    extra: str
    check: Callable[[str], object]
    bucket: Callable[[str, str, list[Rate]], AbstractBucket]


_POSTGRES = _Kind("PostgreSQL", "psycopg", "postgres", _postgres_settings, _postgres_bucket)
_REDIS = _Kind("Redis", "redis", "redis", _redis, _redis_bucket)
_KINDS = {"postgresql": _POSTGRES, "postgres": _POSTGRES, "redis": _REDIS, "rediss": _REDIS}
