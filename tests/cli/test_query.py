"""`dw query` in a pipe, on terminals of 80 and 200 columns, and as CSV and JSON."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

WIDE_QUERY = (
    "select id, name, 'a long text of a column that is wider than most' as text, id * 1000 + 0.25 as number"
    " from {table}"
)


@pytest.fixture
def synced(stripe) -> EmbeddedWarehouse:
    """The warehouse whose customers have been synced."""
    stripe.set_rows("Customer", [{"id": 1, "name": "Ada"}, {"id": 2, "name": "O'Brien"}, {"id": 3, "name": None}])
    stripe.sync("Customer")
    return stripe


def test_output_in_every_form(dw, synced) -> None:
    """Tab-separated in a pipe, CSV with names, JSON as the other commands have it; errors in one sentence."""
    query = ("query", "select id, name from {table} order by id", "--table", "stripe_acme.Customer")
    assert "1\tAda\n2\tO'Brien\n3\t\n" == dw(*query).out
    assert "id,name\n1,Ada\n2,O'Brien\n3,\n" == dw(*query, "--csv").out
    assert [{"id": 1, "name": "Ada"}, {"id": 2, "name": "O'Brien"}, {"id": 3, "name": None}] == dw(
        *query, "--json"
    ).rows
    by_key = dw("query", "select id, name from {t}", "--table", "t=Customer", "--key", "id", "--csv")
    assert "id,name\n1,Ada\n2,O'Brien\n3,\n" == by_key.out

    by_value = dw("query", "select id from {t} where name = {n}", "--table", "t=Customer", "--value", "n=O'Brien")
    assert "2\n" == by_value.out
    of_a_number = dw("query", "select id from {table} where id > {n}", "--table", "Customer", "--value", "n=2")
    assert "3\n" == of_a_number.out

    wrong = dw("query", "select nope from {table}", "--table", "Customer")
    assert (1, "") == (wrong.code, wrong.out)
    assert 'PostHog could not run the query: Binder Error: Referenced column "nope" not found' in wrong.err
    assert (2, True) == ((unnamed := dw("query", "select {n}")).code, "Nothing fills {n}" in unnamed.err)
    assert (2, True) == ((cut := dw("query", "select * from range(50001)")).code, "with --key to read all" in cut.err)
    assert 2 == dw("query", "select {n}", "--value", "n").code
    assert 2 == dw("query", "select 1", "--csv", "--json").code


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, [" 1  Ada      a long text of a column that is wider than most  1000.25"]),
        (
            40,
            [
                "row 1",
                "  number  1000.25",
                "  name    Ada",
                "  text    a long text of a column that is wider than most",
            ],
        ),
    ],
)
def test_a_terminal_shows_every_column(dw, synced, width, shown) -> None:
    """No column that was asked for is left out, and no value is cut or rounded: a narrow terminal has a line for each.

    Ids can be copied: there are no separators in them.
    """
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dw_orchestration", "query", WIDE_QUERY, "--table", "Customer"],
        env=os.environ | dw.environment | {"COLUMNS": str(width), "TERM": "xterm"},
        stdout=end,
        stderr=end,
    )
    os.close(end)
    text = b""
    try:
        while chunk := os.read(terminal, 65536):
            text += chunk
    except OSError:
        pass
    os.close(terminal)
    assert 0 == process.wait()
    lines = text.decode().replace("\r", "").splitlines()
    assert [] == [line for line in shown if not any(line in found for found in lines)], lines
    assert "3 rows." == lines[-1]
