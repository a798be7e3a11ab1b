"""Which syncs an earlier try of the same work has begun: its retry takes them up instead of starting others."""

from collections.abc import Iterable, Iterator

import dagster as dg

from dw_orchestration.assets.event_log import Adoption, EventLog


def jobs_of_earlier_tries(
    context: dg.AssetExecutionContext, keys: Iterable[dg.AssetKey], *, log: EventLog
) -> dict[dg.AssetKey, Adoption]:
    """What an earlier try of this step, or a run that this one re-executes, adopted last for each table.

    A sync that has been reported already is no one's to take up: who re-executes a run that has completed wants
    another sync. Only a retry within the run keeps it, because the run has its result.
    """
    adoptions: dict[dg.AssetKey, Adoption] = {}
    for run_id in _earlier_runs(context):
        adoptions = log.adoptions_by(run_id) | adoptions
    return {
        key: adoptions[key]
        for key in keys
        if key in adoptions
        and (adoptions[key].run_id == context.run.run_id or not log.syncs_of(key).include(adoptions[key].job_id))
    }


def _earlier_runs(context: dg.AssetExecutionContext) -> Iterator[str]:
    """This run, if the step is tried again in it, then the runs that it repeats; the newest first."""
    if context.retry_number > 0:
        yield context.run.run_id
    parent_id = context.run.parent_run_id
    while parent_id is not None:
        yield parent_id
        parent = context.instance.get_run_by_id(parent_id)
        parent_id = parent.parent_run_id if parent is not None else None
