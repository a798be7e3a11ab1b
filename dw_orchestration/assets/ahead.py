"""The first step of a run starts the syncs of all steps, so that none of them waits in PostHog for a slot in Dagster.

The step that leads is the first one in the run's plan. It claims the other steps in the run's log, starts their syncs,
writes each adoption down as for its own, and follows only its own. A step that comes later waits for these adoptions
and takes them up. What the leading step hands back, or leaves when it ends or dies, the other steps start themselves.

All processes read the same log, which is in one order for all of them: a step is of the first that claimed it. So each
sync is started by one process, no matter which of them is first.

A limit that is there to spare a source disables all this: a pool, or a concurrency limit for a tag of the step or the
run. So do different settings for each step, a resync, and an upstream asset that the run materializes first.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.event_log import Adoption, EventLog
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.limits import ABANDONED_AFTER
from dw_orchestration.resources.failure import plain_failure
from dw_orchestration.sync.cancel import StartedJob
from dw_orchestration.tables.table import Table

Steps = Mapping[str, Sequence[Table]]
"""The tables of each step, by its name."""

_CLAIMED = "Starts the syncs of the steps "
_HANDED_BACK = "Leaves it to these steps to start their syncs: "
_ENDS = (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY)
_READ_EVERY_S = 1.0
# A leading step that is lost without a trace has written nothing for so long. It can be slow: a request budget that is
# used up keeps each process waiting for most of an hour.
LEADER_IS_LOST_AFTER_S = 4000.0
_POOL_TAG = "dagster/concurrency_key"


@dataclass
class Claims:
    """Which step starts the syncs of each step, as the log has it."""

    starter: dict[str, str] = field(default_factory=dict)
    first: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Which step claimed each step first, and when."""

    def claim(self, steps: Iterable[str], *, by: str, at: float) -> None:
        """A step sets out to start the syncs of steps: of those that no other has claimed."""
        for step in steps:
            self.starter.setdefault(step, by)
            self.first.setdefault(step, (by, at))

    def hand_back(self, steps: Iterable[str], *, by: str) -> None:
        """A step leaves others that it has claimed to themselves."""
        for step in steps:
            if self.starter.get(step) == by != step:
                del self.starter[step]

    def end(self, step: str) -> None:
        """A step has ended, and starts nothing for others any more."""
        self.hand_back([led for led, starter in self.starter.items() if starter == step], by=step)


class Ahead:
    """What one step starts for the others of its run, and what another step starts for this one.

    Args:
        context: The context of the step.
        config: Its config.
        steps: The tables of each step of the project. Without them, each step starts its own.
        log: The event log.
        now: The machine's clock, in seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        config: PostHogSyncConfig,
        steps: Steps,
        *,
        log: EventLog,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._context = context
        self._log = log
        self._now = now
        self._sleep = sleep
        self._step = context.op_execution_context.op.name
        together = _together(context, steps, step=self._step) if steps and config.sync_mode == "reload" else {}
        self._steps: Steps = together if len(together) > 1 and self._step in together else {}
        self._step_of = {table.id: step for step, tables in self._steps.items() for table in tables}
        self._claims = Claims()
        self._unstarted: dict[str, set[str]] = {}
        self._incomplete: set[str] = set()

    @property
    def is_together(self) -> bool:
        """Whether one step starts the syncs of this and other steps."""
        return bool(self._steps)

    @property
    def tables(self) -> list[Table]:
        """The tables of all steps whose syncs are started together."""
        return [table for tables in self._steps.values() for table in tables]

    def lead(self) -> list[Table]:
        """Claim what this step starts for others; nothing unless it is the first one in the plan."""
        if not self._steps or next(iter(self._steps)) != self._step:
            return []
        claims = self._read()
        if free := [step for step in self._steps if step not in claims.starter]:
            self._report(_CLAIMED, free)
            claims = self._read()
        led = [step for step in free if step != self._step and claims.starter.get(step) == self._step]
        self._unstarted = {step: {table.id for table in self._steps[step]} for step in led}
        return [table for step in led for table in self._steps[step]]

    def done(self, table: Table, *, is_adopted: bool) -> None:
        """Note that a table of another step has a job that is written down, or that its step has to start it.

        A step is handed back once nothing more is started for it: until then, another process would start it too.
        """
        step = self._step_of[table.id]
        self._unstarted[step].discard(table.id)
        self._incomplete |= set() if is_adopted else {step}
        if not self._unstarted[step] and step in self._incomplete:
            self._report(_HANDED_BACK, [step])

    def wait(self, keys: Collection[dg.AssetKey]) -> None:
        """Wait until another step has started the syncs of these tables of this step, or does not do so any more.

        Raises:
            Failure: The run has ended: Celery does not end the steps of a run that is terminated or has failed.
        """
        last_at, adopted = self._now(), 0
        while self._steps and (starter := self._read().starter.get(self._step)) != self._step:
            found = self._log.adoptions_by(self._context.run.run_id).keys()
            if len(found) > adopted:
                last_at, adopted = self._now(), len(found)
            if found >= set(keys) or self._now() - last_at > LEADER_IS_LOST_AFTER_S:
                return
            if starter is None:
                self._report(_CLAIMED, [self._step])
            elif self._log.is_over(self._context.run.run_id):
                raise plain_failure("The run has ended, so this step starts no sync.")
            else:
                self._sleep(_READ_EVERY_S)

    def claimed_at(self, table: Table) -> datetime | None:
        """When another step, or an earlier try of this one, set out to start the table's sync; None if none did.

        A process that has died may have started a sync without writing its job down.
        """
        by, at = self._claims.first.get(self._step_of.get(table.id, ""), (self._step, 0.0))
        is_other = by != self._step or (self._context.retry_number > 0 and at > 0)
        return datetime.fromtimestamp(at, tz=UTC) if is_other else None

    def _read(self) -> Claims:
        kinds = {dg.DagsterEventType.ENGINE_EVENT, *_ENDS}
        claims = Claims()
        for entry in self._context.instance.all_logs(self._context.run.run_id, of_type=kinds):
            event = entry.dagster_event
            if event is None or event.step_key is None:
                continue
            text = event.message or ""
            if event.event_type in _ENDS:
                claims.end(event.step_key)
            elif text.startswith(_CLAIMED):
                claims.claim(_names(text, _CLAIMED), by=event.step_key, at=entry.timestamp)
            elif text.startswith(_HANDED_BACK):
                claims.hand_back(_names(text, _HANDED_BACK), by=event.step_key)
        self._claims = claims
        return claims

    def _report(self, what: str, steps: Iterable[str]) -> None:
        text = what + ", ".join(steps)
        self._context.instance.report_engine_event(text, self._context.run, step_key=self._step)


def started_by(run_id: str, tables: Iterable[Table], *, log: EventLog, now: datetime) -> Iterator[StartedJob]:
    """The jobs that the run has started and should cancel when it is terminated, unless they have ended.

    The event log shows that, or their age: PostHog lets no sync run for longer.
    """
    by_key = {asset_key(table): table for table in tables}
    for key, adoption in log.adoptions_by(run_id).items():
        if key not in by_key or not adoption.ends_with_run or now - adoption.began_at > ABANDONED_AFTER:
            continue
        if not log.syncs_of(key, since=adoption.began_at).include(adoption.job_id):
            yield _started(by_key[key], adoption)


def _started(table: Table, adoption: Adoption) -> StartedJob:
    return StartedJob(
        source_id=table.source.id,
        schema_id=table.id,
        name=table.schema.name,
        job_id=adoption.job_id,
        created_at=adoption.began_at,
    )


def _names(text: str, what: str) -> list[str]:
    return text.removeprefix(what).split(", ")


def _together(context: dg.AssetExecutionContext, steps: Steps, *, step: str) -> dict[str, list[Table]]:
    """The selected tables of the steps whose syncs the run can start together with this step's, in the plan's order."""
    run = context.run
    if run.execution_plan_snapshot_id is None or _is_run_limited(context.instance, run.tags):
        return {}
    plan = context.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    planned, limits = plan.step_keys_to_execute, _step_limits(context)
    selected = context.job_def.asset_layer.selected_asset_keys
    config = _config_of(step, run.run_config)
    together: dict[str, list[Table]] = {}
    by_key = {each.key: each for each in plan.steps}
    for key in planned:
        tables = [table for table in steps.get(key, ()) if asset_key(table) in selected]
        upstream = {handle.step_key for each in by_key[key].inputs for handle in each.upstream_output_handles}
        is_limited = by_key[key].pool is not None or _is_limited(by_key[key].tags or {}, limits)
        if tables and not is_limited and upstream.isdisjoint(planned) and _config_of(key, run.run_config) == config:
            together[key] = tables
    return together


def _config_of(step: str, run_config: Mapping[str, Any]) -> Mapping[str, Any]:
    given: Mapping[str, Any] = run_config.get("ops", {}).get(step, {}).get("config", {})
    return given


def _step_limits(context: dg.AssetExecutionContext) -> Sequence[Mapping[str, Any]]:
    """The limits of the executor for tags of steps, as code or the run's config set them."""
    run_config: Mapping[str, Any] = context.run.run_config
    given = run_config.get("execution", {}).get("config", {})
    evaluated = context.job_def.executor_def.apply_config_mapping({"config": given})
    return list(_limits_in(evaluated.value or given))


def _limits_in(config: object) -> Iterator[Mapping[str, Any]]:
    """Each executor has its own place for them."""
    if isinstance(config, Mapping):
        yield from config.get("tag_concurrency_limits") or ()
        for value in config.values():
            yield from _limits_in(value)


def _is_run_limited(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> bool:
    queue = instance.get_concurrency_config().run_queue_config
    return queue is not None and _is_limited(tags, queue.tag_concurrency_limits or ())


def _is_limited(tags: Mapping[str, str], limits: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a limit is for one of the tags: for any value, for each value, or for one."""
    if _POOL_TAG in tags:
        return True
    values = ((limit["key"], limit.get("value")) for limit in limits)
    return any(key in tags and (not isinstance(value, str) or value == tags[key]) for key, value in values)
