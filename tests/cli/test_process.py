"""The command as a separate process: how it starts, and how it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from dw_orchestration.testing import never_ends


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "DW_"))}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=plain_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sync_is_cancelled_and_joined_ones_are_left(dw, stripe, wait_until, number) -> None:
    """Ctrl-C, and the end of a CI job, cancel what the command has started and nothing else."""
    for table in ("Charge", "Customer"):
        stripe.behave(table, never_ends())
    joined = stripe.start("Charge")
    process = dw.process("sync", "stripe_acme.*", "--poll-min-s", "0.1", "--json")
    lines: list[str] = []
    while sum("sync " in line for line in lines) < 2:
        assert process.poll() is None, "".join(lines)
        lines.append(process.stderr.readline())

    process.send_signal(number)
    out, err = process.communicate(timeout=120)

    rows = {row["table"]: row for row in json.loads(out)["rows"]}
    assert 130 == process.returncode, err
    assert ("left", "cancelled") == (rows["stripe_acme.Charge"]["outcome"], rows["stripe_acme.Customer"]["outcome"])
    assert ("Running", joined.id) == (stripe.jobs("Charge")[0].status, stripe.jobs("Charge")[0].id)
    assert "Failed" == stripe.jobs("Customer")[0].status
    assert "was running already, and is followed" in "".join(lines)


def test_command_starts_without_dagster_and_the_network() -> None:
    """A shell's completion and `--help` should not wait for either."""
    ran = python(
        "import sys; sys.argv = ['dw', '--help']\n"
        "from dw_orchestration.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, sorted({'dagster', 'httpx'} & set(sys.modules)))"
    )
    assert "0 []" == ran.stdout.splitlines()[-1]
    assert "Exit status: 0 done;" in " ".join(ran.stdout.split())


def test_command_without_its_extra_says_how_to_install_it() -> None:
    """One line, and the status of a wrong set-up."""
    ran = python("import sys; sys.modules['typer'] = None\nfrom dw_orchestration.cli import main; main()")
    assert (3, "The dw command needs the extra `cli`: pip install 'dw-orchestration[cli]'\n") == (
        ran.returncode,
        ran.stderr,
    )


def test_shell_completes_commands() -> None:
    """What typer's completion scripts ask of the program."""
    ran = python(
        "from dw_orchestration.cli import main; main()",
        _DW_COMPLETE="complete_bash",
        COMP_WORDS="dw delete-d",
        COMP_CWORD="1",
    )
    assert "delete-data" == ran.stdout.strip()
