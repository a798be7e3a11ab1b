"""Asset checks that say how healthy a table and its syncs are.

Runs evaluate them as a table's sync ends; the job-status sensor evaluates them for what PostHog did by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

import dagster as dg

from dw_orchestration.assets.metadata import FULL_REFRESH, JOB_ID, ROWS_SYNCED, end_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.jobs import block_of
from dw_orchestration.posthog.logs import as_text
from dw_orchestration.posthog.models import Job, LogLine, Schema
from dw_orchestration.tables.classify import cure_of
from dw_orchestration.tables.table import Table
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import code_block, in_markdown

SYNC_SUCCEEDED = "sync_succeeded"
NOT_STALE = "not_stale"
ROWS_DROPPED = "rows_dropped"
ROWS_USUAL = "rows_usual"
COLUMNS_UNCHANGED = "columns_unchanged"

# fewer rows than this share of the last sync's deserve attention
KEPT_SHARE = 0.5
# before so many syncs, nothing is usual
SYNCS_TO_COMPARE = 5
# what was usual longer ago does not count
MOST_SYNCS_COMPARED = 20
# never too many: a table that hardly changes would warn of each change
FEW_ROWS = 100

_DESCRIPTIONS = {
    SYNC_SUCCEEDED: "The last sync completed. Anything else fails the check, with PostHog's own reason.",
    NOT_STALE: "The rows have not missed two syncs in a row, of PostHog's own or of Dagster's schedule.",
    ROWS_DROPPED: "The table did not lose more than half of its rows with the last sync.",
    ROWS_USUAL: "The last sync imported no more than twice, and no less than half, of the rows of the syncs before it.",
    COLUMNS_UNCHANGED: "The table has the columns that it had after the sync before.",
}


def check_specs(tables: Tables, table: Table) -> list[dg.AssetCheckSpec]:
    """The checks of a table; only a table that is synced by itself can be stale."""
    always = [SYNC_SUCCEEDED, ROWS_DROPPED, ROWS_USUAL, COLUMNS_UNCHANGED]
    names = [*always, *([NOT_STALE] if table.rhythm else [])]
    return [
        dg.AssetCheckSpec(name=name, asset=asset_key(table), description=_DESCRIPTIONS[name])
        for name in names
        if tables.has_check(name)
    ]


@dataclass(frozen=True)
class ReportedSyncs:
    """The reports of a table's last completed syncs, by runs and by the sensor; the newest first.

    A sync can have several reports, since a run gives its result also where the sensor has reported the sync before.
    Everything here counts it once, by its job.
    """

    metadata: tuple[Mapping[str, dg.MetadataValue], ...] = ()
    run_ids: tuple[str, ...] = ()
    """The run of each report; empty for the sensor's."""
    of_others: Mapping[str, datetime] = field(default_factory=dict)
    """The projects that share the asset key: they have reported after one of these, and their last sync began then."""

    def before(self, job_id: str) -> Mapping[str, dg.MetadataValue]:
        """The metadata of the last sync but this one; empty if there is none."""
        return next((each for each in self.metadata if not _is_of(job_id, each)), {})

    def given_by(self, job_id: str) -> set[str]:
        """The runs that have given the sync as their result."""
        found = zip(self.run_ids, self.metadata, strict=True)
        return {run_id for run_id, each in found if run_id and _is_of(job_id, each)}

    def followed_by(self, metadata: Mapping[str, dg.MetadataValue]) -> Self:
        """These reports and the sensor's next one."""
        return replace(self, metadata=(metadata, *self.metadata), run_ids=("", *self.run_ids))

    def include(self, job_id: str) -> bool:
        """Whether the job is among them."""
        return any(_is_of(job_id, each) for each in self.metadata)

    def is_full_refresh(self, job_id: str) -> bool:
        """Whether the sync has been reported as one that imported all rows again."""
        return any(FULL_REFRESH in each for each in self.metadata if _is_of(job_id, each))

    def rows_synced(self, *, but: str) -> list[int]:
        """How many rows each of the last syncs imported, except the job `but`: a job is not compared with itself.

        Syncs that imported all rows again are left out: their size is not that of other syncs.
        """
        rows: dict[str, int] = {}
        for each in self.metadata:
            job_id, value = each.get(JOB_ID), each.get(ROWS_SYNCED)
            if FULL_REFRESH in each:
                continue
            if job_id is not None and isinstance(value, dg.IntMetadataValue) and value.value is not None:
                rows.setdefault(str(job_id.value), value.value)
        rows.pop(but, None)
        return list(rows.values())[:MOST_SYNCS_COMPARED]


def _is_of(job_id: str, metadata: Mapping[str, dg.MetadataValue]) -> bool:
    value = metadata.get(JOB_ID)
    return value is not None and value.value == job_id


@dataclass(frozen=True)
class CheckOutcome:
    """What a check says, for a run's step or for a sensor's tick."""

    key: dg.AssetKey
    check_name: str
    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR

    @property
    def check_key(self) -> dg.AssetCheckKey:
        """The key of the check."""
        return dg.AssetCheckKey(asset_key=self.key, name=self.check_name)

    def to_result(self) -> dg.AssetCheckResult:
        """As a step yields it."""
        return dg.AssetCheckResult(**self._fields())

    def to_evaluation(self) -> dg.AssetCheckEvaluation:
        """As a sensor reports it."""
        return dg.AssetCheckEvaluation(**self._fields())

    @classmethod
    def of(cls, evaluation: dg.AssetCheckEvaluation) -> Self:
        """The outcome that an evaluation has recorded."""
        return cls(
            key=evaluation.asset_key,
            check_name=evaluation.check_name,
            passed=evaluation.passed,
            description=evaluation.description or "",
            metadata=evaluation.metadata,
            severity=evaluation.severity,
        )

    def _fields(self) -> dict[str, Any]:
        return {
            "asset_key": self.key,
            "check_name": self.check_name,
            "passed": self.passed,
            "severity": self.severity,
            "description": self.description,
            "metadata": self.metadata,
        }


def sync_succeeded(table: Table, job: Job, *, log: Sequence[LogLine] = ()) -> CheckOutcome:
    """Whether a job that has ended completed; `log` is what PostHog logged during it, where that was read."""
    passed = job.status is JobStatus.COMPLETED
    reason = "" if passed or not job.latest_error else f". {in_markdown(job.latest_error)}"
    if (cure := cure_of(block_of(job))) is not None:
        reason += f" {cure}"
    return CheckOutcome(
        key=asset_key(table),
        check_name=SYNC_SUCCEEDED,
        passed=passed,
        description=f"Sync {job.id}: {in_markdown(job.status)}{reason}",
        metadata=end_metadata(table, job)
        | ({"posthog/log": dg.MetadataValue.md(code_block(map(as_text, log)))} if log else {}),
    )


def last_sync_succeeded(table: Table, job: Job | None) -> CheckOutcome:
    """Whether the last job that has ended completed; a table without one has never been synced."""
    if job is not None:
        return sync_succeeded(table, job)
    description = "The table has never been synced."
    return CheckOutcome(key=asset_key(table), check_name=SYNC_SUCCEEDED, passed=False, description=description)


def not_stale(table: Table, *, synced_at: datetime, now: datetime) -> CheckOutcome | None:
    """Whether the rows, complete as of `synced_at`, are recent enough; None for a table that nobody syncs regularly."""
    if table.rhythm is None:
        return None
    limit = table.rhythm.stale_after
    who = "PostHog" if table.is_driven_by_posthog else "Dagster's schedule"
    age = now - synced_at
    return CheckOutcome(
        key=asset_key(table),
        check_name=NOT_STALE,
        passed=age <= limit,
        description=f"Last synced {_in_words(age)} ago; {who} syncs it {table.rhythm.describe()}.",
        metadata={
            "posthog/age_s": round(age.total_seconds()),
            "posthog/limit_s": round(limit.total_seconds()),
            "posthog/synced_as_of": dg.MetadataValue.timestamp(synced_at),
            **_link(table),
        },
    )


def rows_usual(table: Table, job: Job, *, syncs: ReportedSyncs, full_refresh: bool = False) -> CheckOutcome:
    """Whether a completed job imported about as many rows as the syncs before it.

    The range is that of the fewest and the most rows, not around a mean: the first sync of an incremental table
    imports all rows and would move a mean for as long as it is remembered. It widens the range instead. While it is
    remembered, a surge below its size is not noticed; too few rows are, except in tables that sometimes get none.
    A full refresh imports all rows too. It is not compared, neither with the syncs before it nor after.
    """
    rows, earlier = job.rows_synced or 0, syncs.rows_synced(but=job.id)
    metadata: dict[str, Any] = {ROWS_SYNCED: rows, "posthog/syncs_compared": len(earlier)}
    if full_refresh:
        passed, against = True, "a full refresh imports all rows, and is not compared"
    elif len(earlier) < SYNCS_TO_COMPARE:
        passed, against = True, f"nothing is usual before {SYNCS_TO_COMPARE} earlier syncs, there are {len(earlier)}"
    else:
        fewest, most = min(earlier), max(earlier)
        passed = KEPT_SHARE * fewest <= rows <= max(most / KEPT_SHARE, FEW_ROWS)
        against = f"the last {len(earlier)} syncs imported {fewest:,} to {most:,}"
        metadata |= {"posthog/fewest_rows_synced": fewest, "posthog/most_rows_synced": most}
    return CheckOutcome(
        key=asset_key(table),
        check_name=ROWS_USUAL,
        passed=passed,
        description=f"{rows:,} rows synced; {against}",
        metadata=metadata | _link(table),
        severity=dg.AssetCheckSeverity.WARN,
    )


def table_outcomes(
    table: Table,
    record: Schema | None,
    *,
    before: Mapping[str, dg.MetadataValue],
    full_refresh: bool = False,
) -> list[CheckOutcome]:
    """What the synced table itself shows, against the metadata of the sync before; nothing where nothing is known."""
    synced = record.table if record is not None else None
    if synced is None:
        return []
    outcomes = []
    if synced.row_count is not None:
        outcomes.append(_rows_dropped(table, synced.row_count, before=_row_count(before), full_refresh=full_refresh))
    if synced.columns:
        now = {column.name: column.type for column in synced.columns}
        outcomes.append(_columns_unchanged(table, now, before=_columns(before)))
    return outcomes


def _rows_dropped(table: Table, now: int, *, before: int | None, full_refresh: bool) -> CheckOutcome:
    metadata = {"dagster/row_count": now} | ({} if before is None else {"posthog/row_count_before": before})
    return CheckOutcome(
        key=asset_key(table),
        check_name=ROWS_DROPPED,
        passed=full_refresh or before is None or now >= KEPT_SHARE * before,
        description=f"{now:,} rows"
        + ("" if before is None else f", {before:,} after the sync before")
        # rows that were deleted at the source stay until then
        + ("; a full refresh leaves out the rows that the source no longer has" if full_refresh else ""),
        metadata=metadata | _link(table),
        severity=dg.AssetCheckSeverity.WARN,
    )


def _columns_unchanged(table: Table, now: Mapping[str, str], *, before: Mapping[str, str] | None) -> CheckOutcome:
    changes = [] if before is None else _column_changes(before, now)
    return CheckOutcome(
        key=asset_key(table),
        check_name=COLUMNS_UNCHANGED,
        passed=not changes,
        description="; ".join(changes) or f"{len(now)} columns",
        metadata=_link(table),
        severity=dg.AssetCheckSeverity.WARN,
    )


def _column_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    added = [f"{in_markdown(name)} added ({in_markdown(now[name])})" for name in now if name not in before]
    removed = [f"{in_markdown(name)} removed" for name in before if name not in now]
    retyped = [
        f"{in_markdown(name)} was {in_markdown(before[name])}, is {in_markdown(now[name])}"
        for name in now
        if name in before and before[name] != now[name]
    ]
    return added + removed + retyped


def _row_count(metadata: Mapping[str, dg.MetadataValue]) -> int | None:
    value = metadata.get("dagster/row_count")
    return value.value if isinstance(value, dg.IntMetadataValue) else None


def _columns(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, str] | None:
    value = metadata.get("dagster/column_schema")
    if not isinstance(value, dg.TableSchemaMetadataValue):
        return None
    return {column.name: column.type for column in value.schema.columns}


def _link(table: Table) -> dict[str, Any]:
    """The way to the table in PostHog."""
    return {"posthog/link": dg.MetadataValue.url(table.url)} if table.url else {}


def _in_words(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 2 * 60:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 2 * 24 * 60 else f"{minutes // (24 * 60)} days"
