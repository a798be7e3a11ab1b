"""Values arrive as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Lab

SETUP = """
create type mood as enum ('glad', 'not so glad');
create type pair as (x int, y text);
create domain positive as int check (value > 0);
create domain price as numeric(12, 2);
create domain dear as price check (value > 100);
"""
SAME = None

# declared type, literal, DuckDB type, text in DuckDB (SAME: what Postgres itself writes)
VALUES = [
    ("smallint", "-32768", "SMALLINT", SAME),
    ("int", "2147483647", "INTEGER", SAME),
    ("bigint", "-9223372036854775808", "BIGINT", SAME),
    ("real", "0.1", "FLOAT", SAME),
    ("double precision", "0.1", "DOUBLE", SAME),
    ("double precision", "NaN", "DOUBLE", "nan"),
    ("double precision", "-Infinity", "DOUBLE", "-inf"),
    ("numeric(10,2)", "-12345678.90", "DECIMAL(10,2)", SAME),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", "DECIMAL(38,10)", SAME),
    ("numeric(5,0)", "99999", "DECIMAL(5,0)", SAME),
    ("numeric(10,2)", "NaN", "DECIMAL(10,2)", "NULL"),
    ("numeric(39,2)", "1.50", "VARCHAR", SAME),
    ("numeric(3,-2)", "12300", "DECIMAL(5,0)", SAME),
    ("numeric(2,5)", "0.00012", "DECIMAL(5,5)", ".00012"),
    ("numeric", "-0.125", "DECIMAL(38,3)", SAME),
    ("numeric", "12345678901234567890123456789012345678", "DECIMAL(38,0)", SAME),
    ("numeric", "123456789012345678901234567890123456789", "VARCHAR", SAME),
    ("numeric", "NaN", "DECIMAL(38,18)", "NULL"),
    ("numeric", "-Infinity", "DECIMAL(38,18)", "NULL"),
    ("money", "-1234.50", "VARCHAR", SAME),
    ("boolean", "true", "BOOLEAN", SAME),
    ("text", "naïve 🦔 'quoted' \"twice\"\nline", "VARCHAR", SAME),
    ("text", "", "VARCHAR", SAME),
    ("varchar(5)", "abc", "VARCHAR", SAME),
    ("char(5)", "abc", "VARCHAR", "abc  "),
    ("uuid", "12345678-1234-1234-1234-123456789abc", "VARCHAR", SAME),
    ("date", "0044-03-15 BC", "DATE", "0044-03-15 (BC)"),
    ("date", "infinity", "DATE", SAME),
    ("date", "-infinity", "DATE", SAME),
    ("date", "2024-02-29", "DATE", SAME),
    ("time", "24:00:00", "TIME", SAME),
    ("time", "12:34:56.789012", "TIME", SAME),
    ("timetz", "12:34:56.5-03:30", "VARCHAR", SAME),
    ("timestamp", "2024-02-29 23:59:59.999999", "TIMESTAMP", SAME),
    ("timestamp", "infinity", "TIMESTAMP", SAME),
    ("timestamp", "-infinity", "TIMESTAMP", SAME),
    ("timestamptz", "2024-07-01 12:00:00.5+02", "TIMESTAMP WITH TIME ZONE", "2024-07-01 10:00:00.5+00"),
    ("timestamptz", "infinity", "TIMESTAMP WITH TIME ZONE", SAME),
    ("timestamptz", "-infinity", "TIMESTAMP WITH TIME ZONE", SAME),
    ("interval", "1 year 2 months -3 days 04:05:06.7", "INTERVAL", "1 year 2 months -3 days 04:05:06.7"),
    ("bytea", "\\x00ff41", "BLOB", "\\x00\\xFFA"),
    ("json", '{"b": [1, null], "a": 1.50}', "VARCHAR", SAME),
    ("jsonb", '{"b": [1, null], "a": 1.50}', "VARCHAR", SAME),
    ("mood", "not so glad", "VARCHAR", SAME),
    ("int[]", "{1,NULL,3}", "VARCHAR", "[1, null, 3]"),
    ("int[]", "{}", "VARCHAR", "[]"),
    ("text[]", '{a,NULL,"b, c"}', "VARCHAR", '["a", null, "b, c"]'),
    ("int[]", "{{1,2},{3,4}}", "VARCHAR", "[[1, 2], [3, 4]]"),
    ("numeric[]", "{1.50,NULL}", "VARCHAR", "[1.50, null]"),
    ("timestamptz[]", "{infinity}", "VARCHAR", '["infinity"]'),
    ("inet", "10.0.0.1/8", "VARCHAR", SAME),
    ("cidr", "10.0.0.0/8", "VARCHAR", SAME),
    ("macaddr", "08:00:2b:01:02:03", "VARCHAR", SAME),
    ("positive", "7", "INTEGER", SAME),
    ("dear", "100.50", "DECIMAL(12,2)", SAME),
    ("pair", "(1,a)", "VARCHAR", '{"x": 1, "y": "a"}'),
    ("int4range", "[1,5)", "VARCHAR", SAME),
    ("tstzrange", "[2024-01-01 00:00:00+00,)", "VARCHAR", SAME),
    ("point", "(1,2.5)", "VARCHAR", SAME),
    ("bit(3)", "101", "VARCHAR", SAME),
    ("oid", "4294967295", "VARCHAR", SAME),
]


@pytest.mark.parametrize(("declared", "value", "duckdb_type", "text"), VALUES)
def test_a_value_arrives(
    lab: Lab, postgres_database: Any, *, declared: str, value: str, duckdb_type: str, text: str | None
) -> None:
    """Every Postgres type has one DuckDB type, and its values keep their meaning; NULL stays NULL."""
    postgres_database.execute(SETUP)
    postgres_database.execute(f"create table things (n int, v {declared})")
    postgres_database.execute(f"insert into things values (1, %s::{declared}), (2, null)", [value])
    [(written,)] = postgres_database.execute("select v::text from things where n = 1")

    lab.sync("things")

    expected = written if text is SAME else text
    found = lab.query("select typeof(v), coalesce(v::varchar, 'NULL') from lab.things order by n")
    assert [(duckdb_type, expected), (duckdb_type, "NULL")] == found


def test_exact_keys_stay_apart(lab: Lab, postgres_database: Any) -> None:
    """Keys without a declared precision that differ in their last digit stay two rows."""
    postgres_database.execute(
        "create table ledger (id numeric primary key, at date);"
        "insert into ledger values (12345678901234567890, now()), (12345678901234567891, now())"
    )
    merge = {"sync_type": "incremental", "incremental_field": "at", "incremental_field_type": "date"}
    lab.sync("ledger", **merge, primary_keys=("id",))
    assert [(12345678901234567890,), (12345678901234567891,)] == lab.query("select id from lab.ledger order by 1")


def test_an_empty_table_has_its_columns(lab: Lab, postgres_database: Any) -> None:
    """A table without rows arrives with its columns and types."""
    postgres_database.execute("create table nobody (id bigint, name text, born date)")
    result = lab.sync("nobody")
    assert (0, 0) == (result.rows_synced, result.row_count)
    assert [("id", "BIGINT"), ("name", "VARCHAR"), ("born", "DATE")] == [(c.name, c.type) for c in result.columns]


def test_generated_columns_arrive(lab: Lab, postgres_database: Any) -> None:
    """What Postgres computes is synced like what was written."""
    postgres_database.execute(
        "create table boxes (a int, twice int generated always as (a * 2) stored);insert into boxes (a) values (21)"
    )
    lab.sync("boxes")
    assert [(21, 42)] == lab.query("select a, twice from lab.boxes")


@pytest.mark.parametrize("name", ["select", "Two Words", 'qu"ote', "it's", "ünï🦔", "semi;colon", "dot.dot"])
def test_any_name_will_do(lab: Lab, postgres_database: Any, name: str) -> None:
    """Tables and columns may have any name, in every sync type."""
    quoted = '"' + name.replace('"', '""') + '"'
    postgres_database.execute(f"create table {quoted} ({quoted} int primary key)")
    postgres_database.execute(f"insert into {quoted} values (1), (2)")
    for _ in range(2):
        merge = {"sync_type": "incremental", "incremental_field": name, "incremental_field_type": "integer"}
        lab.sync(name, **merge, primary_keys=(name,))
    assert [(1,), (2,)] == lab.query(f"select * from lab.{quoted} order by 1")


def test_columns_get_names_in_snake_case(lab: Lab, postgres_database: Any) -> None:
    """A column's name in the warehouse is its source's in snake case, as PostHog has it."""
    postgres_database.execute('create table t ("userId" int, "Two Words" int, "HTTPStatus" int, plain int)')
    assert ["user_id", "two_words", "http_status", "plain"] == [column.name for column in lab.sync("t").columns]


def test_names_that_differ_in_case_stay_apart(lab: Lab, postgres_database: Any) -> None:
    """The second of two columns with the same name in snake case gets a number."""
    postgres_database.execute('create table t ("id" int, "ID" int, "Id_2" int); insert into t values (1, 2, 3)')
    result = lab.sync("t")
    assert ["id", "id_3", "id_2"] == [column.name for column in result.columns]
    assert [(1, 2, 3)] == lab.query("select * from lab.t")
