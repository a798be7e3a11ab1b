"""A takeover moves PostHog's own schedules out of the way, and gives back exactly what was there."""

from datetime import UTC, datetime, time
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dw_orchestration import errors
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.takeover import (
    Change,
    TakeoverPlan,
    apply_takeover,
    give_back,
    newest_rows_per_sync,
    plan_takeover,
    take_over,
)
from dw_orchestration.operations.takeover_file import TakeoverStore
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import Schema, Source
from dw_orchestration.schedules import SchedulingMode, build_posthog_schedules
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


def ours(project, folder: Path) -> Project:
    """The project as operations have it."""
    return Project(project.client, project.endpoint.host, takeover_file=folder / "takeover.json")


def store_for(project, folder: Path) -> TakeoverStore:
    return TakeoverStore.of(project.snapshot(), folder / "takeover.json")


def plan_for(project, store: TakeoverStore) -> TakeoverPlan:
    return plan_takeover(tables_of(project.snapshot()), now=NOW, taken=store.read())


def took_over(project, store: TakeoverStore) -> dict[str, Change]:
    """The outcome for each table when everything is taken over."""
    outcomes = apply_takeover(project.client, plan_for(project, store), store)
    return {outcome.name.removeprefix("stripe_"): outcome.change for outcome in outcomes}


def gave_back(project, store: TakeoverStore, **options) -> dict[str, Change]:
    """The outcome for each table when everything is given back."""
    outcomes = give_back(project.client, store, **options)
    return {outcome.name.removeprefix("stripe_"): outcome.change for outcome in outcomes}


def described(schedules) -> list[tuple[str, object, str]]:
    """When the schedules tick, and for what."""
    return sorted((schedule.name, schedule.cron_schedule, schedule.description) for schedule in schedules)


def test_plan_says_what_would_change_and_changes_nothing(project, tmp_path) -> None:
    """A plan names what each table is now, what it would be, when PostHog ticks next and what is saved."""
    project.set("a.customers", sync_frequency="1hour", sync_time_of_day=time(7, 11))
    before, snapshot = project.settings(), project.snapshot()

    tables = tables_of(snapshot)
    plan = plan_takeover(
        tables.matching(["stripe_a.customers"]),
        now=NOW,
        rows_per_sync=newest_rows_per_sync(project.client, tables),
    )

    (move,) = plan.moves
    assert ("stripe_a.customers", "every hour from 00:11 UTC", "every 30 days at 07:11 UTC", "2026-12-03 07:11") == (
        move.name,
        move.now.describe(),
        move.then.describe(),
        f"{move.next_tick:%Y-%m-%d %H:%M}",
    )
    assert pytest.approx(10 * (24 - 1 / 30)) == move.rows_saved_per_day
    assert before == project.settings()


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


def test_pattern_that_names_no_table_is_refused(project, tmp_path) -> None:
    """A mistyped table must not look like one with nothing to do."""
    with pytest.raises(errors.SetupError, match=r"'strype\.\*'.*stripe_a\.customers"):
        take_over(ours(project, tmp_path), ["stripe_*", "strype.*"])


def test_takeover_keeps_tables_on_and_their_time_of_day(project, tmp_path) -> None:
    """Only the frequency is changed: PostHog ends the long syncs of disabled tables."""
    project.set("a.customers", sync_frequency="24hour", sync_time_of_day=time(7, 11))

    assert dict.fromkeys(NAMES, Change.MOVED) == took_over(project, store_for(project, tmp_path))
    assert (True, "30day", time(7, 11)) == project.settings()["a.customers"]


def test_embedded_scheduler_ticks_monthly_afterwards(project, tmp_path, wait_until) -> None:
    """A table that is out of the way is synced by PostHog itself once in 30 days."""
    project.set("a.customers", sync_frequency="24hour", sync_time_of_day=time(7, 11))
    took_over(project, store_for(project, tmp_path))

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
def test_law_of_giving_back(lasting_project, tmp_path_factory, frequencies, times) -> None:
    """For all frequencies and times, Dagster's schedules stay the same and PostHog's come back exactly."""
    project = lasting_project
    for name, frequency, at in zip(NAMES, frequencies, times, strict=True):
        project.set(name, sync_frequency=frequency, sync_time_of_day=at and at.replace(microsecond=0))
    store = store_for(project, tmp_path_factory.mktemp("law"))
    before, own = (
        project.settings(),
        build_posthog_schedules(Tables(project.snapshot(), include_disabled=True, scheduling=SchedulingMode.DRIVE)),
    )

    took_over(project, store)
    driven = build_posthog_schedules(Tables(project.snapshot(), restore=store.restore, scheduling=SchedulingMode.DRIVE))
    moved = project.frequencies()
    gave_back(project, store)

    assert described(own) == described(driven)
    assert dict.fromkeys(NAMES, "30day") == moved
    assert before == project.settings()
    assert {} == store.read().tables


def test_both_ways_can_be_repeated(project, tmp_path) -> None:
    """A second takeover stores and changes nothing; a second giving back neither."""
    store = store_for(project, tmp_path)
    before = project.settings()
    took_over(project, store)
    stored = store.read()

    assert {} == took_over(project, store)
    assert stored == store.read()
    assert dict.fromkeys(NAMES, Change.GIVEN_BACK) == gave_back(project, store)
    assert {} == gave_back(project, store)
    assert before == project.settings()


def test_plan_that_is_applied_twice_stores_the_first_frequency(project, tmp_path) -> None:
    """A table that is moved already is not stored with 30 days as what was there before."""
    store = store_for(project, tmp_path)
    plan = plan_for(project, store)
    apply_takeover(project.client, plan, store)

    again = apply_takeover(project.client, plan, store)

    assert {Change.LEFT} == {outcome.change for outcome in again}
    assert {"6hour"} == {str(table.frequency) for table in store.read().tables.values()}


def test_what_is_there_counts_and_not_what_the_plan_saw(project, tmp_path) -> None:
    """A frequency that changed since the plan was made is the one that is given back."""
    store = store_for(project, tmp_path)
    plan = plan_for(project, store)
    project.set("b.invoices", sync_frequency="1hour")

    apply_takeover(project.client, plan, store)
    gave_back(project, store)

    assert "1hour" == project.frequencies()["b.invoices"]


def test_table_deleted_or_turned_off_since_the_plan_is_passed_over(project, tmp_path) -> None:
    """Such a table is named, and neither changed nor stored."""
    store = store_for(project, tmp_path)
    plan = plan_for(project, store)
    project.set("a.customers", should_sync=False)
    project.client.delete_schema(project.tables()["b.invoices"])

    outcomes = apply_takeover(project.client, plan, store)

    assert {
        "stripe_a.customers": Change.LEFT,
        "stripe_a.invoices": Change.MOVED,
        "stripe_b.customers": Change.MOVED,
        "stripe_b.invoices": Change.GONE,
    } == {outcome.name: outcome.change for outcome in outcomes}
    assert {"stripe_a.invoices", "stripe_b.customers"} == {table.name for table in store.read().tables.values()}


def test_source_that_cannot_be_changed_does_not_stop_the_others(project, tmp_path) -> None:
    """A source that is deleted meanwhile is named as failed; the other one is moved."""
    store, plan = store_for(project, tmp_path), plan_for(project, store_for(project, tmp_path))

    with interposed(project, lambda request: project.client.delete_source(request.url.path.split("/")[5])) as client:
        outcomes = apply_takeover(client, plan, store)

    assert {Change.MOVED: 2, Change.FAILED: 2} == {
        change: sum(outcome.change is change for outcome in outcomes) for change in (Change.MOVED, Change.FAILED)
    }


def test_takeover_that_ends_half_way_is_completed_by_another(project, tmp_path) -> None:
    """When the server goes away in between, what was moved is remembered, and a second takeover moves the rest."""
    store = store_for(project, tmp_path)
    plan, before = plan_for(project, store), project.settings()
    with (
        interposed(project, lambda _: project.embedded.stop()) as client,
        pytest.raises(errors.TransportError),
    ):
        apply_takeover(client, plan, store)
    restarted(project)

    assert 2 == list(project.frequencies().values()).count("30day")
    assert 2 == len(took_over(project, store))
    gave_back(project, store)
    assert before == project.settings()


def test_giving_back_that_ends_half_way_is_completed_by_another(project, tmp_path) -> None:
    """When the server goes away in between, giving back again restores the rest."""
    store, before = store_for(project, tmp_path), project.settings()
    took_over(project, store)
    with (
        interposed(project, lambda _: project.embedded.stop()) as client,
        pytest.raises(errors.TransportError),
    ):
        give_back(client, store)
    restarted(project)

    assert dict.fromkeys(NAMES, Change.GIVEN_BACK) == gave_back(project, store)
    assert before == project.settings()


def restarted(project) -> None:
    """Start the warehouse again, on its port."""
    project.embedded._port = int(project.endpoint.host.rpartition(":")[2])
    project.endpoint = project.embedded.start()


def test_what_somebody_changed_since_stays(project, tmp_path) -> None:
    """A frequency that somebody chose after the takeover is theirs; the table is named, and forgotten."""
    store = store_for(project, tmp_path)
    took_over(project, store)
    project.set("a.invoices", sync_frequency="12hour")

    assert Change.LEFT is gave_back(project, store)["a.invoices"]
    assert {"a.customers": "6hour", "a.invoices": "12hour"} == {
        name: project.frequencies()[name] for name in ("a.customers", "a.invoices")
    }
    assert {} == store.read().tables


def test_schedule_follows_what_somebody_changed_since(project, tmp_path) -> None:
    """A table that is not out of the way any more ticks as PostHog has it now."""
    store = store_for(project, tmp_path)
    took_over(project, store)
    project.set("a.invoices", sync_frequency="12hour", sync_time_of_day=time(7, 11))

    names = {each.name for each in build_posthog_schedules(Tables(project.snapshot(), restore=store.restore))}

    assert {"stripe_a_every_12h", "stripe_a_every_6h", "stripe_b_every_6h"} == names


def test_deleted_table_is_forgotten_and_named(project, tmp_path) -> None:
    """A table that is gone cannot be given anything back."""
    store = store_for(project, tmp_path)
    took_over(project, store)
    project.client.delete_schema(project.tables()["b.customers"])

    assert Change.GONE is gave_back(project, store)["b.customers"]
    assert {} == store.read().tables


def test_only_what_is_asked_for_is_given_back(project, tmp_path) -> None:
    """The others stay out of the way, and remembered."""
    store = store_for(project, tmp_path)
    took_over(project, store)

    gave_back(project, store, only={project.tables()["b.customers"]})

    assert {**dict.fromkeys(NAMES, "30day"), "b.customers": "6hour"} == project.frequencies()
    assert {"stripe_a.customers", "stripe_a.invoices", "stripe_b.invoices"} == {
        table.name for table in store.read().tables.values()
    }


def test_key_that_may_only_read_leaves_no_trace(project, tmp_path) -> None:
    """Without the scope to write, nothing is stored and nothing changed."""
    store = store_for(project, tmp_path)
    services = project.embedded.services
    key = services.store.add_key(scopes=["external_data_source:read"], at=services.now())
    reader = PostHogWarehouseClient(project.endpoint.host, 1, key, rate_limits=None)

    with reader, pytest.raises(errors.MissingScopeError):
        apply_takeover(reader, plan_for(project, store), store)

    assert not store.path.exists()


def test_file_of_another_project_is_refused(project, tmp_path) -> None:
    """What was stored of one project must not be taken for deleted tables of another."""
    store = store_for(project, tmp_path)
    took_over(project, store)
    other = TakeoverStore(path=store.path, host=store.host, project_id="2")

    with pytest.raises(errors.SetupError, match="of project 1"):
        give_back(project.client, other)


@pytest.mark.parametrize("text", ["", "{", '{"version": 2, "host": "h", "project_id": "1"}'])
def test_unreadable_file_is_refused_and_kept(tmp_path, text) -> None:
    """It may be the only way back: nothing replaces it."""
    store = TakeoverStore(path=tmp_path / "takeover.json", host="h", project_id="1")
    store.path.write_text(text)

    with pytest.raises(errors.SnapshotError, match="fix it"):
        store.read()
    assert text == store.path.read_text()


def test_two_takeovers_at_once_are_refused(project, tmp_path) -> None:
    """The later one would forget what the earlier one stored."""
    store = store_for(project, tmp_path)

    with store.locked(), pytest.raises(errors.SetupError, match="Another takeover"):
        give_back(project.client, store)


def test_file_holds_no_secret(project, tmp_path) -> None:
    """It goes into backups and repositories."""
    store = store_for(project, tmp_path)
    took_over(project, store)

    assert {"version", "host", "project_id", "tables"} == store.read().model_dump().keys()
    assert project.endpoint.api_key not in store.path.read_text()
