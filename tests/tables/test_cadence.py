"""When PostHog syncs, against an independent statement of its rule."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.cadence import FREQUENCIES, Cadence, cadence

EXAMPLE = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
MINUTES = {
    "1min": 1,
    "5min": 5,
    "15min": 15,
    "30min": 30,
    "1hour": 60,
    "6hour": 360,
    "12hour": 720,
    "24hour": 1440,
    "7day": 10080,
    "30day": 43200,
}
moments = st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
frequencies = st.sampled_from(sorted(MINUTES))
times = st.times()


def schema(frequency: str | None, at: time | None = None, *, schema_id: str = EXAMPLE) -> Schema:
    return Schema(id=schema_id, name="t", sync_frequency=frequency, sync_time_of_day=at)


def cadence_of(frequency: str, at: time | None = None) -> Cadence:
    found = cadence(schema(frequency, at))
    assert found is not None
    return found


def is_tick(moment: datetime, frequency: str, at: time) -> bool:
    """PostHog's rule said differently: whole minutes since the epoch, modulo the interval."""
    minutes = int(moment.timestamp()) // 60
    whole = moment.second == 0 and moment.microsecond == 0
    return whole and (minutes - at.hour * 60 - at.minute) % MINUTES[frequency] == 0


@pytest.mark.parametrize(
    ("frequency", "first"),
    [("1hour", "00:37"), ("6hour", "03:45"), ("12hour", "07:31"), ("24hour", "15:02"), ("7day", "00:00")],
)
def test_a_schema_without_a_time_has_the_minute_of_its_id(frequency: str, first: str) -> None:
    """The id alone decides, as PostHog draws it; weekly and longer ones tick at midnight."""
    day = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
    assert first == f"{cadence_of(frequency).next_tick(day - timedelta(seconds=1)):%H:%M}"


@pytest.mark.parametrize(("frequency", "offset"), [("1min", 0), ("5min", 3), ("15min", 3), ("30min", 18), ("30day", 0)])
def test_short_intervals_without_a_time_are_spread_too(frequency: str, offset: Any) -> None:
    """Short intervals are drawn from 5 or 30 minutes; 30 days are not spread."""
    assert timedelta(minutes=offset) == cadence_of(frequency).offset


@pytest.mark.parametrize("sent", [None, "never", "2hour"])
def test_without_a_known_frequency_there_is_no_cadence(sent: Any) -> None:
    """No frequency, `never`, and one of a later server: nothing can be said."""
    assert cadence(schema(sent)) is None


def test_midnight_is_a_time() -> None:
    """00:00:00 counts as set: no minute is drawn."""
    assert timedelta(0) == cadence_of("1hour", time(0)).offset


def test_seconds_do_not_count() -> None:
    """PostHog ignores the seconds of the time of day."""
    assert cadence_of("24hour", time(7, 11)) == cadence_of("24hour", time(7, 11, 59))


@given(frequency=frequencies, at=times, start=moments)
def test_ticks_are_those_of_the_rule(frequency: str, at: time, start: datetime) -> None:
    """Minute by minute, the ticks of two days are those that the rule gives."""
    end = start + timedelta(days=2)
    first = start.replace(second=0, microsecond=0)
    every_minute = (first + timedelta(minutes=n) for n in range(2 * 1440 + 1))
    expected = [each for each in every_minute if start <= each < end and is_tick(each, frequency, at)]
    assert expected == list(cadence_of(frequency, at).ticks(start, end))


@given(frequency=frequencies, at=times, moment=moments)
def test_a_moment_lies_between_its_ticks(frequency: str, at: time, moment: datetime) -> None:
    """It is previous <= moment < next, one interval apart, both ticks of the rule."""
    found = cadence_of(frequency, at)
    previous, following = found.previous_tick(moment), found.next_tick(moment)
    assert previous <= moment < following
    assert timedelta(minutes=MINUTES[frequency]) == following - previous
    assert is_tick(previous, frequency, at)


@given(frequency=frequencies, at=times, moment=moments)
def test_a_tick_is_its_own_previous_one(frequency: str, at: time, moment: datetime) -> None:
    """At a tick exactly, the previous tick is that one and the next is a whole interval later."""
    found = cadence_of(frequency, at)
    tick = found.next_tick(moment)
    assert tick == found.previous_tick(tick)
    assert tick + found.every == found.next_tick(tick)
    assert [tick] == list(found.ticks(tick, tick + found.every))


@given(frequency=st.sampled_from(sorted(set(MINUTES) - {"30day"})), at=times, start=moments)
def test_cron_says_the_same(frequency: str, at: time, start: datetime) -> None:
    """The cron string has the same ticks from any day of several years, leap days among them."""
    found = cadence_of(frequency, at)
    (cron,) = found.cron()
    schedule = croniter(cron, start)
    tick = start
    for _ in range(40):
        tick = found.next_tick(tick)
        assert tick == schedule.get_next(datetime)


@pytest.mark.parametrize("frequency", ["6hour", "24hour", "7day"])
def test_cron_says_the_same_for_years(frequency: str) -> None:
    """Over four years from one leap day to the next, no tick is added or missing."""
    start, end = datetime(2024, 2, 28, tzinfo=UTC), datetime(2028, 3, 2, tzinfo=UTC)
    found = cadence_of(frequency, time(23, 59))
    (cron,) = found.cron()
    schedule = croniter(cron, start - timedelta(seconds=1))
    for tick in found.ticks(start, end):
        assert tick == schedule.get_next(datetime)
    assert schedule.get_next(datetime) >= end


@pytest.mark.parametrize(
    ("every", "offset", "cron", "words", "slug"),
    [
        ({"minutes": 1}, {}, "* * * * *", "every minute", "every_1min"),
        ({"minutes": 5}, {}, "*/5 * * * *", "every 5 minutes from 00:00 UTC", "every_5min"),
        ({"minutes": 5}, {"minutes": 2}, "2-59/5 * * * *", "every 5 minutes from 00:02 UTC", "every_5min"),
        ({"hours": 1}, {"minutes": 11}, "11 * * * *", "every hour from 00:11 UTC", "every_1h"),
        (
            {"hours": 6},
            {"minutes": 71},
            "11 1-23/6 * * *",
            "every 6 hours from 01:11 UTC",
            "every_6h",
        ),
        ({"days": 1}, {"minutes": 431}, "11 7 * * *", "every day at 07:11 UTC", "every_1d"),
        ({"days": 7}, {"minutes": 431}, "11 7 * * 4", "Thursdays at 07:11 UTC", "every_7d"),
        ({"days": 7}, {"days": 3, "hours": 1}, "0 1 * * 0", "Sundays at 01:00 UTC", "every_7d"),
        ({"days": 30}, {"minutes": 431}, None, "every 30 days at 07:11 UTC", "every_30d"),
        ({"minutes": 90}, {}, None, "every 90 minutes from 00:00 UTC", "every_90min"),
        ({"hours": 5}, {}, None, "every 5 hours from 00:00 UTC", "every_5h"),
    ],
)
def test_a_cadence_in_cron_words_and_names(every: Any, offset: Any, cron: Any, words: str, slug: str) -> None:
    """What cron can't say exactly is not approximated; names and words are for people."""
    found = Cadence(timedelta(**every), timedelta(**offset))
    assert (None if cron is None else [cron], words, slug) == (found.cron(), found.describe(), found.slug())


def test_thirty_days_count_from_the_epoch() -> None:
    """A monthly schema has no day of the month: its ticks are 30 days apart, from 1970 on."""
    found = cadence_of("30day", time(7, 11))
    expected = [datetime(2026, 11, 3, 7, 11, tzinfo=UTC), datetime(2026, 12, 3, 7, 11, tzinfo=UTC)]
    expected.append(datetime(2027, 1, 2, 7, 11, tzinfo=UTC))
    assert expected == list(found.ticks(datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 1, 3, tzinfo=UTC)))


def test_a_moment_of_another_zone_is_the_same_moment() -> None:
    """Ticks are in UTC, for every time zone of the argument."""
    found = cadence_of("24hour", time(7, 11))
    asked = datetime(2026, 6, 1, 9, 11, tzinfo=timezone(timedelta(hours=2)))
    assert (datetime(2026, 6, 1, 7, 11, tzinfo=UTC), UTC) == (
        found.previous_tick(asked),
        found.previous_tick(asked).tzinfo,
    )
    assert [asked] == list(found.ticks(asked, asked + timedelta(hours=1)))


@pytest.mark.parametrize(
    ("every_s", "offset_s"), [(0, 0), (-60, 0), (90, 0), (300, 30), (300, 300), (300, -60), (3600, 7200)]
)
def test_a_cadence_that_cannot_be_is_refused(every_s: int, offset_s: int) -> None:
    """Intervals and offsets are whole minutes, and the offset lies within the interval."""
    with pytest.raises(ValueError, match="whole minutes"):
        Cadence(timedelta(seconds=every_s), timedelta(seconds=offset_s))


def test_cadences_sort_and_count_as_keys() -> None:
    """Tables of one cadence are grouped by it, shortest first."""
    hourly, daily = cadence_of("1hour", time(1)), cadence_of("24hour", time(1))
    assert [hourly, daily] == sorted({daily, hourly, cadence_of("1hour", time(2))})


def test_every_frequency_but_never_has_an_interval() -> None:
    """A frequency that is added to the enumeration needs its interval."""
    assert set(SyncFrequency) - {SyncFrequency.NEVER} == set(FREQUENCIES)
