"""Asset checks that say how healthy a table and its syncs are: whether they succeed, and whether the data is as usual.

Runs evaluate them as a table's sync ends; the job-status sensor evaluates them for what PostHog did by itself. There
are only two, since each check of a table costs time to load and rows in the event log.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

import dagster as dg

from dw_orchestration.assets.metadata import FULL_REFRESH, JOB_CREATED_AT, JOB_ID, PROJECT, ROWS_SYNCED, end_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.enums import JobStatus, SyncStatus
from dw_orchestration.posthog.jobs import block_of
from dw_orchestration.posthog.logs import as_text
from dw_orchestration.posthog.models import Job, LogLine, Schema
from dw_orchestration.tables.classify import SchemaClass, cure_of
from dw_orchestration.tables.table import Table
from dw_orchestration.text import code_block, in_markdown, visible_lines

SYNC_SUCCEEDED = "sync_succeeded"
DATA_AS_USUAL = "data_as_usual"

# fewer rows than this share of the last sync's deserve attention
KEPT_SHARE = 0.5
# before so many syncs, nothing is usual
SYNCS_TO_COMPARE = 5
# what was usual longer ago does not count
MOST_SYNCS_COMPARED = 20
# never too many: a table that hardly changes would warn of each change
FEW_ROWS = 100
# marks a failed check behind which is no failed job: none has begun since then
OVERDUE_SINCE = "posthog/overdue_since"
# how the text of a check begins whose table was not synced
NO_NEW_SYNC = "No new sync. "

_DESCRIPTIONS = {
    SYNC_SUCCEEDED: "The last sync completed, and PostHog still syncs the table. Otherwise the text has PostHog's own"
    " reason, and what to do.",
    DATA_AS_USUAL: "The last sync imported about as many rows as those before it (rows_unusual), left more than half of"
    " the table's rows (rows_dropped), and changed no columns (columns_changed).",
}


def check_keys(key: dg.AssetKey) -> list[dg.AssetCheckKey]:
    """The keys of a table's checks."""
    return [dg.AssetCheckKey(key, name) for name in _DESCRIPTIONS]


def check_specs(table: Table) -> list[dg.AssetCheckSpec]:
    """The checks of a table."""
    key = asset_key(table)
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in _DESCRIPTIONS.items()]


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
        description=f"{in_markdown(table.name)}: {in_markdown(job.status)}{reason}",
        metadata=end_metadata(table, job)
        | ({"posthog/log": dg.MetadataValue.md(code_block(map(as_text, log)))} if log else {}),
    )


def last_sync_succeeded(table: Table, job: Job | None) -> CheckOutcome:
    """Whether the last job that has ended completed; a table without one has never been synced."""
    if job is not None:
        return sync_succeeded(table, job)
    description = "The table has never been synced."
    return CheckOutcome(key=asset_key(table), check_name=SYNC_SUCCEEDED, passed=False, description=description)


def overdue(table: Table, record: Schema, *, now: datetime) -> CheckOutcome | None:
    """That PostHog has silently stopped syncing a table, which nothing else shows; None if it has not.

    The table is enabled and its last sync was good, and yet two syncs in a row are missing. No job is behind this
    outcome, so it has none in its metadata: it must not be taken for the report of one.
    """
    synced_at, rhythm = record.last_synced_at, table.rhythm
    if synced_at is None or rhythm is None or not is_late(table, record, now=now):
        return None
    if record.status is not SyncStatus.COMPLETED or not table.is_driven_by_posthog:
        return None
    cure = (
        "Materialize the table: with a requested sync, PostHog creates a missing schedule again. (`auto_heal` does this"
        " by itself.) If no others follow, disable and enable the table in PostHog."
        if table.schema_class is SchemaClass.SYNCABLE
        else "Disable and enable the table in PostHog, which creates a missing schedule again."
    )
    return CheckOutcome(
        key=asset_key(table),
        check_name=SYNC_SUCCEEDED,
        passed=False,
        description=f"PostHog syncs the table {rhythm.describe()}, and has stopped: the last sync completed, and began"
        f" {_in_words(now - synced_at)} ago. {cure}",
        metadata={
            PROJECT: table.project,
            "posthog/late_after_s": round(rhythm.stale_after.total_seconds()),
            OVERDUE_SINCE: dg.MetadataValue.timestamp(synced_at),
            **_link(table),
        },
    )


def not_overdue(table: Table, record: Schema, *, now: datetime) -> CheckOutcome:
    """That a table which was overdue is so no longer: it has rows again, or is expected to have none so soon."""
    text = "PostHog is not to sync the table by itself any more."
    if record.should_sync and record.last_synced_at is not None:
        text = f"The last sync completed, and began {_in_words(now - record.last_synced_at)} ago."
    return CheckOutcome(asset_key(table), SYNC_SUCCEEDED, passed=True, description=text)


def is_late(table: Table, record: Schema, *, now: datetime) -> bool:
    """Whether an enabled table that has been synced before has missed two syncs in a row."""
    if not record.should_sync or record.last_synced_at is None or table.rhythm is None:
        return False
    return now - record.last_synced_at > table.rhythm.stale_after


@dataclass(frozen=True)
class Finding:
    """What a sync shows of the data in one respect; `name` says what is wrong if it is not as usual."""

    name: str
    as_usual: bool
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def data_as_usual(
    table: Table, job: Job, *, record: Schema | None, syncs: ReportedSyncs, full_refresh: bool = False
) -> CheckOutcome:
    """Whether a completed job imported as many rows as usual, kept the table's rows, and left its columns as they were.

    Args:
        table: The table.
        job: The job.
        record: The table as the job left it; what it does not have is not compared.
        syncs: The syncs that have been reported.
        full_refresh: Whether the job imported all rows again.
    """
    findings = [
        _rows_synced(job, syncs=syncs, full_refresh=full_refresh),
        *_table_findings(record, before=syncs.before(job.id), full_refresh=full_refresh),
    ]
    unusual = [finding for finding in findings if not finding.as_usual]
    texts = [f"{finding.name}: {finding.text}" for finding in unusual]
    texts += [finding.text for finding in findings if finding.as_usual]
    return CheckOutcome(
        key=asset_key(table),
        check_name=DATA_AS_USUAL,
        passed=not unusual,
        description=". ".join(texts),
        metadata={key: value for finding in findings for key, value in finding.metadata.items()}
        | {f"posthog/{finding.name}": finding.text for finding in unusual}
        | _link(table),
        severity=dg.AssetCheckSeverity.WARN,
    )


def no_new_sync(check: dg.AssetCheckKey, *, last: dg.AssetCheckEvaluation | None, why: str = "") -> CheckOutcome:
    """The outcome of a check whose table was not synced: the last one, since the table is as it was.

    Without an evaluation, a check would be left as "execution failed": red for something that it has not found.

    Args:
        check: The check.
        last: Its last evaluation.
        why: Why there is no new sync.
    """
    if last is None:
        # nothing is green for nothing, and a warning has nothing to warn of
        is_warning = check.name == DATA_AS_USUAL
        severity = dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR
        text = NO_NEW_SYNC + in_markdown(why)
        return CheckOutcome(check.asset_key, check.name, passed=is_warning, description=text.strip(), severity=severity)
    outcome = CheckOutcome.of(last)
    # with its job it would be another report of that one
    metadata = {key: value for key, value in outcome.metadata.items() if key not in (JOB_ID, JOB_CREATED_AT)}
    return replace(
        outcome,
        description=NO_NEW_SYNC + outcome.description.removeprefix(NO_NEW_SYNC),
        metadata=metadata | {"posthog/no_new_sync": visible_lines(why)},
    )


def not_synced(table: Table, why: str) -> CheckOutcome:
    """That a table could not be synced, where no job has ended that would report the reason."""
    return CheckOutcome(
        key=asset_key(table),
        check_name=SYNC_SUCCEEDED,
        passed=False,
        description=in_markdown(why),
        metadata={PROJECT: table.project, **_link(table)},
    )


def _rows_synced(job: Job, *, syncs: ReportedSyncs, full_refresh: bool) -> Finding:
    """Whether a completed job imported about as many rows as the syncs before it.

    The range is that of the fewest and the most rows, not around a mean: the first sync of an incremental table
    imports all rows and would move a mean for as long as it is remembered. It widens the range instead. While it is
    remembered, a surge below its size is not noticed; too few rows are, except in tables that sometimes get none.
    A full refresh imports all rows too. It is not compared, neither with the syncs before it nor after.
    """
    rows, earlier = job.rows_synced or 0, syncs.rows_synced(but=job.id)
    metadata: dict[str, Any] = {ROWS_SYNCED: rows, "posthog/syncs_compared": len(earlier)}
    if full_refresh:
        as_usual, against = True, "a full refresh imports all rows, and is not compared"
    elif len(earlier) < SYNCS_TO_COMPARE:
        as_usual, against = True, f"nothing is usual before {SYNCS_TO_COMPARE} earlier syncs, there are {len(earlier)}"
    else:
        fewest, most = min(earlier), max(earlier)
        as_usual = KEPT_SHARE * fewest <= rows <= max(most / KEPT_SHARE, FEW_ROWS)
        against = f"the last {len(earlier)} syncs imported {fewest:,} to {most:,}"
        metadata |= {"posthog/fewest_rows_synced": fewest, "posthog/most_rows_synced": most}
    return Finding("rows_unusual", as_usual, f"{rows:,} rows synced; {against}", metadata)


def are_rows_as_before(job: Job, before: Mapping[str, dg.MetadataValue]) -> bool:
    """Whether a sync imported about as many rows as the one before, so that the syncs before that change nothing.

    Their range contains the rows of the last one.
    """
    if not before:
        return True
    value, rows = before.get(ROWS_SYNCED), job.rows_synced or 0
    if FULL_REFRESH in before or not isinstance(value, dg.IntMetadataValue) or value.value is None:
        return False
    return KEPT_SHARE * value.value <= rows <= max(value.value / KEPT_SHARE, FEW_ROWS)


def _table_findings(
    record: Schema | None, *, before: Mapping[str, dg.MetadataValue], full_refresh: bool
) -> Iterator[Finding]:
    """What the synced table itself shows, against the metadata of the sync before; nothing where nothing is known."""
    synced = record.table if record is not None else None
    if synced is None:
        return
    if synced.row_count is not None:
        yield _rows_kept(synced.row_count, before=_row_count(before), full_refresh=full_refresh)
    if synced.columns:
        now, columns_before = {column.name: column.type for column in synced.columns}, _columns(before)
        changes = [] if columns_before is None else _column_changes(columns_before, now)
        yield Finding("columns_changed", not changes, "; ".join(changes) or f"{len(now)} columns")


def _rows_kept(now: int, *, before: int | None, full_refresh: bool) -> Finding:
    return Finding(
        "rows_dropped",
        full_refresh or before is None or now >= KEPT_SHARE * before,
        f"{now:,} rows"
        + ("" if before is None else f", {before:,} after the sync before")
        # rows that were deleted at the source stay until then
        + ("; a full refresh leaves out the rows that the source no longer has" if full_refresh else ""),
        {"dagster/row_count": now} | ({} if before is None else {"posthog/row_count_before": before}),
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
