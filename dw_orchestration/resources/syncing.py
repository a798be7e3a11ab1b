"""Syncing from a user's own code: in the body of `posthog_assets`, or by name anywhere else."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.models import Job
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.errors import SyncError
from dw_orchestration.sync.events import Ended, Notice
from dw_orchestration.sync.settings import TableRequest
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.tables.tables import Tables

# What syncs the tables of an op that `posthog_assets` has made. The assets register it, since they build on resources.
SYNCS_OF_OPS: WeakKeyDictionary[dg.OpDefinition, Callable[..., Iterator[Any]]] = WeakKeyDictionary()


class TableSyncer:
    """What can be synced in a warehouse; the same for PostHog and for the embedded warehouse."""

    @abstractmethod
    def connect(self) -> AbstractContextManager[PostHogWarehouseClient]:
        """A client for the time of a `with` statement."""

    def sync(
        self, context: dg.AssetExecutionContext
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation | dg.AssetCheckResult]:
        """Sync the tables that the run has selected, as the run's config says, and yield the result of each as it ends.

        This is the body of a function under `posthog_assets`, which may do other things before and after.

        Args:
            context: The context of the step.

        Raises:
            UsageError: The step is not one that `posthog_assets` has made.
            dagster.Failure: Some tables did not sync, after all others have their results; or nothing could be synced.

        Example:
            ```python
            @posthog_assets(WAREHOUSE, select=["stripe_acme.*"])
            def stripe(context: dg.AssetExecutionContext, posthog_warehouse: WarehouseResource) -> Iterator[Any]:
                yield from posthog_warehouse.sync(context)
            ```
        """
        sync = SYNCS_OF_OPS.get(context.op_execution_context.op_def)
        if sync is None:
            raise UsageError(
                f"`sync(context)` cannot be used in {context.op_execution_context.op_def.name}, only in functions with"
                " the decorator `posthog_assets`. Elsewhere, use `sync_and_wait` with the names of tables."
            )
        yield from sync(context, self)

    def sync_and_wait(self, *tables: str) -> list[Job]:
        """Sync tables and wait until they have ended, in an op of your own or without Dagster.

        A sync that is running already is waited for, and not started twice. A process that is interrupted cancels what
        it has started. The job-status sensor reports these syncs, as those that PostHog has started.

        Args:
            *tables: The tables, by any of the names that users type for them.

        Returns:
            The completed syncs, in the order in which they ended.

        Raises:
            SyncError: A table did not sync: the error of the first one, once all have ended, with the others as notes.
            UnknownNameError: A name names no table, or several.
            PostHogError: PostHog is unreachable.

        Example:
            ```python
            @dg.op
            def refresh(posthog_warehouse: WarehouseResource) -> int:
                return sum(job.rows_synced or 0 for job in posthog_warehouse.sync_and_wait("stripe_acme.Customer"))
            ```
        """
        with self.connect() as client:
            chosen = Tables.live(client.list_sources()).matching(tables)
            requests = [
                TableRequest(source_id=table.source.id, schema_id=table.id, name=table.schema.name, label=table.name)
                for table in chosen
            ]
            ended = _followed(SyncEngine(client, requests))
        errors = [event.error for event in ended if event.error is not None]
        if errors:
            raise _with_notes(*errors)
        return [event.job for event in ended if event.job is not None]


def _followed(engine: SyncEngine) -> list[Ended]:
    """How each table ended."""
    ended = []
    try:
        for event in engine.events():
            if isinstance(event, Ended):
                ended.append(event)
            elif isinstance(event, Notice):
                dg.get_dagster_logger("dw_orchestration").warning(event.text)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        engine.cancel_started()
        raise
    return ended


def _with_notes(first: SyncError, *others: SyncError) -> SyncError:
    for other in others:
        first.add_note(str(other))
    return first
