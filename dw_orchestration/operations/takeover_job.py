"""The takeover as a job in the Dagster UI, and as one function for everything that carries it out."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from dw_orchestration.assets.build import DEFAULT_RESOURCE_KEY
from dw_orchestration.assets.spec import SpecOf, asset_spec, table_assets
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.takeover import apply_takeover, give_back
from dw_orchestration.operations.takeover_file import TakeoverStore
from dw_orchestration.operations.takeover_plan import newest_rows_per_sync, plan_takeover
from dw_orchestration.operations.takeover_report import report_of_outcomes, report_of_plan
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.schedules.overrides import selected
from dw_orchestration.tables.snapshot import WarehouseSnapshot

DESCRIPTION = """Lets Dagster alone decide when PostHog's tables are synced (`scheduling: drive`).

PostHog syncs every table by its own schedule, beside Dagster's, and bills the rows of both. This job moves PostHog's
schedules out of the way: it sets their frequency to 30 days, the longest there is. Tables stay switched on, and nothing
else is changed. One sync a month that PostHog starts by itself remains.

- `action: plan` (the default) changes nothing and shows what would change.
- `action: apply` does it, and remembers the frequencies from before in a file.
- `action: give_back` sets those frequencies again.

`tables` limits it, with patterns such as `stripe.*` or `posthog/postgres/shop/*`. All three can be repeated without
harm; one that failed half-way is completed by repeating it.
"""


class TakeoverAction(StrEnum):
    """What to do."""

    PLAN = "plan"
    APPLY = "apply"
    GIVE_BACK = "give_back"


class TakeoverConfig(dg.Config):
    """What the takeover job does in one run."""

    action: Literal["plan", "apply", "give_back"] = Field(
        default="plan",
        description="`plan` changes nothing and shows what would change. `apply` moves PostHog's schedules out of the"
        " way. `give_back` puts them back.",
    )
    tables: list[str] = Field(
        default=[],
        description="Patterns of table names, such as `stripe.*` or `postgres_shop.orders`, or, with a `/`, of asset"
        " keys. None means all tables.",
    )


def build_takeover_job(
    snapshot: WarehouseSnapshot,
    *,
    takeover_path: Path,
    resource_key: str = DEFAULT_RESOURCE_KEY,
    spec_of: SpecOf = asset_spec,
) -> dg.JobDefinition:
    """The job `<resource_key>_takeover`, which plans, applies or gives back a takeover.

    Args:
        snapshot: What the warehouse holds; its project is the one that is taken over.
        takeover_path: The file that remembers the frequencies from before. The processes that load the definitions
            and those that run the job all need it, so that it belongs where they share and keep files.
        resource_key: As for `build_posthog_assets`.
        spec_of: As for `build_posthog_assets`, for patterns of asset keys.
    """
    store = TakeoverStore.of(snapshot, takeover_path)
    name = f"{resource_key}_takeover"

    # Dagster wants the names of jobs and ops in a code location to be different
    @dg.op(
        name=f"{resource_key}_move_schedules",
        description=DESCRIPTION,
        required_resource_keys={resource_key},
        out=dg.Out(dg.Nothing),
    )
    def take_over(context: dg.OpExecutionContext, config: TakeoverConfig) -> None:
        with getattr(context.resources, resource_key).client() as client:
            report = carry_out(
                client, store, action=TakeoverAction(config.action), tables=config.tables, spec_of=spec_of
            )
        _show(context, report)

    @dg.job(name=name, description=DESCRIPTION)
    def takeover() -> None:
        take_over()

    return takeover


def carry_out(
    client: PostHogWarehouseClient,
    store: TakeoverStore,
    *,
    action: TakeoverAction,
    tables: Sequence[str] = (),
    spec_of: SpecOf = asset_spec,
    now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
) -> Report:
    """Plan, apply or give back, upon what PostHog holds at this moment.

    Raises:
        SetupError: A pattern names no table, or the file is of another project or in use.
        SnapshotError: The file cannot be read.
        PostHogError: PostHog cannot be asked, or the key may not change anything.
    """
    snapshot = WarehouseSnapshot.take(client, host=store.host, project_id=store.project_id)
    if action is TakeoverAction.GIVE_BACK:
        chosen = selected(table_assets(snapshot, spec_of=spec_of), tables)
        # what was deleted matches no pattern: it is forgotten when everything is given back
        only = {asset.table.schema.id for asset in chosen} if tables else None
        return report_of_outcomes(give_back(client, store, only=only))
    plan = plan_takeover(
        snapshot,
        now=now(),
        tables=tables,
        taken=store.read(),
        rows_per_sync=newest_rows_per_sync(client, snapshot),
        spec_of=spec_of,
    )
    return (
        report_of_plan(plan)
        if action is TakeoverAction.PLAN
        else report_of_outcomes(apply_takeover(client, plan, store))
    )


def _show(context: dg.OpExecutionContext, report: Report) -> None:
    context.log.info(str(report))
    metadata = {"takeover": dg.MetadataValue.md(report.markdown())}
    if report.failed:
        raise dg.Failure(report.summary, metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)
