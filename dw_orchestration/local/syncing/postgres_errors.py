"""Postgres failures in one line for people, without the password."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dw_orchestration.local.syncing.models import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFUSED_LOGIN = re.compile(
    r"password authentication failed|no password supplied|role .* (does not exist|is not permitted)"
    r"|Wrong password|no pg_hba.conf entry",
)
_UNKNOWN_HOST = re.compile(r"resolve host|translate host name|Name or service not known|getaddrinfo")
_UNREACHABLE = re.compile(r"refused|timeout|timed out|unreachable|No route")


def connection_error(exc: Exception, *, parts: Mapping[str, object]) -> SourceError:
    """Return what a failed login or catalog query means."""
    text = str(exc)
    place = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
    if _REFUSED_LOGIN.search(text):
        return SourceError(
            f"Postgres at {place} refused the login of user {parts.get('user')!r}. Check user and password."
        )
    if re.search(r"database .* does not exist", text):
        return SourceError(f"Postgres at {place} has no database {parts.get('dbname')!r}. Correct `database`.")
    if _UNKNOWN_HOST.search(text):
        return SourceError(f"The host name {parts.get('host')!r} cannot be resolved. Correct `host`.")
    if _UNREACHABLE.search(text):
        return SourceError(
            f"No Postgres answers at {place}. Check host, port and firewall, and that the server is up.",
            permanent=False,
        )
    line = _first_line(text, secret=str(parts.get("password") or ""))
    return SourceError(f"Postgres at {place} cannot be used: {line}", permanent=False)


def reading_error(exc: Exception, *, table: str) -> SourceError:
    """Return what a failure while a table was read means."""
    text = str(exc)
    if "permission denied" in text:
        return SourceError(f"The user may not read table {table!r}. Grant SELECT on it to the source's user.")
    line = _first_line(text, secret="")
    return SourceError(f"Reading table {table!r} failed: {line}", permanent=False)


def _first_line(text: str, *, secret: str) -> str:
    """Return the server's own sentence out of a driver's message."""
    found = re.search(r"(?:ERROR|FATAL):\s+(.*)", text)
    lines = text.strip().splitlines() or ["unknown error"]
    line = found.group(1) if found else lines[0]
    return line.replace(secret, "***") if secret else line
