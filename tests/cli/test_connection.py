"""The warehouse that the command connects to, and the error if it cannot."""

from __future__ import annotations

import pytest

from dw_orchestration.cli.connection import BUDGET_VARIABLE, Connection
from dw_orchestration.cli.output import Exit, exit_for
from dw_orchestration.errors import LocalWarehouseError, SetupError, SnapshotError
from dw_orchestration.posthog import errors, retries
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.testing import throttled
from dw_orchestration.version import __version__

NONE = {"POSTHOG_HOST": "", "POSTHOG_PROJECT_ID": "", "POSTHOG_PERSONAL_API_KEY": "", "DW_ORCHESTRATION_HOME": ""}


WRONG = [
    ([], NONE, 3, "No warehouse is named: set POSTHOG_PROJECT_ID and POSTHOG_PERSONAL_API_KEY"),
    ([], {"POSTHOG_PERSONAL_API_KEY": ""}, 3, "POSTHOG_PERSONAL_API_KEY (or --api-key) is not set."),
    ([], {"POSTHOG_PROJECT_ID": ""}, 3, "POSTHOG_PROJECT_ID (or --project-id) is not set."),
    (["--api-key", "phx_wrong"], {}, 3, "PostHog does not accept the API key"),
    (["--project-id", "4711"], {}, 3, "PostHog does not know the project"),
    (["--host", "https://us.i.posthog.com"], {}, 3, "only ingests events"),
    ([], {BUDGET_VARIABLE: "mysql://me:pw@host"}, 3, "The address of the request budget is invalid: use postgresql://"),
    (["--home", "here", "--project-id", "1"], {}, 2, "give one of the two"),
    (["--home", "/nowhere"], {}, 3, "There is no embedded warehouse in /nowhere. Name the folder"),
]


def test_wrong_set_up_is_one_sentence_with_its_exit_status(dw, elsewhere) -> None:
    """Scripts distinguish setup errors and wrong usage; people read what to set."""
    for arguments, environment, code, said in WRONG:
        ran = dw(*arguments, "sources", **environment)
        assert (code, "", 1) == (ran.code, ran.out, ran.err.count("\n")), arguments
        assert said in ran.err
        assert "pw@" not in ran.err


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> None:
    """A current folder without an embedded warehouse."""
    monkeypatch.chdir(tmp_path)


def test_busy_server_is_told_apart(dw, stripe) -> None:
    """Trying again later helps: the exit status shows that."""
    stripe.answer(throttled(60, retry_after_s=900))
    ran = dw("sources", "--json")
    stripe.reset()
    assert (4, "RateLimitedError") == (ran.code, ran.document["error_type"])
    assert "Try again in 900 s" in ran.err


def test_a_long_wait_is_reported(dw, stripe, monkeypatch) -> None:
    """A command that waits because PostHog asks for it prints why, and then its answer."""
    monkeypatch.setattr(retries, "LONG_PAUSE_S", 0.5)
    stripe.answer(throttled(1, retry_after_s=1))
    ran = dw("sources", "--json")
    assert (0, "") == (ran.code, ran.document["error"] or "")
    assert ran.err.startswith("Waiting 1 s before the request is repeated: PostHog's rate limit is reached")


def test_folder_of_an_embedded_warehouse(dw, stripe) -> None:
    """Named on the command line it comes before the environment's project; in the environment, after it."""
    asked = dw("--home", stripe.resource.home, "sources", "--json")
    found = dw("sources", "--json", **NONE | {"DW_ORCHESTRATION_HOME": stripe.resource.home})

    assert [0, 0] == [asked.code, found.code]
    assert ["stripe_acme"] == [row["source"] for row in asked.rows]
    assert asked.rows == found.rows


def test_version_needs_no_warehouse(dw) -> None:
    """It is printed with all other settings."""
    assert (0, f"dw-orchestration {__version__}\n") == ((ran := dw("--version", **NONE)).code, ran.out)


def test_connection_does_not_print_the_key() -> None:
    """It may be printed while debugging."""
    assert "phx_k" not in repr(Connection(project_id="1", api_key="phx_k"))


PROBLEM = errors.Problem(status=400, method="GET", path="/", host="h")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UsageError("x"), Exit.USAGE),
        (SetupError("x"), Exit.SET_UP),
        (LocalWarehouseError("x"), Exit.SET_UP),
        (SnapshotError("x"), Exit.SET_UP),
        (errors.MissingScopeError(PROBLEM), Exit.SET_UP),
        (errors.ReadOnlyError("x"), Exit.SET_UP),
        (errors.RateLimitedError(PROBLEM), Exit.UNREACHABLE),
        (errors.BudgetSpentError(60), Exit.UNREACHABLE),
        (errors.ServerError(PROBLEM), Exit.UNREACHABLE),
        (errors.LostAnswerError("x"), Exit.UNREACHABLE),
        (errors.BadRequestError(PROBLEM), Exit.FAILED),
        (errors.NotFoundError(PROBLEM), Exit.FAILED),
    ],
)
def test_every_error_has_its_exit_status(error, expected) -> None:
    """What a script does next depends on the kind of error alone."""
    assert expected is exit_for(error)
