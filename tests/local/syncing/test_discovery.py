"""What a Postgres database offers, and how its failures read."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from dw_orchestration.local.syncing import (
    Connector,
    CursorColumn,
    OfferedColumn,
    OfferedTable,
    SourceError,
    connector_for,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def connect(job_inputs: dict[str, Any], tmp_path: Path) -> Any:
    """``connect(**changes)``: a connector with changed connection fields."""

    def make(**changes: Any) -> Connector:
        return connector_for("Postgres", job_inputs | changes, fixtures=tmp_path)

    return make


def test_a_table_is_described(connect: Any, postgres_database: Any) -> None:
    """Discovery gives columns with their types, the key in its own order, and the cursor candidates."""
    postgres_database.execute(
        "create table t (a text, b bigint not null, c varchar(9) not null, d timestamptz, e numeric(9,2),"
        " f date, g real, primary key (c, b)); create index on t (d); create index on t (g, f)"
    )
    expected = OfferedTable(
        name="t",
        columns=(
            OfferedColumn("a", "text", is_nullable=True),
            OfferedColumn("b", "bigint", is_nullable=False),
            OfferedColumn("c", "character varying", is_nullable=False),
            OfferedColumn("d", "timestamp with time zone", is_nullable=True),
            OfferedColumn("e", "numeric", is_nullable=True),
            OfferedColumn("f", "date", is_nullable=True),
            OfferedColumn("g", "real", is_nullable=True),
        ),
        primary_keys=("c", "b"),
        incremental_fields=(
            CursorColumn("b", "integer", is_indexed=False),
            CursorColumn("d", "timestamp", is_indexed=True),
            CursorColumn("f", "date", is_indexed=False),
        ),
        rows=None,
    )
    assert [expected] == connect().discover()


def test_rows_are_estimated_once_counted(connect: Any, postgres_database: Any) -> None:
    """The estimate is the planner's, after Postgres has analyzed the table."""
    postgres_database.execute("create table t as select generate_series(1, 42) i; analyze t")
    assert [42] == [table.rows for table in connect().discover()]


def test_all_kinds_of_tables_are_found(connect: Any, postgres_database: Any) -> None:
    """Views, materialized views, foreign and partitioned tables count; partitions do not on their own."""
    postgres_database.execute(
        "create table parted (i int) partition by range (i);"
        "create table parted_1 partition of parted for values from (0) to (10);"
        "create view seen as select i from parted;"
        "create materialized view kept as select i from parted;"
        "create foreign data wrapper w; create server s foreign data wrapper w;"
        "create foreign table abroad (i int) server s"
    )
    assert ["abroad", "kept", "parted", "seen"] == [table.name for table in connect().discover()]


def test_without_a_schema_names_carry_theirs(connect: Any, postgres_database: Any) -> None:
    """With no schema configured every schema's tables are offered as `schema.table`."""
    postgres_database.execute("create table a (i int); create schema other; create table other.a (i int)")
    assert ["other.a", "public.a"] == [table.name for table in connect(schema="").discover()]
    assert ["a"] == [table.name for table in connect(schema="other").discover()]


def test_a_connection_string_serves_too(connect: Any, postgres_database: Any) -> None:
    """A connection string replaces the single fields."""
    postgres_database.execute("create table a (i int)")
    connector = connect(connection_string=postgres_database.dsn, host="nowhere.invalid")
    connector.check()
    assert ["a"] == [table.name for table in connector.discover()]


@pytest.mark.parametrize(
    ("changes", "message", "permanent"),
    [
        ({"password": "s3cret-wrong"}, "refused the login of user '.*'. Check user and password", True),
        ({"user": "nobody"}, "refused the login of user 'nobody'", True),
        ({"database": "nowhere"}, "has no database 'nowhere'. Correct `database`", True),
        ({"host": "nowhere.invalid"}, "host name 'nowhere.invalid' cannot be resolved", True),
        ({"schema": "nowhere"}, "Schema 'nowhere' does not exist", True),
        ({"connection_string": "postgresql://u:s3cret-wrong@[h"}, "cannot be parsed", True),
        ({"host": ""}, "lacks host", True),
    ],
)
def test_a_failed_check_says_what_to_do(
    connect: Any, changes: dict[str, Any], message: str, *, permanent: bool
) -> None:
    """Each failure is one line with the cure, and never the password."""
    with pytest.raises(SourceError, match=message) as caught:
        connect(**changes).check()
    assert permanent == caught.value.permanent
    assert "s3cret-wrong" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_down_may_come_back(connect: Any) -> None:
    """A refused connection is worth another try."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError, match=r"No Postgres answers at 127.0.0.1") as caught:
            connect(port=unused.getsockname()[1]).check()
    assert not caught.value.permanent
