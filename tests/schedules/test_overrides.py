"""Overrides: times of the user's own, for the tables that patterns name."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import dagster as dg
import pytest
from croniter import croniter, croniter_range
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dw_orchestration.errors import SetupError
from dw_orchestration.posthog.models import Schema
from dw_orchestration.schedules import SchedulingMode, build_posthog_schedules
from dw_orchestration.schedules.overrides import ScheduleOverride, Timetable
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

WEEKDAYS = "30 7 * * mon-fri"


def snapshot(**settings) -> WarehouseSnapshot:
    """Stripe and a Postgres with the prefix `shop`, two tables each, every six hours."""
    defaults = {"should_sync": True, "sync_type": "full_refresh", "sync_frequency": "6hour"}
    names = {("Stripe", None): ["Customer", "Invoice"], ("Postgres", "shop"): ["public.orders", "public.visits"]}
    return WarehouseSnapshot(
        taken_at=datetime(2026, 1, 1, tzinfo=UTC),
        host="https://us.posthog.com",
        project_id="1",
        sources=tuple(
            SourceSnapshot(
                id=f"source-{source_type}",
                source_type=source_type,
                prefix=prefix,
                description=None,
                access_method="warehouse",
                upstream="db",
                schemas=tuple(
                    Schema.model_validate({"id": f"{source_type}-{table}", "name": table, **defaults, **settings})
                    for table in tables
                ),
            )
            for (source_type, prefix), tables in names.items()
        ),
    )


def schedules(*overrides: ScheduleOverride, **options) -> dict[str, dg.ScheduleDefinition]:
    """The schedules by name."""
    built = build_posthog_schedules(Tables(snapshot(), include_disabled=True, overrides=overrides, **options))
    return {schedule.name: schedule for schedule in built}


def tick(schedule: dg.ScheduleDefinition, moment: datetime) -> dg.RunRequest:
    """What the schedule asks for at a moment."""
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    return request


def taken_by(*patterns: str) -> set[str]:
    """The tables whose schedule an override with these patterns makes."""
    found = schedules(ScheduleOverride(tables=patterns, cron=WEEKDAYS))
    return {
        "/".join(key.path[1:])
        for name, schedule in found.items()
        if "cron" in name
        for key in tick(schedule, datetime(2026, 3, 2, 7, 30, tzinfo=UTC)).asset_selection
    }


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["stripe.*"], {"stripe/customer", "stripe/invoice"}),
        (["stripe.customer"], {"stripe/customer"}),
        (["STRIPE.Cust?mer"], {"stripe/customer"}),
        (["postgres_shop.*"], {"postgres/shop/public/orders", "postgres/shop/public/visits"}),
        (["postgres*.orders"], {"postgres/shop/public/orders"}),
        (["posthog/postgres/shop/*"], {"postgres/shop/public/orders", "postgres/shop/public/visits"}),
        (["*/invoice", "*.visits"], {"stripe/invoice", "postgres/shop/public/visits"}),
    ],
    ids=lambda names: " ".join(sorted(names)),
)
def test_patterns_name_tables(patterns, expected) -> None:
    """By source type, by prefix, by table, and by asset key if there is a slash; case does not count."""
    assert expected == taken_by(*patterns)


def test_tables_with_the_same_override_and_source_share_a_schedule() -> None:
    """The name comes from the cron and the zone; the other tables keep PostHog's cadence."""
    override = ScheduleOverride(tables=["*.customer", "*.invoice", "*.orders"], cron=WEEKDAYS, timezone="Europe/Berlin")

    assert {
        "stripe_cron_30_7_any_any_montofri_europe_berlin",
        "postgres_shop_cron_30_7_any_any_montofri_europe_berlin",
        "postgres_shop_every_6h",
    } == schedules(override).keys()


def test_named_override_is_one_schedule_of_all_its_tables() -> None:
    """The user's name is the schedule's, for tables of any source; a tick syncs them all, each in its step."""
    override = ScheduleOverride(name="mornings", tables=["*.customer", "*.orders"], cron=WEEKDAYS)
    found = schedules(override)

    request = tick(found["mornings"], datetime(2026, 3, 2, 7, 30, tzinfo=UTC))

    assert {"mornings", "stripe_every_6h", "postgres_shop_every_6h"} == found.keys()
    assert {"customer", "orders"} == {key.path[-1] for key in request.asset_selection}
    assert {"sync_stripe", "sync_postgres_shop"} == request.run_config["ops"].keys()


def test_name_of_another_schedule_is_refused() -> None:
    """Two schedules of one name would be an error of Dagster's that names neither override."""
    first, second = (ScheduleOverride(name="x", tables=[each], cron=WEEKDAYS) for each in ("*.orders", "*.visits"))
    posthogs = ScheduleOverride(name="stripe_every_6h", tables=["*.orders"], cron=WEEKDAYS)

    with pytest.raises(SetupError, match="2 overrides have the name 'x': give each its own"):
        schedules(first, second)
    with pytest.raises(SetupError, match="The name 'stripe_every_6h' of an override is also that of the schedule"):
        schedules(posthogs)


def test_cron_is_meant_in_its_time_zone() -> None:
    """Dagster gets the zone, so that half past seven stays half past seven in summer."""
    override = ScheduleOverride(tables=["stripe.*"], cron=WEEKDAYS, timezone="Europe/Berlin")

    schedule = schedules(override)["stripe_cron_30_7_any_any_montofri_europe_berlin"]

    assert ([WEEKDAYS], "Europe/Berlin") == (schedule.cron_schedule, schedule.execution_timezone)


def test_ensure_accepts_only_syncs_since_the_tick() -> None:
    """PostHog's own syncs at other times do not count for the tick."""
    schedule = schedules(ScheduleOverride(tables=["*"], cron=WEEKDAYS))["stripe_cron_30_7_any_any_montofri_utc"]

    request = tick(schedule, datetime(2026, 3, 2, 7, 30, tzinfo=UTC))

    assert "2026-03-02T07:29:30+00:00" == request.run_config["ops"]["sync_stripe"]["config"]["accept_jobs_since"]


def test_drive_and_observe_are_as_ever() -> None:
    """With `drive` a tick starts a sync; with `observe` there are no schedules, overrides or not."""
    override = ScheduleOverride(tables=["*"], cron=WEEKDAYS)
    driven = schedules(override, scheduling=SchedulingMode.DRIVE)["stripe_cron_30_7_any_any_montofri_utc"]

    assert {} == tick(driven, datetime(2026, 3, 2, 7, 30, tzinfo=UTC)).run_config
    assert {} == schedules(override, scheduling=SchedulingMode.OBSERVE)


def test_last_override_counts() -> None:
    """First the rule, then its exceptions."""
    rule = ScheduleOverride(tables=["*"], cron="@daily")
    exception = ScheduleOverride(tables=["*.orders"], cron="0 1 * * *")

    assert {"stripe_cron_atdaily_utc", "postgres_shop_cron_atdaily_utc", "postgres_shop_cron_0_1_any_any_any_utc"} == (
        schedules(rule, exception).keys()
    )


def test_table_without_a_cadence_of_posthogs_can_have_one() -> None:
    """A frequency that this version does not know is no hindrance: the override says when."""
    state = snapshot(sync_frequency="fortnightly")

    (schedule,) = build_posthog_schedules(
        Tables(state, include_disabled=True, overrides=[ScheduleOverride(tables=["stripe.*"], cron="@daily")])
    )

    assert "stripe_cron_atdaily_utc" == schedule.name


def test_table_that_is_off_is_not_scheduled_by_an_override() -> None:
    """Its syncs would be refused, and PostHog ends them when they are long."""
    state = snapshot(should_sync=False)

    assert [] == build_posthog_schedules(
        Tables(state, include_disabled=True, overrides=[ScheduleOverride(tables=["*"], cron="@daily")])
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"cron": "61 * * * *"}, "Invalid cron '61 \\* \\* \\* \\*'"),
        ({"cron": "0 0 7 * * 1"}, "Invalid cron"),
        ({"cron": ""}, "Invalid cron ''"),
        ({"cron": "0 0 31 2 *"}, "Invalid cron '0 0 31 2 \\*'"),
        ({"timezone": "Mars/Olympus"}, "Invalid time zone 'Mars/Olympus'"),
        ({"timezone": ""}, "Invalid time zone ''"),
        ({"name": "every morning"}, "Invalid name 'every morning': use letters, digits and `_`"),
        ({"tables": ["strype.*"]}, "No table matches 'strype.\\*'. There are postgres_shop.public.orders,"),
    ],
)
def test_impossible_override_is_one_clear_error(override, expected) -> None:
    """The text says what is wrong and what to give instead."""
    wrong = ScheduleOverride.model_validate({"tables": ["*"], "cron": WEEKDAYS} | override)

    with pytest.raises(SetupError, match=expected):
        schedules(wrong)


def test_all_problems_are_in_one_error() -> None:
    """Nobody should have to fix them one restart at a time."""
    wrong = [ScheduleOverride(tables=["strype.*"], cron="x", timezone="y"), ScheduleOverride(tables=["*"], cron="z")]

    with pytest.raises(SetupError, match=r"'x'.*'y'.*'strype\.\*'.*'z'"):
        schedules(*wrong)


@pytest.mark.filterwarnings("ignore:`parse_obj_as`")  # Dagster's own use of Pydantic
def test_override_comes_from_yaml() -> None:
    """As `defs.yaml` has it; a key that does not exist is refused."""
    text = 'tables: ["stripe.*"]\ncron: "30 7 * * mon-fri"\ntimezone: Europe/Berlin\n'

    override = ScheduleOverride.resolve_from_yaml(text)

    assert ScheduleOverride(tables=["stripe.*"], cron=WEEKDAYS, timezone="Europe/Berlin") == override
    with pytest.raises(Exception, match="zone"):
        ScheduleOverride.resolve_from_yaml(text + "zone: UTC\n")


def test_override_is_frozen() -> None:
    """Definitions are a pure function of it."""
    with pytest.raises(ValidationError, match="frozen"):
        ScheduleOverride(tables=["*"], cron=WEEKDAYS).cron = "x"


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    """What one field of a cron may be."""
    numbers = st.integers(low, high).map(str)
    spans = st.tuples(numbers, st.sampled_from("-,/"), numbers).map("".join)
    steps = st.integers(1, high).map("*/{}".format)
    return st.one_of(st.just("*"), numbers, spans, steps)


CRONS = st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 6)).map(" ".join)
ZONES = st.sampled_from(sorted(available_timezones()))


@given(one=st.builds(Timetable, CRONS, ZONES), other=st.builds(Timetable, CRONS, ZONES))
def test_law_of_names(one, other) -> None:
    """Different timetables have different names, and every name is one that Dagster takes."""
    assert re.fullmatch("[a-z0-9_]+", one.slug())
    assert (one == other) == (one.slug() == other.slug())


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 7 * * mon-fri", timedelta(days=4)),  # from a Thursday to a Monday
        ("30 7 * * *", timedelta(days=2)),
        ("@daily", timedelta(days=2)),
        ("@hourly", timedelta(hours=2)),
        ("*/15 9-17 * * *", timedelta(hours=15, minutes=30)),
        ("* * * * *", timedelta(minutes=2)),
        ("* * * * 1-5", timedelta(days=2, minutes=2)),
        ("0 8,20 * * 1-5", timedelta(days=3)),
        ("0 6 1 * *", timedelta(days=62)),  # July and August
        ("0 6 * * 1#1", timedelta(days=63)),
        ("@yearly", timedelta(days=731)),
    ],
)
def test_rows_are_late_after_the_longest_two_ticks(cron, expected) -> None:
    """The two ticks in a row that take longest: a weekend, or a night, is not late."""
    assert expected == Timetable(cron=cron, timezone="Europe/Berlin").stale_after


MINUTES = st.sampled_from(["0", "5,40", "*/20", "58-59"])
DAYS = st.sampled_from(["*", "1-5", "6", "1,4"])
HOURS = st.sampled_from(["*", "7", "9-17", "*/6", "8,20"])
EVERY_WEEK = st.tuples(MINUTES, HOURS, st.just("*"), st.just("*"), DAYS).map(" ".join)


@given(cron=EVERY_WEEK.filter(croniter.is_valid))
@settings(max_examples=20)
def test_law_of_two_ticks(cron) -> None:
    """What is computed from days and times of day is what all ticks of some weeks show."""
    ticks = list(croniter_range(datetime(2020, 1, 1), datetime(2020, 1, 22), cron))  # noqa: DTZ001

    assert max(end - start for start, end in zip(ticks, ticks[2:], strict=False)) == Timetable(cron, "UTC").stale_after


def test_every_time_zone_has_a_name_of_its_own() -> None:
    """`Etc/GMT+3` and `Etc/GMT-3` are half a day's work apart."""
    zones = available_timezones()

    assert len(zones) == len({Timetable(cron="@daily", timezone=zone).slug() for zone in zones})


def test_spaces_make_no_other_schedule() -> None:
    """What is written differently and means the same has one name."""
    same = [ScheduleOverride(tables=["*"], cron=cron).timetable for cron in ("0 7 * * 1", " 0  7 * * 1 ")]

    assert same[0] == same[1]
