"""Each verb on the command line: what it does, what it prints, and how it refuses."""

from __future__ import annotations

import json
import re

import pytest

from dw_orchestration.testing import fails, never_ends

FAST = ("--poll-min-s", "0.1")


def test_lists_are_for_people_and_for_programs(dw, stripe) -> None:
    """A table in words, or one JSON document whose keys are stable."""
    stripe.sync("Customer")

    assert "stripe_acme\tStripe\t2\t2\t" in dw("sources").out
    (source,) = dw("sources", "--json").rows
    assert ("stripe_acme", "Stripe", "acme", 2, 2) == tuple(
        source[key] for key in ("source", "type", "prefix", "tables", "enabled")
    )
    tables = dw("tables", "--json").document
    assert {"summary", "failed", "rows", "error", "error_type"} == tables.keys()
    assert [("stripe_acme.Charge", None), ("stripe_acme.Customer", 2)] == [
        (row["table"], row["rows"]) for row in tables["rows"]
    ]
    assert ["stripe_acme.Customer"] == [row["table"] for row in dw("tables", "acme.C*mer", "Customer", "--json").rows]
    (job,) = dw("jobs", "--json").rows
    assert ("stripe_acme.Customer", "Completed", 2) == (job["table"], job["status"], job["rows_synced"])
    assert [] == dw("jobs", "Charge", "--json").rows
    assert {"id", "name", "updated"} == {row["column"] for row in dw("fields", "Customer", "--json").rows}


def test_unknown_table_is_a_usage_error_with_the_nearest(dw) -> None:
    """The sentence goes to the error output; programs find it in the document too."""
    ran = dw("tables", "Chrge", "--json")
    assert (2, "No table is named 'Chrge'. Did you mean stripe_acme.Charge?\n") == (ran.code, ran.err)
    assert ("UnknownNameError", True, []) == (ran.document["error_type"], ran.document["failed"], ran.rows)


def test_settings_are_shown_and_then_set(dw, everything, stripe) -> None:
    """With `--dry-run` nothing changes; without it, the table is so."""
    before = everything()

    planned = dw(
        "set", "--sync-frequency", "1hour", "--sync-time-of-day", "03:00", "acme.Charge", "--dry-run", "--json"
    )
    unchanged = everything()
    done = dw("set", "--sync-frequency", "1hour", "--sync-time-of-day", "03:00", "acme.Charge", "--json")

    assert before == unchanged
    assert [("sync_frequency", "6hour", "1hour"), ("sync_time_of_day", None, "03:00:00")] == [
        (row["setting"], row["before"], row["after"]) for row in planned.rows
    ]
    assert ["changed", "changed"] == [row["result"] for row in done.rows]
    assert "1hour" == stripe.schema("Charge").sync_frequency


REFUSALS = [
    (["set", "Charge"], "Nothing to change: give at least one of sync_frequency"),
    (["set", "Charge", "--sync-frequency", "2hours"], "'2hours' is not one of"),
    (["set", "Charge", "--sync-type", "append"], "A sync_type of append needs an incremental_field."),
    (
        ["delete-data", "*"],
        "repeat the names to confirm it; missing: stripe_acme.Charge, stripe_acme.Customer. Add: --confirm stripe_",
    ),
    (["source", "delete", "acme"], "repeat its name to confirm it: stripe_acme. Add: --confirm stripe_acme\n"),
    (["source", "update", "acme"], "Nothing to change"),
    (["sync", "Charge", "--resync"], "missing: stripe_acme.Charge."),
    (["sync", "Charge", "--confirm", "Charge"], "--confirm is only for --resync"),
    (["sync", "strype.*"], "No table matches 'strype.*'. There are stripe_acme.Charge, stripe_acme.Customer."),
    (["cancel", "Charge", "nothing"], "No table is named 'nothing'."),
    (["takeover"], "Missing argument 'TABLE'"),
    (["enable", "Charge", "nothing"], "No table is named 'nothing'."),
    (["refresh", "nothing"], "No source is named 'nothing'. There are stripe_acme."),
    (["fields", "acme.Chargge"], "Did you mean stripe_acme.Charge"),
    (["webhook", "create", "stripe_acne"], "Did you mean stripe_acme?"),
]


def test_refusals_are_usage_errors_and_change_nothing(dw, everything) -> None:
    """What cannot be done as it was asked for ends with 2, one sentence, and nothing done."""
    before = everything()
    for arguments, said in REFUSALS:
        ran = dw(*arguments)
        assert (2, "") == (ran.code, ran.out), arguments
        assert said in ran.err, arguments
    assert before == everything()


def test_tables_are_switched(dw, stripe) -> None:
    """Off and on again, by pattern."""
    assert 0 == dw("disable", "stripe_acme.*").code
    assert [False, False] == [stripe.schema(name).should_sync for name in ("Charge", "Customer")]
    assert ["changed"] == [row["result"] for row in dw("enable", "Charge", "--json").rows]
    assert stripe.schema("Charge").should_sync


def test_data_is_deleted_with_the_names(dw, stripe) -> None:
    """The rows are gone, and their number is reported."""
    stripe.sync("Customer")
    ran = dw("delete-data", "Customer", "--confirm", "acme.Customer")
    assert (0, []) == (ran.code, stripe.rows("Customer"))
    assert "2 rows of 1 table deleted." in ran.err


def test_sync_follows_the_tables_to_their_end(dw, stripe) -> None:
    """Lines on the error output as it goes, the result at the end; a resync takes the names again."""
    ran = dw("sync", *FAST, "stripe_acme.*", "--json")
    again = dw("sync", *FAST, "Charge", "--resync", "--confirm", "Charge")

    assert 0 == ran.code
    assert re.fullmatch(r"2 of 2 tables synced in \d+ s\.", ran.document["summary"])
    assert [("stripe_acme.Charge", "completed", 3, True), ("stripe_acme.Customer", "completed", 2, True)] == [
        (row["table"], row["outcome"], row["rows_synced"], row["started"]) for row in ran.rows
    ]
    assert "stripe_acme.Customer: completed, 2 rows." in ran.err
    assert (0, 2) == (again.code, len(stripe.jobs("Charge")))


def test_failed_sync_fails_the_command_and_not_the_others(dw, stripe) -> None:
    """The table's error is PostHog's own, once, as it fails; the other table is synced anyway."""
    stripe.behave("Charge", fails("Stripe is down"))

    ran = dw("sync", *FAST, "*", "--json")

    assert (1, True) == (ran.code, ran.document["summary"].startswith("1 of 2 tables synced in "))
    assert ["failed", "completed"] == [row["outcome"] for row in ran.rows]
    assert "Stripe is down" in ran.rows[0]["error"]
    (line,) = [line for line in ran.err.splitlines() if "Stripe is down" in line]
    assert 1 == line.count("stripe_acme.Charge")


def test_logs_of_a_sync_show_why_it_failed(dw, stripe) -> None:
    """The newest sync of a table, or the one that is named; only some levels; and while it runs until it has ended."""
    stripe.sync("Customer")
    (good,) = dw("jobs", "Customer", "--json").rows
    stripe.behave("Customer", fails("no such relation"))
    assert 1 == dw("sync", "Customer", *FAST).code

    document = dw("logs", "Customer", "--level", "error", "--json").document
    (error,) = document["rows"]

    assert "no such relation" in error["message"]
    assert [] == dw("logs", "Customer", "--job", good["id"], "--level", "error", "--json").rows
    assert error["message"] in dw("logs", "Customer").out
    followed = dw("logs", "Customer", "--follow").out.splitlines()
    assert [error["message"]] == [line.split(" ERROR ")[1] for line in followed if " ERROR " in line]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Charge"], "stripe_acme.Charge has never been synced"),
        (["Customer", "--level", "loud"], "Invalid level 'loud': choose debug, info, warn, error."),
        (["Customer", "--job", "other"], "do not include 'other': `dw jobs stripe_acme.Customer` lists them."),
        (["Customer", "--follow", "--json"], "choose one"),
    ],
)
def test_logs_that_cannot_be_shown_are_told(dw, stripe, arguments, said) -> None:
    """What was typed wrongly, or is not there, is one sentence that says what to do."""
    stripe.sync("Customer")

    ran = dw("logs", *arguments)

    assert (2, True) == (ran.code, said in ran.err), ran.err


def test_sync_that_is_not_awaited_ends_as_submitted(dw, stripe) -> None:
    """`--no-wait` claims no success, and leaves the sync running."""
    stripe.behave("Charge", never_ends())
    ran = dw("sync", *FAST, "Charge", "--no-wait", "--json")
    assert (0, "submitted") == (ran.code, ran.rows[0]["outcome"])
    assert "1 sync started, of 1 table: PostHog continues." == ran.document["summary"]
    assert "Running" == stripe.jobs("Charge")[0].status
    assert "stripe_acme.Charge" in dw("cancel", "Charge").out
    assert "Failed" == stripe.jobs("Charge")[0].status


def test_bars_on_a_terminal(dw, stripe) -> None:
    """People at a terminal see one line for all, and the reason of each failure, on the error output."""
    stripe.behave("Charge", fails("Stripe is down"))

    ran = dw("sync", *FAST, "*", "--json", FORCE_COLOR="1", TERM="xterm")

    assert "1 done, 0 running, 1 failed, 2 rows" in ran.err
    assert 1 == sum("stripe_acme.Charge" in line and "Stripe is down" in line for line in ran.err.splitlines())
    assert ["failed", "completed"] == [row["outcome"] for row in ran.rows]


def test_source_from_a_file_and_from_standard_input(dw, stripe, tmp_path) -> None:
    """Secrets are named by their variables, or are in the file; no output has them."""
    payload = {"stripe_secret_key": {"env": "STRIPE_KEY"}, "schemas": [{"name": "Charge", "sync_type": "full_refresh"}]}
    (tmp_path / "new.json").write_text(json.dumps(payload))

    made = dw(
        "source", "create", "Stripe", "--payload", str(tmp_path / "new.json"), "--prefix", "two", STRIPE_KEY="sk_env"
    )
    changed = dw("source", "update", "two", "--job-inputs", "-", stdin='{"stripe_secret_key": "sk_typed"}')
    unset = dw("source", "update", "two", "--job-inputs", str(tmp_path / "new.json"))
    refreshed = dw("refresh", "two")
    gone = dw("source", "delete", "two", "--confirm", "stripe_two")

    assert [0, 0, 2, 0, 0] == [ran.code for ran in (made, changed, unset, refreshed, gone)]
    assert "stripe_two.Charge" in made.out
    assert "stripe_two: stripe_secret_key changed." in changed.err
    assert "stripe_secret_key asks for the environment variable STRIPE_KEY, which is not set" in unset.err
    printed = "".join(ran.out + ran.err for ran in (made, changed, unset, refreshed, gone))
    assert not any(secret in printed for secret in ("sk_env", "sk_typed"))
    assert ["acme"] == [source.prefix for source in stripe.client.list_sources()]


def test_secret_that_the_server_quotes_is_hidden(dw, postgres_server) -> None:
    """A database that refuses quotes what it was given: the variable's name is in its place."""
    payload = {
        "host": postgres_server.host,
        "port": postgres_server.port,
        "user": postgres_server.user,
        "password": postgres_server.password,
        "database": {"env": "SHOP"},
    }

    ran = dw(
        "source", "create", "Postgres", "--payload", "-", "--json", stdin=json.dumps(payload), SHOP="nobody_may_know"
    )

    assert 1 == ran.code
    assert "has no database '[SHOP]'" in ran.document["summary"]
    assert not any(secret in ran.out + ran.err for secret in ("nobody_may_know", postgres_server.password))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "{path} is not JSON, line 1."),
        ("[]", "{path} is not a JSON object."),
        (None, "Cannot read {path}: No such file"),
    ],
)
def test_payload_that_cannot_be_read_is_told(dw, tmp_path, content, said) -> None:
    """The position of the error is reported, not the value."""
    path = tmp_path / "payload.json"
    if content is not None:
        path.write_text(content)
    ran = dw("source", "create", "Stripe", "--payload", str(path))
    assert 2 == ran.code
    assert said.format(path=path) in ran.err


def test_webhook_of_a_source_without_one(dw) -> None:
    """Looking is fine; what PostHog refuses fails with its own words."""
    assert [False] == [row["exists"] for row in dw("webhook", "show", "acme", "--json").rows]
    made, gone = dw("webhook", "create", "acme"), dw("webhook", "delete", "acme")
    assert [1, 1] == [made.code, gone.code]
    assert "This source type does not support webhooks" in made.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "*"],
        ["sync", "Charge", "--resync"],
        ["cancel", "*"],
        ["enable", "Charge"],
        ["disable", "*"],
        ["set", "*", "--sync-frequency", "1hour"],
        ["delete-data", "*"],
        ["delete-table", "Charge"],
        ["source", "delete", "acme"],
    ],
    ids=" ".join,
)
def test_everything_that_changes_tables_has_a_dry_run(dw, stripe, everything, arguments) -> None:
    """A dry run needs no confirmation, and changes nothing."""
    stripe.sync("Customer")
    before = everything()

    ran = dw(*arguments, "--dry-run", "--json")

    assert (0, True) == (ran.code, ran.document["summary"].startswith("Dry run: ")), ran.err
    assert before == everything()


def test_many_tables_are_asked_for(dw, stripe, everything) -> None:
    """What goes to more than ten tables needs a yes; elsewhere than on a terminal, `--yes` gives it."""
    stripe.add_source("Hubspot", tables={f"t{number}": [{"id": 1}] for number in range(11)})
    before = everything()

    refused = [dw("disable", "hubspot.*"), dw("sync", *FAST, "hubspot.*")]
    unchanged = everything()
    done = dw("disable", "hubspot.*", "--yes", "--json")

    assert {2} == {ran.code for ran in refused}
    assert "dw disable would go to 11 tables. Add --yes" in refused[0].err
    assert before == unchanged
    assert (0, 11) == (done.code, len(done.rows))


def test_shell_completes_names(dw, stripe) -> None:
    """Tab offers tables and sources; without a warehouse it offers nothing, and no error."""

    def offered(words: str, **environment: str) -> str:
        completing = {"_DW_COMPLETE": "complete_bash", "COMP_WORDS": f"dw {words}", "COMP_CWORD": "2"}
        return dw(**(completing | environment)).out

    assert ["stripe_acme.Charge", "stripe_acme.Customer"] == offered("sync stripe").split()
    assert ["stripe_acme"] == offered("refresh str").split()
    assert "" == offered("sync stripe", POSTHOG_HOST="http://127.0.0.1:1").strip()
