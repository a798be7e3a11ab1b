"""The runs that report syncs for which no run has waited (`wait: false`), with what was to run after them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self

import dagster as dg

from dw_orchestration.assets.event_log import COMPLETES_TAG, Adoption, EventLog, TableLog
from dw_orchestration.assets.metadata import completion_metadata
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.models import Job
from dw_orchestration.tables.table import Table

# a requested run that has not adopted its syncs after so long is lost, or waits in a queue: the sensor reports them
REPORTED_WITHIN = timedelta(minutes=15)
# of Dagster's own tags, those that users set and that mean the same for the run that follows
_TAGS_OF_USERS = (
    "dagster/priority",
    "dagster/max_runtime",
    "dagster/max_retries",
    "dagster/retry_strategy",
    "dagster/retry_on_asset_or_op_failure",
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


@dataclass(frozen=True)
class Released:
    """A sync that has ended, and for which the run that started it has not waited."""

    job: Job
    table: Table
    adoption: Adoption
    run_key: str | None
    """The key of the run that has been requested for it in an earlier tick."""


class Completions:
    """The syncs of a tick that runs are requested for.

    Args:
        log: The event log.
        repository: The code location, which has the assets that can run; without one, no run is requested.
    """

    def __init__(self, log: EventLog, repository: dg.RepositoryDefinition | None) -> None:
        self._log = log
        self._repository = repository
        self._released: list[Released] = []
        self._left: set[dg.AssetKey] = set()
        self._runs: dict[str, dg.DagsterRun | None] = {}

    def __len__(self) -> int:
        return len(self._released)

    def take(self, job: Job, table: Table, adoptions: Sequence[Adoption], *, log: TableLog, now: datetime) -> bool:
        """Leave a sync to a run, if one is to report it; False if the sensor has to do so itself.

        Args:
            job: The sync, which has ended and is not reported.
            table: Its table.
            adoptions: The runs that have adopted it, all of them over, the last one first.
            log: What the event log has of the table.
            now: Dagster's time.
        """
        if not adoptions or not adoptions[0].released or not self._can_run(asset_key(table)):
            return False
        run = self._run(adoptions[0].run_id)
        if run is None or run.status is dg.DagsterRunStatus.CANCELED:
            return False
        request = log.completion_of(job.id)
        if request is not None and request.stored_at_s < (now - REPORTED_WITHIN).timestamp():
            return False
        self._released.append(Released(job, table, adoptions[0], request.said.completion if request else None))
        return True

    def leave(self, key: dg.AssetKey) -> None:
        """Note that a table has a sync that has ended, and that a run is about to report."""
        self._left.add(key)

    def requests(
        self, *, clock_ahead: timedelta, is_complete: bool
    ) -> Iterator[tuple[dg.RunRequest, list[dg.AssetObservation]]]:
        """A run for the syncs of each run that has ended, and what is written down first.

        A request is repeated with the same key until its run has adopted the syncs: Dagster launches one run for a key.

        Args:
            clock_ahead: How far Dagster's clock is ahead of PostHog's.
            is_complete: Whether all syncs that have ended are known.
        """
        pending = self._left | {asset_key(each.table) for each in self._released if each.run_key}
        groups: dict[tuple[str, str | None], list[Released]] = {}
        for released in self._released:
            groups.setdefault((released.adoption.run_id, released.run_key), []).append(released)
        for (run_id, run_key), group in groups.items():
            run = self._run(run_id)
            if run is None:
                continue
            origin = self._origin_of(run)
            plan = _Plan.of(origin.run_id, self._log, self._repository, clock_ahead=clock_ahead)
            keys = {asset_key(each.table) for each in group}
            waiting = set[dg.AssetKey]() if run_key else plan.waiting(keys, pending, is_complete=is_complete)
            if ready := [each for each in group if asset_key(each.table) not in waiting]:
                pending |= {asset_key(each.table) for each in ready}
                yield self._request(origin, run, plan, ready, run_key=run_key)

    def _request(
        self,
        origin: dg.DagsterRun,
        run: dg.DagsterRun,
        plan: "_Plan",
        ready: Sequence[Released],
        *,
        run_key: str | None,
    ) -> tuple[dg.RunRequest, list[dg.AssetObservation]]:
        keys = {asset_key(each.table) for each in ready}
        selected = [*sorted(keys), *sorted(plan.ready_after(keys))]
        new_key = run_key or _run_key(run, ready)
        request = dg.RunRequest(
            run_key=new_key,
            asset_selection=selected,
            run_config=self._config(origin, run, selected),
            tags={**_tags_of_users(run), COMPLETES_TAG: run.run_id},
        )
        return request, [] if run_key else [_note(each, run_key=new_key) for each in ready]

    def _origin_of(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """The run that a user or a schedule has launched, of which this one is a completion's retry."""
        completed = self._run(run.tags[COMPLETES_TAG]) if COMPLETES_TAG in run.tags else None
        return self._origin_of(completed) if completed is not None else run

    def _run(self, run_id: str) -> dg.DagsterRun | None:
        if run_id not in self._runs:
            self._runs[run_id] = self._log.run(run_id)
        return self._runs[run_id]

    def _can_run(self, key: dg.AssetKey) -> bool:
        graph = self._repository.asset_graph if self._repository is not None else None
        return graph is not None and graph.has(key) and graph.get(key).is_executable

    def _config(self, origin: dg.DagsterRun, run: dg.DagsterRun, selected: Iterable[dg.AssetKey]) -> dict[str, Any]:
        """The config of the steps that run again."""
        known = self._repository.assets_defs_by_key if self._repository is not None else {}
        names = {known[key].node_def.name for key in selected if key in known and known[key].is_executable}
        configs: list[Mapping[str, Any]] = [origin.run_config, run.run_config]
        ops = {name: config for each in configs for name, config in each.get("ops", {}).items() if name in names}
        return {"ops": ops} if ops else {}


@dataclass(frozen=True)
class _Plan:
    """What a run had selected downstream of the syncs that it has started, and which of these are reported."""

    downstream: Mapping[dg.AssetKey, set[dg.AssetKey]]
    """By table: what was skipped because the table had no result yet."""
    is_done: Callable[[dg.AssetKey], bool]
    """Whether a table has had a completed sync since."""

    @classmethod
    def of(
        cls, run_id: str, log: EventLog, repository: dg.RepositoryDefinition | None, *, clock_ahead: timedelta
    ) -> Self:
        """The plan of a run, from the run's own log."""
        adoptions = log.adoptions_by(run_id)
        began_at = {key: adoption.began_at for key, adoption in adoptions.items() if adoption.released}
        logs = log.of_tables(began_at, clock_ahead=clock_ahead)
        planned = log.planned_by(run_id)
        return cls(
            downstream={key: _after(key, planned, repository) for key in began_at},
            is_done=lambda key: logs[key].is_synced_since(began_at[key]),
        )

    def ready_after(self, keys: set[dg.AssetKey]) -> set[dg.AssetKey]:
        """What can run after these tables: each other table that it is downstream of has its result."""
        return {asset for asset in self._after_any(keys) - keys if all(map(self.is_done, self._before(asset) - keys))}

    def waiting(self, keys: set[dg.AssetKey], pending: set[dg.AssetKey], *, is_complete: bool) -> set[dg.AssetKey]:
        """The tables that share an asset downstream with one that a run is about to report.

        The request that comes last takes the asset along, and it must be known then how the other table ended.
        """
        waiting: set[dg.AssetKey] = set()
        for asset in self._after_any(keys):
            others = self._before(asset) - keys
            if others & pending or not (is_complete or all(map(self.is_done, others))):
                waiting |= self._before(asset) & keys
        return waiting

    def _after_any(self, keys: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
        return set[dg.AssetKey]().union(*(self.downstream.get(key, set()) for key in keys))

    def _before(self, asset: dg.AssetKey) -> set[dg.AssetKey]:
        return self._upstream.get(asset, set())

    @cached_property
    def _upstream(self) -> Mapping[dg.AssetKey, set[dg.AssetKey]]:
        upstream: dict[dg.AssetKey, set[dg.AssetKey]] = {}
        for key, after in self.downstream.items():
            for asset in after:
                upstream.setdefault(asset, set()).add(key)
        return upstream


def _after(key: dg.AssetKey, planned: set[dg.AssetKey], repository: dg.RepositoryDefinition | None) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    left = [key]
    while repository is not None and left:
        at, graph = left.pop(), repository.asset_graph
        children = graph.get(at).child_keys & planned if graph.has(at) else set()
        after = {each for each in children - found if graph.get(each).is_executable}
        found |= after
        left += after
    return found


def _run_key(run: dg.DagsterRun, group: Iterable[Released]) -> str:
    jobs = hashlib.blake2b(" ".join(sorted(each.job.id for each in group)).encode(), digest_size=8).hexdigest()
    return f"completes:{run.run_id}:{jobs}"


def _note(released: Released, *, run_key: str) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key(released.table),
        description=f"Sync {released.job.id} has ended. A run is requested to report it.",
        metadata=completion_metadata(released.table, released.job, run_key=run_key),
    )


def _tags_of_users(run: dg.DagsterRun) -> Mapping[str, str]:
    def is_of_user(tag: str) -> bool:
        return tag in _TAGS_OF_USERS or not tag.startswith(("dagster/", ".dagster/"))

    return {tag: value for tag, value in run.tags.items() if is_of_user(tag)}
