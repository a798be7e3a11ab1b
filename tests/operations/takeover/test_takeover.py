"""A takeover moves PostHog's own schedules out of the way, and gives back exactly what was there."""

from datetime import UTC, datetime, time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dw_orchestration import errors
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.settings import change_settings
from dw_orchestration.operations.takeover import (
    Change,
    TakeoverPlan,
    apply_takeover,
    give_back,
    plan_takeover,
    take_over,
    usual_rows,
)
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import Schema, Source
from dw_orchestration.schedules import ScheduleOverride, SchedulingMode, build_posthog_schedules
from dw_orchestration.tables.snapshot import WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

FREQUENCIES = ["5min", "15min", "30min", "1hour", "6hour", "12hour", "24hour", "7day", "30day"]
NAMES = ["a.customers", "a.invoices", "b.customers", "b.invoices"]
NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)


class Interposed(httpx.HTTPTransport):
    """The network, with something happening just before the second change of a source's tables is sent."""

    def __init__(self, happens) -> None:
        super().__init__()
        self.happens = happens
        self.changes = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.rstrip("/").endswith("bulk_update_schemas"):
            self.changes += 1
            if self.changes == 2:
                self.happens(request)
        return super().handle_request(request)


def interposed(project, happens) -> PostHogWarehouseClient:
    """A client during whose work something happens."""
    return PostHogWarehouseClient(
        project.endpoint.host,
        1,
        project.endpoint.api_key,
        rate_limits=None,
        sleep=lambda _: None,
        http_transport=Interposed(happens),
    )


def tables_of(snapshot) -> Tables:
    """All tables of a snapshot."""
    return Tables(snapshot, include_disabled=True)


def ours(project) -> Project:
    """The project as operations have it."""
    return Project(project.client, project.endpoint.host)


def plan_for(project) -> TakeoverPlan:
    return plan_takeover(tables_of(project.snapshot()), now=NOW)


def took_over(project) -> dict[str, Change]:
    """The outcome for each table when everything is taken over."""
    outcomes = apply_takeover(project.client, plan_for(project))
    return {outcome.name.removeprefix("stripe_"): outcome.change for outcome in outcomes}


def gave_back(project, *names: str, client: PostHogWarehouseClient | None = None) -> dict[str, Change]:
    """The outcome for each table when these are given back, or everything."""
    tables = tables_of(project.snapshot())
    outcomes = give_back(client or project.client, tables.matching(names) if names else tables)
    return {outcome.name.removeprefix("stripe_"): outcome.change for outcome in outcomes}


def described(schedules) -> list[tuple[str, object, str]]:
    """When the schedules tick, and for what."""
    return sorted((schedule.name, schedule.cron_schedule, schedule.description) for schedule in schedules)


def test_plan_says_what_would_change_and_changes_nothing(project) -> None:
    """A plan names what each table is now, what it would be, and when PostHog ticks next."""
    project.set("a.customers", sync_frequency="1hour", sync_time_of_day=time(7, 11))
    before, snapshot = project.settings(), project.snapshot()

    plan = plan_takeover(tables_of(snapshot).matching(["stripe_a.customers"]), now=NOW)

    (move,) = plan.moves
    assert ("stripe_a.customers", "every hour from 00:11 UTC", "every 30 days at 07:11 UTC", "2026-12-03 07:11") == (
        move.name,
        move.now.describe(),
        move.then.describe(),
        f"{move.next_tick:%Y-%m-%d %H:%M}",
    )
    assert before == project.settings()


def test_rows_are_estimated_from_several_syncs(project, tmp_path, wait_until) -> None:
    """The first sync imports all rows: the usual ones count, and two digits of them are all that an estimate has."""
    project.set("a.customers", sync_frequency="1hour")
    (tmp_path / "fixtures" / "stripe" / "customers.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    for _ in range(2):
        project.clock.advance(minutes=1)
        project.client.reload_schema(project.tables()["a.customers"])
        project.settle(wait_until)
    chosen = tables_of(project.snapshot()).matching(["stripe_a.customers", "stripe_b.invoices"])

    report = take_over(ours(project), [table.name for table in chosen], dry_run=True, now=lambda: NOW)

    assert {table.id: rows for table, rows in zip(chosen, [2, 10], strict=True)} == usual_rows(project.client, chosen)
    assert {"stripe_a.customers": 48, "stripe_b.invoices": 40} == {
        row["table"]: row["rows_per_day"] for row in report.rows
    }
    assert "syncs of 2 tables would import 88 rows a day less, estimated from the last syncs." in report.summary


@pytest.mark.parametrize(("days", "left"), [(29, True), (30, False), (None, False)])
def test_plan_leaves_a_table_whose_full_refresh_is_due_more_often(*, days: int | None, left: bool) -> None:
    """PostHog refuses a frequency that is longer than the interval of the table's full refreshes."""
    schema = Schema(
        id="t", name="t", should_sync=True, sync_type="append", sync_frequency="1hour", full_refresh_interval_days=days
    )

    plan = plan_takeover(Tables.live([Source(id="s", source_type="Stripe", schemas=(schema,))]), now=NOW)

    assert left == ("stripe.t" in plan.left)
    assert not left or "Set its full_refresh_interval_days to at least 30" in plan.left["stripe.t"]


def test_plan_leaves_what_dagster_could_not_drive(project) -> None:
    """A disabled table, or one that PostHog syncs monthly anyway, stays as it is, with the reason."""
    project.set("a.customers", should_sync=False)
    project.set("a.invoices", sync_frequency="30day")

    plan = plan_takeover(tables_of(project.snapshot()), now=NOW)

    assert ["stripe_b.customers", "stripe_b.invoices"] == [move.name for move in plan.moves]
    assert {"stripe_a.customers", "stripe_a.invoices"} == plan.left.keys()
    assert "every 30 days anyway" in plan.left["stripe_a.invoices"]


def test_plan_leaves_a_frequency_that_dagster_does_not_know(project) -> None:
    """Nothing would tick for such a table, so that it would be synced once a month only."""
    snapshot = project.snapshot()
    unknown = [
        source.model_copy(
            update={
                "schemas": tuple(
                    schema.model_copy(update={"sync_frequency": SyncFrequency("fortnightly")})
                    for schema in source.schemas
                )
            }
        )
        for source in snapshot.sources
    ]

    plan = plan_takeover(tables_of(snapshot.model_copy(update={"sources": tuple(unknown)})), now=NOW)

    assert ((), 4) == (plan.moves, len(plan.left))


def test_pattern_that_names_no_table_is_refused(project) -> None:
    """A mistyped table must not look like one with nothing to do."""
    with pytest.raises(errors.SetupError, match=r"'strype\.\*'.*stripe_a\.customers"):
        take_over(ours(project), ["stripe_*", "strype.*"])


def test_takeover_keeps_tables_on_and_their_time_of_day(project) -> None:
    """Only the frequency and the seconds are changed: PostHog ends the long syncs of disabled tables."""
    project.set("a.customers", sync_frequency="24hour", sync_time_of_day=time(7, 11))

    assert dict.fromkeys(NAMES, Change.MOVED) == took_over(project)
    assert (True, "30day", time(7, 11, 28)) == project.settings()["a.customers"]


def test_embedded_scheduler_ticks_monthly_afterwards(project, wait_until) -> None:
    """A table that is out of the way is synced by PostHog itself once in 30 days."""
    project.set("a.customers", sync_frequency="24hour", sync_time_of_day=time(7, 11))
    took_over(project)

    for _ in range(35):
        project.clock.advance(hours=19, minutes=11)
        project.embedded.scheduler.fire_due()
        project.settle(wait_until)
        project.clock.advance(hours=4, minutes=49)

    assert ["2026-12-03 07:11"] == project.jobs_by_schedule("a.customers")


@settings(max_examples=15)
@given(
    frequencies=st.lists(st.sampled_from(FREQUENCIES), min_size=4, max_size=4),
    times=st.lists(st.none() | st.times(), min_size=4, max_size=4),
)
def test_law_of_giving_back(lasting_project, frequencies, times) -> None:
    """For all frequencies and times, Dagster's schedules stay the same and PostHog's come back, to the minute."""
    project = lasting_project
    for name, frequency, at in zip(NAMES, frequencies, times, strict=True):
        project.set(name, sync_frequency=frequency, sync_time_of_day=at and at.replace(second=0, microsecond=0))
    before, own = (
        project.settings(),
        build_posthog_schedules(Tables(project.snapshot(), include_disabled=True, scheduling=SchedulingMode.DRIVE)),
    )

    took_over(project)
    driven = build_posthog_schedules(Tables(project.snapshot(), scheduling=SchedulingMode.DRIVE))
    moved = project.frequencies()
    gave_back(project)

    assert described(own) == described(driven)
    assert dict.fromkeys(NAMES, "30day") == moved
    assert before == project.settings()


def test_both_ways_can_be_repeated(project) -> None:
    """A second takeover changes nothing; a second giving back neither."""
    before = project.settings()
    took_over(project)
    taken = project.settings()

    assert {} == took_over(project)
    assert taken == project.settings()
    assert dict.fromkeys(NAMES, Change.GIVEN_BACK) == gave_back(project)
    assert {} == gave_back(project)
    assert before == project.settings()


def test_plan_that_is_applied_twice_stores_the_first_frequency(project) -> None:
    """A table that is moved already is not marked with 30 days as what was there before."""
    plan = plan_for(project)
    apply_takeover(project.client, plan)

    again = apply_takeover(project.client, plan)

    assert {Change.LEFT} == {outcome.change for outcome in again}
    gave_back(project)
    assert {"6hour"} == set(project.frequencies().values())


def test_what_is_there_counts_and_not_what_the_plan_saw(project) -> None:
    """A frequency that changed since the plan was made is the one that is given back."""
    plan = plan_for(project)
    project.set("b.invoices", sync_frequency="1hour")

    apply_takeover(project.client, plan)
    gave_back(project)

    assert "1hour" == project.frequencies()["b.invoices"]


def test_table_deleted_or_turned_off_since_the_plan_is_passed_over(project) -> None:
    """Such a table is named, and not changed."""
    plan = plan_for(project)
    project.set("a.customers", should_sync=False)
    project.client.delete_schema(project.tables()["b.invoices"])

    outcomes = apply_takeover(project.client, plan)

    assert {
        "stripe_a.customers": Change.LEFT,
        "stripe_a.invoices": Change.MOVED,
        "stripe_b.customers": Change.MOVED,
        "stripe_b.invoices": Change.GONE,
    } == {outcome.name: outcome.change for outcome in outcomes}


def test_source_that_cannot_be_changed_does_not_stop_the_others(project) -> None:
    """A source that is deleted meanwhile is named as failed; the other one is moved."""
    plan = plan_for(project)

    with interposed(project, lambda request: project.client.delete_source(request.url.path.split("/")[5])) as client:
        outcomes = apply_takeover(client, plan)

    assert {Change.MOVED: 2, Change.FAILED: 2} == {
        change: sum(outcome.change is change for outcome in outcomes) for change in (Change.MOVED, Change.FAILED)
    }


def test_takeover_that_ends_half_way_is_completed_by_another(project) -> None:
    """When the server goes away in between, what was moved is remembered, and a second takeover moves the rest."""
    plan, before = plan_for(project), project.settings()
    with (
        interposed(project, lambda _: project.embedded.stop()) as client,
        pytest.raises(errors.TransportError),
    ):
        apply_takeover(client, plan)
    restarted(project)

    assert 2 == list(project.frequencies().values()).count("30day")
    assert 2 == len(took_over(project))
    gave_back(project)
    assert before == project.settings()


def test_giving_back_that_ends_half_way_is_completed_by_another(project) -> None:
    """When the server goes away in between, giving back again restores the rest."""
    before = project.settings()
    took_over(project)
    with (
        interposed(project, lambda _: project.embedded.stop()) as client,
        pytest.raises(errors.TransportError),
    ):
        gave_back(project, client=client)
    restarted(project)

    assert dict.fromkeys(["b.customers", "b.invoices"], Change.GIVEN_BACK) == gave_back(project)
    assert before == project.settings()


def restarted(project) -> None:
    """Start the warehouse again, on its port."""
    project.embedded._port = int(project.endpoint.host.rpartition(":")[2])
    project.endpoint = project.embedded.start()


def test_what_somebody_changed_since_stays(project) -> None:
    """A frequency that somebody chose after the takeover is theirs; the table is named, and forgotten."""
    took_over(project)
    project.set("a.invoices", sync_frequency="12hour")

    assert Change.LEFT is gave_back(project)["a.invoices"]
    assert {"a.customers": "6hour", "a.invoices": "12hour"} == {
        name: project.frequencies()[name] for name in ("a.customers", "a.invoices")
    }


def test_schedule_follows_what_somebody_changed_since(project) -> None:
    """A table that is not out of the way any more ticks as PostHog has it now."""
    took_over(project)
    project.set("a.invoices", sync_frequency="12hour", sync_time_of_day=time(7, 11))

    names = {each.name for each in build_posthog_schedules(Tables(project.snapshot()))}

    assert {"stripe_a_every_12h", "stripe_a_every_6h", "stripe_b_every_6h"} == names


def test_only_what_is_asked_for_is_given_back(project) -> None:
    """The others stay out of the way."""
    took_over(project)

    gave_back(project, "stripe_b.customers")

    assert {**dict.fromkeys(NAMES, "30day"), "b.customers": "6hour"} == project.frequencies()
    assert dict.fromkeys(set(NAMES) - {"b.customers"}, Change.GIVEN_BACK) == gave_back(project)


def test_key_that_may_only_read_leaves_no_trace(project) -> None:
    """Without the scope to write, nothing is changed."""
    services = project.embedded.services
    key = services.store.add_key(scopes=["external_data_source:read"], at=services.now())
    reader = PostHogWarehouseClient(project.endpoint.host, 1, key, rate_limits=None)

    with reader, pytest.raises(errors.MissingScopeError):
        apply_takeover(reader, plan_for(project))

    assert {"6hour"} == set(project.frequencies().values())


def test_two_takeovers_at_once_do_the_same(project) -> None:
    """The way back is saved together with the change, so the later one finds nothing to move."""
    before, plan = project.settings(), plan_for(project)
    with interposed(project, lambda _: apply_takeover(project.client, plan)) as client:
        apply_takeover(client, plan)

    gave_back(project)
    assert before == project.settings()


def test_every_process_knows_the_way_back(project) -> None:
    """A process that has nothing but PostHog's address and key sees the cadences from before, and gives back."""
    project.set("a.customers", sync_frequency="1hour", sync_time_of_day=time(7, 11))
    before, cadences = project.settings(), [table.cadence for table in tables_of(project.snapshot())]
    take_over(ours(project), ["*"])

    with PostHogWarehouseClient(project.endpoint.host, 1, project.endpoint.api_key, rate_limits=None) as client:
        elsewhere = Project(client, "elsewhere")
        assert cadences == [table.cadence for table in elsewhere.tables(settings=True)]
        assert ["every 30 days"] * 4 == [
            table.own_cadence.describe_interval() for table in elsewhere.tables(settings=True)
        ]
        assert not take_over(elsewhere, ["*"], restore=True).failed
    assert before == project.settings()


def test_giving_nothing_back_fails(project) -> None:
    """Somebody expects that there is something to give back: the report fails, with tables at 30 days and the cure."""
    project.set("a.customers", sync_frequency="30day")

    report = take_over(ours(project), ["*"], restore=True)

    assert report.failed
    assert "Nothing was given back: none of 4 tables is out of the way." in report.summary
    assert "dw set --sync-frequency 6hour`" in report.summary
    assert ["stripe_a.customers"] == [row["table"] for row in report.rows]
    assert not take_over(ours(project), ["stripe_b.*"]).failed
    assert take_over(ours(project), ["stripe_a.*"], restore=True).failed
    assert not take_over(ours(project), ["*"], restore=True).failed


@pytest.mark.parametrize("at", [None, time(7, 11)])
def test_the_mark_goes_with_a_frequency_that_is_set(project, at: time | None) -> None:
    """`dw set` of another frequency removes the mark; another time of day keeps it."""
    project.set("a.customers", sync_frequency="1hour", sync_time_of_day=at)
    take_over(ours(project), ["stripe_a.customers"])

    change_settings(ours(project), ["stripe_a.customers"], sync_time_of_day="08:20")
    assert "every hour from 00:20 UTC" == tables_of(project.snapshot()).table("stripe_a.customers").cadence.describe()
    change_settings(ours(project), ["stripe_a.customers"], sync_frequency="12hour")

    assert (True, "12hour", time(8, 20)) == project.settings()["a.customers"]


@pytest.mark.parametrize("at", [None, time(7, 11)])
def test_the_time_of_day_comes_back_where_somebody_chose_another_frequency(project, at: time | None) -> None:
    """Only the mark is the takeover's then: without it, PostHog would sync the table at midnight."""
    project.set("a.customers", sync_time_of_day=at)
    took_over(project)
    project.set("a.customers", sync_frequency="12hour")

    assert Change.LEFT is gave_back(project)["a.customers"]
    assert (True, "12hour", at) == project.settings()["a.customers"]


def test_a_server_that_drops_the_mark_keeps_the_frequency(project) -> None:
    """Where the seconds are not kept, the table is moved back at once, and fails."""
    project.embedded.services.store._db.execute(
        "create trigger forgetful after update of sync_time_of_day on schemas when new.sync_time_of_day is not null"
        f" and new.id = '{project.tables()['a.invoices']}' and new.sync_time_of_day not like '%:00'"
        " begin update schemas set sync_time_of_day = '00:00:00' where id = new.id; end"
    )
    outcomes = took_over(project)
    assert (Change.FAILED, 3) == (outcomes["a.invoices"], list(outcomes.values()).count(Change.MOVED))
    assert (True, "6hour", None) == project.settings()["a.invoices"]


@pytest.mark.parametrize("mode", SchedulingMode)
def test_a_monthly_table_without_a_mark_is_named(mode: SchedulingMode, caplog) -> None:
    """Schedules that tick once a month are named when they are built, unless an override has other times."""
    schemas = [
        Schema(id=name, name=name, should_sync=True, sync_type="append", sync_frequency=frequency, sync_time_of_day=at)
        for name, frequency, at in [("lost", "30day", None), ("moved", "30day", "00:00:36"), ("daily", "24hour", None)]
    ]
    state = WarehouseSnapshot.of_live([Source(id="s", source_type="Stripe", schemas=tuple(schemas))])

    build_posthog_schedules(Tables(state, scheduling=mode))

    assert (mode is not SchedulingMode.OBSERVE) == ("every 30 days: stripe.lost. " in caplog.text)
    caplog.clear()
    monthly = ScheduleOverride(tables=["lost"], cron="0 6 1 * *")
    build_posthog_schedules(Tables(state, scheduling=mode, overrides=[monthly]))
    assert "" == caplog.text
