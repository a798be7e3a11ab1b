"""What syncs came to since a day, by table or by day: the rows that PostHog bills, and their price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from dw_orchestration.history.database import connected, is_address
from dw_orchestration.history.views import VIEWS
from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.names import source_slug

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

By = Literal["table", "day", "source"]

_GROUPS: dict[By, str] = {
    "table": "project, source_type, prefix, table_name, schema_id",
    "day": "day",
    "source": "project, source_type, prefix",
}
_ORDERS: dict[By, str] = {"table": "rows desc", "day": "day", "source": "rows desc"}
# with the view's own query: a database that DuckDB attaches has no views
_COSTS = f"""
    with rows_per_day as ({VIEWS["rows_per_day"]})
    select
        any_value(source_type), any_value(prefix), any_value(table_name), any_value(day), any_value(project),
        sum(rows_billed)::bigint as rows, sum(syncs)::bigint, sum(failures)::bigint,
        sum(rows_billed_of_failures)::bigint
    from rows_per_day
    where day > $since
    group by {{group}}
    order by {{order}}
"""  # noqa: S608  the package's own query
_LAST_READING = "select cast(max(read_at) as date), min(created_at) from sync_history"
COLUMNS = ("rows", "share", "cost", "syncs", "failures")


@dataclass(frozen=True)
class Costs:
    """Where the history is, and what is asked of it.

    Attributes:
        history: The DuckDB file of the sync history, or its address.
        span: How far back, from the last reading on.
        by: What each row is about.
        price_per_million: What PostHog charges for a million rows; None if the rows are enough.
    """

    history: str
    span: timedelta
    by: By = "table"
    price_per_million: float | None = None

    def report(self) -> Report:
        """The rows that PostHog bills, most first.

        Raises:
            SetupError: There is no sync history, or it cannot be opened.
        """
        try:
            with _opened(self.history) as connection:
                ((last_day, oldest),) = connection.execute(_LAST_READING).fetchall()
                since = last_day and last_day - self.span
                sql = _COSTS.format(group=_GROUPS[self.by], order=_ORDERS[self.by])
                found = connection.execute(sql, {"since": since}).fetchall()
        except duckdb.Error as error:
            raise SetupError(
                f"The sync history {self.history} cannot be read ({str(error).splitlines()[0]}). The asset"
                " `sync_history` writes it: set `history_database` on the component, materialize the asset, and name"
                " the same database with `--history`."
            ) from None
        return self._report(found, since=since, oldest=oldest and oldest.date(), last_day=last_day)

    def _report(
        self, found: Sequence[Sequence[Any]], *, since: date | None, oldest: date | None, last_day: date | None
    ) -> Report:
        total = sum(row[5] for row in found)
        rows = [self._row(row, total=total) for row in found]
        columns = (self.by, *(column for column in COLUMNS if column != "cost" or self.price_per_million is not None))
        if since is None or oldest is None or last_day is None:
            return Report(summary="The sync history is empty: materialize the asset `sync_history`.", columns=columns)
        begin = max(since + timedelta(days=1), oldest)
        days = (last_day - begin).days + 1
        of_failures = sum(row[8] for row in found)
        failed = f"{of_failures:,}{self._price(of_failures)}" if of_failures else "none"
        summary = (
            f"{counted(total, 'row')}{self._price(total)} in {counted(days, 'day')} ({begin} to {last_day}),"
            f" {total // days:,} a day; {failed} of them in syncs that failed."
        )
        return Report(summary=summary, rows=rows, columns=columns)

    def _row(self, found: Sequence[Any], *, total: int) -> Row:
        source_type, prefix, table, day, project, rows, syncs, failures, of_failures = found
        source = source_slug(source_type, prefix)
        row: Row = {
            "table": f"{source}.{table}",
            "source": source,
            "day": str(day),
            "project": project,
            "rows": rows,
            "share": f"{rows / total:.1%}" if total else None,
            "cost": self._cost(rows),
            "syncs": syncs,
            "failures": failures,
            "rows_of_failures": of_failures,
        }
        unknown = {"table": ("day",), "source": ("day", "table"), "day": ("table", "source", "project")}[self.by]
        return {key: value for key, value in row.items() if key not in unknown}

    def _cost(self, rows: int) -> Decimal | None:
        return None if self.price_per_million is None else Decimal(f"{rows * self.price_per_million / 1e6:.2f}")

    def _price(self, rows: int) -> str:
        return "" if self.price_per_million is None else f" for {self._cost(rows):,}"


def _opened(history: str) -> duckdb.DuckDBPyConnection:
    return connected(history, {}) if is_address(history) else duckdb.connect(history, read_only=True)
