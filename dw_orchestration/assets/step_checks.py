"""The checks of the tables of one step, as the step reports them to Dagster."""

from collections.abc import Iterator, Sequence

import dagster as dg

from dw_orchestration.assets.checks import CheckOutcome, check_keys, no_new_sync
from dw_orchestration.assets.event_log import EventLog

_NOT_YIELDED = "did not yield or return expected outputs"


class StepChecks:
    """The check outcomes of a step: each check of each table gets one, also if the table was not synced.

    Dagster shows a check that a failed run has planned and not evaluated as "execution failed", and a re-execution from
    the failure selects no check that has an evaluation. So all checks are evaluated, no matter which are selected.

    A step yields evaluations, and not results: Dagster stores an output for each result, which nothing reads.

    Args:
        context: The context of the step.
        log: The event log.
        keys: The tables' assets.
    """

    def __init__(self, context: dg.AssetExecutionContext, log: EventLog, keys: Sequence[dg.AssetKey]) -> None:
        self._context = context
        self._log = log
        self._reasons = dict.fromkeys(keys, "")
        self._outcomes: dict[dg.AssetCheckKey, CheckOutcome] = {}
        self._notes: list[dg.AssetObservation] = []
        self._complete: list[dg.AssetKey] = []

        # Dagster logs which outputs of checks were not yielded: two names a table, of what is no mistake
        context.log.addFilter(lambda record: _NOT_YIELDED not in record.getMessage())

    def keep(self, *outcomes: CheckOutcome) -> None:
        """Keep outcomes, at most until the step ends."""
        self._outcomes |= {outcome.check_key: outcome for outcome in outcomes}

    def note(self, observation: dg.AssetObservation) -> None:
        """Keep what makes a sync known as reported: it is stored last, as nothing of the report may be missing then."""
        self._notes.append(observation)

    def keep_last(self, key: dg.AssetKey) -> None:
        """Let a table's checks repeat their last evaluation, since Dagster shows those of its last result alone."""
        evaluations = map(self._log.last_evaluation, check_keys(key))
        self.keep(*(CheckOutcome.of(evaluation) for evaluation in evaluations if evaluation is not None))

    def keep_no_new_sync(self, key: dg.AssetKey, why: str) -> None:
        """Note why a table has no new sync; its checks without an outcome give this reason."""
        self._reasons[key] = why

    def are_evaluated(self, key: dg.AssetKey) -> bool:
        """Whether an earlier try of the step has evaluated a table's checks, which are not evaluated again then."""
        if any(map(self._log.is_awaited, check_keys(key))):
            return False
        del self._reasons[key]
        return True

    def blame_the_run(self, why: str) -> None:
        """Fail no table for what is wrong with the run, which is red for it."""
        self._outcomes.clear()
        self._notes.clear()
        self._reasons = dict.fromkeys(self._reasons, why)

    def complete(self, key: dg.AssetKey) -> None:
        """Note that a table has its result."""
        self._complete.append(key)

    def evaluations_of_complete(self) -> Iterator[dg.AssetCheckEvaluation]:
        """The outcomes for the tables that have their results: at the end, those of a thousand would take a minute."""
        complete, self._complete = self._complete, []
        for key in complete:
            yield from self._evaluations_of(key)

    def _evaluations_of(self, key: dg.AssetKey, why: str = "") -> Iterator[dg.AssetCheckEvaluation]:
        reason = self._reasons.pop(key) or why
        for check in check_keys(key):
            last = None if check in self._outcomes else self._log.last_evaluation(check)
            yield self._evaluation(self._outcomes.get(check) or no_new_sync(check, last=last, why=reason))

    def evaluations(self, why: str = "") -> Iterator[dg.AssetCheckEvaluation]:
        """The outcome of each other check; once they are stored, the notes are, too.

        Args:
            why: Why there is no new sync, where nothing else is known.
        """
        for key in list(self._reasons):
            yield from self._evaluations_of(key, why)
        for note in self._notes:
            self._context.log_event(note)

    def _evaluation(self, outcome: CheckOutcome) -> dg.AssetCheckEvaluation:
        """With the materialization that it judges, which the UI shows; the step of a maintenance job has no assets."""
        if not self._context.has_assets_def:
            return outcome.to_evaluation()
        return outcome.to_result().to_asset_check_evaluation(self._context.get_step_execution_context())
