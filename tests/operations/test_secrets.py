"""Secrets are named, looked up where they are used, and shown nowhere."""

from __future__ import annotations

import pytest

from dw_orchestration.operations.report import Report
from dw_orchestration.operations.secrets import names_of, resolved
from dw_orchestration.tables.errors import UsageError

ENVIRONMENT = {"DB_PASSWORD": "s3cr3t", "LONGER": "s3cr3t-and-more\n", "EMPTY": ""}


def leaves(fields) -> list[str]:
    """The values in nested mappings, as text."""
    return [text for each in fields.values() for text in (leaves(each) if isinstance(each, dict) else [str(each)])]


def test_variables_stand_for_their_values_wherever_they_are() -> None:
    """In objects and lists, and next to values that are not secrets."""
    found = resolved(
        {
            "host": "db",
            "auth": {"selection": "password", "password": {"env": "DB_PASSWORD"}},
            "all": [{"env": "LONGER"}],
        },
        lookup=ENVIRONMENT.get,
    )
    assert {
        "host": "db",
        "auth": {"selection": "password", "password": "s3cr3t"},
        "all": ["s3cr3t-and-more\n"],
    } == found.values


def test_values_are_hidden_in_texts_and_in_the_object_itself() -> None:
    """A longer secret is not left half visible by a shorter one inside it; nor does a line break save it."""
    found = resolved({"a": {"env": "DB_PASSWORD"}, "b": {"env": "LONGER"}}, lookup=ENVIRONMENT.get)
    assert "login [DB_PASSWORD] or [LONGER]!" == found.hidden("login s3cr3t or s3cr3t-and-more!")
    assert "s3cr3t" not in repr(found)


@pytest.mark.parametrize("name", ["ABSENT", "EMPTY"])
def test_variable_that_is_not_set_is_named(name) -> None:
    """The text says which field asks for which variable."""
    with pytest.raises(UsageError, match=f"auth.password asks for the environment variable {name}, which is not set"):
        resolved({"auth": {"password": {"env": name}}}, lookup=ENVIRONMENT.get)


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "plain"},
        {"auth_type": {"selection": "key", "private_key": "plain"}},
        {"stripe_secret_key": "plain"},
        {"access_token": "plain"},
        {"connection_string": "plain"},
        {"url": "postgres://me:plain@db/shop"},
        {"password": 8461973},
        {"stripe_key": "plain"},
        {"clientSecret": "plain"},
        {"X-Api-Key": "plain"},
        {"headers": {"Authorization": "plain"}},
        {"credentials": {"value": "plain"}},
        {"auth": {"schemas": {"password": "plain"}}},
        {"options": "sslmode=require&password=plain"},
        {"manifest_json": '{"header": "Bearer plain-and-more"}'},
        {"content": "-----BEGIN RSA PRIVATE KEY-----plain"},
    ],
)
def test_written_out_secret_is_refused_and_not_repeated(fields) -> None:
    """What Dagster would keep is refused, without the value; a file of the user's own may have it."""
    *_, value = leaves(fields)
    with pytest.raises(UsageError, match="is written out") as caught:
        resolved(fields, lookup=ENVIRONMENT.get)
    assert value not in str(caught.value)
    assert value not in resolved(fields, lookup=ENVIRONMENT.get, allow_written_out=True).hidden(f"it is {value}!")


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "db", "port": 5432, "token_uri": "https://example.com/token"},
        {"auth_method": {"selection": "api_key"}, "token_type": "bearer", "public_key": "ssh-ed25519 AAAA"},
        {"credentials": {"project_id": "shop", "client_email": "me@example.com"}, "primary_key": "id"},
        {"schemas": [{"name": "secret_tokens", "primary_key_columns": ["api_key"], "incremental_field": "token"}]},
    ],
)
def test_what_is_no_secret_may_be_written_out(fields) -> None:
    """Addresses and names of columns are none."""
    assert fields == resolved(fields, lookup=ENVIRONMENT.get).values


def test_names_of_fields_are_all_that_is_shown() -> None:
    """Nested ones with their path, variables without their name."""
    assert ["host", "auth.password"] == names_of({"host": "db", "auth": {"password": {"env": "DB_PASSWORD"}}})


def test_what_a_provider_quotes_is_hidden_in_reports() -> None:
    """An operation that fails in its own words is a report, and keeps the secret as an error does."""
    found = resolved({"signing_secret": {"env": "DB_PASSWORD"}}, lookup=ENVIRONMENT.get)
    report = Report(summary="Bad s3cr3t", rows=[{"note": "no s3cr3t here", "rows": 2}], columns=["note", "rows"])
    assert "Bad [DB_PASSWORD]\n\n| note | rows |\n| --- | --- |\n| `no [DB_PASSWORD] here` | 2 |" == str(
        report.with_texts(found.hidden)
    )
