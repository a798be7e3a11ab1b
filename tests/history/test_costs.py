"""The views of the history, and `dw cost`, which reads them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from typer.testing import CliRunner

from dw_orchestration.cli.app import app
from dw_orchestration.history.costs import Costs
from tests.history.test_report import DAY, POSTGRES, STRIPE, job

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from click.testing import Result

    from dw_orchestration.history.store import HistoryStore

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "costs.md").read_text()


@pytest.fixture
def filled(history: HistoryStore, now: datetime) -> str:
    """A history of 31 days, of which only two syncs say whether they are billed; its file."""
    history.save(
        STRIPE,
        [
            *(job("invoices", created_at=now - n * DAY, rows=100) for n in range(1, 32)),
            job("invoices", created_at=now - DAY, rows=500, status="Failed"),
            job("invoices", created_at=now - DAY, rows=7000, billable=False),
        ],
        read_at=now,
    )
    history.save(POSTGRES, [job("users", created_at=now - 2 * DAY, rows=1000, billable=True)], read_at=now)
    return str(history.duckdb.database)


def ask(path: str, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_billable_is_true_where_the_server_does_not_say(filled: str) -> None:
    """PostHog bills every sync that is not marked otherwise, so `where billable` finds them all."""
    assert [(31 * 100 + 500 + 1000,)] == ask(filled, "select sum(rows_synced) from sync_history where billable")


def test_rows_per_day(filled: str) -> None:
    """A row for each table and day, with what was billed, what failed, and what was not billed."""
    sql = """
        select table_name, syncs, failures, rows_synced, rows_billed, rows_billed_of_failures from rows_per_day
        order by day desc, table_name limit 3
    """
    assert [("invoices", 3, 1, 7600, 600, 500), ("invoices", 1, 0, 100, 100, 0), ("users", 1, 0, 1000, 1000, 0)] == ask(
        filled, sql
    )


def test_top_tables(filled: str) -> None:
    """Thirty days up to the last reading, the table with the most rows first."""
    found = ask(filled, "select table_name, rows_billed, round(share, 2) from top_tables")
    assert [("invoices", 29 * 100 + 500, 0.77), ("users", 1000, 0.23)] == found


@pytest.mark.parametrize("query", sorted(DOCS.glob("snippets/cost_*.sql")), ids=lambda path: path.stem)
def test_questions_of_the_page_have_an_answer(filled: str, query: Path) -> None:
    """Each query on the page runs, and finds something."""
    assert query.name in PAGE
    assert ask(filled, query.read_text())


@pytest.mark.parametrize("name", ["sync_history", "rows_per_day", "top_tables"])
def test_the_page_lists_each_column(filled: str, name: str) -> None:
    """With its type."""
    table = re.search(rf"`{name}` has a row.*?\n\n(\| column.*?)\n\n", PAGE + "\n\n", flags=re.DOTALL)
    assert table is not None
    lines = [line.split(" | ") for line in table[1].splitlines()[2:]]
    shown = {column: kind.strip("`") for names, kind, _ in lines for column in re.findall(r"`(\w+)`", names)}
    assert shown == {column: kind for column, kind, *_ in ask(filled, f"describe {name}")}


def test_costs_by_table(filled: str) -> None:
    """Rows, shares and prices to the cent, the days that they are of, and what of it was for nothing."""
    report = Costs(filled, timedelta(days=30), price_per_million=10_000).report()
    assert [("stripe_main.invoices", 3400, "77.3%", 34.0), ("postgres.users", 1000, "22.7%", 10.0)] == [
        (row["table"], row["rows"], row["share"], row["cost"]) for row in report.plain_rows()
    ]
    assert ["34.00", "10.00"] == [cells[report.columns.index("cost")] for cells in report.cells()]
    assert (
        "4,400 rows for 44.00 in 30 days (2026-10-05 to 2026-11-03), 146 a day;"
        " 500 for 5.00 of them in syncs that failed." == report.summary
    )


def test_costs_by_day_and_source(filled: str) -> None:
    """The same rows, in other groups."""
    by_day = Costs(filled, timedelta(days=3), by="day").report().rows
    by_source = Costs(filled, timedelta(days=3), by="source").report().rows
    assert [("2026-11-01", 1100), ("2026-11-02", 600)] == [(row["day"], row["rows"]) for row in by_day]
    assert [("postgres", 1000), ("stripe_main", 700)] == [(row["source"], row["rows"]) for row in by_source]


@pytest.mark.parametrize("arguments", [["--since", "30"], ["--since", "month"]])
def test_an_invalid_span_is_refused(arguments: list[str], filled: str) -> None:
    """With an example of a valid one."""
    result = CliRunner().invoke(app, ["cost", "--history", filled, *arguments])
    assert (2, True) == (result.exit_code, "such as 30d or 4w" in result.stderr)


def test_the_command_reads_the_file_of_the_code_location(filled: str, tmp_path: Path) -> None:
    """Without an option, it is the history of the default code location; without a file, the error says what to do."""
    home = Path(filled).parent / "home"
    home.mkdir()
    result = CliRunner().invoke(app, ["--home", str(home), "cost"])
    assert (3, True) == (result.exit_code, "set `history_database` on your component" in result.stderr)
    Path(filled).rename(home / "sync_history.duckdb")
    result = CliRunner().invoke(app, ["--home", str(home), "cost", "--quiet"])
    assert (0, ["stripe_main.invoices", "postgres.users"]) == (result.exit_code, result.stdout.splitlines())


DEFS = """
type: our_project.OurWarehouse
attributes:
  warehouse: {home: here}
  history_database: "%s"
---
type: dagster.TimeWindowPartitionsDefinitionComponent
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `dw cost` in a folder of a `dg` project whose components have these histories."""
    root = tmp_path / "our-project"

    def cost(*histories: str, **variables: str) -> Result:
        (root / "src").mkdir(parents=True, exist_ok=True)
        for number, database in enumerate(histories):
            file = root / f"src/our_project/defs/warehouse_{number}/defs.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(DEFS % database)
        (root / "pyproject.toml").write_text("[tool.dg]\ndirectory_type = 'project'\n")
        monkeypatch.chdir(root / "src")
        return CliRunner().invoke(app, ["cost"], env=variables)

    return cost


@pytest.mark.parametrize("written", ["../history.duckdb", "{{ env.HISTORY }}", "{{ project_root }}/../history.duckdb"])
def test_the_command_reads_the_history_of_the_project(
    written: str, filled: str, project: Callable[..., Result]
) -> None:
    """From each of its folders, with the templates of the file filled in; it states below the rows which one it is."""
    result = project(written, HISTORY=filled)
    assert (0, ["stripe_main.invoices", "postgres.users"]) == (
        result.exit_code,
        [line.split("\t")[0] for line in result.stdout.splitlines()],
    )
    assert re.search(r"Read from \S*history.duckdb.$", result.stderr.strip())


def test_histories_of_a_project_that_the_command_cannot_choose_from(
    filled: str, project: Callable[..., Result]
) -> None:
    """Of several, it reads none; an address with a password is neither read nor shown."""
    several = project("one.duckdb", "two.duckdb")
    assert (2, True) == (several.exit_code, "src/our_project/defs/warehouse_1/defs.yaml" in several.stderr)
    secret = project("md:x?motherduck_token=abc", "md:x?motherduck_token=abc")
    assert (3, False) == (secret.exit_code, "abc" in secret.stderr)
    unset = project("{{ env.NOT_SET }}", "{{ env.NOT_SET }}")
    assert (2, True) == (unset.exit_code, "--history" in unset.stderr)


def test_without_a_history_the_command_states_what_to_do(project: Callable[..., Result]) -> None:
    """The project names none, and there is no default code location; or it names one that nothing has written yet."""
    result = project()
    assert (3, True) == (result.exit_code, "set `history_database` on your component" in result.stderr)
    result = project("none_yet.duckdb")
    assert (3, True) == (result.exit_code, "materialize the asset, or" in result.stderr)
