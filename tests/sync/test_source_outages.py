"""What the engine does when PostHog refuses, is silent, or loses an answer."""

from dataclasses import replace

import pytest
from sync_model import Run, Table, World, one_table, play, problem, requests_for, too_many_requests

from dw_orchestration.posthog import errors as api
from dw_orchestration.sync import errors
from dw_orchestration.sync.errors import SyncOutcome
from dw_orchestration.sync.events import Adopted, BillingStopped
from dw_orchestration.tables.classify import SchemaClass

DAY_S = 86_400.0


def server_error() -> api.ServerError:
    """A 502."""
    return api.ServerError(problem(502))


# --- triggers ---


def test_a_lost_answer_is_not_answered_with_another_trigger() -> None:
    """The trigger may have had its effect: its job is looked for, and found."""
    world, table = one_table()
    world.past(table, ago_s=600)
    world.lost = 1

    played = play(world).to_end()

    assert (1, 1) == (world.triggers["t"], len(played.all(Adopted)))
    assert played.ended().outcome is SyncOutcome.COMPLETED
    assert played.ended().queue_s is None
    assert "not repeated" in played.notices()


@pytest.mark.parametrize(
    "error",
    [
        api.LostAnswerError("reset"),
        api.AnswerTimeoutError("late"),
        server_error(),
        api.UnexpectedAnswerError(problem(200)),
    ],
)
def test_a_lost_trigger_that_had_no_effect_is_never_started(error: api.PostHogError) -> None:
    """No job appears either: the table ends, and another try may help."""
    world, _ = one_table()
    world.faults["trigger"].append(error)

    raised = play(world).to_end().error()

    assert isinstance(raised, errors.SyncNeverStartedError)
    assert raised.allow_retries
    assert "The answer to the trigger was lost" in str(raised)
    assert world.triggers["t"] == 1


@pytest.mark.parametrize("error", [too_many_requests(45), api.UnreachableError("no route")])
def test_a_trigger_that_was_not_taken_is_sent_again(error: api.PostHogError) -> None:
    """429 and an unreachable server mean that nothing was done: the trigger goes out later, when PostHog asks."""
    world, _ = one_table()
    world.faults["trigger"].append(error)

    played = play(world).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)
    assert "No table is triggered for" in played.notices()


def test_triggers_that_are_never_taken_are_given_up() -> None:
    """A key whose limit others use up permanently: the run ends after its total timeout."""
    world = World()
    world.add("s", *(Table(f"t{n}", f"table_{n}") for n in range(3)))
    running = Table("running", "running", usual_run=Run(duration_s=3600))
    world.add("s", running)
    world.start(running)
    world.sleep(10)
    world.faults["trigger"].extend(too_many_requests(None) for _ in range(200))

    asked = [request for request in requests_for(world) if request.schema_id == "running"]
    asked += [request for request in requests_for(world) if request.schema_id != "running"]
    played = play(world, requests=asked, total_timeout_s=1800, unreachable_timeout_s=60).to_end()

    refused = {schema_id for schema_id, outcome in played.outcomes().items() if outcome is SyncOutcome.REFUSED}
    assert {"t0", "t1", "t2"} == refused
    assert played.outcomes()["running"] is SyncOutcome.TOO_LONG
    assert played.error("t2").allow_retries
    assert 1800 <= world.t <= 1920


def test_refusals_with_a_success_between_them_do_not_add_up() -> None:
    """Only an unbroken run of refused triggers is given up."""
    world = World()
    world.add("s", *(Table(f"t{n}", f"table_{n}", usual_run=Run(duration_s=5)) for n in range(5)))
    world.faults["trigger"].extend([too_many_requests(10), None, None, None, too_many_requests(10)])

    played = play(world, triggers_per_min=1, total_timeout_s=100, unreachable_timeout_s=100).to_end()

    assert {SyncOutcome.COMPLETED} == set(played.outcomes().values())


@pytest.mark.parametrize(
    ("error", "expected", "allow_retries"),
    [
        (api.BadRequestError(problem(400, detail="Couldn't start the sync.")), errors.TriggerRefusedError, True),
        (
            api.BadRequestError(replace(problem(400, detail="This table has no sync frequency"), code="invalid_input")),
            errors.TriggerRefusedError,
            False,
        ),
        (
            api.MissingScopeError(problem(403, detail="API key missing required scope")),
            errors.TriggerRefusedError,
            False,
        ),
        (api.ReadOnlyError("the client is read-only"), errors.TriggerRefusedError, False),
        (api.NotFoundError(problem(404)), errors.TriggerRefusedError, True),
        (
            api.PermissionDeniedError(problem(403, detail="This schema is managed by PostHog")),
            errors.NotSyncableError,
            False,
        ),
    ],
)
def test_a_refused_trigger_ends_its_table_alone(
    *, error: api.PostHogError, expected: type[errors.SyncError], allow_retries: bool
) -> None:
    """What PostHog refuses is an end at once, with its reason; the other tables continue."""
    world, _ = one_table()
    world.add("s", Table("other", "other"))
    world.faults["trigger"].append(error)

    played = play(world).to_end()

    raised = played.error()
    assert (expected, allow_retries) == (type(raised), raised.allow_retries)
    assert raised.__cause__ is error
    assert played.ended("other").outcome is SyncOutcome.COMPLETED
    if isinstance(raised, errors.NotSyncableError):
        assert raised.schema_class is SchemaClass.EXTERNAL


# --- billing ---


@pytest.mark.parametrize("is_refused", [True, False])
def test_the_billing_limit_stops_further_triggers(*, is_refused: bool) -> None:
    """The first table that meets the limit, by answer or by job, saves the rest of the project from trying."""
    world = World()
    world.add("a", *(Table(f"a{n}", f"table_{n}") for n in range(4)))
    world.add("b", *(Table(f"b{n}", f"table_{n}") for n in range(4)))
    if is_refused:
        world.faults["trigger"].append(api.BillingLimitError(problem(400)))
    else:
        world.table("a0").runs.append(Run(queue_s=1, duration_s=0.1, status="Billing limits"))

    played = play(world, triggers_per_min=6).to_end()

    outcomes = played.outcomes()
    assert outcomes.pop("a0") is SyncOutcome.BILLING_LIMIT
    untried = [schema_id for schema_id in outcomes if world.triggers[schema_id] == 0]
    assert len(untried) >= 6
    assert {SyncOutcome.NOT_TRIGGERED} == {outcomes[schema_id] for schema_id in untried}
    stopped = played.events[-1]
    assert isinstance(stopped, BillingStopped)
    assert (tuple(untried), played.error("a0")) == (stopped.not_triggered, stopped.error)
    assert not played.error(untried[0]).allow_retries


def test_a_running_sync_is_attached_to_although_billing_stopped_the_batch() -> None:
    """Attaching triggers nothing, so the limit does not forbid it."""
    world, first = one_table(Run(queue_s=1, duration_s=0.1, status="Billing limits"))
    second = Table("u", "u", usual_run=Run(duration_s=600))
    world.add("s", second)
    world.start(second)
    world.sleep(5)

    played = play(world, triggers_per_min=6).to_end()

    assert {"t": SyncOutcome.BILLING_LIMIT, "u": SyncOutcome.COMPLETED} == played.outcomes()
    assert first.name


def test_a_table_that_is_too_big_for_the_limit_stops_no_other() -> None:
    """PostHog counts the rows of one table: the others may well fit."""
    world, _ = one_table(Run(queue_s=1, duration_s=0.1, status="Billing limit too low"))
    world.add("s", Table("u", "u"))

    played = play(world, triggers_per_min=6).to_end()

    assert {"t": SyncOutcome.BILLING_LIMIT_TOO_LOW, "u": SyncOutcome.COMPLETED} == played.outcomes()


# --- failure streaks ---


@pytest.mark.parametrize(
    ("failures", "last_ago_s", "wait_s"), [(4, 60, None), (5, 60, 600), (6, 60, 1200), (9, 60, 3600), (5, 700, None)]
)
def test_a_table_in_a_failure_streak_is_not_tried_before_its_gap(
    failures: int, last_ago_s: float, wait_s: float | None
) -> None:
    """PostHog would take the trigger and start nothing: five failures cost 10 minutes, each further one doubles it."""
    world, table = one_table()
    world.past(table, ago_s=9000)
    for n in range(failures):
        world.past(table, ago_s=last_ago_s + 10 + n * 100, took_s=10, status="Failed", error="broken")
    world.past(table, ago_s=last_ago_s - 10, took_s=5, status="Failed", error="Cancelled")

    played = play(world).to_end()

    if wait_s is None:
        assert played.ended().outcome is SyncOutcome.COMPLETED
        return
    error = played.error()
    assert isinstance(error, errors.FailureStreakError)
    assert (0, True) == (world.triggers["t"], error.allow_retries)
    assert wait_s - last_ago_s == pytest.approx(error.retry_after_s, abs=2)
    assert f"its last {failures} syncs failed (broken)" in str(error)


def test_a_streak_does_not_keep_from_attaching() -> None:
    """A running job is there to be attached to, even if others failed before."""
    world, table = one_table()
    for n in range(6):
        world.past(table, ago_s=100 + n * 100, took_s=10, status="Failed", error="broken")
    world.start(table)
    world.sleep(10)

    assert play(world).to_end().ended().outcome is SyncOutcome.COMPLETED


# --- polls ---


def test_failing_polls_do_not_fail_a_table() -> None:
    """An outage of minutes is waited out, reported once, and counts against no deadline."""
    world, _ = one_table(Run(queue_s=530))
    world.outages.append((5, 500, server_error))

    played = play(world, start_timeout_s=60).to_end()

    assert played.ended().outcome is SyncOutcome.COMPLETED
    assert 1 == played.notices().count("is unreachable")
    assert 1 == played.notices().count("is reachable again")


def test_an_outage_beyond_the_budget_is_the_end() -> None:
    """After 15 minutes of failing polls the source's tables are given up, and others are not; a retry may help."""
    world, _ = one_table(Run(duration_s=7200))
    world.outages.append((5, 5000, server_error))

    played = play(world).to_end()

    error = played.error()
    assert isinstance(error, errors.SourceUnreachableError)
    assert (True, True) == (error.allow_retries, isinstance(error.__cause__, api.ServerError))
    assert 900 <= world.t <= 960


def test_a_rate_limit_is_waited_out_as_told() -> None:
    """429 with a wait longer than the budget for errors is obeyed, and is no failure."""
    world, _ = one_table(Run(duration_s=3000))
    world.faults["list_jobs"].extend([None, None, too_many_requests(1200), too_many_requests(None)])

    played = play(world, stall_timeout_s=1100).to_end()

    assert played.ended().outcome is SyncOutcome.COMPLETED


def test_a_rate_limit_without_end_is_the_end() -> None:
    """A key that others use up permanently does not block a run permanently."""
    world, _ = one_table()
    world.outages.append((5, 1e9, lambda: too_many_requests(100)))

    assert play(world, total_timeout_s=3600).to_end().ended().outcome is SyncOutcome.UNREACHABLE
    assert 3600 <= world.t <= 3800


@pytest.mark.parametrize(
    "error",
    [
        api.AuthenticationError(problem(401)),
        api.PermissionDeniedError(problem(403)),
        api.ProjectNotFoundError(problem(404, detail="Project not found.")),
    ],
)
def test_a_source_that_the_key_may_not_read_fails_at_once(error: api.PostHogError) -> None:
    """A wrong key or project at the beginning is no outage and no deleted table, and concerns this source alone."""
    world, _ = one_table()
    world.add("open", Table("o", "o"))
    world.faults["get_source"].append(error)

    played = play(world).to_end()

    raised = played.error()
    assert (errors.TriggerRefusedError, False) == (type(raised), raised.allow_retries)
    assert raised.__cause__ is error
    assert played.ended("o").outcome is SyncOutcome.COMPLETED


NOT_ITS_OWN = [api.UnexpectedAnswerError(problem(status)) for status in (200, 400, 401, 403, 404)]


@pytest.mark.parametrize(
    "error", [*NOT_ITS_OWN, api.NotFoundError(problem(404)), api.ProjectNotFoundError(problem(404))]
)
@pytest.mark.parametrize("polls_before", [0, 1, 3])
def test_a_single_answer_is_not_the_end(*, error: api.PostHogError, polls_before: int) -> None:
    """A gateway's page, at any poll, proves nothing; PostHog's own 404 counts when another read confirms it."""
    world, _ = one_table()
    world.faults["get_source" if not polls_before else "list_jobs"].extend([*[None] * polls_before, error])

    if not polls_before and isinstance(error, api.ProjectNotFoundError):
        # a wrong setting of the run, not an outage
        assert isinstance(play(world).to_end().error(), errors.TriggerRefusedError)
        return
    played = play(world).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


@pytest.mark.parametrize("error", NOT_ITS_OWN)
def test_gateways_pages_are_an_outage(error: api.PostHogError) -> None:
    """Pages for minutes are waited out; a retry may help when they do not end."""
    world, _ = one_table(Run(duration_s=300))
    world.outages.append((5, 250, lambda: error))
    assert play(world).to_end().ended().outcome is SyncOutcome.COMPLETED

    world, _ = one_table(Run(duration_s=7200))
    world.outages.append((5, 5000, lambda: error))
    raised = play(world).to_end().error()
    assert (errors.SourceUnreachableError, True) == (type(raised), raised.allow_retries)


@pytest.mark.parametrize(("tables", "is_first"), [(1, True), (60, True), (60, False)])
def test_a_table_that_one_read_does_not_show_is_not_deleted(*, tables: int, is_first: bool) -> None:
    """A record without a table counts when another read confirms it; until then the table continues."""
    world = World()
    world.add("s", *(Table(f"t{n}", f"table_{n}") for n in range(tables)))
    played = play(world)
    if is_first:
        world.hidden["t0"] = 1
    else:
        world.at(20, lambda: world.hidden.update(t0=1))

    assert {SyncOutcome.COMPLETED} == set(played.to_end().outcomes().values())
    assert 0 == world.hidden["t0"]


def test_a_trigger_that_is_refused_as_unknown_is_checked() -> None:
    """PostHog's 404 to a trigger ends the table as deleted if its source does not show it either."""
    world, table = one_table()
    world.faults["trigger"].append(api.NotFoundError(problem(404)))
    world.faults["get_source"].extend([None, server_error()])
    assert isinstance(play(world).to_end().error(), errors.TriggerRefusedError)

    world, table = one_table()
    world.add("s", Table("other", "other"))
    played = play(world)
    world.at(0.1, lambda: world.delete(table))
    raised = played.to_end().error()
    assert isinstance(raised, errors.SchemaDeletedError)
    assert not raised.allow_retries


def test_a_source_that_answers_late_is_triggered_late() -> None:
    """Nothing is triggered at a source whose jobs have not been read."""
    world, _ = one_table()
    world.outages.append((0, 120, server_error))

    played = play(world).to_end()

    assert (1, SyncOutcome.COMPLETED) == (world.triggers["t"], played.ended().outcome)


def test_nothing_is_triggered_at_a_source_that_cannot_be_seen() -> None:
    """In an outage no more than the trigger that met it first is lost: the queue waits for the source to be seen."""
    world = World()
    world.add("s", *(Table(f"t{n}", f"table_{n}") for n in range(8)))
    world.outages.append((12, 200, server_error))

    outcomes = list(play(world, triggers_per_min=6).to_end().outcomes().values())

    assert outcomes.count(SyncOutcome.COMPLETED) >= 7


def test_a_record_that_cannot_be_read_does_not_keep_a_table_from_its_end() -> None:
    """The start deadline ends a table even if the record that would explain it is not to be had."""
    world, _ = one_table(Run(leaves_row=False))
    world.faults["get_source"].extend([None, server_error()])

    assert play(world).to_end().ended().outcome is SyncOutcome.NEVER_STARTED


def test_slow_answers_count_against_no_deadline() -> None:
    """A client may wait for its rate budget within a request: deadlines stand still meanwhile."""
    world, _ = one_table(Run(queue_s=500), world=World(latency_s=100))

    assert play(world, start_timeout_s=60).to_end().ended().outcome is SyncOutcome.COMPLETED
