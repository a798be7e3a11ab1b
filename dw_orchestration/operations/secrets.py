"""Values that are named and looked up, so that none of them is written down, logged or shown.

Where a connection's fields hold a secret, `{"env": "DB_PASSWORD"}` names a variable in the
environment of the process that uses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ENV = "env"
# with dashes and capitals made to underscores; a list of names would miss those of other sources
_SECRET_NAME = re.compile(
    r"(?<![a-z])pass(?![a-z])|pass(word|wd|phrase|code)|pwd|secret|token|credential|authorization|bearer|cookie|jwt"
    r"|(^|_)(pat|sas|pin|dsn)$|connection_?string|service_?account|key_?file|api_?key|(^|_)key$"
)
# `token_uri` and `access_key_id` are none, nor is what is made to be known
_OPEN_NAME = re.compile(
    r"(^|_)(ur[il]|type|method|selection|enabled|name|username|user|email|id|host|port)$"
    r"|(^|_)(public|primary|foreign|partition|sort|unique|cursor)_key$"
)
# wherever they are: scheme://user:secret@host, password=secret, a header, a key that shows what it is
_SECRET_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@|(?i:password|passwd|pwd|secret|token|api_?key|sig)=[^&;\s]+"
    r"|\b(?i:bearer|basic)\s+[\w.~+/=-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{8,}\.eyJ"
    r"|\b([srp]k|whsec)_(live_|test_)?\w{12,}|\b(gh[opsu]|phx|shpat|glpat|xox[abprs])[_-][\w-]{8,}|\bAIza[\w-]{20,}"
)
# The tables' settings: their keys and fields are names of columns.
_TABLES = "schemas"


@dataclass(frozen=True)
class Resolved:
    """Values with their secrets, which `hidden` keeps out of every text.

    Attributes:
        values: The fields, as PostHog is to get them.
    """

    values: Mapping[str, object] = field(repr=False)
    _secrets: Mapping[str, str] = field(repr=False)

    def hidden(self, text: str) -> str:
        """The text without any of the secrets: a server or a database may quote what it was given."""
        # the longest first: one may hold another one
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, f"[{self._secrets[secret]}]")
        return text


@dataclass
class Secrets:
    """The secrets that one run or call has looked up, to be kept out of its output."""

    known: list[Resolved] = field(default_factory=list)

    def values(
        self,
        named: Mapping[str, object],
        *,
        lookup: Callable[[str], str | None],
        allow_written_out: bool = False,
    ) -> dict[str, object]:
        """As `resolved`, and remember the secrets.

        Raises:
            UsageError: A variable is not set, or a secret is written out.
        """
        self.known.append(resolved(named, lookup=lookup, allow_written_out=allow_written_out))
        return dict(self.known[-1].values)

    def hidden(self, text: str) -> str:
        """The text without any of them."""
        for each in self.known:
            text = each.hidden(text)
        return text


def resolved(
    values: Mapping[str, object], *, lookup: Callable[[str], str | None], allow_written_out: bool = False
) -> Resolved:
    """Put the variables' values in their places.

    Args:
        values: The fields of a connection, nested as PostHog has them.
        lookup: The value of an environment variable.
        allow_written_out: Whether `values` may contain secrets: in a file of the user's own, and never in
            what Dagster keeps.

    Raises:
        UsageError: A variable is not set, or a secret is written out.
    """
    secrets: dict[str, str] = {}
    found = _Looking(lookup=lookup, allow_written_out=allow_written_out, secrets=secrets).fields(values, path="")
    return Resolved(found, secrets)


def refuse_written_out(values: Mapping[str, object]) -> None:
    """Check the fields of a connection that Dagster is about to store.

    Raises:
        UsageError: A secret is written out.
    """
    # no value is looked up, as this may happen where the variables are not set
    resolved(values, lookup=str)


def names_of(values: Mapping[str, object]) -> list[str]:
    """The names of the fields, which are all that may be shown of them."""
    return list(_paths(values, ""))


@dataclass(frozen=True)
class _Looking:
    lookup: Callable[[str], str | None]
    allow_written_out: bool
    secrets: dict[str, str]

    def fields(self, values: Mapping[str, object], *, path: str, is_open: bool = False) -> dict[str, object]:
        return {
            name: self.value(value, path=f"{path}{name}", is_open=is_open or f"{path}{name}" == _TABLES)
            for name, value in values.items()
        }

    def value(self, value: object, *, path: str, is_open: bool) -> object:
        if isinstance(value, dict) and set(value) == {ENV}:
            return self.variable(str(value[ENV]), path=path)
        if isinstance(value, dict):
            return self.fields(value, path=f"{path}.", is_open=is_open)
        if isinstance(value, list):
            return [self.value(each, path=path, is_open=is_open) for each in value]
        if not is_open and _is_secret(value, path=path):
            self.keep(str(value), path=path)
        return value

    def variable(self, name: str, *, path: str) -> str:
        found = self.lookup(name)
        if not found:
            raise UsageError(f"{path} asks for the environment variable {name}, which is not set where this runs.")
        self.remember(found, called=name)
        return found

    def keep(self, value: str, *, path: str) -> None:
        if not self.allow_written_out:
            raise UsageError(
                f"{path} is written out, and Dagster stores the configuration of runs: name an environment variable"
                f' instead, {{"env": "NAME"}}, and delete the value from the launchpad, which your browser remembers.'
            )
        self.remember(value, called=path)

    def remember(self, secret: str, *, called: str) -> None:
        # PostHog strips texts, and people's files end in line breaks
        for text in {secret, secret.strip()} - {""}:
            self.secrets.setdefault(text, called)


def _is_secret(value: object, *, path: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return False
    if isinstance(value, str) and _SECRET_VALUE.search(value):
        return True
    # a secret may also be a mapping, such as the key of a service account
    names = [_snake(name) for name in path.split(".")]
    return not _OPEN_NAME.search(names[-1]) and any(
        _SECRET_NAME.search(name) and not _OPEN_NAME.search(name) for name in names
    )


def _snake(name: str) -> str:
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower()


def _paths(values: Mapping[str, object], path: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value and set(value) != {ENV}:
            yield from _paths(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"
