"""Schedules tick when PostHog does, and what a tick asks for."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

import dagster as dg
import pytest
from croniter import croniter

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.spec import asset_key
from dw_orchestration.posthog.models import Schema
from dw_orchestration.schedules import SchedulingMode, build_posthog_schedules
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot
from dw_orchestration.tables.tables import Tables

FREQUENCIES = ["5min", "15min", "30min", "1hour", "6hour", "12hour", "24hour", "7day", "30day"]


def table(number: int, **settings) -> Schema:
    """A table that PostHog syncs every six hours from 01:11, unless said otherwise."""
    defaults = {
        "id": f"00000000-0000-0000-0000-{number:012d}",
        "name": f"table{number}",
        "should_sync": True,
        "sync_type": "full_refresh",
        "sync_frequency": "6hour",
        "sync_time_of_day": time(7, 11),
    }
    return Schema.model_validate(defaults | settings)


def snapshot(*sources: list[Schema], prefix: str | None = None) -> WarehouseSnapshot:
    """A state with these tables, a Postgres source for each list."""
    return WarehouseSnapshot(
        taken_at=datetime(2026, 1, 1, tzinfo=UTC),
        host="https://us.posthog.com",
        project_id="1",
        sources=tuple(
            SourceSnapshot(
                id=f"{number:08d}-0000-0000-0000-000000000000",
                source_type="Postgres",
                prefix=prefix or f"p{number}",
                description=None,
                access_method="warehouse",
                upstream="db",
                schemas=tuple(schemas),
            )
            for number, schemas in enumerate(sources)
        ),
    )


def tick_of(schedule: dg.ScheduleDefinition, moment: datetime) -> dg.RunRequest | None:
    """What the schedule asks for at a moment."""
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        requests = schedule.evaluate_tick(context).run_requests
    return requests[0] if requests else None


def test_tables_of_a_source_with_the_same_interval_share_a_schedule() -> None:
    """A schedule for each source and interval, however many tables and times of day there are."""
    state = snapshot([table(1), table(2, sync_time_of_day=time(8)), table(3, sync_frequency="24hour")], [table(4)])

    schedules = {schedule.name: schedule for schedule in build_posthog_schedules(Tables(state, include_disabled=True))}

    assert {"postgres_p0_every_6h", "postgres_p0_every_1d", "postgres_p1_every_6h"} == set(schedules)
    assert ["0 2-23/6 * * *", "11 1-23/6 * * *"] == schedules["postgres_p0_every_6h"].cron_schedule
    assert (
        "Every 6 hours, at 2 different times, as PostHog does: 2 tables."
        == schedules["postgres_p0_every_6h"].description
    )
    assert "Every 6 hours from 01:11 UTC, as PostHog does: one table." == schedules["postgres_p1_every_6h"].description


@pytest.mark.parametrize(
    ("times", "crons"),
    [
        ([time(0, 1)], ["1-59/5 * * * *"]),
        ([time(0, 3), time(0, 1), time(0, 3)], ["1-59/5 * * * *", "3-59/5 * * * *"]),
        (
            [time(0, minute) for minute in range(5)],
            ["*/5 * * * *", "1-59/5 * * * *", "2-59/5 * * * *", "3-59/5 * * * *", "4-59/5 * * * *"],
        ),
    ],
    ids=["one", "two", "all"],
)
def test_short_intervals_read_as_the_interval(times, crons) -> None:
    """Dagster's pages show each cron in words: `* * * * *` would be "Every minute"."""
    tables = [table(number, sync_frequency="5min", sync_time_of_day=each) for number, each in enumerate(times)]

    (schedule,) = build_posthog_schedules(Tables(snapshot(tables), include_disabled=True))

    assert crons == schedule.cron_schedule


@pytest.mark.parametrize(
    ("frequency", "offsets", "crons"),
    [
        ("30min", [7], ["7-59/30 * * * *"]),
        ("30min", [0, 7, 12], ["0,7,12,30,37,42 * * * *"]),
        ("15min", [3, 0], ["0,3,15,18,30,33,45,48 * * * *"]),
        ("30min", range(30), ["* * * * *"]),
    ],
)
def test_many_times_of_an_interval_below_an_hour_are_one_line(frequency, offsets, crons) -> None:
    """Thirty texts of a schedule run over the edge of an asset's page; the ticks are PostHog's, and no others."""
    times = [time(0, minute) for minute in offsets]
    tables = [table(number, sync_frequency=frequency, sync_time_of_day=each) for number, each in enumerate(times)]
    chosen = Tables(snapshot(tables), include_disabled=True)

    (schedule,) = build_posthog_schedules(chosen)

    assert crons == schedule.cron_schedule
    start = datetime(2026, 3, 1, tzinfo=UTC)
    end = start + timedelta(hours=2)
    expected = {moment for each in chosen if each.cadence for moment in each.cadence.ticks(start, end)}
    assert expected == set(_cron_times(schedule, start, end))


def test_changed_time_of_day_keeps_the_schedule() -> None:
    """A schedule that a user started keeps running if a colleague changes a table's time of day in PostHog."""
    before = build_posthog_schedules(Tables(snapshot([table(1)]), include_disabled=True))
    after = build_posthog_schedules(Tables(snapshot([table(1, sync_time_of_day=time(8, 30))]), include_disabled=True))

    assert [["11 1-23/6 * * *"], ["30 2-23/6 * * *"]] == [each[0].cron_schedule for each in (before, after)]
    assert before[0].name == after[0].name


def test_tick_from_before_the_state_starts_nothing() -> None:
    """Dagster may make up for ticks of a cron that is new: PostHog had another cadence then, and did not tick."""
    state = snapshot([table(1)])
    (schedule,) = build_posthog_schedules(Tables(state, include_disabled=True))
    late = build_posthog_schedules(
        Tables(state.model_copy(update={"taken_at": datetime(2026, 3, 1, 7, 12, tzinfo=UTC)}), include_disabled=True)
    )[0]

    moment = datetime(2026, 3, 1, 7, 11, tzinfo=UTC)

    assert (True, False) == (tick_of(schedule, moment) is not None, tick_of(late, moment) is not None)


def test_renamed_or_relabelled_table_keeps_its_schedule() -> None:
    """A schedule that a user started keeps running if a table gets another name."""
    before, after = (
        [
            schedule.name
            for schedule in build_posthog_schedules(
                Tables(snapshot([table(1, name=name, label=name)]), include_disabled=True)
            )
        ]
        for name in ("one", "other")
    )

    assert before == after


@pytest.mark.parametrize(
    "settings",
    [
        {"should_sync": False},
        {"sync_type": None},
        {"sync_type": "cdc"},
        {"sync_type": "webhook"},
        {"sync_frequency": None},
        {"sync_frequency": "fortnightly"},
    ],
    ids=["off", "not_set_up", "cdc", "webhook", "no_frequency", "unknown_frequency"],
)
def test_table_that_cannot_be_scheduled_is_in_no_schedule(settings) -> None:
    """Only syncable tables with a known cadence are scheduled."""
    assert [] == build_posthog_schedules(Tables(snapshot([table(1, **settings)]), include_disabled=True))


def test_observe_has_no_schedules() -> None:
    """Where PostHog alone decides, Dagster starts nothing."""
    assert [] == build_posthog_schedules(
        Tables(snapshot([table(1)]), include_disabled=True, scheduling=SchedulingMode.OBSERVE)
    )


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("time_of_day", [None, time(0, 0), time(7, 11), time(23, 59)], ids=str)
def test_ticks_are_posthogs_own(frequency, time_of_day) -> None:
    """Over a year with a leap day, the schedule asks for a run at PostHog's ticks and at no other moment."""
    schema = table(1, sync_frequency=frequency, sync_time_of_day=time_of_day)
    (schedule,) = build_posthog_schedules(Tables(snapshot([schema]), include_disabled=True))
    (asset_cadence,) = (each.cadence for each in list(Tables(snapshot([schema]), include_disabled=True)))
    start, end = datetime(2028, 2, 20, tzinfo=UTC), datetime(2028, 3, 8, tzinfo=UTC)
    if asset_cadence.every > timedelta(days=1):
        end = datetime(2029, 2, 20, tzinfo=UTC)

    fired = {moment for moment in _cron_times(schedule, start, end) if asset_cadence.previous_tick(moment) == moment}

    assert set(asset_cadence.ticks(start, end)) == fired


@pytest.mark.parametrize(
    ("moment", "is_due"),
    [(datetime(2026, 11, 3, 7, 11, tzinfo=UTC), True), (datetime(2026, 11, 4, 7, 11, tzinfo=UTC), False)],
    ids=["a multiple of 30 days from the epoch", "the day after"],
)
def test_every_thirty_days_is_decided_by_the_tick(moment, is_due) -> None:
    """Cron cannot say it, so the schedule looks every day and asks whether the tick is due."""
    (schedule,) = build_posthog_schedules(Tables(snapshot([table(1, sync_frequency="30day")]), include_disabled=True))

    assert ["11 7 */30 * *", "11 7 2-30 * *"] == schedule.cron_schedule
    assert is_due == (tick_of(schedule, moment) is not None)


def test_ensure_accepts_what_posthog_started_for_the_tick() -> None:
    """A tick means that there is one sync for it: PostHog's own is taken, from just before the tick on."""
    (schedule,) = build_posthog_schedules(Tables(snapshot([table(1)]), include_disabled=True))

    request = tick_of(schedule, datetime(2026, 3, 1, 7, 11, tzinfo=UTC))

    expected = {
        "ops": {
            "sync_postgres_p0": {
                "config": {
                    "accept_jobs_since": "2026-03-01T07:10:30+00:00",
                    "trigger_after": "2026-03-01T07:11:30+00:00",
                }
            }
        }
    }
    assert expected == request.run_config


def test_drive_starts_a_sync_of_its_own() -> None:
    """Where Dagster alone decides, no other sync counts for the tick."""
    (schedule,) = build_posthog_schedules(
        Tables(snapshot([table(1)]), include_disabled=True, scheduling=SchedulingMode.DRIVE)
    )

    assert {} == tick_of(schedule, datetime(2026, 3, 1, 7, 11, tzinfo=UTC)).run_config


def test_run_key_is_the_tick() -> None:
    """A tick that is evaluated twice launches one run."""
    (schedule,) = build_posthog_schedules(Tables(snapshot([table(1)]), include_disabled=True))
    moment = datetime(2026, 3, 1, 7, 11, tzinfo=UTC)

    assert tick_of(schedule, moment).run_key == tick_of(schedule, moment).run_key


@pytest.mark.parametrize("step_per", ["source", "project", "table"])
def test_run_config_fits_the_steps(step_per) -> None:
    """The run config of a tick names steps of its job, for each way to make steps."""
    state = snapshot([table(1), table(2)])
    (schedule,) = build_posthog_schedules(Tables(state, include_disabled=True, step_per=step_per))
    assets = build_posthog_assets(Tables(state, include_disabled=True, step_per=step_per))
    ops = {asset.op.name for asset in assets if isinstance(asset, dg.AssetsDefinition)}

    assert ops == set(tick_of(schedule, datetime(2026, 3, 1, 7, 11, tzinfo=UTC)).run_config["ops"])


def test_tables_without_a_time_share_a_schedule_and_tick_each_at_its_own_minute() -> None:
    """PostHog spreads them over the interval: a schedule for each would be as many as tables."""
    state = snapshot([table(number, sync_frequency="1hour", sync_time_of_day=None) for number in range(40)])
    (schedule,) = build_posthog_schedules(Tables(state, include_disabled=True))
    cadences = {asset_key(each): each.cadence for each in Tables(state, include_disabled=True)}
    start = datetime(2026, 3, 1, tzinfo=UTC)

    asked = {
        (moment, key)
        for moment in _cron_times(schedule, start, start + timedelta(hours=2))
        for key in tick_of(schedule, moment).asset_selection
    }

    expected = {
        (moment, key) for key, each in cadences.items() for moment in each.ticks(start, start + timedelta(hours=2))
    }
    assert expected == asked


def test_five_thousand_tables_make_some_hundreds_of_schedules() -> None:
    """Fifty sources of a hundred tables, with six frequencies in use, have six schedules each."""
    times = [None, time(0, 30), time(1, 30), time(2, 30)]
    sources = [
        [
            table(100 * s + t, sync_frequency=FREQUENCIES[3 + t % 6], sync_time_of_day=times[t % len(times)])
            for t in range(100)
        ]
        for s in range(50)
    ]

    assert 50 * 6 == len(build_posthog_schedules(Tables(snapshot(*sources), include_disabled=True)))


def many() -> Tables:
    """As few tables as have too many schedules times tables: 101 sources of one table."""
    return Tables(snapshot(*[[table(number)] for number in range(101)]), include_disabled=True)


def test_jobs_do_not_grow_with_schedules_times_tables() -> None:
    """Each job is resolved against all assets. Where that would take long, schedules use the job that Dagster has."""
    few = Tables(snapshot([table(1), table(2)], [table(3)]), include_disabled=True)

    jobs = [{schedule.job_name for schedule in build_posthog_schedules(each)} for each in (few, many())]

    assert {"__anonymous_asset_job_postgres_p0_every_6h", "__anonymous_asset_job_postgres_p1_every_6h"} == jobs[0]
    assert {"__ASSET_JOB"} == jobs[1]


def test_schedule_without_a_job_of_its_own_runs_its_tables() -> None:
    """The job of every asset runs the tables that a tick asks for, and no others."""
    tables = many()
    schedules = build_posthog_schedules(tables)
    repository = dg.Definitions(
        assets=build_posthog_assets(tables), schedules=schedules, resources={"posthog_warehouse": None}
    ).get_repository_def()
    request = tick_of(schedules[3], datetime(2026, 3, 1, 7, 11, tzinfo=UTC))
    job = repository.get_maybe_subset_job_def(schedules[3].job_name, asset_selection=set(request.asset_selection))

    assert {asset_key(each) for each in tables if each.source.prefix == "p3"} == job.asset_layer.executable_asset_keys


def test_processes_of_runs_build_only_schedules_with_a_job() -> None:
    """A run has no use for schedules, but for the jobs of some of them."""
    few = Tables(snapshot([table(1)]), include_disabled=True)

    assert [1, 0] == [len(build_posthog_schedules(each, for_runs=True)) for each in (few, many())]


def test_lines_that_differ_in_minutes_are_one() -> None:
    """Dagster reads each line of a cron, and its pages cut off what is in many."""
    times = [time(1, 11), time(1, 5), time(7, 40), time(2, 11)]
    state = snapshot([table(number, sync_time_of_day=each) for number, each in enumerate(times)])

    (schedule,) = build_posthog_schedules(Tables(state, include_disabled=True))

    assert ["11 2-23/6 * * *", "5,11,40 1-23/6 * * *"] == schedule.cron_schedule


def _cron_times(schedule, start, end) -> Iterator[datetime]:
    crons = schedule.cron_schedule if isinstance(schedule.cron_schedule, list) else [schedule.cron_schedule]
    for cron in crons:
        moments = croniter(cron, start - timedelta(seconds=1))
        while (moment := moments.get_next(datetime)) < end:
            yield moment
