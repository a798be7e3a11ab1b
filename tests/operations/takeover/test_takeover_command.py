"""The takeover on the command line: the same as the job."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dw_orchestration.cli.app import app


@pytest.fixture
def command(project, tmp_path) -> Callable[..., Result]:
    """Runs `dw takeover` for the project."""
    environment = {
        "POSTHOG_HOST": project.endpoint.host,
        "POSTHOG_PROJECT_ID": "1",
        "POSTHOG_PERSONAL_API_KEY": project.endpoint.api_key,
        "DW_ORCHESTRATION_HOME": str(tmp_path / "home_of_state"),
    }
    return lambda *arguments: CliRunner().invoke(app, ["takeover", *arguments], env=environment)


def test_plan_apply_and_give_back(command, project) -> None:
    """A dry run changes nothing; the named tables move, and `--restore` gives them back."""
    before = project.frequencies()

    plan = command("*", "--dry-run")
    planned = project.frequencies()
    apply = command("stripe_a.*", "*_b.invoices")
    applied = project.frequencies()
    restorable = command("*", "--restore", "--dry-run")
    still_applied = project.frequencies()
    give_back = command("*", "--restore")

    assert applied == still_applied
    assert "Dry run: 3 tables: 3 would be given back; nothing is changed." in restorable.stderr
    assert [0, 0, 0] == [result.exit_code for result in (plan, apply, give_back)]
    assert before == planned
    assert {"a.customers": "30day", "a.invoices": "30day", "b.customers": "6hour", "b.invoices": "30day"} == applied
    assert before == project.frequencies()
    assert "Dry run: nothing is changed. 4 tables would move" in plan.stderr
    assert "3 tables: 3 moved out of the way." in apply.stderr
    assert "3 tables: 3 given back." in give_back.stderr


def test_giving_nothing_back_fails(command) -> None:
    """The exit status says that nothing was given back."""
    result = command("*", "--restore")
    assert 1 == result.exit_code
    assert "Nothing was given back" in result.output


def test_programs_read_rows(command) -> None:
    """Each table is a row with the keys that the command promises."""
    document = json.loads(command("*", "--dry-run", "--json").stdout)
    assert (False, 4) == (document["failed"], len(document["rows"]))
    assert {"table", "now", "then", "next_own_sync", "rows_per_day", "why"} == document["rows"][0].keys()


def test_mistyped_table_is_told_and_fails(command) -> None:
    """The text goes to the error output, without a traceback; it is a wrong usage, as for every command."""
    result = command("strype.*")
    assert (2, "") == (result.exit_code, result.stdout)
    assert "No table matches 'strype.*'. There are stripe_a.customers" in result.stderr
