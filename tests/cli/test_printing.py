"""How reports look on terminals of 80 and 200 columns, in a pipe, as names alone and as JSON."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from dw_orchestration.cli.app import app
from dw_orchestration.cli.printing import DEFAULT_FORM, Form, ago, print_error, print_report
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.operations.report import Report
from dw_orchestration.tables.errors import UsageError

ID = "0196f0de-5d0b-7a31-9d1c-3f2b7c1a9e55"
LONG_NAME = "postgres_production_eu.order_line_items"
REASON = "could not connect: " + "host db.internal is unreachable " * 8


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def report() -> Report:
    """Two tables, one of which failed."""
    moment = datetime.now(UTC) - timedelta(minutes=2, seconds=5)
    rows = [
        {"table": LONG_NAME, "rows_synced": 1234567, "at": moment, "status": "Completed", "error": None, "id": ID},
        {"table": "stripe_acme.Charge", "rows_synced": 5, "at": moment, "status": "Failed", "error": REASON, "id": ID},
    ]
    columns = ("table", "rows_synced", "at", "status", "error", "id")
    return Report(summary="2 tables.", rows=rows, columns=columns, dispensable=("id", "at"))


def shown(report: Report, *, width: int, monkeypatch: pytest.MonkeyPatch, form: Form = DEFAULT_FORM) -> str:
    """What a terminal of this width shows."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", Terminal())
    print_report(report, form=form)
    return re.sub(r"\x1b\[[\d;]*m", "", sys.stdout.getvalue())


@pytest.mark.parametrize("width", [30, 80, 120, 200])
def test_no_name_is_folded_or_cut(report, monkeypatch, width) -> None:
    """The name is whole on one line, even if it is wider than the terminal; nothing else is."""
    lines = shown(report, width=width, monkeypatch=monkeypatch).splitlines()

    assert any(line.strip().startswith(LONG_NAME) for line in lines)
    if width >= 80:
        assert max(map(len, lines)) <= width


def test_narrow_terminal_leaves_out_what_matters_least(report, monkeypatch) -> None:
    """The dispensable columns go first, and the last line says which, by the names that programs use."""
    narrow = shown(report, width=80, monkeypatch=monkeypatch)
    roomy = shown(report, width=200, monkeypatch=monkeypatch)

    assert (False, True) == (ID in narrow, ID in roomy)
    assert "2 tables. Not shown: id (--wide)." in " ".join(narrow.split())
    assert "Not shown" not in roomy
    assert "1,234,567" in narrow
    assert "rows_synced" in narrow


def test_times_are_relative_on_a_terminal(report, monkeypatch) -> None:
    """A person reads how long ago; `--wide` has the exact time."""
    assert "2 min ago" in shown(report, width=80, monkeypatch=monkeypatch)
    assert f"{datetime.now(UTC):%Y-%m-%d}" in shown(report, width=80, monkeypatch=monkeypatch, form=Form(wide=True))


def test_reasons_are_below_the_table(report, monkeypatch) -> None:
    """An error takes no room from the columns: it stands below, after the name of its table."""
    text = shown(report, width=80, monkeypatch=monkeypatch)

    table, below = text.split("stripe_acme.Charge: ")
    assert "could not connect" not in table
    assert " ".join(REASON.split()) in " ".join(below.split())


def test_pipe_has_a_line_a_row_for_programs(report, capsys) -> None:
    """Tabs, no rules, no separators in numbers, exact times; the summary is not among the lines."""
    print_report(report, form=Form())
    out, err = capsys.readouterr()

    first, second = (line.split("\t") for line in out.splitlines())
    assert (LONG_NAME, "1234567", "Completed", "", ID) == (first[0], first[1], *first[3:])
    assert datetime.fromisoformat(first[2]).tzinfo is not None
    assert REASON.strip() == second[4].strip()
    assert "2 tables.\n" == err


def test_names_alone(report, capsys) -> None:
    """`-q` prints what the next command takes."""
    print_report(report, form=Form(quiet=True))

    assert f"{LONG_NAME}\nstripe_acme.Charge\n" == capsys.readouterr().out


def test_document_has_the_error_and_its_class_apart(dw) -> None:
    """`error` is the message, `error_type` its class; both are there, and empty, where nothing failed."""
    bad, good = dw("tables", "Chrge", "--json"), dw("tables", "--json")

    document = json.loads(bad.out)
    assert ("UnknownNameError", True) == (document["error_type"], document["error"].startswith("No table is named"))
    assert (None, None) == (good.document["error_type"], good.document["error"])


def test_fields_by_name(dw) -> None:
    """A list has the fields that are asked for, in each form; a wrong name lists the right ones."""
    document = dw("tables", "--fields", "table,id", "--json").document
    wrong = dw("tables", "--fields", "nme")

    assert {("table", "id")} == {tuple(row) for row in document["rows"]}
    assert [row["id"] for row in document["rows"]] == dw("tables", "--fields", "id", "-q").out.split()
    assert 2 == wrong.code
    assert "There is no field 'nme'. There are table, id, source, asset_key, " in wrong.err


def test_jq(dw) -> None:
    """As in gh: texts are printed as they are, null as an empty line, all else as JSON, one a line."""
    ran = dw("tables", "--json", "--jq", ".rows[].table, .rows[0].error, .failed, {a: 1}")
    assert (0, ["stripe_acme.Charge", "stripe_acme.Customer", "", "false", '{"a": 1}']) == (
        ran.code,
        ran.out.splitlines(),
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--jq", "."], "--jq filters what --json prints"),
        (["--json", "--jq", ".rows["], "Invalid --jq '.rows[': syntax error"),
        (["--json", "--jq", ".summary[]"], "does not fit the document: Cannot iterate over string"),
    ],
)
def test_what_jq_refuses(dw, arguments: list[str], error: str) -> None:
    """It is one sentence of the error output, and nothing is printed for a program to read."""
    ran = dw("tables", *arguments)
    assert (2, "", True) == (ran.code, ran.out, error in ran.err)


def test_two_forms_are_refused(dw) -> None:
    """One form of output at a time."""
    ran = dw("tables", "--json", "-q")

    assert (2, True) == (ran.code, "give one of them" in ran.err)
    with pytest.raises(UsageError):
        Form(quiet=True, wide=True).check()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_399, "23 h ago"),
        (86_400, "1 d ago"),
        (90 * 86_400, "90 d ago"),
        (-3 * 3600, "in 3 h"),
    ],
)
def test_ago(seconds, text) -> None:
    """Whole units, rounded down."""
    now = datetime(2026, 11, 30, tzinfo=UTC)

    assert text == ago(now - timedelta(seconds=seconds), now=now)


def test_help_names_no_types_of_python() -> None:
    """A value is called by what it is, such as TABLE; choices are listed."""
    names = ["sync", "query", "cost", "logs", *(operation.command for operation in OPERATIONS)]

    helps = [CliRunner().invoke(app, [*name.split(), "--help"]).output for name in names]

    assert len(names) == sum("Options:" in text for text in helps)
    assert [] == re.findall(r"<(?:str|int|float|bool|list|Path)\b.*?>", " ".join(helps))


def test_terminal_has_the_columns_that_fit(report, monkeypatch) -> None:
    """A wide column that does not fit leaves its room to narrower ones."""
    rows = [{**row, "synced": "Thursdays at 12:34 UTC, and more" * 2} for row in report.rows]
    columns = ("table", "synced", "rows_synced", "status")

    text = shown(replace(report, rows=rows, columns=columns), width=60, monkeypatch=monkeypatch)

    assert ["table", "rows_synced"] == text.split("\n")[0].split()
    assert "Not shown: synced, status (--wide)" in " ".join(text.split())


def test_an_error_is_wrapped_between_words(monkeypatch) -> None:
    """A terminal breaks long lines anywhere; a name in an error stays whole."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", Terminal())

    print_error(UsageError("x"), f"No table is named {'nope ' * 8}. There are {LONG_NAME}, {LONG_NAME}.", form=Form())

    lines = sys.stderr.getvalue().splitlines()
    assert (True, 2) == (max(map(len, lines)) <= 60, sum(LONG_NAME in line for line in lines))


def test_a_record_is_wrapped_between_words(monkeypatch) -> None:
    """On a terminal a long text continues below itself; an id, or an address, stays whole."""
    row = {"table": LONG_NAME, "last_syncs": [f"2026-11-30 10:00:00 UTC · Failed · {ID}"], "error": REASON}
    record = Report(summary="It failed.", rows=[row], columns=list(row), is_record=True)

    lines = shown(record, width=60, monkeypatch=monkeypatch).splitlines()

    assert max(map(len, lines)) <= 60
    assert [1, 1] == [sum(word in line for line in lines) for word in (ID, LONG_NAME)]
    assert {" "} == {line[0] for line in lines[1:-1] if not line.startswith(("last_syncs", "error"))}
