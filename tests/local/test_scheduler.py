"""The schedule: when each frequency ticks, and what a tick does."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.local.rows import StartedBy
from dw_orchestration.local.ticks import EPOCH, EVERY, Ticks, minute_of_day, ticks_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Clock
    from tests.local.conftest import Orders, Server, Servers

ID = UUID("497f6eca-6276-4993-bfeb-53cbbbba6f08")
STARTED = {"should_sync": True, "sync_type": "full_refresh"}


def moment(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks_from(frequency: str, saved: str, *, at: time | None = time(7, 11), count: int = 3) -> list[str]:
    """The first ticks of a schedule that is saved at a time, as text."""
    ticks = ticks_for(ID, frequency=frequency, time_of_day=at, now=moment(saved))
    found, now = [], moment(saved)
    for _ in range(count):
        now = ticks.next_after(now)
        found.append(f"{now:%Y-%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("5min", ["2026-11-03 12:01", "2026-11-03 12:06", "2026-11-03 12:11"]),
        ("15min", ["2026-11-03 12:11", "2026-11-03 12:26", "2026-11-03 12:41"]),
        ("30min", ["2026-11-03 12:11", "2026-11-03 12:41", "2026-11-03 13:11"]),
        ("1hour", ["2026-11-03 12:11", "2026-11-03 13:11", "2026-11-03 14:11"]),
        ("6hour", ["2026-11-03 13:11", "2026-11-03 19:11", "2026-11-04 01:11"]),
        ("12hour", ["2026-11-03 19:11", "2026-11-04 07:11", "2026-11-04 19:11"]),
        ("24hour", ["2026-11-04 07:11", "2026-11-05 07:11", "2026-11-06 07:11"]),
        ("7day", ["2026-11-05 07:11", "2026-11-12 07:11", "2026-11-19 07:11"]),  # Thursdays
        ("30day", ["2026-12-03 07:11", "2027-01-02 07:11", "2027-02-01 07:11"]),
    ],
)
def test_ticks_of_each_frequency(frequency: str, expected: list[str]) -> None:
    """Ticks are counted from the epoch in UTC and shifted by the time of day."""
    assert expected == ticks_from(frequency, "2026-11-03 12:00")


def test_a_leap_day_is_a_day_like_others() -> None:
    """A daily schedule ticks on 29 February too."""
    assert ["2028-02-28 07:11", "2028-02-29 07:11", "2028-03-01 07:11"] == ticks_from("24hour", "2028-02-28 00:00")


def test_weeks_and_months_are_not_spread() -> None:
    """Without a time of day weekly and monthly schedules tick at midnight."""
    weekly, monthly = (ticks_from(frequency, "2026-11-03 12:00", at=None) for frequency in ("7day", "30day"))
    assert ("2026-11-05 00:00", "2026-12-03 00:00") == (weekly[0], monthly[0])


@pytest.mark.parametrize(
    ("frequency", "minute"), [("1hour", 37), ("6hour", 3 * 60 + 45), ("12hour", 7 * 60 + 31), ("24hour", 15 * 60 + 2)]
)
def test_unset_time_comes_from_the_id(frequency: str, minute: int) -> None:
    """Without a time of day the minute is fixed by the schema's id alone."""
    assert minute == minute_of_day(ID, frequency=frequency, time_of_day=None)


def test_midnight_counts_as_set() -> None:
    """00:00 is a time of day, not the lack of one; seconds are dropped."""
    minutes = [minute_of_day(ID, frequency="24hour", time_of_day=at) for at in (time(0, 0), time(0, 1, 59))]
    assert [0, 1] == minutes


def test_no_tick_before_the_first_time_of_day() -> None:
    """A schedule that is saved at 02:00 with 23:00 set is silent until 23:00, at every frequency."""
    assert "2026-11-03 23:00" == ticks_from("5min", "2026-11-03 02:00", at=time(23, 0))[0]


@given(
    frequency=st.sampled_from(sorted(EVERY)),
    at=st.none() | st.times(),
    saved=st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive by contract
    later=st.timedeltas(timedelta(0), timedelta(days=90)),
)
def test_law_of_ticks(frequency: str, at: time | None, saved: datetime, later: timedelta) -> None:
    """A tick lies after the moment asked for and at or after the start, on the grid, and none was left out."""
    ticks = ticks_for(ID, frequency=frequency, time_of_day=at, now=saved)
    tick = ticks.next_after(saved + later)
    assert tick > saved + later
    assert tick >= ticks.start_at
    assert timedelta(0) == (tick - EPOCH - ticks.offset) % ticks.every
    assert tick - ticks.every <= max(saved + later, ticks.start_at - timedelta(microseconds=1))


def minutes(clock: Clock, *, days: int) -> Iterator[None]:
    """Every minute of some days."""
    for _ in range(days * 24 * 60):
        clock.advance(minutes=1)
        yield


def runs_over(server: Server, clock: Clock, source: str, *, days: int) -> list[str]:
    """The times at which the schedule started a job, as the clock goes through the days minute by minute."""
    for _ in minutes(clock, days=days):
        server.warehouse.scheduler.fire_due()
        server.wait_until(lambda: not server.services.runner._runs)
    (schema,) = [row for row in server.services.store.schemas_of(UUID(source)) if row.should_sync]
    jobs = server.services.store.jobs_of(schema.id, limit=10_000)
    return [f"{job.created_at:%d %H:%M}" for job in reversed(jobs) if job.started_by is StartedBy.SCHEDULE]


def test_simulated_days(server: Server, invoices: str, clock: Clock) -> None:
    """Over two days a 12-hourly table is synced four times by its schedule, each a job on the minute."""
    body = STARTED | {"sync_frequency": "12hour", "sync_time_of_day": "07:11:00"}
    enable(server, invoices, body)
    expected = ["03 19:11", "04 07:11", "04 19:11", "05 07:11"]
    assert expected == runs_over(server, clock, invoices, days=2)


def enable(server: Server, source: str, body: dict[str, Any]) -> dict[str, Any]:
    """Turn the invoices on, and wait for the sync that this starts."""
    path = f"external_data_schemas/{server.schema(source, 'invoices')['id']}/"
    schema: dict[str, Any] = server.json("PATCH", path, json=body)
    server.settle(source)
    return schema


def started_by(server: Server, source: str) -> list[str]:
    """Why each job of the source was started, oldest first."""
    jobs = server.services.store.jobs(UUID(source))
    return [job.started_by.value for job in reversed(jobs)]


def test_missed_ticks_are_made_up_for_once(server: Server, invoices: str, clock: Clock) -> None:
    """After a day without a check one run follows, and then the next tick is due as ever."""
    enable(server, invoices, STARTED | {"sync_frequency": "5min", "sync_time_of_day": "00:00:00"})
    clock.advance(days=1, minutes=2)
    for _ in range(3):
        server.warehouse.scheduler.fire_due()
        server.settle(invoices)
    assert ["enable", "schedule"] == started_by(server, invoices)
    clock.advance(minutes=3)
    server.warehouse.scheduler.fire_due()
    server.settle(invoices)
    assert ["enable", "schedule", "schedule"] == started_by(server, invoices)


def test_missed_ticks_of_a_stopped_server(servers: Servers, clock: Clock, orders: Orders) -> None:
    """Ticks that were missed while no server ran are made up for by one run."""
    server = servers.start(now=clock)
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    server.warehouse.stop()
    clock.advance(days=2)
    again = servers.start(now=clock)
    for _ in range(2):
        again.warehouse.scheduler.fire_due()
        again.settle(source)
    assert ["create", "schedule"] == started_by(again, source)


def test_a_tick_while_running_is_dropped(server: Server, orders: Orders, clock: Clock) -> None:
    """A tick that comes while the table is being synced starts nothing."""
    with orders.locked():
        source = server.create("Postgres", orders.payload)
        clock.advance(hours=7)
        server.warehouse.scheduler.fire_due()
    server.settle(source)
    assert ["create"] == started_by(server, source)


def test_off_is_off(server: Server, invoices: str, clock: Clock) -> None:
    """A disabled table has no ticks; turned on again it waits for the next one."""
    enable(server, invoices, STARTED | {"sync_frequency": "1hour", "sync_time_of_day": "00:30:00"})
    enable(server, invoices, {"should_sync": False})
    clock.advance(hours=5)
    server.warehouse.scheduler.fire_due()
    enable(server, invoices, {"should_sync": True})
    server.warehouse.scheduler.fire_due()
    server.settle(invoices)
    assert ["enable"] == started_by(server, invoices)
    clock.advance(minutes=30)
    server.warehouse.scheduler.fire_due()
    server.settle(invoices)
    assert ["enable", "schedule"] == started_by(server, invoices)


def test_a_new_frequency_makes_a_new_schedule(server: Server, invoices: str, clock: Clock) -> None:
    """Only a changed frequency or time rebuilds the schedule; another change leaves it as it was saved."""
    schema = enable(server, invoices, STARTED | {"sync_frequency": "24hour", "sync_time_of_day": "23:00:00"})
    store = server.services.store
    saved = store.schedule(schema["id"])
    clock.advance(days=3)
    enable(server, invoices, {"sync_frequency": "24hour", "enabled_columns": ["id"]})
    assert saved == store.schedule(schema["id"])
    enable(server, invoices, {"sync_frequency": "1hour"})
    rebuilt = store.schedule(schema["id"])
    assert rebuilt is not None
    assert (3600, moment("2026-11-06 23:00")) == (rebuilt.every_s, rebuilt.start_at)


def test_a_frequency_before_the_first_enable(server: Server, invoices: str) -> None:
    """A frequency may be set before there is a schedule; none is made by that."""
    schema = enable(server, invoices, {"sync_frequency": "7day"})
    assert ("7day", None) == (schema["sync_frequency"], server.services.store.schedule(schema["id"]))


def test_tables_are_discovered_every_six_hours(server: Server, orders: Orders, clock: Clock) -> None:
    """A source's tables are listed again by themselves."""
    source = server.create("Postgres", orders.payload)
    server.settle(source)
    orders.database.execute("CREATE TABLE refunds (id int)")
    names = []
    for hours in (5, 1):
        clock.advance(hours=hours, seconds=1)
        server.warehouse.scheduler.fire_due()
        names.append([row.name for row in server.services.store.schemas_of(UUID(source))])
    server.wait_until(lambda: len(server.services.store.schemas_of(UUID(source))) == 2)
    assert ["orders"] == names[0]


def test_sweep_ends_long_runs_of_tables_that_are_off(server: Server, orders: Orders, clock: Clock) -> None:
    """A disabled table may be reloaded, but its run is ended after half an hour."""
    orders.payload["schemas"] = [{"name": "orders"}]
    source = server.create("Postgres", orders.payload)
    with orders.locked():
        server.call("POST", f"external_data_schemas/{server.schema(source, 'orders')['id']}/reload/")
        server.wait_until(lambda: server.jobs(source))
        clock.advance(minutes=29)
        server.warehouse.scheduler.fire_due()
        assert "Running" == server.jobs(source)[0]["status"]
        clock.advance(minutes=2)
        server.warehouse.scheduler.fire_due()
        server.wait_until(lambda: server.jobs(source)[0]["status"] == "Failed")
    assert "Sync stopped because syncing was turned off" == server.jobs(source)[0]["latest_error"]


def test_next_tick_is_strictly_later() -> None:
    """Asked at a tick, the next one is named."""
    ticks = Ticks(every=timedelta(hours=1), offset=timedelta(0), start_at=EPOCH)
    assert EPOCH + timedelta(hours=1) == ticks.next_after(EPOCH)
