"""Rows from the embedded warehouse, read by key with `in_batches`, compared with DuckDB reading the file itself."""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from dw_orchestration import LocalWarehouse
from dw_orchestration.testing.warehouse import EmbeddedWarehouse

QUERY = "select * from {table}"
START = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        resource = LocalWarehouse(home=f"{folder}/home", shop=False, fixtures=f"{folder}/fixtures")
        with EmbeddedWarehouse(resource) as warehouse:
            warehouse.add_source("Stripe", tables={"Charge": [_row(number) for number in range(options.rows)]})
            warehouse.sync("Charge")
            by_key = _timed(options.times, lambda: _by_key(resource))
            by_duckdb = _timed(options.times, lambda: _by_duckdb(resource.database))
        resource.stop()
    is_same = by_key[1].equals(by_duckdb[1].cast(by_key[1].schema))
    print(f"{options.rows:,} rows of {by_key[1].num_columns} columns, {by_key[1].nbytes / 2**20:.1f} MiB in Arrow")
    print(f"the same rows:        {'yes' if is_same else 'NO'}")
    print(f"in_batches(key='id'): {by_key[0]:.2f} s, {options.rows / by_key[0]:,.0f} rows a second")
    print(f"DuckDB itself:        {by_duckdb[0]:.2f} s, {options.rows / by_duckdb[0]:,.0f} rows a second")
    print(f"ratio:                {by_key[0] / by_duckdb[0]:.1f}")


def _by_key(resource: LocalWarehouse) -> pa.Table:
    return pa.concat_tables(resource.in_batches(QUERY, table="Charge", key="id"))


def _by_duckdb(path: Path) -> pa.Table:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.sql("select * from stripe.charge order by id").to_arrow_table()


def _timed(times: int, read: Callable[[], pa.Table]) -> tuple[float, pa.Table]:
    """The shortest time of several, and the rows."""
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        table = read()
        spent.append(time.perf_counter() - begin)
    return min(spent), table


def _row(number: int) -> dict[str, object]:
    return {
        "id": number,
        "customer": f"cus_{number % 5000:06}",
        "amount": number * 0.25,
        "currency": "eur",
        "created_at": START + timedelta(seconds=number),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=3, help="each way is timed so often, and the shortest time counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
