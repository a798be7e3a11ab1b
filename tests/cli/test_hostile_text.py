"""Names and errors that a terminal would obey, and outputs that lack characters or readers."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hostile import hidden_in

from dw_orchestration.testing import fails

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _pytest.mark import ParameterSet

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

FAST = ("--poll-min-s", "0.1")
TITLE = "\x1b]0;owned\x07"
NAME = f"Evil{TITLE}\u202e\x9b2J\nstripe.Good: completed"
ERROR = f"{TITLE}cannot connect\r\x1b[2J\u2066 to Größe\x85!"


@pytest.fixture
def hostile(stripe) -> EmbeddedWarehouse:
    """A source with a table whose name and error hold what a terminal obeys."""
    stripe.add_source("Hubspot", tables={NAME: [{"id": 1}]})
    stripe.behave(NAME, fails(ERROR))
    return stripe


def test_people_see_escapes(dw, hostile) -> None:
    """Tables, progress lines, results and errors show hidden characters as escapes, and a name is in one line."""
    synced = dw("sync", *FAST, "hubspot.*")
    asked = [dw("tables"), dw("jobs"), dw("sync", "nothing"), dw("delete-data", "hubspot.*"), dw("set", "hubspot.*")]
    for ran in [synced, *asked]:
        # tabs stand between columns; those of a text are escaped, so that each line has as many
        assert [] == hidden_in(ran.out.replace("\t", "") + ran.err)
        assert len({line.count("\t") for line in ran.out.splitlines()}) <= 1
        assert not any(line.strip().startswith("stripe.Good") for line in (ran.out + ran.err).splitlines())
    assert 1 == synced.code
    assert r"Evil\x1b]0;owned\x07\u202e\x9b2J\nstripe.Good: completed failed: " in synced.err
    assert r"\x1b]0;owned\x07cannot connect\r\x1b[2J\u2066 to Größe\x85!" in synced.out
    assert r"hubspot.Evil\x1b]0;owned" in asked[0].out


def test_programs_get_the_text(dw, hostile) -> None:
    """JSON has every character of names and errors, and is ASCII on its way."""
    for ran in (dw("sync", *FAST, "hubspot.*", "--json"), dw("jobs", "hubspot.*", "--json")):
        assert ran.out.isascii()
        assert [] == hidden_in(ran.out)
        (row,) = ran.rows
        assert f"hubspot.{NAME}" == row["table"]
        assert ERROR in row["error"]
    assert NAME in dw("tables", "hubspot.*", "--json").rows[0]["table"]


def test_bars_on_a_terminal_show_escapes(dw, hostile) -> None:
    """On a real terminal, nothing of a name or an error is obeyed."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dw_orchestration", "sync", *FAST, "hubspot.*"],
        env=os.environ | dw.environment | {"TERM": "xterm"},
        cwd=dw.folder,
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    shown = b""
    # Linux answers EIO once the other end is closed
    while chunk := _read(terminal):
        shown += chunk
    os.close(terminal)
    assert 1 == process.wait(120)
    assert rb"Evil\x1b]0;owned" in shown
    assert [False] * 4 == [each.encode() in shown for each in (TITLE, "\x9b", "\u202e", "\x1b[2J")]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def ended(dw, command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of a command line in which `dw` is the command."""
    python = f"{sys.executable} -m dw_orchestration"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; dw() {{ {python} "$@"; }}; {command}'],
        env=os.environ | dw.environment | environment,
        cwd=dw.folder,
        capture_output=True,
        check=False,
        timeout=120,
    )


def some_of(cases: Mapping[str, object], *always: str) -> list[ParameterSet]:
    """The cases as parameters, of which some are always run."""
    marks = {name: [] if name in always else [pytest.mark.thorough] for name in cases}
    return [pytest.param(case, id=name, marks=marks[name]) for name, case in cases.items()]


ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "posix": {"LC_ALL": "POSIX"},
    "posix without UTF-8": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("environment", some_of(ENCODINGS, "cp1252", "posix without UTF-8"))
def test_any_encoding_shows_the_result(dw, stripe, environment) -> None:
    """What the output's encoding lacks is escaped, and the exit status is that of the sync."""
    stripe.add_source("Hubspot", tables={"Größe → 日本": [{"id": 1}], "bad": [{"id": 1}]})
    stripe.behave("bad", fails("über → 日本"))
    good = ended(dw, "dw sync --poll-min-s 0.1 'hubspot.G*'", **environment)
    bad = ended(dw, "dw sync --poll-min-s 0.1 hubspot.bad", **environment)
    is_utf8 = environment == ENCODINGS["posix"]
    assert (0, 1) == (good.returncode, bad.returncode), good.stderr + bad.stderr
    assert b"Traceback" not in good.stderr + bad.stderr
    assert ("→ 日本".encode() if is_utf8 else rb"\u2192 \u65e5\u672c") in good.stdout
    assert b"1 of 1 table synced in " in good.stderr
    assert b"0 of 1 table synced in " in bad.stderr


CLOSED = {
    "reader that leaves": "dw sync {} | true",
    "reader of both that leaves": "dw sync {} 2>&1 | true",
    "no output": "dw sync {} >&-",
    "neither": "dw sync {} >&- 2>&-",
}


@pytest.mark.parametrize("command", some_of(CLOSED, "reader that leaves", "neither"))
def test_an_output_that_is_closed_leaves_the_exit_status(dw, stripe, command) -> None:
    """A sync is followed to its end, and ends the command as it ended itself, although nobody reads about it."""
    stripe.behave("Charge", fails("Stripe is down"))
    good = ended(dw, command.format("--poll-min-s 0.1 Customer"))
    bad = ended(dw, command.format("--poll-min-s 0.1 Charge"))
    assert (0, 1) == (good.returncode, bad.returncode), good.stderr + bad.stderr
    assert b"Traceback" not in good.stderr + bad.stderr
    assert b"BrokenPipe" not in good.stderr + bad.stderr
    assert ["Completed", "Failed"] == [stripe.jobs(table)[0].status for table in ("Customer", "Charge")]
