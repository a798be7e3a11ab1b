"""The report of the sync history on the last thirty days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from dw_orchestration.history.store import HistoryStore, stored
from dw_orchestration.text import visible

SPAN = timedelta(days=30)
# the event log keeps every report: a few hundred rows are small, thousands are not
MAX_TABLES_SHOWN = 300

_STORED = "select count(*) from sync_history where project = $project"

# PostHog bills the rows of every sync that is not marked otherwise, however it ends; older servers mark none
_FIGURES = """
    select
        arg_max(source_type, created_at) as source_type,
        arg_max(prefix, created_at) as prefix,
        arg_max(table_name, created_at) as table_name,
        count(*) as syncs,
        count(*) filter (is_over and status <> 'Completed') as failures,
        coalesce(sum(rows_synced) filter (billable is not false), 0)::bigint as rows,
        median(duration_s) filter (status = 'Completed') as duration_median_s,
        quantile_cont(duration_s, 0.95) filter (status = 'Completed') as duration_p95_s,
        max(created_at) filter (status = 'Completed') as last_sync
    from sync_history
    where project = $project and created_at >= $since
    group by grouping sets ((), (schema_id))
    order by grouping(schema_id) desc, rows desc, source_type, prefix, table_name
"""


@dataclass(frozen=True)
class Figures:
    """What syncs came to; durations are those of completed ones."""

    syncs: int
    failures: int
    rows: int
    duration_median_s: float | None
    duration_p95_s: float | None
    last_sync: datetime | None


@dataclass(frozen=True)
class TableFigures(Figures):
    """What the syncs of one table came to."""

    source: str
    table: str


@dataclass(frozen=True)
class HistoryReport:
    """The last thirty days, in all, by table (most rows first) and by day."""

    jobs_stored: int
    total: Figures
    tables: tuple[TableFigures, ...]


def report_of(store: HistoryStore, *, now: datetime) -> HistoryReport:
    """Compute the report from what is stored."""
    of_project = {"project": store.project}
    recent = of_project | {"since": stored(now - SPAN)}
    with store.connection() as connection:
        (jobs_stored,) = connection.execute(_STORED, of_project).fetchone() or (0,)
        (_, _, _, *of_all), *of_tables = connection.execute(_FIGURES, recent).fetchall()
    return HistoryReport(
        jobs_stored=jobs_stored,
        total=Figures(**_numbers(of_all)),
        tables=tuple(
            TableFigures(source=_source(source_type, prefix), table=table, **_numbers(of_table))
            for source_type, prefix, table, *of_table in of_tables
        ),
    )


def report_metadata(report: HistoryReport) -> dict[str, Any]:
    """The report as Dagster shows it; numbers stay numbers, so that it plots them. What is not known is left out."""
    total = report.total
    numbers = {
        "jobs_stored": report.jobs_stored,
        "dagster/row_count": report.jobs_stored,
        "syncs_30_days": total.syncs,
        "rows_30_days": total.rows,
        "failures_30_days": total.failures,
        "duration_median_s": total.duration_median_s,
        "duration_p95_s": total.duration_p95_s,
    }
    shown: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if report.tables:
        shown["tables_30_days"] = _table(report.tables[:MAX_TABLES_SHOWN])
    return shown


def _numbers(row: Sequence[Any]) -> dict[str, Any]:
    syncs, failures, rows, median, p95, last_sync = row
    return {
        "syncs": syncs,
        "failures": failures,
        "rows": rows,
        "duration_median_s": _rounded(median),
        "duration_p95_s": _rounded(p95),
        "last_sync": last_sync and last_sync.replace(tzinfo=UTC),
    }


def _source(source_type: str, prefix: str | None) -> str:
    return f"{source_type} ({prefix})" if prefix else source_type


def _rounded(seconds: float | None) -> float | None:
    return seconds if seconds is None else round(seconds, 3)


def _table(tables: Sequence[TableFigures]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "source": visible(each.source),
                "table": visible(each.table),
                "rows": each.rows,
                "syncs": each.syncs,
                "failures": each.failures,
                "median_s": each.duration_median_s,
                "p95_s": each.duration_p95_s,
                "last_sync": f"{each.last_sync:%Y-%m-%d %H:%M} UTC" if each.last_sync else None,
            }
        )
        for each in tables
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(*column) for column in _COLUMNS]))


_COLUMNS = [
    ("source", "string", "The source's type and prefix."),
    ("table", "string", "The table's name at the source."),
    ("rows", "int", "Rows synced and billed, those of failed syncs included."),
    ("syncs", "int", "Syncs begun."),
    ("failures", "int", "Syncs that ended other than completed."),
    ("median_s", "float", "Seconds that a completed sync takes, as a rule."),
    ("p95_s", "float", "Seconds that nineteen of twenty completed syncs stay below."),
    ("last_sync", "string", "When the last completed sync began."),
]
