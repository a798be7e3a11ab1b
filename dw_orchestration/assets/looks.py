"""Checks of tables that are not synced in this run: a look at what PostHog shows of them at this moment."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg

from dw_orchestration.assets.checks import (
    SYNC_SUCCEEDED,
    Verdict,
    not_stale,
    rows_usual,
    sync_succeeded,
    table_verdicts,
)
from dw_orchestration.assets.event_log import EventLog
from dw_orchestration.assets.tables import Table
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.posthog.errors import PostHogError, TransportError
from dw_orchestration.posthog.jobs import is_over
from dw_orchestration.posthog.models import Job
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError


def check_tables(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    tables: Mapping[dg.AssetKey, Table],
    *,
    warehouse: WarehouseResource,
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the selected checks of tables, without a sync.

    Raises:
        dagster.Failure: PostHog could not be asked, or does not have a table any more.
    """
    log = EventLog(context.instance)
    try:
        with warehouse.connect() as client:
            for key, table in tables.items():
                for verdict in _verdicts(client, key, table, log=log):
                    if verdict.check_key in context.selected_asset_check_keys:
                        yield verdict.to_result()
    except (PostHogError, SetupError) as error:
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, TransportError)) from None


def _verdicts(client: PostHogWarehouseClient, key: dg.AssetKey, table: Table, *, log: EventLog) -> Iterator[Verdict]:
    record = client.get_schema(table.schema.id)
    jobs = client.list_jobs(table.source.id, schemas=[record.name])
    job, syncs = next((job for job in jobs if is_over(job)), None), log.syncs_of(key)
    yield _last_sync(key, table, job)
    if job is not None and job.status is JobStatus.COMPLETED:
        yield rows_usual(key, table, job, syncs=syncs)
    if record.last_synced_at is not None:
        now = client.server_time or datetime.now(UTC)
        staleness = not_stale(key, table, synced_at=record.last_synced_at, now=now)
        yield from (each for each in [staleness] if each is not None)
    yield from table_verdicts(key, table, record, before=syncs.last)


def _last_sync(key: dg.AssetKey, table: Table, job: Job | None) -> Verdict:
    if job is not None:
        return sync_succeeded(key, table, job)
    description = "It has never been synced."
    return Verdict(key=key, check_name=SYNC_SUCCEEDED, passed=False, description=description)
