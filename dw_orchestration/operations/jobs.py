"""The operations as jobs in the Dagster UI, for everything that can be done in PostHog besides syncing."""

from collections.abc import Collection, Iterator
from typing import Any

import dagster as dg

from dw_orchestration.assets.build import DEFAULT_RESOURCE_KEY, EVERY_CHECK, CheckName
from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.resync_guard import UNATTENDED_TAGS
from dw_orchestration.assets.spec import SpecOf, asset_spec, table_assets
from dw_orchestration.operations.catalogue import Project
from dw_orchestration.operations.job_kinds import KINDS, Kind, Launch, Work
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.resync import AssetEvent, Tables
from dw_orchestration.operations.secrets import Secrets
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

# what Dagster puts on every re-execution
_PARENT_TAG = "dagster/parent_run_id"


def build_maintenance_jobs(
    snapshot: WarehouseSnapshot,
    *,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    spec_of: SpecOf = asset_spec,
    checks: Collection[CheckName] = EVERY_CHECK,
    sync_defaults: PostHogSyncConfig | None = None,
) -> list[dg.JobDefinition]:
    """The jobs `<resource_key>_<what they do>`, each upon what PostHog holds when it runs.

    Their results are in the run's log, and as a table in the metadata of the step's output.

    Args:
        snapshot: What the warehouse holds, for the tables' asset keys.
        resource_key: As for `build_posthog_assets`.
        spec_of: As for `build_posthog_assets`.
        checks: As for `build_posthog_assets`; a resync evaluates them.
        sync_defaults: As for `build_posthog_assets`; how a resync is done.

    Raises:
        SetupError: `spec_of` gives two tables the same key.
    """
    tables = Tables(
        assets={asset.table.schema.id: asset for asset in table_assets(snapshot, spec_of=spec_of)},
        checks=checks,
        sync_defaults=sync_defaults or PostHogSyncConfig(),
    )
    return [_job(kind, resource_key=resource_key, tables=tables) for kind in KINDS]


def _job(kind: Kind[Any], *, resource_key: str, tables: Tables) -> dg.JobDefinition:
    name = f"{resource_key}_{kind.name}"

    # Dagster wants the names of jobs and ops in a code location to be different
    @dg.op(
        name=f"{name}_step",
        description=kind.description,
        config_schema=kind.config.to_config_schema(),
        required_resource_keys={resource_key},
        out=dg.Out(dg.Nothing),
    )
    def step(context: dg.OpExecutionContext) -> Iterator[AssetEvent | dg.Output[None]]:
        if kind.deletes:
            _refuse_unattended(context)
        warehouse: WarehouseResource = getattr(context.resources, resource_key)
        report = yield from _carry_out(kind, context, warehouse=warehouse, tables=tables)
        yield dg.Output(None, metadata=_shown(context, report))

    @dg.job(name=name, description=kind.description)
    def job() -> None:
        step()

    return job


def _carry_out(
    kind: Kind[Any], context: dg.OpExecutionContext, *, warehouse: WarehouseResource, tables: Tables
) -> Work:
    """Do it; whoever reads the run wants the sentence, not the frames that led to it, nor a secret."""
    secrets = Secrets()
    config = kind.config(**context.op_config)
    try:
        with warehouse.client() as client:
            project = Project(client, tables.keys())
            launch = Launch(project=project, secrets=secrets, context=context, warehouse=warehouse, tables=tables)
            done = kind.do(launch, config)
            report = done if isinstance(done, Report) else (yield from done)
            return report.with_texts(secrets.hidden)
    except (PostHogError, SetupError) as error:
        failure = dg.Failure(description=secrets.hidden(str(error)), allow_retries=False)
    # raised outside the handler: the error that hangs on as the context may quote a secret
    raise failure


def _shown(context: dg.OpExecutionContext, report: Report) -> dict[str, dg.MetadataValue]:
    """The report as metadata; a failed one fails the run with it."""
    metadata: dict[str, dg.MetadataValue] = {
        "summary": dg.MetadataValue.text(report.summary),
        "result": dg.MetadataValue.md(report.markdown()),
    }
    context.log.info(str(report))
    if report.failed:
        raise dg.Failure(report.summary, metadata=metadata, allow_retries=False)
    return metadata


def _refuse_unattended(context: dg.OpExecutionContext) -> None:
    """A deletion is launched by a person, each time anew."""
    if found := [tag for tag in UNATTENDED_TAGS if tag in context.run.tags]:
        why = f"is not done in a run tagged {found[0]}: launch it by hand"
    elif context.retry_number > 0 or _PARENT_TAG in context.run.tags:
        why = "is not repeated by a retry or re-execution: see what is left, and launch a new run"
    else:
        return
    raise dg.Failure(f"What deletes data {why}.", allow_retries=False)
