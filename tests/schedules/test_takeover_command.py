"""The takeover on the command line."""

import pytest

from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.schedules.takeover_command import takeover_command


@pytest.fixture
def command(project, tmp_path):
    """Runs the command for the project; the exit status."""
    resource = PostHogWarehouseResource(
        host=project.endpoint.host, project_id="1", api_key=project.endpoint.api_key, requests_per_minute=0
    )
    return lambda *arguments: takeover_command(arguments, warehouse=resource, takeover_path=tmp_path / "takeover.json")


def test_plan_apply_and_give_back(command, project, capsys):
    """Without an option nothing changes; `--apply` moves the tables named, and `--give-back` restores them."""
    before = project.frequencies()

    assert 0 == command()
    planned = project.frequencies()
    assert 0 == command("--apply", "--tables", "stripe_a.*", "*_b.invoices")
    applied = project.frequencies()
    assert 0 == command("--give-back")

    assert before == planned
    assert {"a.customers": "30day", "a.invoices": "30day", "b.customers": "6hour", "b.invoices": "30day"} == applied
    assert before == project.frequencies()
    printed = capsys.readouterr().out
    assert "Nothing is changed yet. 4 tables would move" in printed
    assert "3 tables: 3 moved out of the way." in printed
    assert "3 tables: 3 given back." in printed


def test_mistyped_table_is_told_and_fails(command, capsys):
    """The text goes to the error output, without a traceback."""
    assert 1 == command("--apply", "--tables", "strype.*")
    assert "No table is named 'strype.*'. There are stripe_a.customers" in capsys.readouterr().err


def test_both_ways_at_once_are_refused(command):
    """A command that asks for both means neither."""
    with pytest.raises(SystemExit):
        command("--apply", "--give-back")
